//! Taking events back.

use serde::{Deserialize, Serialize};
use tempograph_framework::{EventId, NodeId, Side};

use crate::engine::{Engine, position};
use crate::request::{AtPosition, FieldPath, MAX_ITEMS, RequestError};

/// An event to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retraction {
    /// Its number: how many events happened before it.
    pub seq: u64,
    /// Who acted.
    pub src: u64,
    /// On what.
    pub dst: u64,
}

impl Engine {
    /// Takes events back. Says how many were still known; taking one back again changes nothing.
    ///
    /// From then on the event is nobody's neighbour and in no fact about a pair, and mail of it that no later event has had read is thrown
    /// away; of neighbours that got its mail, from those that still stand among the newest events of its ends. What the model has made of it
    /// stays in the memories it was read into, and what an event that has settled gave to rows of temporal walks stays there
    /// ([`kept_after_retract`](Engine::kept_after_retract)): to be rid of that, too, is to replay the log without it,
    /// under this engine or another. The place of a retraction among the events matters, so a log of record has to keep it there, with the
    /// numbers of the events: replayed in order, it leaves the very same state.
    ///
    /// # Errors
    /// [`RequestError`] naming the first that names an unknown id, and nothing was taken back.
    pub fn retract(&self, events: &[Retraction]) -> Result<AtPosition<usize>, RequestError> {
        let mut writer = self.writer.lock().map_err(|_| RequestError::Broken)?;
        if events.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: "retractions".into(), count: events.len() });
        }
        let found = self.find_all(events)?;
        let ends = found.iter().map(|&(_, src, dst)| (src, dst));
        self.before_writing(&mut writer, |capture, state| capture.before_retracting(state, ends.clone()))?;
        let mut state = self.state_mut()?;
        self.record_undo(|snapshot| snapshot.history.save_before_retract(&state.history, ends.clone()));
        let answer = state.history.retract(&found);
        self.counts.retracted(answer);
        Ok(AtPosition { answer, position: position(&state.history) })
    }

    /// Parts of the state of this model that keep what an event has changed there when it is [taken back](Engine::retract).
    pub fn kept_after_retract(&self) -> Vec<&'static str> {
        self.model.program().needs().kept_after_retract()
    }

    fn find_all(&self, events: &[Retraction]) -> Result<Vec<(EventId, NodeId, NodeId)>, RequestError> {
        let state = self.state()?;
        let find = |(i, event): (usize, &Retraction)| {
            let src = state.find(Side::Source, event.src, FieldPath::of("retractions", i, "src"))?;
            let dst = state.find(Side::Destination, event.dst, FieldPath::of("retractions", i, "dst"))?;
            Ok((EventId(event.seq), src, dst))
        };
        events.iter().enumerate().map(find).collect()
    }
}
