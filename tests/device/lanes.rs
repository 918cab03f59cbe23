//! Lanes of a plan on several devices give the same result as on one.

use tempograph_framework::{DeviceExecutor, History, HostViewSource};
use tempograph_kernels::tensor::WgpuDevice;
use tempograph_trainers::{BetaScale, LrScale};

use super::*;

/// Two queues of one device, which the executor treats as two devices.
const DEVICES: [WgpuDevice; 2] = [WgpuDevice::DefaultDevice, WgpuDevice::Cpu];

fn of_views(
    spec: &TgnSpec,
    set: &Dataset,
    device: &WgpuDevice,
    room: u64,
) -> DeviceProgram<WgpuRuntime, HostViewSource<WgpuRuntime>> {
    let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
    let history = History::new(set.nodes, needs(spec), set.log.time()[0], features(set));
    DeviceProgram::new(program(spec, widths), 3, device, (&history, &set.log), room).unwrap()
}

/// The model on `devices` devices, with `room` bytes for features.
fn on_devices(spec: &TgnSpec, devices: usize, room: u64) -> Maker {
    let spec = spec.clone();
    Box::new(move |set| {
        let models = DEVICES[..devices].iter().map(|device| of_views(&spec, set, device, room)).collect();
        Learner::new(Box::new(DeviceExecutor::new(models, host(&spec, set))))
    })
}

fn plan(minibatch: usize, epoch: usize, memory: usize) -> ParallelSpec {
    let (lr_scale, beta_scale) = (LrScale::None, BetaScale::None);
    ParallelSpec { minibatch, epoch, memory, lr_scale, beta_scale, threads: 2, ..ParallelSpec::default() }
}

/// Plans, and prefetch with one lane and with several.
fn plans() -> Vec<ParallelSpec> {
    let mut plans = [(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2)].map(|(i, j, k)| plan(i, j, k)).to_vec();
    plans.push(ParallelSpec { prefetch: 2, ..plan(1, 1, 1) });
    plans.push(ParallelSpec { prefetch: 2, staleness: 1, ..plan(1, 2, 2) });
    plans
}

#[test]
fn lanes_on_devices_learn_what_lanes_on_the_host_learn() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let train = TrainSpec { clip: 0.5, lr: 1e-4, ..training() };
    let training_data = training_data(stream(240, 2, 3));
    let conv = TgnSpec { attention: AttentionForm::TransformerConv, layers: 2, sampler: Sampler::Uniform, ..small() };
    let beside = TgnSpec { pair_features: true, static_memory: tuned(StaticMemoryMode::Concat), ..small() };
    for (name, spec) in [("paper", small()), ("conv, 2 layers, uniform", conv), ("pair features, static", beside)] {
        // the host looks, so what is dropped is what the host drops
        let spec = TgnSpec { dropout: 0.2, ..spec };
        for parallel in plans() {
            let (expected, _, mut moments) = trained_by(&training_data, &on_slices(&spec), &train, &parallel);
            let (losses, _, mut own) = trained_by(&training_data, &on_devices(&spec, 1, PLENTY), &train, &parallel);
            let name = format!("{name}, {}, {} ahead", parallel.plan(), parallel.prefetch);
            assert_learned_alike(&name, (&losses, &mut own), (&expected, &mut moments));
        }
    }
}

#[test]
fn lanes_on_two_devices_compute_the_bits_of_lanes_on_one_in_turn_with_and_without_room_for_features() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let (training_data, train) = (training_data(stream(240, 2, 3)), training());
    let spec = TgnSpec { dropout: 0.2, static_memory: tuned(StaticMemoryMode::Add), ..small() };
    let placed = [PLENTY, 0].map(|room| of_views(&spec, &training_data.dataset, &DEVICES[1], room).placement());
    assert_eq!(
        placed.map(|placed| (placed.fallback, placed.features)),
        [true, false].map(|there| (Some(HostFallback::Viewed), there))
    );
    for parallel in plans() {
        let in_turn = ParallelSpec { threads: 1, ..parallel.clone() };
        let expected = trained_by(&training_data, &on_devices(&spec, 1, PLENTY), &train, &in_turn);
        for (devices, room) in [(1, PLENTY), (2, PLENTY), (2, 0)] {
            let found = trained_by(&training_data, &on_devices(&spec, devices, room), &train, &parallel);
            let what = format!("{}, {} ahead, on {devices} devices", parallel.plan(), parallel.prefetch);
            assert_eq!(found.0, expected.0, "{what}");
            assert!(found.1 == expected.1 && found.2 == expected.2, "{what}: weights or moments");
        }
    }
}

#[test]
fn a_plan_on_devices_that_was_stopped_goes_on_as_if_it_never_had_been_on_another_number_of_them_too() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let (training_data, train) = (training_data(stream(240, 2, 0)), TrainSpec { epochs: 2, batch: 12, ..training() });
    let spec = TgnSpec { dropout: 0.3, ..small() };
    let [one, two] = [1, 2].map(|devices| on_devices(&spec, devices, PLENTY));
    let parallel = plan(1, 2, 2);
    let folders: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let runner = |i: usize, maker| Runner {
        training_data: &training_data,
        maker,
        train: &train,
        parallel: &parallel,
        folder: folders[i].path(),
    };
    let whole = runner(0, &two).whole();
    for (i, moment) in [2, 7].into_iter().enumerate() {
        let Outcome::Stopped(_) = runner(1 + i, &two).run(false, &mut Stopper::at(moment)) else {
            panic!("not stopped at {moment}")
        };
        let runner = runner(1 + i, &one);
        let Outcome::Finished(fitted) = runner.run(true, &mut Stopper::never()) else {
            panic!("not finished after {moment}")
        };
        let found = runner.result(fitted);
        assert_eq!(found.epochs, whole.epochs, "stopped at {moment}");
        assert!(found.checkpoint == whole.checkpoint && found.best == whole.best, "stopped at {moment}");
    }
}
