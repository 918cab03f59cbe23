//! Heads that give numbers for each root: slices train as the tape does, and code that needs a link decoder refuses
//! them.

use std::sync::PoisonError;

use tempograph_framework::{
    Draw, Executor, History, LaneBatch, LanePool, Model, Purpose, Queries, RowLabels, RowTargets, SliceExecutor,
    SliceModel, TensorExecutor, values, with_weights,
};
use tempograph_kernels::AdamStep;
use tempograph_kernels::cpu::adam_step;
use tempograph_kernels::tensor::CpuTape;
use tempograph_models::{Axis, FeatureWidths, Head, ModelSpec, Program, ProgramModule, SliceProgram, SliceWork};

use crate::row_model::RowModel;
use crate::tape::{TAPE, assert_close};
use crate::{NODES, batch_ranges, features, stream};

const OUTPUTS: usize = 3;
const WIDTHS: FeatureWidths = FeatureWidths { edge: 3, node: 0 };

fn program() -> std::sync::Arc<Program> {
    ModelSpec::from(RowModel { outputs: OUTPUTS }).program(WIDTHS).unwrap()
}

/// Labels of both ends of every second event, by their nodes.
struct Labels {
    roots: Vec<u32>,
    classes: Vec<u32>,
    numbers: Vec<f32>,
    shares: Vec<f32>,
}

impl Labels {
    fn of(queries: &Queries) -> Labels {
        let roots: Vec<u32> = (0..queries.len() as u32).filter(|root| root % 4 < 2).collect();
        let node = |root: &u32| queries.nodes()[*root as usize].0;
        let classes: Vec<u32> = roots.iter().map(|root| node(root) % OUTPUTS as u32).collect();
        let column = |root: &u32, i: usize| ((node(root) as usize + 2 * i) as f32).cos();
        let numbers = roots.iter().flat_map(|root| (0..OUTPUTS).map(move |i| column(root, i))).collect();
        let share = |class: u32, i: usize| if class as usize == i { 0.9 } else { 0.05 };
        let shares = classes.iter().flat_map(|&class| (0..OUTPUTS).map(move |i| share(class, i))).collect();
        Labels { roots, classes, numbers, shares }
    }

    /// The labels of one task.
    fn task(&self, task: usize) -> RowTargets<'_> {
        let labels = match task {
            0 => RowLabels::Classes { classes: &self.classes, weights: None },
            1 => RowLabels::Classes { classes: &self.classes, weights: Some(&[1.0, 2.0, 0.5]) },
            2 => RowLabels::Numbers(&self.numbers),
            _ => RowLabels::Distributions(&self.shares),
        };
        RowTargets { roots: &self.roots, labels }
    }
}

/// A step of Adam on the gradients of the first lane. Returns its loss.
fn step(executor: &mut dyn Executor, batch: LaneBatch<'_>, moments: &mut [Vec<f32>; 2], step: u64) -> (f32, Vec<f32>) {
    executor.compute_gradients(&[Some(batch)], &LanePool::new(1));
    let (loss, gradients) = (executor.lane(0).loss, executor.lane(0).gradients.clone());
    let adam = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-4, weight_decay: 0.0, step };
    let [first, second] = moments;
    adam_step(executor.parameters_mut().values_mut(), &gradients, first, second, &adam);
    (loss, gradients)
}

#[test]
fn row_heads_train_on_slices_as_on_the_tape() {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = stream(210, 3);
    for task in 0..4 {
        let slices = SliceProgram::new(program(), 3);
        let needs = slices.needs();
        let taped = ProgramModule::<CpuTape>::new(program(), 3, &Default::default());
        let zeros = vec![0.0; slices.parameters().values().len()];
        let mut moments = [[zeros.clone(), zeros.clone()], [zeros.clone(), zeros]];
        let mut executors: [Box<dyn Executor>; 2] =
            [Box::new(SliceExecutor::new(slices)), Box::new(TensorExecutor::new(taped, &Default::default()))];
        let (mut count, mut losses) = (0, Vec::new());
        for _ in 0..12 {
            let mut history = History::new(NODES, needs.clone(), log.time()[0], features(&log, 0));
            for range in batch_ranges().into_iter().take(4) {
                let batch = log.batch(range);
                let queries = Queries::of_ends(&batch);
                let labels = Labels::of(&queries);
                let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
                count += 1;
                let lane = LaneBatch { targets: Some(labels.task(task)), ..LaneBatch::single(&queries, &view, count) };
                let [ours, theirs] = [0, 1].map(|i| step(executors[i].as_mut(), lane, &mut moments[i], count));
                let what = format!("task {task}, step {count}");
                assert_close(&format!("{what}: loss"), &[ours.0], &[theirs.0], 1e-4);
                assert_close(&format!("{what}: gradients"), &ours.1, &theirs.1, 3e-3);
                let [on_slices, on_tape] = executors.each_ref().map(|executor| executor.update(0).clone());
                assert_close(&format!("{what}: memories"), &on_slices.memory, &on_tape.memory, 1e-3);
                losses.push(ours.0);
                history.observe(&batch, &on_slices).unwrap();
            }
        }
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&losses[..4]), mean(&losses[44..]));
        assert!(last < 0.97 * first, "task {task}: from {first} to {last}");
    }
}

#[test]
fn outputs_and_gradients_of_rows_are_those_of_the_tape() {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let (log, mut slices) = (stream(210, 3), SliceProgram::new(program(), 3));
    slices.parameters_mut().values_mut().iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * (i as f32).sin());
    let taped = ProgramModule::<CpuTape>::new(program(), 4, &Default::default());
    let taped = with_weights(taped, slices.parameters().to_store()).unwrap();
    let mut executor = TensorExecutor::new(taped.clone(), &Default::default());
    let mut on_slices = SliceExecutor::new(slices.clone());
    let mut history = History::new(NODES, slices.needs(), log.time()[0], features(&log, 0));
    let mut work = SliceWork::default();
    for (step, range) in batch_ranges().into_iter().take(4).enumerate() {
        let batch = log.batch(range);
        let queries = Queries::of_ends(&batch);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let forward = taped.forward(&queries, &view, None);
        slices.forward(&queries, &view, None, &mut work);
        assert_eq!(work.as_ref().outputs.len(), queries.len() * OUTPUTS);
        assert!(work.as_ref().scores.is_empty());
        assert_close(&format!("step {step}"), &work.as_ref().outputs, &values(forward.outputs.unwrap()), 2e-5);
        let labels = Labels::of(&queries);
        for task in 0..4 {
            let lane = LaneBatch {
                targets: Some(labels.task(task)),
                share: 0.5,
                ..LaneBatch::single(&queries, &view, step as u64)
            };
            on_slices.compute_gradients(&[Some(lane)], &LanePool::new(1));
            executor.compute_gradients(&[Some(lane)], &LanePool::new(1));
            let (ours, theirs) = (on_slices.lane(0), executor.lane(0));
            let what = format!("step {step}, task {task}");
            assert_close(&format!("{what}: loss"), &[ours.loss], &[theirs.loss], 2e-5);
            for part in slices.parameters().parts() {
                let [ours, theirs] = [ours, theirs].map(|lane| &lane.gradients[part.range.clone()]);
                assert_close(&format!("{what}: gradient of {}", part.name), ours, theirs, 3e-4);
            }
        }
        history.observe(&batch, &work.as_ref().update).unwrap();
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (log, model) = (stream(210, 3), SliceProgram::new(program(), 3));
    let history = History::new(NODES, model.needs(), log.time()[0], features(&log, 0));
    let batch = log.batch(0..210);
    let queries = Queries::of_ends(&batch);
    let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
    let output_grads: Vec<f32> = (0..queries.len() * OUTPUTS).map(|i| (i as f32).sin()).collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut work, mut gradients) = (SliceWork::default(), vec![0.0; model.parameters().values().len()]);
        pool.install(|| {
            model.forward(&queries, &view, Some(9), &mut work);
            model.backward(&queries, &view, &output_grads, &mut gradients, &mut work);
        });
        work.as_ref().outputs.iter().chain(&gradients).map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    assert!(on(2) == on(1) && on(3) == on(1));
}

#[test]
fn a_program_without_a_link_decoder_says_what_it_has() {
    let program = program();
    assert!(matches!(program.head(), Head::Rows(head) if head.outputs() == OUTPUTS));
    let expected = "model.kind = \"rows\" has a row head of 3 outputs where a link decoder is needed";
    assert_eq!(program.links().unwrap_err(), expected);
    assert!(!program.scores_from_embeddings());
    let why = program.check_device_support().unwrap_err();
    assert_eq!(why, "kernels on a device know no heads that give numbers for each root");
    assert!(program.steps().iter().all(|step| program.shape(step.gives).axis != Axis::Pairs));
    let nothing = ModelSpec::from(RowModel { outputs: 0 }).program(WIDTHS).unwrap_err();
    assert_eq!(nothing, "a row head has 0 outputs; it must have at least 1");
}
