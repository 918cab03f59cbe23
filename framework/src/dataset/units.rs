//! What a dataset's ticks and its two sides mean.

use serde::{Deserialize, Serialize};

use crate::{NodeId, Timestamp};

/// Whether any node may act on any other, or sources only act on destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// One set of nodes.
    OneMode,
    /// Two sets: nodes `0..sources` act, the others are acted on.
    Bipartite {
        /// Nodes that are sources.
        sources: usize,
    },
}

/// One side of a bipartite graph; in a one-mode graph the two are the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Sources, which act.
    Source,
    /// Destinations, which are acted on.
    Destination,
}

impl Sides {
    /// The side `node` is on; `None` in a one-mode graph, where it may be on both.
    pub fn of(self, node: NodeId) -> Option<Side> {
        match self {
            Sides::OneMode => None,
            Sides::Bipartite { sources } if node.index() < sources => Some(Side::Source),
            Sides::Bipartite { .. } => Some(Side::Destination),
        }
    }
}

/// What one tick is. Fractional times are stored as integers: `ticks = time × scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeUnit {
    /// The unit of the times as the user writes them, in words; empty if the source does not name it.
    pub description: String,
    /// Ticks in one of the user's units.
    pub scale: u64,
}

impl TimeUnit {
    /// Whole ticks of an unnamed unit.
    pub fn ticks() -> Self {
        Self { description: String::new(), scale: 1 }
    }

    /// The user's time as ticks, rounded to the nearest; `None` when it is not a number or does not fit.
    pub fn to_ticks(&self, time: f64) -> Option<Timestamp> {
        // Whole times are scaled as integers, so none loses its last digits to the product.
        let ticks = if time.fract() == 0.0 {
            (time as i128).saturating_mul(self.scale.into())
        } else {
            (time * self.scale as f64).round() as i128
        };
        if time.is_finite() { i64::try_from(ticks).ok().map(Timestamp) } else { None }
    }

    /// Ticks as the user's time.
    pub fn from_ticks(&self, time: Timestamp) -> f64 {
        let scale = self.scale.max(1) as i64;
        // Splitting off the whole part keeps large times exact to the last tick that an f64 can represent.
        (time.0 / scale) as f64 + (time.0 % scale) as f64 / scale as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_trip_through_ticks() {
        let unit = TimeUnit { description: "s".into(), scale: 100_000 };
        for time in [0.0, 1289241911.72836, -3.5, 1453684323.0] {
            assert_eq!(unit.from_ticks(unit.to_ticks(time).unwrap()), time);
        }
    }

    #[test]
    fn times_that_fit_no_tick_are_refused() {
        let unit = TimeUnit { description: String::new(), scale: 1_000_000_000 };
        for time in [f64::NAN, f64::INFINITY, 1e12, -1e300] {
            assert_eq!(unit.to_ticks(time), None);
        }
    }
}
