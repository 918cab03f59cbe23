//! The baselines every learned model has to beat: two rules without weights.
//!
//! EdgeBank: Poursafaei et al., "Towards Better Evaluation for Dynamic Link Prediction", 2022 (arXiv:2207.10128). A
//! pair that was seen scores 1, any other 0; with a window, only if it was seen within the last `window` ticks. Last-K:
//! a destination among the other ends of the source's last `K` events scores 1, any other 0.
//!
//! Differs: EdgeBank's authors fill the memory with the training edges and, in their online form, add each test batch.
//! Here the memory is the history's own pairs, exact or by batch according to the history's lookup.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Forward, Lookup, Model, Needs, PairFact, Queries, Update, View};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};

/// A rule on the facts of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Heuristic {
    /// The pair was seen, within the last `window` ticks if there is a window.
    EdgeBank {
        /// Ticks for which a pair is remembered; unlimited if missing.
        window: Option<i64>,
        /// Which events of its own batch a query sees.
        history: Lookup,
    },
    /// The destination is among the source's last `k` other ends.
    LastK {
        /// Number of events to compare with.
        k: usize,
        /// Which events of its own batch a query sees.
        history: Lookup,
    },
}

impl Heuristic {
    /// The name used in reports.
    pub fn name(&self) -> String {
        match self {
            Heuristic::EdgeBank { window: None, .. } => "edgebank".into(),
            Heuristic::EdgeBank { window: Some(window), .. } => format!("edgebank-window-{window}"),
            Heuristic::LastK { k, .. } => format!("last-{k}"),
        }
    }

    fn holds(&self, fact: &PairFact) -> bool {
        match self {
            Heuristic::EdgeBank { window: None, .. } => fact.count > 0,
            Heuristic::EdgeBank { window: Some(window), .. } => {
                fact.since_last.is_some_and(|since| since <= *window as f32)
            }
            Heuristic::LastK { .. } => fact.in_src.count > 0,
        }
    }
}

impl<B: Backend> Model<B> for Heuristic {
    fn needs(&self) -> Needs {
        let (neighbours, lookup) = match *self {
            Heuristic::EdgeBank { history, .. } => (0, history),
            Heuristic::LastK { k, history } => (k, history),
        };
        Needs { neighbours, layers: 1, lookup, pairs: true, ..Needs::nothing() }
    }

    fn forward(&self, _: &Queries, view: &View, _: Option<u64>) -> Forward<B> {
        let scores: Vec<f32> = view.pairs.iter().map(|fact| f32::from(u8::from(self.holds(fact)))).collect();
        let pairs = scores.len();
        let scores = Tensor::from_data(TensorData::new(scores, [pairs]), &B::Device::default());
        Forward { scores, outputs: None, embeddings: None, update: Update::none() }
    }

    fn advance(&self, _: &Queries, _: &View) -> Update {
        Update::none()
    }
}
