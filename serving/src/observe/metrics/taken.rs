//! When events were submitted, from which the staleness of answers is computed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most times remembered.
const MOST: usize = 8192;

/// How many events had been submitted at some recent times.
#[derive(Debug, Default)]
pub(crate) struct SubmissionTimes(Mutex<VecDeque<(Instant, u64)>>);

impl SubmissionTimes {
    /// Notes that `seq` events have been submitted by `now`.
    pub fn note(&self, now: Instant, seq: u64) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Several threads may note in another order than they submitted.
        if notes.back().is_some_and(|&(_, last)| last >= seq) {
            return;
        }
        if notes.len() == MOST {
            notes.pop_front();
        }
        notes.push_back((now, seq));
    }

    /// Age of the oldest submitted event after the first `seen`; 0 if there is none.
    pub fn staleness(&self, now: Instant, seen: u64) -> Duration {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = notes.partition_point(|&(_, seq)| seq <= seen);
        notes.get(first).map_or(Duration::ZERO, |&(at, _)| now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_stale_as_the_oldest_event_it_has_not_seen() {
        let (taken, start) = (SubmissionTimes::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(taken.staleness(at(0), 0), Duration::ZERO);
        [(10, 5), (20, 9), (25, 7), (30, 12)].into_iter().for_each(|(millis, seq)| taken.note(at(millis), seq));
        for (seen, millis) in [(0, 90), (4, 90), (5, 80), (8, 80), (9, 70), (12, 0), (99, 0)] {
            assert_eq!(taken.staleness(at(100), seen), Duration::from_millis(millis), "{seen}");
        }
    }
}
