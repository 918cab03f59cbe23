//! Observes events.

use std::sync::{Arc, PoisonError};

use tempograph_framework::{Batch, Timestamp};

use crate::artifact::names::NewNodes;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::{ViewBuffers, Workspace};
use crate::engine::{Engine, Part, Strategy, WriterState, position, sampling};
use crate::request::incoming::Incoming;
use crate::request::{Granularity, NewEvent, Position, RequestError};

/// Nodes added at a time, while reads wait.
const ROOM_AT_ONCE: usize = 1024;

impl Engine {
    /// Observes events in order: all of them, or none if one is invalid. Returns the position after them.
    ///
    /// # Errors
    /// [`RequestError`] naming the first invalid event, and the reason.
    pub fn observe(&self, events: &[NewEvent], granularity: Granularity) -> Result<Position, RequestError> {
        let mut writer = self.writer.lock().map_err(|_| RequestError::Broken)?;
        self.spaces.with(|space| self.observe_in(space, &mut writer, events, granularity))
    }

    fn observe_in(
        &self,
        space: &mut Workspace,
        writer: &mut WriterState,
        events: &[NewEvent],
        granularity: Granularity,
    ) -> Result<Position, RequestError> {
        let Workspace { incoming, new_nodes, waves, buffers, .. } = space;
        self.prepare(events, incoming, new_nodes)?;
        // From here on no event can be refused.
        match granularity {
            Granularity::Batch if events.is_empty() => {}
            Granularity::Batch => self.observe_batch(writer, &incoming.whole(), granularity, new_nodes, buffers)?,
            Granularity::Event => {
                let mut done = 0;
                while done < events.len() {
                    let rest = incoming.batch(done..events.len());
                    let wave = waves.next(&self.state()?.history, &rest, self.spec.wave);
                    self.observe_batch(writer, &incoming.batch(done..done + wave), granularity, new_nodes, buffers)?;
                    done += wave;
                }
            }
        }
        // A hash is replaced in one step, so ignoring poison is safe.
        if let Some(past) = &mut *self.past.lock().unwrap_or_else(PoisonError::into_inner) {
            events.iter().zip(&incoming.time).for_each(|(event, time)| past.push(&event.src, &event.dst, time.0));
        }
        self.sweep_features()?;
        Ok(position(&self.state()?.history))
    }

    /// Gives back the features of events that no kept neighbour, no waiting mail and no long read refers to any more, once
    /// there are enough of them. The writer's lock is held, so no event comes in between.
    fn sweep_features(&self) -> Result<(), RequestError> {
        let Some(edges) = self.edge_store().filter(|edges| edges.is_worth_sweeping()) else { return Ok(()) };
        let swept = {
            let state = self.state()?;
            if self.has_long_reads() {
                // They may read events that were pushed out since they began.
                return Ok(());
            }
            let mut events = Vec::new();
            state.history.visit_events(|event| events.push(event.0));
            events.sort_unstable();
            events.dedup();
            Arc::new(edges.keeping(&events, state.history.seen()))
        };
        let mut state = self.state_mut()?;
        state.history.set_edge_features(Some(swept.clone()));
        if let Some(edges) = &self.edges {
            *edges.write().unwrap_or_else(PoisonError::into_inner) = swept;
        }
        Ok(())
    }

    /// Validates events, finds or numbers their nodes, grows the history for new nodes and stores the events' features.
    fn prepare(
        &self,
        events: &[NewEvent],
        incoming: &mut Incoming,
        new_nodes: &mut NewNodes,
    ) -> Result<(), RequestError> {
        let state = self.state()?;
        incoming.clear(state.history.seen());
        new_nodes.clear();
        state.rules(&self.manifest, false).validate("events", events, &mut incoming.time)?;
        if u32::try_from(state.names.len() + 2 * events.len()).is_err() {
            return Err(RequestError::invalid("events", "would need more nodes than can be numbered"));
        }
        state.number(events, incoming, new_nodes);
        drop(state);
        if let Some(nodes) = new_nodes.room() {
            let there = self.nodes();
            for more in (there..nodes).step_by(ROOM_AT_ONCE) {
                self.state_mut()?.history.grow(nodes.min(more + ROOM_AT_ONCE));
            }
        }
        let edges = self.edge_store();
        for (i, event) in events.iter().enumerate() {
            if let (Some(edges), Some(row)) = (&edges, &event.features) {
                edges.append(incoming.first + i as u64, row);
            }
        }
        Ok(())
    }

    /// Observes a batch or a wave. Its update is computed in parallel with reads. Memories that the next event of these
    /// nodes would compute from their mail are computed ahead and cached.
    fn observe_batch(
        &self,
        writer: &mut WriterState,
        batch: &Batch<'_>,
        granularity: Granularity,
        new_nodes: &mut NewNodes,
        buffers: &mut ViewBuffers,
    ) -> Result<(), RequestError> {
        let pass = &mut buffers.pass;
        self.advance(batch, false, pass)?;
        self.before_writing(writer, |capture, state| capture.before_events(state, batch, new_nodes))?;
        {
            let mut state = self.state_mut()?;
            self.record_undo(|snapshot| snapshot.history.save_before_batch(&state.history, batch));
            state.observe(batch, granularity, pass.update(), new_nodes);
        }
        self.counts.wave(batch.len());
        if self.spec.strategy != Strategy::Full && self.state()?.history.has_updated_cache() {
            self.advance(batch, true, pass)?;
            self.keep_memories(pass)?;
        }
        if self.spec.strategy == Strategy::Cached && self.spec.precompute > 0 && self.cache.is_some() {
            self.embed_ahead(batch, buffers)?;
        }
        Ok(())
    }

    /// Embeds the ends of the events just observed, for later reads. With two precomputed hops, their neighbours too.
    fn embed_ahead(&self, batch: &Batch<'_>, buffers: &mut ViewBuffers) -> Result<(), RequestError> {
        let gathered = &mut buffers.gathered;
        gathered.clear();
        let ends = batch.src.iter().chain(batch.dst);
        ends.for_each(|&node| {
            gathered.request(node, Part::Whole);
        });
        {
            let state = &*self.state()?;
            let newest = state.history.newest().map_or(0, |newest| newest.0);
            let time = Timestamp(newest.saturating_add(1));
            if self.spec.precompute > 1 {
                gathered.request_neighbours(&state.history, time, gathered.requested());
            }
            self.gather(state, time, buffers);
        }
        self.counts.ahead(buffers.gathered.missing());
        self.embed_missing(buffers)
    }

    /// Computes the memories of the nodes of `batch` after their mail is read, and the rows of its new mail where the
    /// model makes them: before the batch is applied or, with `after`, once it has been.
    fn advance(&self, batch: &Batch<'_>, after: bool, pass: &mut Pass) -> Result<(), RequestError> {
        {
            let history = &self.state()?.history;
            match history.needs().ends {
                true => pass.queries.set_ends(batch),
                false => pass.queries.clear(),
            }
            history.view_into(&pass.queries, Some(batch), sampling(), &mut pass.view);
            if after {
                history.read_newest_into(&mut pass.view);
            }
        }
        pass.advance(&self.model);
        Ok(())
    }
}
