//! Times of arrival: evenly spread, in bursts, or replayed from a recording.

use std::time::Duration;

use tempograph_framework::RandomNumbers;

/// Share of the time that a bursty stream is in a burst.
const IN_BURST: f64 = 0.1;
/// Rate of a burst relative to the mean rate.
const FASTER: f64 = 8.0;
/// Mean length of a burst in seconds.
const BURST: f64 = 0.1;

/// A pattern of arrivals, at any rate.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Arrivals {
    /// Independent arrivals, as of very many users.
    #[default]
    Poisson,
    /// For a tenth of the time eight times the mean rate, otherwise about a quarter of it.
    Bursty,
    /// The gaps between these times, in any unit, repeated.
    Replay(Vec<f64>),
}

impl Arrivals {
    /// Times of arrival from zero to `end`, `rate` a second on average.
    pub fn moments(&self, rate: f64, end: Duration, chance: &mut RandomNumbers) -> Vec<Duration> {
        match self {
            Arrivals::Poisson => until(end, |_| exponential(chance) / rate),
            Arrivals::Bursty => bursts(rate, end, chance),
            Arrivals::Replay(moments) => replay(moments, rate, end),
        }
    }
}

fn until(end: Duration, mut gap: impl FnMut(usize) -> f64) -> Vec<Duration> {
    let (end, mut at, mut moments) = (end.as_secs_f64(), 0.0, Vec::new());
    loop {
        at += gap(moments.len());
        if at >= end {
            return moments;
        }
        moments.push(Duration::from_secs_f64(at));
    }
}

fn exponential(chance: &mut RandomNumbers) -> f64 {
    -(1.0 - chance.uniform_f64()).ln()
}

/// A two-state Poisson process. When the state changes, the rest of the current gap continues at the new rate.
fn bursts(rate: f64, end: Duration, chance: &mut RandomNumbers) -> Vec<Duration> {
    let calm_rate = rate * (1.0 - IN_BURST * FASTER) / (1.0 - IN_BURST);
    let calm = BURST * (1.0 - IN_BURST) / IN_BURST;
    let mut in_burst = false;
    let mut left = calm * exponential(chance);
    until(end, |_| {
        let (mut wanted, mut gap) = (exponential(chance), 0.0);
        loop {
            let now = if in_burst { rate * FASTER } else { calm_rate };
            if wanted <= left * now {
                left -= wanted / now;
                return gap + wanted / now;
            }
            wanted -= left * now;
            gap += left;
            in_burst = !in_burst;
            left = exponential(chance) * if in_burst { BURST } else { calm };
        }
    })
}

fn replay(moments: &[f64], rate: f64, end: Duration) -> Vec<Duration> {
    let gaps: Vec<f64> = moments.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0)).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    if mean <= 0.0 {
        return until(end, |_| 1.0 / rate);
    }
    until(end, |i| gaps[i % gaps.len()] / (mean * rate))
}

#[cfg(test)]
mod tests {
    use tempograph_framework::{Draw, Purpose};

    use super::*;

    fn moments(arrivals: &Arrivals) -> Vec<Duration> {
        arrivals.moments(500.0, Duration::from_secs(200), &mut Draw::new(4).of(Purpose::Sampling).at(0, 0))
    }

    /// Coefficient of variation of the number of arrivals in each tenth of a second, relative to that of independent
    /// arrivals.
    fn unevenness(moments: &[Duration]) -> f64 {
        let mut counts = vec![0.0_f64; 2000];
        moments.iter().for_each(|at| counts[(at.as_secs_f64() * 10.0) as usize] += 1.0);
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        variance / mean
    }

    #[test]
    fn every_pattern_keeps_its_rate_and_order() {
        let recorded: Vec<f64> = (0..50).map(|i| f64::from(i * i)).collect();
        for arrivals in
            [Arrivals::Poisson, Arrivals::Bursty, Arrivals::Replay(recorded), Arrivals::Replay(vec![3.0, 3.0])]
        {
            let moments = moments(&arrivals);
            let rate = moments.len() as f64 / 200.0;
            assert!((rate / 500.0 - 1.0).abs() < 0.1, "{arrivals:?}: {rate}");
            assert!(moments.is_sorted());
        }
    }

    #[test]
    fn bursts_are_uneven_and_independent_arrivals_are_not() {
        assert!((0.7..1.4).contains(&unevenness(&moments(&Arrivals::Poisson))));
        assert!(unevenness(&moments(&Arrivals::Bursty)) > 10.0);
    }
}
