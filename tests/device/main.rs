//! A model that trains on a device learns the same as on the host, and its history is the same.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kinds;
mod lanes;

use std::sync::{Mutex, PoisonError};

use tempograph_framework::{
    Combine, Dataset, Delta, DeviceOrHostHistory, Executor, History, HostFallback, Lookup, OtherMemory, Sampler,
    SliceExecutor, Store,
};
use tempograph_kernels::cube::launches_by_source_line;
use tempograph_kernels::tensor::{WgpuRuntime, vulkan};
use tempograph_models::{
    AttentionForm, AttentionScores, DeviceProgram, Embedding, FeatureWidths, Message, StaticMemoryMode, TgnSpec,
    TimeInit, Updater,
};
use tempograph_tests::{
    Maker, Moment, Runner, Stopper, assert_same_steps, features, frozen, needs, pass, program, slices, small, stream,
    training, training_data, tuned,
};
use tempograph_trainers::{Learner, Outcome, ParallelSpec, TrainSpec, TrainingData};

/// One test at a time: launches are counted for the whole program, and the device may be the processor.
static TURN: Mutex<()> = Mutex::new(());

fn absent() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}

/// More bytes than any test here needs.
const PLENTY: u64 = 1 << 30;

fn device(
    spec: &TgnSpec,
    set: &Dataset,
    room: u64,
) -> Result<DeviceProgram<WgpuRuntime, DeviceOrHostHistory<WgpuRuntime>>, String> {
    let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
    let history = History::new(set.nodes, needs(spec), set.log.time()[0], features(set));
    DeviceProgram::new(program(spec, widths), 3, &Default::default(), (&history, &set.log), room)
}

/// The executor of the same model on slices.
fn host(spec: &TgnSpec, set: &Dataset) -> Box<dyn Executor> {
    let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
    Box::new(SliceExecutor::new(slices(spec, widths, 3)))
}

fn on_slices(spec: &TgnSpec) -> Maker {
    let spec = spec.clone();
    Box::new(move |set| Learner::new(host(&spec, set)))
}

fn on_device(spec: &TgnSpec, room: u64) -> Maker {
    let spec = spec.clone();
    Box::new(move |set| Learner::with_resident(host(&spec, set), Box::new(device(&spec, set, room).unwrap())))
}

/// Bytes that the history takes.
fn needed(spec: &TgnSpec, set: &Dataset) -> u64 {
    let Some(HostFallback::TooLarge(needed)) = device(spec, set, 0).unwrap().placement().fallback else {
        panic!("too large for no room at all")
    };
    needed.bytes
}

/// One pass over the training split with one lane: losses and norms, weights, moments.
fn trained(training_data: &TrainingData, maker: &Maker, train: &TrainSpec) -> (Vec<[f64; 2]>, Store, Store) {
    trained_by(training_data, maker, train, &ParallelSpec::default())
}

/// One pass over the training split by the lanes of a plan.
fn trained_by(
    training_data: &TrainingData,
    maker: &Maker,
    train: &TrainSpec,
    parallel: &ParallelSpec,
) -> (Vec<[f64; 2]>, Store, Store) {
    let mut learner = maker(&training_data.dataset);
    let losses = pass(training_data, &mut learner, train, parallel);
    (losses, learner.parameters().to_store(), learner.moments())
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(1e-3f32, |max, x| max.max(x.abs()));
    let worst = ours.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert!(worst <= tolerance * scale, "{what}: {worst} off, of {scale}");
}

/// Losses and norms of every step, and the means of all steps' gradients, weight by weight. Weights are not compared:
/// where gradients vanish, steps differ by rounding.
#[track_caller]
fn assert_learned_alike(
    name: &str,
    (losses, own): (&[[f64; 2]], &mut Store),
    (expected, moments): (&[[f64; 2]], &mut Store),
) {
    for (i, what) in ["loss", "norm"].into_iter().enumerate() {
        let [ours, expected] = [losses, expected].map(|steps| steps.iter().map(move |step| step[i]));
        assert_same_steps(&format!("{name}, {what}"), ours, expected, 1e-3);
    }
    let names: Vec<String> = moments.names().filter(|name| name.starts_with("m.")).map(String::from).collect();
    for weight in names {
        let [ours, expected] = [&mut *own, &mut *moments].map(|store| store.take::<f32>(&weight).unwrap().1);
        assert_close(&format!("{name}: {weight}"), &ours, &expected, 1e-3);
    }
}

/// Variants that the device stores or computes differently: attention, cell, hops, draws, which memory a message
/// carries, what a query sees, features of nodes and pairs.
fn kinds() -> Vec<(&'static str, TgnSpec)> {
    let conv = TgnSpec { attention: AttentionForm::TransformerConv, ..small() };
    vec![
        ("paper", small()),
        ("static, tuned, add", TgnSpec { static_memory: tuned(StaticMemoryMode::Add), ..conv.clone() }),
        (
            "static, tuned, concat, 2 layers",
            TgnSpec { layers: 2, static_memory: tuned(StaticMemoryMode::Concat), ..small() },
        ),
        (
            "static, frozen, add, pair features",
            TgnSpec { pair_features: true, static_memory: frozen(StaticMemoryMode::Add), ..small() },
        ),
        (
            "conv, 2 layers, uniform",
            TgnSpec { layers: 2, sampler: Sampler::Uniform, mail_memory: OtherMemory::AtRead, ..conv.clone() },
        ),
        (
            "paper, 2 layers, rnn, ordered",
            TgnSpec { layers: 2, updater: Updater::Rnn, history: Lookup::Ordered, ..small() },
        ),
        ("leaky", TgnSpec { attention_scores: AttentionScores::LeakyRelu, ..small() }),
        ("leaky, conv, 2 layers", TgnSpec { attention_scores: AttentionScores::LeakyRelu, layers: 2, ..conv.clone() }),
        (
            "as PyG, window",
            TgnSpec {
                mail_memory: OtherMemory::AtRead,
                update_without_mail: true,
                time_delta: Delta::SinceUpdate,
                history: Lookup::Batch,
                time_init: TimeInit::Uniform,
                sampler: Sampler::Window(30),
                ..conv
            },
        ),
    ]
}

/// A pass on a device with `room` bytes for history and features learns the same as a pass on the host.
fn learns_what_the_host_learns(room: u64, change: impl Fn(TgnSpec) -> TgnSpec) {
    // steps so short that rounding, which Adam enlarges where gradients vanish, stays small
    let train = TrainSpec { clip: 0.5, lr: 1e-4, ..training() };
    let [plain, with_node_features] = [0, 3].map(|node| training_data(stream(240, 2, node)));
    let all = kinds().into_iter().map(|(name, spec)| (name, spec, &plain));
    let featured = [
        ("node features", small()),
        ("node features, static, tuned, add", TgnSpec { static_memory: tuned(StaticMemoryMode::Add), ..small() }),
        ("node features, static, concat", TgnSpec { static_memory: frozen(StaticMemoryMode::Concat), ..small() }),
    ];
    for (name, spec, training_data) in all.chain(featured.map(|(name, spec)| (name, spec, &with_node_features))) {
        let spec = change(spec);
        let (expected, _, mut moments) = trained(training_data, &on_slices(&spec), &train);
        let (losses, _, mut own) = trained(training_data, &on_device(&spec, room), &train);
        assert_learned_alike(name, (&losses, &mut own), (&expected, &mut moments));
    }
}

#[test]
fn a_pass_on_a_device_learns_what_a_pass_on_the_host_learns() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !absent() {
        learns_what_the_host_learns(PLENTY, |spec| spec);
    }
}

#[test]
fn a_pass_on_a_device_without_room_for_the_history_learns_what_a_pass_on_the_host_learns() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !absent() {
        // the host looks, so what is dropped is what the host drops
        learns_what_the_host_learns(0, |spec| TgnSpec { dropout: 0.2, ..spec });
    }
}

#[test]
fn features_have_room_on_the_device_where_the_history_has_none_and_nothing_changes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let (training_data, train) = (training_data(stream(160, 5, 3)), training());
    let spec = TgnSpec { static_memory: tuned(StaticMemoryMode::Add), ..small() };
    let set = &training_data.dataset;
    let of_nodes = 4 * (set.nodes * (set.node_width() + spec.static_memory.enabled().unwrap().width)) as u64;
    let rooms = [0, of_nodes, of_nodes + 4 * (set.log.len() * set.edge_width()) as u64];
    let placed = rooms.map(|room| device(&spec, set, room).unwrap().placement());
    assert!(placed.iter().all(|placed| placed.fallback.is_some()), "{placed:?}");
    assert_eq!(placed.map(|placed| placed.features), [false, false, true]);
    let [none, nodes, all] = rooms.map(|room| trained(&training_data, &on_device(&spec, room), &train));
    assert_eq!(none.0, nodes.0);
    assert_eq!(none.0, all.0);
    assert!(none.1 == nodes.1 && none.1 == all.1);
}

/// A run on a device with `room` bytes that was stopped and resumed gives the same result.
fn goes_on(room: u64) {
    // so many steps that their losses are read in the middle of an epoch, too
    let (training_data, train) = (training_data(stream(240, 2, 0)), TrainSpec { epochs: 2, batch: 2, ..training() });
    let maker = on_device(&TgnSpec { dropout: 0.3, ..small() }, room);
    let parallel = ParallelSpec::default();
    let folders: Vec<tempfile::TempDir> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let runner = |i: usize| Runner {
        training_data: &training_data,
        maker: &maker,
        train: &train,
        parallel: &parallel,
        folder: folders[i].path(),
    };
    let whole = runner(0).whole();
    let mut stopper = Stopper::never();
    runner(1).run(false, &mut stopper);
    let end = stopper.seen.iter().position(|&moment| moment == Moment::Step(true)).unwrap();
    for (i, moment) in [3, end, end + 1].into_iter().enumerate() {
        let runner = runner(2 + i);
        let Outcome::Stopped(_) = runner.run(false, &mut Stopper::at(moment)) else {
            panic!("not stopped at {moment}")
        };
        let Outcome::Finished(fitted) = runner.run(true, &mut Stopper::never()) else {
            panic!("not finished after {moment}")
        };
        let found = runner.result(fitted);
        assert_eq!(found.epochs, whole.epochs, "stopped at {moment}");
        assert!(found.checkpoint == whole.checkpoint && found.best == whole.best, "stopped at {moment}");
    }
}

#[test]
fn a_run_on_a_device_that_was_stopped_goes_on_as_if_it_never_had_been() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !absent() {
        goes_on(PLENTY);
        goes_on(0);
    }
}

#[test]
fn edge_features_that_do_not_fit_are_read_from_host_memory_and_change_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let (training_data, train) = (training_data(stream(160, 5, 0)), training());
    let spec = TgnSpec { layers: 2, ..small() };
    let needed = needed(&spec, &training_data.dataset);
    let placed = |room| device(&spec, &training_data.dataset, room).unwrap().placement();
    assert!(placed(PLENTY).is_resident());
    assert!(placed(needed).fallback.is_none() && !placed(needed).features, "there is room for all but the features");
    assert!(placed(needed - 1).fallback.is_some(), "there is no room for the history");
    let [(fits, weights, _), (does_not, same, _)] =
        [PLENTY, needed].map(|room| trained(&training_data, &on_device(&spec, room), &train));
    assert_eq!(fits, does_not);
    assert!(weights == same);
}

#[test]
fn operations_without_a_device_kernel_are_named() {
    if absent() {
        return;
    }
    let set = stream(60, 2, 0);
    let said = |spec: &TgnSpec| device(spec, &set, PLENTY).err().map(|why| why.to_string()).unwrap_or_default();
    assert_eq!(said(&small()), "");
    assert!(said(&TgnSpec { message: Message::Mlp, ..small() }).contains("message = \"mlp\""));
    assert!(said(&TgnSpec { embedding: Embedding::Sum, ..small() }).contains("embedding"));
    assert!(said(&TgnSpec { mail: Combine::Mean, ..small() }).contains("mail = \"mean\""));
}

#[test]
fn a_step_costs_the_same_launches_however_large_the_batch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let training_data = training_data(stream(240, 2, 0));
    let spec = small();
    let of = |batch: usize, room: u64| {
        let train = TrainSpec { batch, ..training() };
        let before = launches_by_source_line();
        let (losses, ..) = trained(&training_data, &on_device(&spec, room), &train);
        let mut steps = launches_by_source_line();
        before.iter().for_each(|(place, count)| *steps.entry(place.clone()).or_default() -= count);
        steps.into_iter().map(|(place, count)| (place, count as f64 / losses.len() as f64)).collect::<Vec<_>>()
    };
    for (place, room, most) in [("on the device", PLENTY, 75.0), ("in host memory", 0, 60.0)] {
        let (few, many) = (of(10, room), of(60, room));
        many.iter().filter(|(_, count)| *count >= 1.0).for_each(|(place, count)| println!("{count:5.1} {place}"));
        let [few, many] = [few, many].map(|places| places.iter().map(|(_, count)| count).sum::<f64>());
        println!(
            "{few:.1} and {many:.1} launches a step with the history {place}, bringing it there and back included"
        );
        assert!((few - many).abs() < 12.0 && few < most, "{few} and {many} launches a step with the history {place}");
    }
}
