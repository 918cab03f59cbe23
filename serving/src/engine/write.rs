//! Letting events happen.

use tempograph_framework::{Batch, Timestamp};

use crate::artifact::names::Newcomers;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::{Sight, Workspace};
use crate::engine::{Engine, Part, Strategy, Turn, position, sampling};
use crate::request::incoming::Incoming;
use crate::request::{Granularity, NewEvent, Position, RequestError};

/// Nodes that room is made for while reads wait.
const ROOM_AT_ONCE: usize = 1024;

impl Engine {
    /// Lets events happen, in order: all of them, or none if one will not do. Says where the engine stands after them.
    ///
    /// # Errors
    /// [`RequestError`] naming the first event that will not do, and why.
    pub fn observe(&self, events: &[NewEvent], granularity: Granularity) -> Result<Position, RequestError> {
        let mut turn = self.turn.lock().map_err(|_| RequestError::Broken)?;
        self.spaces.with(|space| self.observe_in(space, &mut turn, events, granularity))
    }

    fn observe_in(
        &self,
        space: &mut Workspace,
        turn: &mut Turn,
        events: &[NewEvent],
        granularity: Granularity,
    ) -> Result<Position, RequestError> {
        let Workspace { told, newcomers, waves, sight, .. } = space;
        self.take_in(events, told, newcomers)?;
        // Nothing can be refused from here on.
        match granularity {
            Granularity::Batch if events.is_empty() => {}
            Granularity::Batch => self.apply(turn, &told.whole(), granularity, newcomers, sight)?,
            Granularity::Event => {
                let mut done = 0;
                while done < events.len() {
                    let rest = told.batch(done..events.len());
                    let wave = waves.next(&self.state()?.history, &rest, self.spec.wave);
                    self.apply(turn, &told.batch(done..done + wave), granularity, newcomers, sight)?;
                    done += wave;
                }
            }
        }
        Ok(position(&self.state()?.history))
    }

    /// Checks events, finds or numbers their nodes, makes room for those that are new and stores their features.
    fn take_in(&self, events: &[NewEvent], told: &mut Incoming, newcomers: &mut Newcomers) -> Result<(), RequestError> {
        let state = self.state()?;
        told.clear(state.history.seen());
        newcomers.clear();
        state.rules(&self.manifest).check("events", events, &mut told.time)?;
        if u32::try_from(state.names.len() + 2 * events.len()).is_err() {
            return Err(RequestError::invalid("events", "would need more nodes than can be numbered"));
        }
        state.number(events, told, newcomers);
        drop(state);
        if let Some(nodes) = newcomers.room() {
            let there = self.nodes();
            for more in (there..nodes).step_by(ROOM_AT_ONCE) {
                self.state_mut()?.history.grow(nodes.min(more + ROOM_AT_ONCE));
            }
        }
        for (i, event) in events.iter().enumerate() {
            if let (Some(edges), Some(row)) = (&self.edges, &event.features) {
                edges.append(told.first + i as u64, row);
            }
        }
        Ok(())
    }

    /// Lets a batch or a wave happen. What it writes, and the memories that the next one on its nodes will write, are computed beside the
    /// reads.
    fn apply(
        &self,
        turn: &mut Turn,
        batch: &Batch<'_>,
        granularity: Granularity,
        newcomers: &mut Newcomers,
        sight: &mut Sight,
    ) -> Result<(), RequestError> {
        let pass = &mut sight.pass;
        self.advance(batch, pass)?;
        self.before_writing(turn, |capture, state| capture.before_events(state, batch, newcomers))?;
        {
            let mut state = self.state_mut()?;
            self.let_keep(|back| back.history.before_events(&state.history, batch));
            state.observe(batch, granularity, pass.update(), newcomers);
        }
        self.counts.wave(batch.len());
        if self.spec.strategy != Strategy::Full && self.state()?.history.keeps_ahead() {
            self.advance(batch, pass)?;
            self.keep_memories(pass)?;
        }
        if self.spec.strategy == Strategy::Cached && self.spec.precompute > 0 && self.kept.is_some() {
            self.embed_ahead(batch, sight)?;
        }
        Ok(())
    }

    /// Embeds the ends of events that have just happened and, where two hops are wanted, their neighbours, for whoever asks next.
    fn embed_ahead(&self, batch: &Batch<'_>, sight: &mut Sight) -> Result<(), RequestError> {
        let gathered = &mut sight.gathered;
        gathered.clear();
        let ends = batch.src.iter().chain(batch.dst);
        ends.for_each(|&node| {
            gathered.ask(node, Part::Whole);
        });
        {
            let state = &*self.state()?;
            let newest = state.history.newest().map_or(0, |newest| newest.0);
            let time = Timestamp(newest.saturating_add(1));
            if self.spec.precompute > 1 {
                gathered.ask_neighbours(&state.history, time, gathered.asked());
            }
            self.gather(state, time, sight);
        }
        self.counts.ahead(sight.gathered.missing());
        self.embed_missing(sight)
    }

    /// Computes the memories of the nodes of `batch` with their mail read, and what mail of it will say where the model gives that.
    fn advance(&self, batch: &Batch<'_>, pass: &mut Pass) -> Result<(), RequestError> {
        {
            let history = &self.state()?.history;
            match history.needs().ends {
                true => pass.queries.ask_ends(batch),
                false => pass.queries.clear(),
            }
            history.view_into(&pass.queries, Some(batch), sampling(), &mut pass.view);
        }
        pass.advance(&self.model);
        Ok(())
    }
}
