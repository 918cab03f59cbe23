//! Processes that train one history. Those on one machine share it, others keep a copy. The result does not depend on
//! that. The processes are threads here, each with its own data, which name the machine they are on.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;

use tempograph_framework::{Combine, OtherMemory, Sampler};
use tempograph_models::TgnSpec;
use tempograph_tests::{
    Maker, Runner, Stopper, autodiff, data, other_needs, plan, probe, processes, small, toy, training,
};
use tempograph_trainers::{
    Exchange, ExchangeError, Outcome, ParallelSpec, RunFiles, SingleProcess, TrainSpec, TrainingSummary,
};

/// A process that names its machine. A `blind` one gets addresses that it cannot open, as across containers.
struct Somewhere {
    inner: Box<dyn Exchange>,
    machine: &'static str,
    blind: bool,
    /// The number of sums until one is wrong in this process only.
    wrong_after: Option<usize>,
    /// The number of checkpoints it writes before it dies.
    dies_after: Option<usize>,
}

impl Somewhere {
    fn on(machine: &'static str, inner: Box<dyn Exchange>) -> Somewhere {
        Somewhere { inner, machine, blind: false, wrong_after: None, dies_after: None }
    }
}

impl Exchange for Somewhere {
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn world(&self) -> usize {
        self.inner.world()
    }
    fn all_reduce(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError> {
        self.inner.all_reduce(lanes, total)?;
        self.wrong_after = match self.wrong_after {
            Some(0) => {
                total[0] += 1e-3;
                None
            }
            left => left.map(|left| left - 1),
        };
        Ok(())
    }
    fn all_gather(&mut self, among: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        let mut context = self.inner.all_gather(among, own)?;
        let address = |context: &Vec<u8>| context.starts_with(b"/proc/");
        context
            .iter_mut()
            .filter(|context| self.blind && address(context))
            .for_each(|context| *context = b"/proc/0/fd/0 1:2:3".to_vec());
        Ok(context)
    }
    fn gather(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError> {
        if self.dies_after == Some(0) {
            return Err(ExchangeError::Rendezvous("this one died".into()));
        }
        self.dies_after = self.dies_after.map(|left| left - 1);
        self.inner.gather(own)
    }
    fn machine(&self) -> String {
        self.machine.into()
    }
    fn stop(&mut self, why: &str) {
        self.inner.stop(why);
    }
}

/// One process's part in a run.
fn part(
    exchange: &mut dyn Exchange,
    maker: &Maker,
    parallel: &ParallelSpec,
    folder: &Path,
    resume: bool,
    stopper: &mut Stopper,
) -> Outcome {
    let (training_data, train) = (data(), TrainSpec { batch: 12, ..training() });
    Runner { training_data: &training_data, maker, train: &train, parallel, folder }
        .run_among(exchange, resume, stopper)
        .unwrap()
}

/// The results of the processes on `machines`; those on `?` are blind. The first is stopped at `moment`.
fn among(
    machines: &[&'static str],
    maker: &Maker,
    parallel: &ParallelSpec,
    folder: &Path,
    resume: bool,
    moment: Option<usize>,
) -> Vec<TrainingSummary> {
    processes(machines.len(), |rank, inner| {
        let machine = machines[rank];
        let mut exchange = Somewhere { blind: machine == "?" && rank == 2, ..Somewhere::on(machine, inner) };
        let mut stopper = moment.filter(|_| rank == 0).map_or_else(Stopper::never, Stopper::at);
        match part(&mut exchange, maker, parallel, folder, resume, &mut stopper) {
            Outcome::Finished(fitted) | Outcome::Stopped(fitted) => fitted,
        }
    })
}

/// The hashes of a run in one process.
fn alone(maker: &Maker, parallel: &ParallelSpec) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    match part(&mut SingleProcess, maker, parallel, folder.path(), false, &mut Stopper::never()) {
        Outcome::Finished(fitted) => hashes(&fitted),
        Outcome::Stopped(_) => panic!("nobody stopped it"),
    }
}

fn hashes(fitted: &TrainingSummary) -> [String; 2] {
    [fitted.weights_sha256.clone(), fitted.history_sha256.clone()]
}

#[test]
fn it_is_the_same_run_wherever_processes_are_and_only_those_of_a_machine_have_a_history_together() {
    let maker = autodiff(&small());
    // Four processes on one history, and two on each of two.
    for spec in [plan([2, 2, 1], 0, 0), plan([1, 2, 2], 2, 0)] {
        let expected = alone(&maker, &spec);
        let layouts = [["a"; 4], ["a", "a", "b", "b"], ["a", "b", "a", "b"], ["a", "b", "c", "d"], [""; 4], ["?"; 4]];
        for machines in layouts {
            let folder = tempfile::tempdir().unwrap();
            let all = among(&machines, &maker, &spec, folder.path(), false, None);
            for (rank, fitted) in all.iter().enumerate() {
                assert_eq!(hashes(fitted), expected, "{} on {machines:?}", spec.plan());
                // Process 2 cannot open what others made, but they can open what it makes.
                let blind = machines[0] == "?" && spec.memory == 1;
                let group = if spec.memory == 1 { 0..4 } else { rank / 2 * 2..rank / 2 * 2 + 2 };
                let company = group.filter(|&other| machines[other] == machines[rank]).count() > 1;
                let together = company && !machines[rank].is_empty() && !blind;
                let (process, what) =
                    (all[0].processes[rank], format!("process {rank}, {} on {machines:?}", spec.plan()));
                // If process 2 cannot open the log by node that others sorted, it sorts its own, which counts.
                let sorted_alone = machines[0] == "?" && spec.memory == 2 && rank == 2;
                assert!(sorted_alone || (process.own_bytes < fitted.history_bytes) == together, "{what}: {process:?}");
                assert!(!together || process.shared_bytes > 0, "{what}: {process:?}");
                assert!(!together || spec.prefetch > 0 || process.own_bytes == 0, "{what}: {process:?}");
            }
        }
    }
}

#[test]
fn a_run_does_not_depend_on_prefetching_whatever_its_model_reads() {
    let models = [
        ("recent", autodiff(&small())),
        ("2 layers, pair features", autodiff(&TgnSpec { layers: 2, pair_features: true, ..small() })),
        ("uniform, mean mail", autodiff(&TgnSpec { sampler: Sampler::Uniform, mail: Combine::Mean, ..small() })),
        ("mail with memories of now", autodiff(&TgnSpec { mail_memory: OtherMemory::AtRead, ..small() })),
    ];
    let others = other_needs().into_iter().map(|(name, needs)| (name, probe(&needs)));
    for (name, maker) in &models.into_iter().chain(others).collect::<Vec<_>>() {
        for (prefetch, staleness) in [(0, 0), (1, 0), (3, 0), (3, 2)] {
            let spec = plan([2, 2, 1], prefetch, staleness);
            let expected = alone(maker, &spec);
            let folder = tempfile::tempdir().unwrap();
            for fitted in among(&["a", "a"], maker, &spec, folder.path(), false, None) {
                assert_eq!(hashes(&fitted), expected, "{name}, {prefetch} ahead, staleness {staleness}");
            }
        }
    }
}

#[test]
fn a_run_that_stops_goes_on_with_another_number_of_processes_on_other_machines() {
    let maker = toy(4);
    for (prefetch, staleness) in [(0, 0), (2, 1)] {
        let spec = plan([2, 2, 1], prefetch, staleness);
        let expected = alone(&maker, &spec);
        let layouts: [(&[&str], &[&str]); 3] =
            [(&["a", "a"], &["a"; 4]), (&["a"; 4], &["a", "b"]), (&["a", "b", "a", "b"], &["b", "b"])];
        for (before, after) in layouts {
            for moment in [1, 17] {
                let folder = tempfile::tempdir().unwrap();
                among(before, &maker, &spec, folder.path(), false, Some(moment));
                for fitted in among(after, &maker, &spec, folder.path(), true, None) {
                    assert_eq!(hashes(&fitted), expected, "stopped at {moment} on {before:?}, went on on {after:?}");
                }
            }
        }
    }
}

#[test]
fn a_process_that_computes_otherwise_is_named_before_anything_is_written() {
    let (training_data, maker) = (data(), toy(4));
    for (world, wrong, named) in [
        (3, 0, "the weights of process 0 differ from those of the other 2"),
        (3, 2, "the weights of process 2 differ from those of the other 2"),
        (2, 1, "the weights of process 0 and of process 1 differ"),
    ] {
        let epoch = training_data.split.train.len().div_ceil(12 * world);
        // At the end of the epoch, by the check every other step, and before the checkpoint of every step.
        for (check_every, checkpoint_minutes, found) in [(1000, 0.0, epoch), (2, 0.0, 4), (1000, 1e-9, 3)] {
            let folder = tempfile::tempdir().unwrap();
            let train = TrainSpec { batch: 12, checkpoint_minutes, ..training() };
            let parallel = ParallelSpec { check_every, ..plan([world, 1, 1], 0, 0) };
            let runner = Runner {
                training_data: &training_data,
                maker: &maker,
                train: &train,
                parallel: &parallel,
                folder: folder.path(),
            };
            let said = processes(world, |rank, inner| {
                // Two sums a step: the third step's gradients are wrong.
                let mut exchange = Somewhere { wrong_after: (rank == wrong).then_some(4), ..Somewhere::on("a", inner) };
                runner.run_among(&mut exchange, false, &mut Stopper::never()).unwrap_err().to_string()
            });
            for said in said {
                assert!(
                    said.contains(named) && said.contains(&format!("after step {found} ")),
                    "check_every = {check_every}: {said}"
                );
            }
            assert!(!RunFiles { folder: folder.path().into() }.best().exists());
        }
    }
}

#[test]
fn a_process_that_dies_in_a_checkpoint_leaves_the_one_before_if_there_is_one() {
    let (training_data, maker, parallel) = (data(), toy(4), plan([2, 2, 1], 0, 0));
    let (expected, train) = (alone(&maker, &parallel), TrainSpec { batch: 12, checkpoint_minutes: 1e-9, ..training() });
    for (dead, before) in [(0, 0), (0, 3), (1, 0), (1, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let runner = Runner {
            training_data: &training_data,
            maker: &maker,
            train: &train,
            parallel: &parallel,
            folder: folder.path(),
        };
        let said = processes(2, |rank, inner| {
            let mut exchange = Somewhere { dies_after: (rank == dead).then_some(before), ..Somewhere::on("a", inner) };
            runner.run_among(&mut exchange, false, &mut Stopper::never()).unwrap_err().to_string()
        });
        let said = &said[1 - dead];
        assert!(said.contains(&format!("process {dead} of 2 is gone")), "{said}");
        assert_eq!(said.contains("--resume"), before > 0, "{said}");
        assert_eq!(RunFiles { folder: folder.path().into() }.checkpoint().exists(), before > 0);
        for fitted in among(&["a", "b"], &maker, &parallel, folder.path(), true, None) {
            assert_eq!(hashes(&fitted), expected, "process {dead} died after {before} checkpoints");
        }
    }
}
