//! The baselines that every report sets next to its model.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use tempograph_framework::{Scorer as _, TensorScorer};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::Heuristic;
use tempograph_trainers::{Baseline, Evaluation, EvaluationTask, Part, TrainingData, evaluate, warm_up};

use crate::setup::data::{Questions, questions};
use crate::setup::spec::RunSpec;

/// EdgeBank and last-10 on the test split, on the same questions and under the same lookup as the model.
///
/// # Errors
/// As evaluation.
pub(crate) fn evaluate_baselines(
    spec: &RunSpec,
    training_data: &TrainingData,
    stop: &AtomicBool,
) -> Result<Vec<Baseline>> {
    let (time, test) = (training_data.dataset.log.time(), training_data.range(Part::Test));
    let history = spec.needs()?.lookup;
    let window = time.last().map_or(0, |last| last.0 - time[test.start].0);
    let rules = [
        Heuristic::EdgeBank { window: None, history },
        Heuristic::EdgeBank { window: Some(window), history },
        Heuristic::LastK { k: 10, history },
    ];
    let mut floors = Vec::new();
    for Questions { name, negatives } in questions(spec, training_data, Part::Test) {
        for rule in rules {
            let mut model = TensorScorer::<Cpu, _>::new(rule);
            let mut past = training_data.history(model.needs());
            let log = &training_data.dataset.log;
            let task = EvaluationTask {
                range: test.clone(),
                batch: spec.train.batch,
                negatives: &negatives,
                rank_every: 1,
                new_nodes: None,
            };
            let warmed = warm_up(&mut model, &mut past, log, 0..test.start, spec.train.batch, stop)?;
            let found = if warmed { evaluate(&mut model, &mut past, log, &task, stop, &mut |_| ())? } else { None };
            if let Some(Evaluation { all, .. }) = found {
                floors.push(Baseline { name: rule.name(), negatives: name.clone(), history, test: all });
            }
        }
    }
    Ok(floors)
}
