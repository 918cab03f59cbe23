//! Summary of a simulated trace.

use std::time::Duration;

use crate::schedule::simulate::{Arrival, ReadOutcome};

/// Counts and latencies of a trace's reads.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulationReport {
    /// Reads that arrived.
    pub asked: usize,
    /// Answered before their deadline.
    pub in_time: usize,
    /// Answered after it.
    pub late: usize,
    /// Refused when they arrived.
    pub refused: usize,
    /// Admitted but not answered.
    pub dropped: usize,
    /// Of the answered reads, ascending.
    latencies: Vec<Duration>,
    seconds: f64,
}

impl SimulationReport {
    /// Summarizes the reads for which `counts` is true.
    pub fn of(trace: &[Arrival], fates: &[ReadOutcome], counts: impl Fn(&Arrival) -> bool) -> SimulationReport {
        let seconds = trace.last().map_or(0.0, |last| last.at.as_secs_f64());
        let mut outcome =
            SimulationReport { asked: 0, in_time: 0, late: 0, refused: 0, dropped: 0, latencies: Vec::new(), seconds };
        for (arrival, fate) in trace.iter().zip(fates).filter(|(arrival, _)| counts(arrival)) {
            outcome.asked += 1;
            match fate {
                ReadOutcome::Answered(took) => {
                    outcome.latencies.push(*took);
                    *(if *took <= arrival.within { &mut outcome.in_time } else { &mut outcome.late }) += 1;
                }
                ReadOutcome::Refused => outcome.refused += 1,
                ReadOutcome::Dropped => outcome.dropped += 1,
            }
        }
        outcome.latencies.sort_unstable();
        outcome
    }

    /// Answers in time a second.
    pub fn goodput(&self) -> f64 {
        self.in_time as f64 / self.seconds
    }

    /// The latency within which this share of the answers came.
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        Some(self.latencies[(share * last as f64).round() as usize])
    }
}
