//! What is not a number is never swallowed: not by a pass, not by a training, not by a file that is read.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use tempograph_framework::{
    Dataset, DatasetContent, Draw, EventLog, Executor, Features, History, NodeId, Purpose, Queries, Scorer,
    SliceExecutor, Store, Table, TensorExecutor,
};
use tempograph_kernels::Rows;
use tempograph_kernels::tensor::CpuTape;
use tempograph_models::{FeatureWidths, ModelSpec};
use tempograph_tests::{
    Maker, Runner, Stopper, data, features, in_new_folder, kinds, plan, processes, slices, small, stream, training,
    training_data,
};
use tempograph_trainers::{
    Divergence, Learner, Outcome, ParallelSpec, RunFiles, SingleProcess, TrainError, TrainSpec, read_best_model,
};

const WIDTHS: FeatureWidths = FeatureWidths { edge: 2, node: 3 };

/// Scores of a batch after some events, by a learner's weights.
fn scores(learner: &mut Learner, set: &Dataset) -> Vec<f32> {
    let mut history = History::new(set.nodes, learner.needs(), set.log.time()[0], features(set));
    let mut last = Vec::new();
    for range in [0..60, 60..90, 90..120] {
        let batch = set.log.batch(range.clone());
        let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
        let queries = Queries::of_batch(&batch, &negatives, &(0..=range.len()).collect::<Vec<_>>());
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let (scores, update) = learner.score(&queries, &view);
        last = scores.to_vec();
        history.observe(&batch, update).unwrap();
    }
    last
}

/// Both forms of a kind on the processor.
fn forms(spec: &ModelSpec) -> [(&'static str, Learner); 2] {
    let tensors = spec.on_tensors::<CpuTape>(WIDTHS, 3, &Default::default()).unwrap();
    let tape: Box<dyn Executor> = Box::new(TensorExecutor::new(tensors, &Default::default()));
    [
        ("slices", Learner::new(Box::new(SliceExecutor::new(spec.on_slices(WIDTHS, 3).unwrap())))),
        ("tensors", Learner::new(tape)),
    ]
}

fn filled(learner: &Learner, with: impl Fn(&str) -> Option<f32>) -> Store {
    let mut weights = learner.parameters().to_store();
    let names: Vec<String> = weights.names().map(String::from).collect();
    for name in names {
        let Some(number) = with(&name) else { continue };
        let (shape, values) = weights.take::<f32>(&name).unwrap();
        weights.put(name, shape, vec![number; values.len()]);
    }
    weights
}

#[test]
fn weights_that_are_not_numbers_give_no_finite_score() {
    let set = stream(120, 2, 3);
    for spec in kinds() {
        for (form, mut learner) in forms(&spec) {
            let what = format!("{} on {form}", spec.kind());
            let whole = learner.parameters().to_store();
            assert!(scores(&mut learner, &set).iter().all(|score| score.is_finite()), "{what}");
            let all = filled(&learner, |_| Some(f32::NAN));
            learner.restore_weights(all).unwrap();
            let found = scores(&mut learner, &set);
            assert!(found.iter().all(|score| score.is_nan()), "{what}: {found:?}");
            // and each weight by itself, wherever it is read
            for name in whole.names() {
                learner.restore_weights(whole.clone()).unwrap();
                let one = filled(&learner, |other| (other == name).then_some(f32::NAN));
                learner.restore_weights(one).unwrap();
                let found = scores(&mut learner, &set);
                assert!(found.iter().any(|score| score.is_nan()), "{what}: NaN in `{name}` reaches no score");
            }
        }
    }
}

/// A stream with one feature of event `row` replaced.
fn with_feature(events: usize, row: usize, value: f32) -> Dataset {
    let plain = stream(events, 2, 0);
    let rows = plain.log.features().unwrap();
    let mut numbers: Vec<f32> = (0..events as u64).flat_map(|id| rows.row(id).to_vec()).collect();
    numbers[row * 2] = value;
    let log = &plain.log;
    let features = Arc::new(Table::new(numbers, 2).unwrap()) as Arc<dyn Rows>;
    let log = EventLog::new(
        log.src().to_vec(),
        log.dst().to_vec(),
        log.time().to_vec(),
        log.label().to_vec(),
        Some(features),
    );
    Dataset::new(DatasetContent {
        name: plain.name,
        log: log.unwrap(),
        time_unit: plain.time_unit,
        node_features: None,
        ids: plain.ids,
        source: plain.source,
        notices: Vec::new(),
    })
    .unwrap()
}

fn on_slices() -> Maker {
    Box::new(|set| {
        let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
        Learner::new(Box::new(SliceExecutor::new(slices(&small(), widths, 3))))
    })
}

/// Every float of every file that a run left.
fn assert_finite_files(folder: &Path) {
    let files = RunFiles { folder: folder.into() };
    for path in [files.best(), files.checkpoint()].iter().filter(|path| path.exists()) {
        Store::read(path).unwrap().check_finite(path).unwrap();
    }
}

#[test]
fn a_run_on_an_extreme_feature_diverges_by_name_or_trains_finitely() {
    for value in [3e38, -3e38, 1e30, 1e20, 1e10, f32::INFINITY, f32::NAN] {
        let training_data = training_data(with_feature(600, 120, value));
        let train = TrainSpec { batch: 20, epochs: 6, lr: 3e-3, ..TrainSpec::default() };
        in_new_folder(&training_data, &on_slices(), &train, &ParallelSpec::default(), |runner| {
            let ended = runner.run_among(&mut SingleProcess, false, &mut Stopper::never());
            match ended {
                Ok(Outcome::Finished(summary)) => {
                    assert!(summary.epochs.iter().all(|epoch| epoch.train.loss.is_finite()), "{value:e}")
                }
                Ok(Outcome::Stopped(_)) => panic!("nobody stopped it"),
                Err(TrainError::Diverged { what, largest_gradient, .. }) => {
                    println!("{value:e}: {what}, largest {largest_gradient:e}");
                    assert!(largest_gradient.is_finite() && largest_gradient > 0.0, "{value:e}");
                }
                Err(error) => panic!("{value:e}: {error}"),
            }
            assert_finite_files(runner.folder);
        });
    }
}

#[test]
fn a_learning_rate_beyond_use_is_diverged_and_the_files_are_those_from_before() {
    let training_data = data();
    let train = TrainSpec { batch: 20, epochs: 3, lr: 1e4, ..TrainSpec::default() };
    in_new_folder(&training_data, &on_slices(), &train, &ParallelSpec::default(), |runner| {
        let error = runner.run_among(&mut SingleProcess, false, &mut Stopper::never()).map(drop).unwrap_err();
        let TrainError::Diverged { step, ref what, .. } = error else { panic!("{error}") };
        let said = error.to_string();
        assert!(matches!(what, Divergence::Growth { .. } | Divergence::Norm { .. } | Divergence::Loss(_)), "{said}");
        assert!(said.contains(&format!("diverged in step {step} ")) && said.contains("train.lr"), "{said}");
        let files = RunFiles { folder: runner.folder.into() };
        assert!(!files.best().exists() && !files.checkpoint().exists());
    });
    // a good epoch first: its files stay as they are
    in_new_folder(
        &training_data,
        &on_slices(),
        &TrainSpec { lr: 1e-3, epochs: 1, ..train.clone() },
        &ParallelSpec::default(),
        |runner| {
            runner.to_the_end(false);
            let files = RunFiles { folder: runner.folder.into() };
            let before = [files.best(), files.checkpoint()].map(|path| std::fs::read(path).unwrap());
            let worse = Runner { train: &train, ..*runner };
            let error = worse.run_among(&mut SingleProcess, true, &mut Stopper::never()).map(drop).unwrap_err();
            assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
            assert_eq!([files.best(), files.checkpoint()].map(|path| std::fs::read(path).unwrap()), before);
        },
    );
}

#[test]
fn a_learning_rate_that_overflows_the_weights_ends_at_the_weight() {
    let training_data = data();
    let train = TrainSpec { batch: 20, epochs: 2, lr: 3e38, ..TrainSpec::default() };
    in_new_folder(&training_data, &on_slices(), &train, &ParallelSpec::default(), |runner| {
        let error = runner.run_among(&mut SingleProcess, false, &mut Stopper::never()).map(drop).unwrap_err();
        let TrainError::Diverged { step, what, .. } = error else { panic!("{error}") };
        assert!(step < 3, "it was noticed only in step {step}");
        assert!(matches!(what, Divergence::Weight { .. } | Divergence::Loss(_) | Divergence::Norm { .. }), "{what}");
        assert_finite_files(runner.folder);
    });
}

#[test]
fn all_processes_of_a_training_that_diverged_say_the_same() {
    for (lr, value) in [(1e4, 0.5), (3e-3, f32::NAN), (3e-3, 3e38), (3e38, 0.5)] {
        let training_data = training_data(with_feature(600, 120, value));
        let (maker, train) = (on_slices(), TrainSpec { batch: 20, epochs: 2, lr, ..TrainSpec::default() });
        for parallel in [plan([2, 1, 1], 0, 0), plan([1, 1, 2], 0, 0)] {
            let folder = tempfile::tempdir().unwrap();
            let runner = Runner {
                training_data: &training_data,
                maker: &maker,
                train: &train,
                parallel: &parallel,
                folder: folder.path(),
            };
            let said = processes(2, |_, mut exchange| {
                let error = runner.run_among(&mut *exchange, false, &mut Stopper::never()).map(drop).unwrap_err();
                (matches!(error, TrainError::Diverged { .. }), error.to_string())
            });
            assert!(said.iter().all(|(diverged, _)| *diverged), "{said:?}");
            // the first event of the batch is that of the process's own history
            let what = |said: &str| said.split_once("): ").map(|(_, what)| what.to_string());
            assert_eq!(what(&said[0].1), what(&said[1].1));
            assert_finite_files(folder.path());
        }
    }
}

#[test]
fn a_stored_number_that_is_not_finite_is_refused_by_array_and_row() {
    let training_data = data();
    in_new_folder(&training_data, &on_slices(), &training(), &ParallelSpec::default(), |runner| {
        runner.to_the_end(false);
        let files = RunFiles { folder: runner.folder.into() };
        let spoil = |path: &Path, name: &str, at: usize| {
            let whole = std::fs::read(path).unwrap();
            let mut store = Store::read(path).unwrap();
            let (shape, mut values) = store.take::<f32>(name).unwrap();
            values[at] = f32::NAN;
            let width = shape[1..].iter().product::<usize>().max(1);
            store.put(name, shape, values);
            store.write_sealed(path).unwrap();
            (whole, format!("array `{name}`, row {}, column {} is NaN", at / width, at % width))
        };
        let needs = slices(&small(), WIDTHS, 3).program().needs().clone();
        for (name, at) in [("model.memory.update.weight_hh", 5), ("history.memory", 40)] {
            let name = match Store::read(&files.best()).unwrap().get::<f32>(name) {
                Some(_) => name.to_string(),
                None => {
                    Store::read(&files.best()).unwrap().names().find(|name| name.starts_with("model.")).unwrap().into()
                }
            };
            let at = at.min(Store::read(&files.best()).unwrap().get::<f32>(&name).unwrap().len() - 1);
            let (whole, expected) = spoil(&files.best(), &name, at);
            let said = read_best_model(&files.best(), needs.clone(), Features::default()).unwrap_err().to_string();
            assert!(said.contains(&expected) && said.contains("best.safetensors"), "{said}");
            std::fs::write(files.best(), whole).unwrap();
        }
        let store = Store::read(&files.checkpoint()).unwrap();
        let float = |prefix: &str| {
            let of = store
                .names()
                .find(|name| name.starts_with(prefix) && store.get::<f32>(name).is_some_and(|v| !v.is_empty()));
            of.unwrap().to_string()
        };
        let later = TrainSpec { epochs: 3, ..training() };
        for name in [float("model."), float("adam.v."), float("history.0.memory")] {
            let (whole, expected) = spoil(&files.checkpoint(), &name, 1);
            let resumed = Runner { train: &later, ..*runner };
            let said =
                resumed.run_among(&mut SingleProcess, true, &mut Stopper::never()).map(drop).unwrap_err().to_string();
            assert!(said.contains(&expected) && said.contains("checkpoint.safetensors"), "{said}");
            std::fs::write(files.checkpoint(), whole).unwrap();
        }
    });
}

#[test]
fn a_prepared_feature_that_is_not_finite_is_refused_by_array_and_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    with_feature(100, 3, 1.25e7).write(&path).unwrap();
    assert!(Dataset::open(&path).is_ok());
    let columns = path.join("columns.safetensors");
    let mut bytes = std::fs::read(&columns).unwrap();
    let place = bytes.windows(4).position(|four| four == 1.25e7f32.to_le_bytes()).unwrap();
    bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&columns, bytes).unwrap();
    let said = Dataset::open(&path).map(drop).unwrap_err().to_string();
    assert!(said.contains("array `edge_features`, row 3, column 0 is NaN"), "{said}");
}

#[cfg(feature = "wgpu")]
#[test]
fn weights_that_are_not_numbers_give_no_finite_loss_on_a_device() {
    use tempograph_framework::{DeviceOrHostHistory, ResidentModel};
    use tempograph_kernels::AdamStep;
    use tempograph_kernels::tensor::{WgpuRuntime, vulkan};
    use tempograph_models::DeviceProgram;

    if let Err(why) = vulkan() {
        println!("skipped: {why}");
        return;
    }
    let set = stream(120, 2, 3);
    let program = tempograph_tests::program(&small(), WIDTHS);
    let history = History::new(set.nodes, program.needs().clone(), set.log.time()[0], features(&set));
    let mut model: DeviceProgram<WgpuRuntime, DeviceOrHostHistory<WgpuRuntime>> =
        DeviceProgram::new(program, 3, &Default::default(), (&history, &set.log), 1 << 30).unwrap();
    let whole = model.parameters();
    let step = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 1 };
    for name in whole.parts().iter().map(|part| part.name.clone()) {
        let mut values = whole.values().to_vec();
        values[whole.find(&name).unwrap().range.clone()].fill(f32::NAN);
        model.set_parameters(&values);
        let fresh = History::new(set.nodes, ResidentModel::needs(&model), set.log.time()[0], features(&set));
        model.load_history(fresh, &set.log);
        for range in [0..60, 60..90] {
            let batch = set.log.batch(range.clone());
            let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
            let queries = Queries::of_batch(&batch, &negatives, &(0..=range.len()).collect::<Vec<_>>());
            model.train(&batch, &queries, Draw::new(0).of(Purpose::Sampling), 0, &step, 1.0);
        }
        let [loss, _] = model.take_losses()[1];
        assert!(loss.is_nan(), "NaN in `{name}` gives the loss {loss}");
        let _ = model.take_history(&set.log);
    }
}
