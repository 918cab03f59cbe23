//! Staleness: from the moment an event was to be sent until an answer has seen it.

use std::time::Duration;

use crate::load::tally::{Latencies, Quantiles};

/// Acknowledged events: numbers `first..`, and when each was to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SentEvents {
    pub first: u64,
    pub at: Vec<Duration>,
}

/// The moment of an answer, and how many events it had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObservedPosition {
    pub at: Duration,
    pub log_seq: u64,
}

/// How long events took to be visible in answers. An event that no later answer could show is not counted.
pub(super) fn staleness(sent: &[SentEvents], mut answers: Vec<ObservedPosition>) -> Quantiles {
    answers.sort_unstable_by_key(|answer| answer.at);
    // The largest position that an answer so far has shown. Smaller ones add nothing.
    let mut seen = 0;
    for answer in &mut answers {
        seen = seen.max(answer.log_seq);
        answer.log_seq = seen;
    }
    let mut latencies = Latencies::default();
    for sent in sent {
        for (i, &at) in sent.at.iter().enumerate() {
            let first = answers.partition_point(|answer| answer.log_seq <= sent.first + i as u64);
            if let Some(answer) = answers.get(first) {
                latencies.note(answer.at.saturating_sub(at));
            }
        }
    }
    latencies.quantiles()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_visible_with_the_first_answer_that_has_seen_it() {
        let ms = Duration::from_millis;
        let sent = [SentEvents { first: 10, at: vec![ms(1), ms(2), ms(3)] }];
        // Ten events are numbers 0 to 9: event 10 is seen by who has seen 11. Answers may come out of order.
        let answers =
            [(30, 12), (5, 10), (20, 11), (40, 10)].map(|(at, log_seq)| ObservedPosition { at: ms(at), log_seq });
        let found = staleness(&sent, answers.to_vec());
        assert_eq!(found.count, 2);
        assert!((found.max_ms - 28.0).abs() < 0.1 && (found.p50_ms - 19.0).abs() < 0.1, "{found:?}");
    }
}
