//! Statistics of a tenant's arrivals: the mean gap, and how even the gaps are.

use std::time::Duration;

use serde::Serialize;

/// Time constant in seconds with which gaps are forgotten when bursts are detected. It is many times as long as a
/// burst, whatever the rate.
const MEMORY: f64 = 20.0;
/// Weight of the newest gap in the recent mean gap.
const NOW: f64 = 0.05;
/// Number of remembered gaps from which on a stream is classified.
const ENOUGH: f64 = 64.0;
/// Coefficient of variation above which a stream is bursty. Independent arrivals have 1.
const BURSTY: f64 = 1.5;
/// Coefficient of variation below which a bursty stream is smooth again.
const SMOOTH: f64 = 1.25;

/// Groups of similar streams. Each group has its share of the server, so that bursts compete with each other and not
/// with even streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrivalPattern {
    /// Arrivals as even as those of independent users, or more even.
    #[default]
    Smooth,
    /// Bursts with pauses in between.
    Bursty,
}

/// Statistics of the arrivals of one tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArrivalStats {
    last: Option<Duration>,
    /// Number of remembered gaps, their sum in seconds and the sum of their squares. All three decay.
    gaps: f64,
    sum: f64,
    squares: f64,
    /// Moving average of the gaps, in seconds.
    recent: Option<f64>,
    group: ArrivalPattern,
}

impl ArrivalStats {
    /// Notes the arrival of a read.
    pub fn arrived(&mut self, now: Duration) {
        let Some(last) = self.last.replace(now) else { return };
        let gap = now.saturating_sub(last).as_secs_f64();
        let kept = (-gap / MEMORY).exp();
        self.gaps = kept * self.gaps + 1.0;
        self.sum = kept * self.sum + gap;
        self.squares = kept * self.squares + gap * gap;
        self.recent = Some(self.recent.map_or(gap, |recent| recent + NOW * (gap - recent)));
        self.group = match (self.group, self.variation()) {
            (ArrivalPattern::Smooth, Some(variation)) if variation > BURSTY => ArrivalPattern::Bursty,
            (ArrivalPattern::Bursty, Some(variation)) if variation < SMOOTH => ArrivalPattern::Smooth,
            (group, _) => group,
        };
    }

    /// The coefficient of variation of the gaps, if there are enough.
    pub fn variation(&self) -> Option<f64> {
        let known = self.gaps >= ENOUGH && self.sum > 0.0;
        known.then(|| (self.gaps * self.squares / (self.sum * self.sum) - 1.0).max(0.0).sqrt())
    }

    /// The current group of the stream.
    pub fn group(&self) -> ArrivalPattern {
        self.group
    }

    /// Mean seconds between two recent arrivals.
    pub fn gap(&self) -> Option<f64> {
        self.recent
    }

    /// Time of the newest arrival.
    pub fn last(&self) -> Option<Duration> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use tempograph_framework::{Draw, Purpose};

    use super::*;

    fn stream(gaps: impl Iterator<Item = f64>) -> ArrivalStats {
        let (mut stream, mut now) = (ArrivalStats::default(), 0.0);
        for gap in gaps {
            stream.arrived(Duration::from_secs_f64(now));
            now += gap;
        }
        stream
    }

    #[test]
    fn even_arrivals_vary_by_nothing_and_independent_ones_by_about_one() {
        let even = stream((0..400).map(|_| 0.01));
        assert!(even.variation().unwrap() < 1e-3 && even.group() == ArrivalPattern::Smooth);
        assert!((even.gap().unwrap() - 0.01).abs() < 1e-6);
        let mut chance = Draw::new(1).of(Purpose::Sampling).at(0, 0);
        let independent = stream((0..400).map(|_| -0.01 * (1.0 - chance.uniform_f64()).ln()));
        assert!((0.6..1.5).contains(&independent.variation().unwrap()), "{:?}", independent.variation());
        assert_eq!(independent.group(), ArrivalPattern::Smooth);
    }

    #[test]
    fn bursts_are_distinguished_from_even_streams_and_forgotten_later() {
        let bursts = |i: usize| if i % 40 == 39 { 1.0 } else { 1e-4 };
        assert_eq!(stream((0..200).map(bursts)).group(), ArrivalPattern::Bursty);
        assert_eq!(stream((0..200).map(bursts).chain((0..6000).map(|_| 0.01))).group(), ArrivalPattern::Smooth);
    }

    #[test]
    fn a_few_arrivals_say_nothing() {
        let few = stream([0.0, 1.0, 0.0, 0.0].into_iter());
        assert!(few.variation().is_none() && few.group() == ArrivalPattern::Smooth);
    }
}
