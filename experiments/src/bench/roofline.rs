//! The least time a step can take on this machine: its operations at the measured rate of matrix products, or its bytes
//! at the measured bandwidth, whichever is longer.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use serde::Serialize;
use tempograph_framework::{Draw, NegativeSampler, NodeId, Purpose, Queries, Update, View};
use tempograph_kernels::machine;
use tempograph_models::{StepCost, StepSizes};
use tempograph_trainers::TrainingData;

use crate::setup::spec::RunSpec;
use crate::terminal::print::note;

/// The rates of some threads of this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Rates {
    /// Floating-point operations a second in matrix products.
    pub flops_per_second: f64,
    /// Bytes a second to and from memory.
    pub bytes_per_second: f64,
}

/// The machine's rates by number of threads, each measured once.
#[derive(Default)]
pub(super) struct MachineRates(BTreeMap<usize, Rates>);

impl MachineRates {
    /// The rates with `threads` threads.
    pub fn rates(&mut self, threads: usize) -> Result<Rates> {
        if let Some(&known) = self.0.get(&threads) {
            return Ok(known);
        }
        note(format!("measuring the machine with {threads} threads"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start the threads")?;
        let rates =
            pool.install(|| Rates { flops_per_second: machine::gemm_rate(), bytes_per_second: machine::bandwidth() });
        self.0.insert(threads, rates);
        Ok(rates)
    }

    /// All measured rates.
    pub fn known(&self) -> &BTreeMap<usize, Rates> {
        &self.0
    }
}

/// Mean sizes of the training steps over `range` of the log, after all events before it were observed. Sizes do not
/// depend on weights, so the replay uses no model: the same negatives, the same views, memories of zero.
pub(super) fn mean_sizes(spec: &RunSpec, training_data: &TrainingData, range: Range<usize>) -> Result<StepSizes> {
    let (log, train) = (&training_data.dataset.log, &spec.train);
    let needs = spec.needs()?;
    let width = needs.memory;
    let mut history = training_data.history(needs);
    let draw = Draw::new(spec.seed);
    let negatives =
        NegativeSampler::new(training_data.candidates.clone(), train.negative_rule, draw.of(Purpose::Negatives));
    let (mut sizes, mut queries, mut view, mut update) = (Vec::new(), Queries::none(), View::default(), Update::none());
    for part in batches(0..range.start, train.batch).chain(batches(range.clone(), train.batch)) {
        let (batch, trained) = (log.batch(part.clone()), part.start >= range.start);
        let mut drawn = vec![NodeId::default(); if trained { batch.len() * train.negatives } else { 0 }];
        for (event, slots) in batch.events().zip(drawn.chunks_mut(train.negatives)) {
            negatives.fill(0, event.id, slots)?;
        }
        if trained {
            let offsets: Vec<usize> = (0..=batch.len()).map(|i| i * train.negatives).collect();
            queries.set_batch(&batch, &drawn, &offsets);
        }
        history.view_into(&queries, Some(&batch), draw.of(Purpose::Sampling), &mut view);
        if trained {
            sizes.push(StepSizes::of(&queries, &view, &batch));
        }
        update.nodes.clone_from(&view.nodes);
        update.memory.resize(view.nodes.len() * width, 0.0);
        history.observe(&batch, &update)?;
    }
    Ok(StepSizes::mean(&sizes))
}

/// `range` in parts of `size`.
fn batches(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |first| first..(first + size).min(range.end))
}

/// The work of a step, and the least time it can take.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Roofline {
    /// Operations a batch.
    pub flops: f64,
    /// Of the forward pass.
    pub flops_forward: f64,
    /// Of the backward pass.
    pub flops_backward: f64,
    /// Of the optimiser.
    pub flops_optimiser: f64,
    /// Bytes a batch.
    pub bytes: f64,
    /// The machine's rate of matrix products.
    pub flops_per_second: f64,
    /// The machine's bandwidth.
    pub bytes_per_second: f64,
    /// Least seconds a step.
    pub seconds: f64,
}

impl Roofline {
    /// The roofline of a configuration's steps.
    pub fn of(spec: &RunSpec, training_data: &TrainingData, steps: usize, rates: Rates) -> Result<Roofline> {
        let train = &training_data.split.train;
        let trained = train.start..train.end.min(train.start + steps * spec.train.batch);
        let cost = spec.program(training_data)?.cost(&mean_sizes(spec, training_data, trained)?);
        Ok(Roofline::new(cost, rates))
    }

    fn new(cost: StepCost, rates: Rates) -> Roofline {
        let Rates { flops_per_second, bytes_per_second } = rates;
        Roofline {
            flops: cost.flops(),
            flops_forward: cost.forward,
            flops_backward: cost.backward,
            flops_optimiser: cost.optimiser,
            bytes: cost.bytes,
            flops_per_second,
            bytes_per_second,
            seconds: (cost.flops() / flops_per_second).max(cost.bytes / bytes_per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_longer_of_arithmetic_and_traffic() {
        let cost = StepCost { forward: 1e9, backward: 2e9, optimiser: 1e9, bytes: 1e8 };
        let floor = |flops_per_second, bytes_per_second| {
            Roofline::new(cost, Rates { flops_per_second, bytes_per_second }).seconds
        };
        assert_eq!((floor(1e11, 1e10), floor(1e12, 1e10)), (0.04, 0.01));
    }

    #[test]
    fn sizes_are_means_over_the_steps_that_are_trained() {
        let sets = ["train.batch=50".into(), "train.negatives=2".into()];
        let spec = RunSpec::parse("[data]\npath = \"synthetic:events=900,users=20,items=15\"\n", &sets).unwrap();
        let training_data = crate::setup::data::open(&spec.data).unwrap();
        let sizes = |range| mean_sizes(&spec, &training_data, range).unwrap();
        let one = sizes(0..50);
        assert_eq!((one.pairs, one.receivers, one.hops[0].neighbours > 0.0), (150.0, 0.0, true));
        let many = sizes(0..630);
        assert!(many.receivers > 0.0 && many.nodes <= 35.0 && many.pairs < 150.0, "{many:?}");
    }

    #[test]
    fn events_before_the_steps_have_happened_and_are_not_among_them() {
        let spec =
            RunSpec::parse("[data]\npath = \"synthetic:events=900,users=20,items=15\"\n", &["train.batch=50".into()])
                .unwrap();
        let training_data = crate::setup::data::open(&spec.data).unwrap();
        let sizes = |range| mean_sizes(&spec, &training_data, range).unwrap();
        let [first, second, both] = [0..50, 50..100, 0..100].map(sizes);
        assert!(second.receivers > 0.0 && second.hops[0].neighbours > first.hops[0].neighbours, "{second:?}");
        assert_eq!(both, StepSizes::mean(&[first, second]));
    }
}
