//! Letting events happen.

use tempograph_framework::Batch;

use super::{Engine, position, sampling};
use crate::incoming::Incoming;
use crate::model::Pass;
use crate::names::Newcomers;
use crate::request::{Granularity, NewEvent, Position, RequestError};
use crate::workspace::Workspace;

impl Engine {
    /// Lets events happen, in order: all of them, or none if one will not do. Says where the engine stands after them.
    ///
    /// # Errors
    /// [`RequestError`] naming the first event that will not do, and why.
    pub fn observe(&self, events: &[NewEvent], granularity: Granularity) -> Result<Position, RequestError> {
        let _turn = self.turn.lock().map_err(|_| RequestError::Broken)?;
        self.spaces.with(|space| self.observe_in(space, events, granularity))
    }

    fn observe_in(&self, space: &mut Workspace, events: &[NewEvent], granularity: Granularity) -> Result<Position, RequestError> {
        let Workspace { told, newcomers, pass, .. } = space;
        self.take_in(events, told, newcomers)?;
        // Nothing can be refused from here on.
        match granularity {
            Granularity::Batch if events.is_empty() => {}
            Granularity::Batch => self.apply(&told.whole(), newcomers, pass)?,
            Granularity::Event => (0..events.len()).try_for_each(|i| self.apply(&told.batch(i..i + 1), newcomers, pass))?,
        }
        Ok(position(&self.state()?.history))
    }

    /// Checks events, finds or numbers their nodes, makes room for those that are new and stores their features.
    fn take_in(&self, events: &[NewEvent], told: &mut Incoming, newcomers: &mut Newcomers) -> Result<(), RequestError> {
        let state = self.state()?;
        told.clear(state.history.seen());
        newcomers.clear(state.names.len());
        state.rules(&self.manifest).check("events", events, &mut told.time)?;
        if u32::try_from(state.names.len() + 2 * events.len()).is_err() {
            return Err(RequestError::invalid("events", "would need more nodes than can be numbered"));
        }
        state.number(events, told, newcomers);
        drop(state);
        if let Some(nodes) = newcomers.room() {
            self.state_mut()?.history.grow(nodes);
        }
        for (i, event) in events.iter().enumerate() {
            if let (Some(edges), Some(row)) = (&self.edges, &event.features) {
                edges.append(told.first + i as u64, row);
            }
        }
        Ok(())
    }

    /// Lets a batch happen: what it will write is computed beside the reads.
    fn apply(&self, batch: &Batch<'_>, newcomers: &mut Newcomers, pass: &mut Pass) -> Result<(), RequestError> {
        pass.queries.clear();
        self.state()?.history.view_into(&pass.queries, Some(batch), sampling(), &mut pass.view);
        self.model.advance(pass);
        self.state_mut()?.observe(batch, pass.update(), newcomers);
        Ok(())
    }
}
