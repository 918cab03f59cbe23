//! The data of a run: events, their split, and the indexes over them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use tempograph_framework::{
    Candidates, Dataset, EventId, Features, History, Needs, NegativeRule, NegativeSet, NewNodes, Split, Timestamp,
};

use crate::transport::exchange::{Exchange, SingleProcess};
use crate::transport::machine::once_in_shared_memory;
use crate::{EvalSpec, TrainError};

/// The data of a run, split and indexed.
#[derive(Debug)]
pub struct TrainingData {
    /// Events and nodes.
    pub dataset: Dataset,
    /// The features a model reads: the dataset's own, some of them, or others.
    pub features: Features,
    /// Training, validation and test.
    pub split: Split,
    /// The nodes that negatives are drawn from.
    pub candidates: Arc<Candidates>,
    /// Nodes no training event touches.
    pub new_nodes: NewNodes,
    /// Evaluation negatives of validation and test from a file. They replace drawn ones.
    pub fixed: Option<[NegativeSet; 2]>,
    /// What all this was read from.
    pub sources: Sources,
}

/// What a run's data was read from: by the key of the spec that names it, the SHA-256 of the content; and the split.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<String, String>);

impl Sources {
    /// Notes what `key` names now.
    pub fn insert(&mut self, key: &str, content: impl Into<String>) {
        self.0.insert(key.into(), content.into());
    }

    /// Whether this is what was read `before`, but for the keys `free`.
    ///
    /// # Errors
    /// A sentence with the first key that names something else now, and both contents.
    pub fn check(&self, before: &Sources, free: &[&str]) -> Result<(), String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        let differs = |key: &&&String| !free.contains(&key.as_str()) && self.0.get(**key) != before.0.get(**key);
        let said = |sources: &Sources, key: &String| sources.0.get(key).map_or("left out".to_string(), String::clone);
        keys.iter().find(differs).map_or(Ok(()), |key| {
            let what = if key.as_str() == SPLIT { "the split at events" } else { "the checksum" };
            Err(format!(
                "{key} had {what} {} when it was trained on, and has {} now",
                said(before, key),
                said(self, key)
            ))
        })
    }
}

/// The key under which [`Sources`] has the split: the first events of validation and test.
const SPLIT: &str = "data.val and data.test";

/// A part of the log that is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Validation.
    Val,
    /// Test.
    Test,
}

impl TrainingData {
    /// Indexes `dataset` for training and evaluation.
    ///
    /// # Errors
    /// A log that is not sorted, or too long.
    pub fn new(dataset: Dataset, features: Features, split: Split) -> Result<TrainingData, TrainError> {
        TrainingData::distributed(&mut SingleProcess, dataset, features, split)
    }

    /// As [`new`](TrainingData::new), in several processes, which all call it. Each machine has the index once.
    ///
    /// # Errors
    /// As [`new`](TrainingData::new), and if another process is gone.
    pub fn distributed(
        exchange: &mut dyn Exchange,
        dataset: Dataset,
        features: Features,
        split: Split,
    ) -> Result<TrainingData, TrainError> {
        let log = &dataset.log;
        let train_end = EventId(split.train.end as u64);
        let index = || Ok::<_, TrainError>(Candidates::build(log.src(), log.dst(), log.time(), train_end)?);
        let candidates =
            once_in_shared_memory(exchange, index, Candidates::needed, Candidates::enter, Candidates::in_room)?;
        let new_nodes = NewNodes::after_training(log.src(), log.dst(), train_end);
        let mut sources = Sources::default();
        sources.insert("data.path", dataset.checksum.clone());
        sources.insert(SPLIT, format!("{} and {}", split.val.start, split.test.start));
        let candidates = Arc::new(candidates);
        Ok(TrainingData { split, features, candidates, new_nodes, dataset, fixed: None, sources })
    }

    /// An empty history, for a model with these needs.
    pub fn history(&self, needs: Needs) -> History {
        let mut history = self.blank(needs);
        history.attach_log(&self.dataset.log, self.dataset.nodes);
        history.grow(self.dataset.nodes);
        history
    }

    /// An empty history without tables for nodes and without the log.
    pub(crate) fn blank(&self, needs: Needs) -> History {
        let origin = self.dataset.log.time().first().copied().unwrap_or(Timestamp(0));
        History::new(0, needs, origin, self.features.clone())
    }

    /// The events of a part.
    pub fn range(&self, part: Part) -> Range<usize> {
        match part {
            Part::Val => self.split.val.clone(),
            Part::Test => self.split.test.clone(),
        }
    }

    /// The negatives of the positives of a part under `rule`.
    pub fn negatives(&self, part: Part, rule: NegativeRule, eval: &EvalSpec) -> NegativeSet {
        match &self.fixed {
            Some(sets) => sets[part as usize].clone(),
            None => NegativeSet::sampled(self.candidates.clone(), rule, eval.seed, eval.negatives),
        }
    }
}
