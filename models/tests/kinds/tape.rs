//! Slices compute the same as the tape: scores, updates and gradients.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use tempograph_framework::{
    Draw, ForwardOutput, History, Model, ModulePath, Purpose, SliceModel, values, with_weights,
};
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape, Tensor, TensorData};
use tempograph_models::{FeatureWidths, ModelSpec, ProgramModule, SliceProgram, SliceWork};

use crate::{NODES, batch_queries, batch_ranges, features, stream, variants};

/// The tensor library keeps the tapes of all threads in one place, so tests use it one at a time.
pub static TAPE: Mutex<()> = Mutex::new(());

struct Gradients<'a> {
    path: ModulePath,
    tape: &'a <CpuTape as AutodiffBackend>::Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor<CpuTape> for Gradients<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<CpuTape, D>>) {
        if let Some(gradient) = param.val().grad(self.tape) {
            self.found.insert(self.path.dotted(), values(gradient));
        }
    }
}

/// Whether two arrays agree to `tolerance` of the larger one's greatest number.
pub fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let size = ours.iter().chain(theirs).fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * size, "{what}: off by {worst:e} where numbers reach {size:e}");
}

pub fn assert_agrees(name: &str, spec: &ModelSpec, edge: usize, node: usize) {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = format!("{name}, {edge} edge and {node} node features");
    let log = stream(210, edge);
    spec.check().unwrap();
    let program = spec.program(FeatureWidths { edge, node }).unwrap();
    let mut slices = SliceProgram::new(program.clone(), 3);
    // Parameters that are initialised to ones and zeros would hide mistakes.
    slices.parameters_mut().values_mut().iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * (i as f32).sin());
    let store = slices.parameters().to_store();
    let taped = with_weights(ProgramModule::<CpuTape>::new(program, 4, &Default::default()), store).unwrap();
    let mut history = History::new(NODES, slices.needs(), log.time()[0], features(&log, node));
    let (mut work, mut found) = (SliceWork::default(), vec![f32::NAN; slices.parameters().values().len()]);
    for (step, range) in batch_ranges().into_iter().enumerate() {
        let (batch, what) = (log.batch(range.clone()), format!("{what}, step {step}"));
        let queries = batch_queries(&batch);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let seed = (step % 2 == 1).then_some(step as u64);
        let forward = taped.forward(&queries, &view, seed);
        slices.forward(&queries, &view, seed, &mut work);
        let ForwardOutput { scores, embeddings, update, .. } = work.as_ref().clone();
        assert_close(&format!("{what}: scores"), &scores, &values(forward.scores.clone()), 2e-5);
        assert_eq!(update.nodes, forward.update.nodes, "{what}: nodes of the update");
        assert_close(&format!("{what}: memories"), &update.memory, &forward.update.memory, 2e-5);
        assert_close(&format!("{what}: mail"), &update.mail, &forward.update.mail, 2e-5);
        if seed.is_none() {
            let width = embeddings.len() / view.roots.iter().max().map_or(1, |&row| row as usize + 1);
            let ours: Vec<f32> =
                view.roots.iter().flat_map(|&row| embeddings[row as usize * width..][..width].to_vec()).collect();
            assert_close(&format!("{what}: embeddings"), &ours, &values(forward.embeddings.unwrap()), 2e-5);
        }

        let score_grads: Vec<f32> = (0..scores.len()).map(|i| (i as f32 * 1.3).sin() / 40.0).collect();
        let data = TensorData::new(score_grads.clone(), [score_grads.len()]);
        let tape = (forward.scores * Tensor::from_data(data, &Default::default())).sum().backward();
        let mut expected = Gradients { path: ModulePath::default(), tape: &tape, found: BTreeMap::new() };
        taped.visit(&mut expected);
        found.fill(f32::NAN);
        slices.backward(&queries, &view, &score_grads, &mut found, &mut work);
        for part in slices.parameters().parts() {
            let zeros = vec![0.0; part.range.len()];
            let expected = expected.found.get(&part.name).unwrap_or(&zeros);
            assert_close(&format!("{what}: gradient of {}", part.name), &found[part.range.clone()], expected, 3e-4);
        }
        assert_eq!(work.as_ref().update, update, "{what}: the way back changes the update");
        slices.advance(&queries, &view, &mut work);
        assert_eq!(work.as_ref().update, update, "{what}: advancing gives another update than answering");
        assert_close(&format!("{what}: advanced"), &taped.advance(&queries, &view).memory, &update.memory, 2e-5);
        if range.end > history.seen() as usize {
            history.observe(&batch, &update).unwrap();
        }
    }
}

#[test]
fn slices_agree_with_the_tape() {
    for (name, spec) in variants() {
        for (edge, node) in [(3, 0), (0, 2)] {
            assert_agrees(name, &spec, edge, node);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (name, spec) in variants() {
        let log = stream(210, 3);
        let model = SliceProgram::new(spec.program(FeatureWidths { edge: 3, node: 0 }).unwrap(), 3);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 0));
            let (mut work, mut gradients) = (SliceWork::default(), vec![0.0; model.parameters().values().len()]);
            let mut bits: Vec<u32> = Vec::new();
            for range in [0..70, 70..210] {
                let batch = log.batch(range);
                let queries = batch_queries(&batch);
                let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
                let score_grads = vec![0.1; queries.pairs().len()];
                pool.install(|| {
                    model.forward(&queries, &view, Some(9), &mut work);
                    model.backward(&queries, &view, &score_grads, &mut gradients, &mut work);
                });
                let ForwardOutput { scores, update, .. } = work.as_ref();
                let numbers = scores.iter().chain(&update.memory).chain(&update.mail).chain(&gradients);
                bits.extend(numbers.map(|x| x.to_bits()));
                history.observe(&batch, update).unwrap();
            }
            bits
        };
        assert!(with(2) == with(1), "{name}: two threads compute other bits than one");
    }
}
