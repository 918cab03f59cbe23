//! Every kind of the registry that has kernels on a device learns there what it learns on the host.

use tempograph_models::ModelSpec;
use tempograph_tests::kinds;

use super::*;

#[test]
fn fifty_steps_of_every_kind_have_the_same_losses_on_a_device() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let training_data = training_data(stream(1500, 2, 3));
    let (set, widths) = (&training_data.dataset, FeatureWidths { edge: 2, node: 3 });
    let train = TrainSpec { batch: 20, epochs: 1, lr: 1e-3, ..training() };
    let host = |spec: &ModelSpec| Box::new(SliceExecutor::new(spec.on_slices(widths, 3).unwrap()));
    let mut trained = 0;
    for spec in kinds() {
        let program = spec.program(widths).unwrap();
        if let Err(why) = program.check_device_support() {
            println!("{}: {why}", spec.kind());
            continue;
        }
        let history = History::new(set.nodes, program.needs().clone(), set.log.time()[0], features(set));
        let resident: DeviceProgram<WgpuRuntime, DeviceOrHostHistory<WgpuRuntime>> =
            DeviceProgram::new(program, 3, &Default::default(), (&history, &set.log), PLENTY).unwrap();
        let learners = [Learner::with_resident(host(&spec), Box::new(resident)), Learner::new(host(&spec))];
        let [ours, expected] =
            learners.map(|mut learner| pass(&training_data, &mut learner, &train, &ParallelSpec::default()));
        assert!(ours.len() > 50, "{} steps", ours.len());
        let [ours, expected] = [&ours, &expected].map(|steps| steps.iter().map(|[loss, _]| *loss));
        assert_same_steps(spec.kind(), ours, expected, 1e-3);
        trained += 1;
    }
    assert!(trained >= 5, "tgn, jodie, dyrep, tgat and static memory train on a device");
}
