//! Statistics of the data from which settings are filled in.

use std::ops::Range;

use tempograph_framework::{EventLog, NodeId, Timestamp};

/// Statistics of the data from which settings are filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DatasetStats {
    /// Nodes of the data.
    pub nodes: usize,
    /// Mean ticks between a source's events in the training split.
    pub time_scale: f64,
    /// Times between a node's events as a source, and as a destination.
    pub idle: [IdleStats; 2],
}

/// Ticks between a node's events of one role in the training split. A node's first interval is counted from the log's
/// first event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleStats {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

impl DatasetStats {
    /// The statistics of a log of `nodes` nodes whose training split is `train`.
    pub fn of(log: &EventLog, train: Range<usize>, nodes: usize) -> DatasetStats {
        let origin = log.time().first().copied().unwrap_or(Timestamp(0));
        let gaps = |ends: &[NodeId]| -> (Vec<f64>, Vec<f64>) {
            let mut last = vec![None; nodes];
            let (mut first, mut later) = (Vec::new(), Vec::new());
            for event in train.clone() {
                let time = log.time()[event];
                match last[ends[event].index()].replace(time) {
                    Some(before) => later.push(f64::from(time.since(before))),
                    None => first.push(f64::from(time.since(origin))),
                }
            }
            (first, later)
        };
        let [sources, destinations] = [log.src(), log.dst()].map(gaps);
        let total: f64 = sources.1.iter().sum();
        let time_scale = if total > 0.0 { total / sources.1.len() as f64 } else { 1.0 };
        DatasetStats {
            nodes,
            time_scale,
            idle: [sources, destinations].map(|(first, later)| IdleStats::of(&[first, later].concat())),
        }
    }
}

impl IdleStats {
    fn of(gaps: &[f64]) -> IdleStats {
        let share = 1.0 / gaps.len().max(1) as f64;
        let mean = gaps.iter().sum::<f64>() * share;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() * share;
        IdleStats { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }
}
