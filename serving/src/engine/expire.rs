//! Expires nodes that have been idle for long.

use std::ops::Range;

use serde_json::Number;
use tempograph_framework::{NodeId, Timestamp};

use crate::engine::{Engine, position};
use crate::request::{AtPosition, FieldPath, RequestError, ticks, user_time};

/// Nodes expired in one turn, while reads wait.
const NODES_A_TURN: usize = 1024;
/// Nodes checked in one part, while events wait.
pub(crate) const NODES_A_PART: u32 = 8192;

impl Engine {
    /// Expires all nodes that no event at or after `before` has named. Returns their number.
    ///
    /// The memory, mail and neighbours of an expired node are removed. It is no other node's neighbour and no
    /// destination any more. Its node number goes to the next new id. Its own id is new when an event names it again.
    /// Where a model reads node features, or the sender's memory when mail is read, the id keeps its number, with empty
    /// state. Idle nodes are searched in parts of 8192, while events wait; events may be applied between parts. Reads
    /// wait for 1024 nodes at a time; these are one change of version. The order of an expiry among the events matters,
    /// as that of a [retraction](Engine::retract) does: a [service](crate::Service) appends each part to its log.
    ///
    /// # Errors
    /// [`RequestError`] for an invalid time, or a model whose sampler needs all events of a node.
    pub fn expire(&self, before: &Number) -> Result<AtPosition<usize>, RequestError> {
        self.expire_among(before, 0..u32::MAX)
    }

    /// As [`expire`](Engine::expire), among the nodes with these numbers.
    ///
    /// # Errors
    /// As [`expire`](Engine::expire).
    pub(crate) fn expire_among(&self, before: &Number, nodes: Range<u32>) -> Result<AtPosition<usize>, RequestError> {
        let (mut answer, mut from) = (0, nodes.start);
        loop {
            let to = nodes.end.min(from.saturating_add(NODES_A_PART));
            let part = self.expire_part(before, from..to)?;
            answer += part.answer;
            if to >= nodes.end || to as usize >= self.nodes() {
                return Ok(AtPosition { answer, position: part.position });
            }
            from = to;
        }
    }

    fn expire_part(&self, before: &Number, nodes: Range<u32>) -> Result<AtPosition<usize>, RequestError> {
        let mut writer = self.writer.lock().map_err(|_| RequestError::Broken)?;
        let time = ticks(&self.manifest.time_unit, before, FieldPath::field("before"))?;
        let (idle, reusable) = {
            let state = self.state()?;
            if state.history.needs().keeps_all() {
                return Err(RequestError::invalid(
                    "before",
                    "cannot be given to a model that looks at all events of a node",
                ));
            }
            let widths = self.manifest.widths;
            let by_node = widths.node > 0 || widths.static_memory > 0;
            let reusable = !by_node && !state.history.needs().mail.reads_other();
            (state.history.idle_since(time, nodes.clone()), reusable)
        };
        self.counts.looked_at(nodes.len());
        for part in idle.chunks(NODES_A_TURN) {
            self.before_writing(&mut writer, |capture, state| capture.before_forgetting(state, part))?;
            self.forget(part, reusable)?;
        }
        self.counts.expired(idle.len());
        Ok(AtPosition { answer: idle.len(), position: position(&self.state()?.history) })
    }

    fn forget(&self, nodes: &[NodeId], reusable: bool) -> Result<(), RequestError> {
        let mut state = self.state_mut()?;
        self.record_undo(|snapshot| {
            snapshot.history.save_before_forget(&state.history, nodes);
            snapshot.names.before_forgetting(&state.names, nodes);
        });
        state.history.forget(nodes);
        state.names.forget(nodes, reusable);
        Ok(())
    }

    /// The time to pass to [`expire`](Engine::expire): nodes without an event since then have been idle for longer than
    /// the [time to live](crate::engine::EngineSpec::ttl). `None` without a time to live.
    pub fn overdue(&self) -> Option<Number> {
        let (newest, unit) = (self.history().newest()?, &self.manifest.time_unit);
        // In ticks: a double does not have every time. A part of a tick more is as good as a whole one.
        let ttl = (self.spec.ttl? * unit.scale as f64).ceil() as i64;
        Some(user_time(unit, Timestamp(newest.0.saturating_sub(ttl))))
    }
}
