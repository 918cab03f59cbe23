//! Which events an answer must have seen to satisfy `max_staleness_ms`.

use std::collections::VecDeque;
use std::time::Duration;

/// Most times remembered, and the least time between two of them.
const MOST: usize = 4096;
const APART: Duration = Duration::from_millis(1);

/// How many events had been submitted at some recent times.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    taken: VecDeque<(Duration, u64)>,
}

impl Freshness {
    /// Notes that `taken` events have been submitted by `now`.
    pub fn note(&mut self, now: Duration, taken: u64) {
        if self.taken.back().is_some_and(|&(last, _)| now < last + APART) {
            return;
        }
        if self.taken.len() == MOST {
            self.taken.pop_front();
        }
        self.taken.push_back((now, taken));
    }

    /// How many events an answer at `now` must have seen so that it lacks no event older than `bound`, when `taken`
    /// events have been submitted. Uses the first note that is no older than `bound`.
    pub fn required(&self, now: Duration, bound: Duration, taken: u64) -> u64 {
        let from = now.saturating_sub(bound);
        let first = self.taken.partition_point(|&(at, _)| at < from);
        self.taken.get(first).map_or(taken, |&(_, then)| then.min(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn events_within_the_freshness_bound_may_be_unseen_and_all_before_are_seen() {
        let mut freshness = Freshness::default();
        (0..100).for_each(|i| freshness.note(ms(10 * i), 5 * i));
        // Event 250 was submitted at 500 ms. Between two notes, the later one counts.
        for (bound, required) in [(490, 250), (495, 250), (500, 245), (0, 495), (5000, 0)] {
            assert_eq!(freshness.required(ms(990), ms(bound), 495), required, "{bound}");
        }
    }

    #[test]
    fn without_remembered_positions_every_accepted_event_must_be_seen() {
        assert_eq!(Freshness::default().required(ms(50), ms(10), 7), 7);
        let mut freshness = Freshness::default();
        freshness.note(ms(1), 3);
        assert_eq!(freshness.required(ms(50), ms(10), 7), 7);
    }

    #[test]
    fn memory_is_bounded_and_forgetting_asks_for_more_not_less() {
        let mut freshness = Freshness::default();
        (0..3 * MOST as u64).for_each(|i| freshness.note(ms(2 * i), i));
        assert!(freshness.taken.len() <= MOST);
        assert!(freshness.required(ms(6 * MOST as u64), Duration::from_secs(3600), 3 * MOST as u64) >= 2 * MOST as u64);
    }
}
