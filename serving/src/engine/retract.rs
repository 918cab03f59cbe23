//! Retracts events.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tempograph_framework::{EventId, NodeId, Side};

use crate::engine::{Engine, position};
use crate::request::id::ExternalId;
use crate::request::{AtPosition, FieldPath, MAX_ITEMS, RequestError, ticks};

/// An event to retract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retraction {
    /// Its number: how many events are before it in the log.
    pub seq: u64,
    /// Its source.
    pub src: ExternalId,
    /// Its destination.
    pub dst: ExternalId,
}

impl Engine {
    /// Retracts events. Returns how many were still in the history; retracting one again changes nothing.
    ///
    /// A retracted event is no neighbour any more and counts in no pair fact. Its mail is removed if no later event has
    /// read it. The mail that it left at neighbours of its ends is removed from those that are still among the newest
    /// events of its ends. What the model computed from the event stays in the memories that read it. What a settled
    /// event added to rows of temporal walks stays there ([`kept_after_retract`](Engine::kept_after_retract)). To
    /// remove these as well, replay the log without the event, into this engine or another. The order of a retraction
    /// among the events matters, so a log of record must hold it at its position, with the numbers of the events. A
    /// replay in that order gives exactly the same state.
    ///
    /// # Errors
    /// [`RequestError`] naming the first retraction with an unknown id; then no event is retracted.
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

    /// Sets the newest time to that of the newest event that is not retracted, so that the next events may be older than
    /// those that were [retracted](Engine::retract). Does nothing if it is not later.
    ///
    /// # Errors
    /// [`RequestError`] for a time that is out of range.
    pub fn lower_newest(&self, newest: &Number) -> Result<(), RequestError> {
        let _writer = self.writer.lock().map_err(|_| RequestError::Broken)?;
        let newest = ticks(&self.manifest.time_unit, newest, FieldPath::field("newest"))?;
        self.state_mut()?.history.lower_newest(newest);
        Ok(())
    }

    /// Parts of this model's state that keep the effect of an event after it is [retracted](Engine::retract).
    pub fn kept_after_retract(&self) -> Vec<&'static str> {
        self.model.program().needs().kept_after_retract()
    }

    fn find_all(&self, events: &[Retraction]) -> Result<Vec<(EventId, NodeId, NodeId)>, RequestError> {
        let state = self.state()?;
        let find = |(i, event): (usize, &Retraction)| {
            let src = state.find(Side::Source, &event.src, FieldPath::of("retractions", i, "src"))?;
            let dst = state.find(Side::Destination, &event.dst, FieldPath::of("retractions", i, "dst"))?;
            Ok((EventId(event.seq), src, dst))
        };
        events.iter().enumerate().map(find).collect()
    }
}
