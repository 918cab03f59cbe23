//! One plan in one process and in several gives the same weights and histories to the bit, also if processes die on the
//! way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const SPEC: &str = r#"
name = "tiny"
seed = 3
threads = 1
export = false

[data]
path = "synthetic:events=700,users=20,items=15"

[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4

[parallel]
check_every = 3

[train]
batch = 20
epochs = 2
lr = 1e-2

[eval]
negatives = 4
floors = false
"#;

/// A folder of its own for one test, with a spec in it.
struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Workspace {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
        Workspace { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `tempograph train` of `plan` into the folder `out`.
    fn train(&self, plan: [usize; 3], out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.current_dir(self.folder.path()).args(["train", "tiny.toml", "--out", out]).args(more);
        for (key, value) in ["minibatch", "epoch", "memory"].iter().zip(plan) {
            command.args(["--set", &format!("parallel.{key}={value}")]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same in `world` processes, started as torchrun would.
    fn start(&self, world: usize, plan: [usize; 3], out: &str, more: &[&str]) -> Vec<Child> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let start = |rank: usize| {
            let numbers = [
                ("RANK", rank),
                ("LOCAL_RANK", rank),
                ("WORLD_SIZE", world),
                ("LOCAL_WORLD_SIZE", world),
                ("MASTER_PORT", port.into()),
            ];
            let numbers = numbers.map(|(name, number)| (name, number.to_string()));
            self.train(plan, out, more).env("MASTER_ADDR", "127.0.0.1").envs(numbers).spawn().unwrap()
        };
        (0..world).map(start).collect()
    }

    #[track_caller]
    fn report(&self, out: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(out).join("report.json")).unwrap()).unwrap()
    }

    /// Events trained in each epoch, and whether a part of its time went into adding up gradients.
    fn trained(&self, out: &str) -> Vec<(f64, bool)> {
        let report = self.report(out);
        let number = |epoch: &Value, field: &str| epoch["train"].pointer(field).and_then(Value::as_f64).unwrap();
        let of = |epoch: &Value| {
            let events = number(epoch, "/events_per_second") * number(epoch, "/seconds");
            (events.round(), number(epoch, "/stages/exchange") > 0.0)
        };
        report["epochs"].as_array().unwrap().iter().map(of).collect()
    }

    /// What both hashes of a finished run are.
    #[track_caller]
    fn hashes(&self, out: &str) -> [String; 2] {
        let report = self.report(out);
        assert_eq!(report["status"], "finished");
        ["weights_sha256", "history_sha256"].map(|field| report[field].as_str().unwrap().to_string())
    }
}

/// What processes of `mpirun` are to talk over: MPI in a build with the feature.
const UNDER_MPIRUN: &str = if cfg!(feature = "mpi") { "mpi" } else { "tcp" };

/// The same command over [`UNDER_MPIRUN`] under Open MPI's `mpirun`, if that is installed.
fn under_mpirun(command: &Command, world: usize) -> Option<Command> {
    Command::new("mpirun").arg("--version").output().ok()?;
    let mut started = Command::new("mpirun");
    // Tests may run as root, and on fewer cores than there are processes.
    started.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    started.args(["--oversubscribe", "--bind-to", "none", "-n", &world.to_string()]);
    started.arg(command.get_program()).args(command.get_args()).args(["--transport", UNDER_MPIRUN]);
    started.current_dir(command.get_current_dir()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(started)
}

#[track_caller]
fn succeed(children: Vec<Child>) -> Vec<Output> {
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for (rank, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "process {rank}: {}", String::from_utf8_lossy(&output.stderr));
    }
    outputs
}

#[test]
fn a_plan_means_the_same_on_one_thread_many_threads_and_many_processes() {
    let (place, mut seen) = (Workspace::new(), Vec::new());
    for (case, plan) in [[2, 1, 2], [1, 2, 2], [2, 2, 1]].into_iter().enumerate() {
        let name = |how: &str| format!("{case}-{how}");
        succeed(vec![place.train(plan, &name("one"), &["--set", "parallel.threads=1"]).spawn().unwrap()]);
        succeed(vec![
            place
                .train(plan, &name("threads"), &["--set", "threads=3", "--set", "parallel.threads=2"])
                .spawn()
                .unwrap(),
        ]);
        let expected = place.hashes(&name("one"));
        assert!(!seen.contains(&expected), "another plan is another training");
        seen.push(expected.clone());
        assert_eq!(place.hashes(&name("threads")), expected, "{plan:?} on threads");
        for world in [2, 4] {
            let outputs = succeed(place.start(world, plan, &name("ranks"), &["--force"]));
            assert_eq!(place.hashes(&name("ranks")), expected, "{plan:?} in {world} processes");
            assert_eq!(place.report(&name("ranks"))["transport"], "tcp");
            assert_eq!(place.trained(&name("ranks")), place.trained(&name("one")), "{plan:?} in {world} processes");
            assert!(outputs[0].stdout.len() > 100, "the first process tells");
            assert!(
                outputs[1..].iter().all(|output| output.stdout.is_empty() && output.stderr.is_empty()),
                "the others are silent"
            );
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn processes_with_a_device_each_compute_what_one_process_with_one_device_or_two_does() {
    if let Err(why) = tempograph_kernels::tensor::vulkan() {
        return println!("skipped: {why}");
    }
    let place = Workspace::new();
    for (case, (plan, ahead)) in [([1, 2, 2], "0"), ([2, 2, 1], "1")].into_iter().enumerate() {
        let name = |how: &str| format!("{case}-{how}");
        let ahead = format!("parallel.prefetch={ahead}");
        let on = |device| ["--set", device, "--set", &ahead, "--set", "train.epochs=1"].map(String::from);
        let [one, two] = [on("device=wgpu:0"), on("device=wgpu:0,1")];
        let [one, two] = [&one, &two].map(|sets| sets.iter().map(String::as_str).collect::<Vec<_>>());
        succeed(vec![place.train(plan, &name("one"), &one).spawn().unwrap()]);
        succeed(vec![place.train(plan, &name("two"), &two).spawn().unwrap()]);
        let outputs = succeed(place.start(2, plan, &name("ranks"), &one));
        let expected = place.hashes(&name("one"));
        assert_eq!(place.hashes(&name("two")), expected, "{plan:?} on two devices");
        assert_eq!(place.hashes(&name("ranks")), expected, "{plan:?} in two processes");
        assert!(
            String::from_utf8_lossy(&outputs[0].stderr).contains("trains on wgpu:0"),
            "the first process says where"
        );
        assert!(!String::from_utf8_lossy(&outputs[1].stderr).contains("trains on"), "the other does not");
    }
}

/// For each process of a run, at its end: bytes it shared with others, bytes of such tables that it had alone, and all
/// bytes that it had alone.
#[cfg(target_os = "linux")]
fn kept(place: &Workspace, world: usize, plan: [usize; 3], settings: &[&str]) -> Vec<[u64; 3]> {
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).chain(["--force"]).collect();
    succeed(place.start(world, plan, "ranks", &settings));
    let report = place.report("ranks");
    let fields = ["shared_bytes", "own_bytes", "private_bytes"];
    let of_process = |process: &Value| fields.map(|field| process[field].as_u64().unwrap());
    let processes: Vec<[u64; 3]> = report["processes"].as_array().unwrap().iter().map(of_process).collect();
    assert_eq!(processes.len(), world);
    processes
}

#[cfg(target_os = "linux")]
#[test]
fn private_memory_of_a_process_does_not_grow_with_the_nodes_of_a_shared_history() {
    let place = Workspace::new();
    // The memory, mail and times of a node with a memory of 32 numbers.
    let (few, many, node) = (100, 40_000, 2 * 4 * 32 + 32 + 16);
    for ahead in [0, 2] {
        let kept = |users: usize| {
            let path = format!("data.path=\"synthetic:events=700,users={users},items=15\"");
            kept(
                &place,
                4,
                [1, 4, 1],
                &[&path, &format!("parallel.prefetch={ahead}"), "model.memory=32", "train.epochs=1"],
            )
        };
        let grown = ((many - few) * node) as u64;
        for (rank, (small, large)) in kept(few).into_iter().zip(kept(many)).enumerate() {
            let [shared, own, private] = [0, 1, 2].map(|field| large[field].saturating_sub(small[field]));
            assert!(shared >= grown, "process {rank}, {ahead} ahead: {shared} bytes together for {grown} of nodes");
            assert!(own <= grown / 8, "process {rank}, {ahead} ahead: {own} bytes for itself for {grown} of nodes");
            // The first examines the model with a copy.
            assert!(
                rank == 0 || private < grown / 2,
                "process {rank}, {ahead} ahead: {private} private bytes for {grown} of nodes"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_generated_set_is_once_on_a_machine() {
    let place = Workspace::new();
    // The model reads none of the features, or it would grow with them.
    let kept = |width: usize| {
        let path = format!("data.path=\"synthetic:events=700,users=20,items=15,features={width}\"");
        kept(&place, 2, [1, 1, 2], &[&path, "data.edge_features=\"none\"", "train.epochs=1"])
    };
    let (width, small) = (8000, kept(1));
    let bytes = 700 * 4 * width as u64;
    for (rank, large) in kept(width).iter().enumerate() {
        let private = large[2].saturating_sub(small[rank][2]);
        assert!(private < bytes / 2, "process {rank}: {private} private bytes for {bytes} of features");
    }
}

#[track_caller]
fn wait_until(so: impl Fn() -> bool, what: &str) {
    let patience = Instant::now();
    while !so() {
        assert!(patience.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn wait_for(path: &Path) {
    wait_until(|| path.exists(), &path.display().to_string());
}

/// Kills `victim` as `kill -9` does, and checks that the others end and name it. Gives their process ids.
#[track_caller]
fn kill(mut children: Vec<Child>, victim: usize) -> Vec<u32> {
    children[victim].kill().unwrap();
    let (killed, world) = (Instant::now(), children.len());
    let pids = children.iter().map(Child::id).collect();
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    for (rank, output) in outputs.iter().enumerate().filter(|(rank, _)| *rank != victim) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "process {rank} went on");
        assert!(
            said.contains(&format!("process {victim} of {world} is gone")) && said.contains("--resume"),
            "process {rank}: {said}"
        );
    }
    pids
}

#[test]
fn a_killed_process_stops_the_others_and_resuming_gives_the_run_that_never_died() {
    let (place, plan) = (Workspace::new(), [1, 2, 2]);
    // Long enough to be killed in an epoch, with a checkpoint after every step.
    let long = ["--set", "train.epochs=8", "--set", "train.checkpoint_minutes=1e-9"];
    succeed(vec![place.train(plan, "whole", &long).spawn().unwrap()]);

    // The first, which writes, as well as any other.
    for (victim, out) in [(2, "killed"), (0, "first-killed")] {
        let children = place.start(4, plan, out, &long);
        wait_for(&place.path(out).join("checkpoint.safetensors"));
        let pids = kill(children, victim);
        for folder in [Path::new("/dev/shm"), &std::env::temp_dir()] {
            let names = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
            let left: Vec<String> =
                names.filter(|name| pids.iter().any(|pid| name.contains(&format!("tempograph-{pid}-")))).collect();
            assert!(left.is_empty(), "{left:?} in {}", folder.display());
        }

        // Another number of processes goes on.
        succeed(place.start(2, plan, out, &[&long[..], &["--resume"]].concat()));
        assert_eq!(place.hashes(out), place.hashes("whole"), "process {victim} was killed");
    }
}

#[test]
fn a_process_that_is_killed_during_validation_stops_the_others_and_resuming_gives_the_run_that_never_died() {
    let (place, plan) = (Workspace::new(), [2, 1, 1]);
    // A long validation after a short epoch.
    let data = "data.path=synthetic:events=3000,users=20,items=15";
    let long = ["--set", data, "--set", "train.batch=100", "--set", "train.epochs=1", "--set", "eval.negatives=5000"];
    let long = [&long[..], &["--set", "train.checkpoint_minutes=1e-9"]].concat();
    succeed(vec![place.train(plan, "whole", &long).spawn().unwrap()]);
    let steps = place.report("whole")["epochs"][0]["steps"].as_u64().unwrap();
    // The checkpoint that is written after an epoch's last step: the next is, when its validation is done.
    let note = format!("\\\"epoch_steps\\\":{steps},");
    for (victim, out) in [(1, "killed"), (0, "first-killed")] {
        let children = place.start(2, plan, out, &long);
        let checkpoint = place.path(out).join("checkpoint.safetensors");
        let trained = || {
            fs::read(&checkpoint).is_ok_and(|bytes| bytes.windows(note.len()).any(|window| window == note.as_bytes()))
        };
        wait_until(trained, "the end of the epoch");
        kill(children, victim);
        assert!(trained(), "process {victim} was killed too late");
        succeed(place.start(2, plan, out, &[&long[..], &["--resume"]].concat()));
        assert_eq!(place.hashes(out), place.hashes("whole"), "process {victim} was killed");
    }
}

#[test]
fn processes_of_mpirun_leave_what_one_process_leaves() {
    let (place, plan) = (Workspace::new(), [2, 1, 2]);
    if under_mpirun(&place.train(plan, "ranks", &[]), 2).is_none() {
        return eprintln!("skipped: mpirun is not installed");
    }
    succeed(vec![place.train(plan, "one", &[]).spawn().unwrap()]);
    for world in [2, 4] {
        let mut command = under_mpirun(&place.train(plan, "ranks", &["--force"]), world).unwrap();
        let outputs = succeed(vec![command.spawn().unwrap()]);
        let said = String::from_utf8_lossy(&outputs[0].stdout).into_owned();
        assert_eq!(said.matches("parameters").count(), 1, "one process tells: {said}");
        assert_eq!(place.hashes("ranks"), place.hashes("one"), "{world} processes");
        assert_eq!(place.report("ranks")["transport"], UNDER_MPIRUN);
    }
}

#[cfg(feature = "mpi")]
#[test]
fn processes_whom_mpi_numbers_otherwise_than_the_launcher_write_nothing() {
    let (place, plan) = (Workspace::new(), [1, 1, 2]);
    let refused = |output: Output, by_mpi: &str, launched: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let both = said.contains(&format!("process {by_mpi} by MPI"))
            && said.contains(&format!("is {launched} by the launcher"));
        assert!(!output.status.success() && both, "{said}");
        assert!(!place.path("run").exists(), "{by_mpi}, {launched}");
    };
    // To MPI each of torchrun's is alone.
    let alone = place.start(2, plan, "run", &["--transport", "mpi"]);
    for (child, launched) in alone.into_iter().zip(["0 of 2", "1 of 2"]) {
        refused(child.wait_with_output().unwrap(), "0 of 1", launched);
    }
    // MPI knows of two, and the variables tell of none, or of three.
    for (variables, launched) in [
        (&["OMPI_COMM_WORLD_SIZE="][..], "0 of 1"),
        (&["RANK=2", "WORLD_SIZE=3", "MASTER_ADDR=a", "MASTER_PORT=1"], "2 of 3"),
    ] {
        let train = place.train(plan, "run", &[]);
        let mut reported = Command::new("env");
        reported
            .args(variables)
            .arg(train.get_program())
            .args(train.get_args())
            .current_dir(train.get_current_dir().unwrap());
        refused(under_mpirun(&reported, 2).unwrap().output().unwrap(), "0 of 2", launched);
    }
}

/// The process that `launcher` started as `rank`.
#[cfg(target_os = "linux")]
fn started_as(launcher: u32, rank: usize) -> Option<u32> {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    let of_rank = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|&byte| byte == 0).any(|one| one == variable.as_bytes()))
    };
    let child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == launcher.to_string()))
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| child(pid) && of_rank(pid)).min()
}

/// Whether a process still runs.
#[cfg(target_os = "linux")]
fn runs(pid: u32) -> bool {
    // Of one that nobody has asked for yet how it ended, nothing is left to read.
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| !environment.is_empty())
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_of_mpirun_that_is_killed_ends_the_others_and_resuming_gives_the_run_that_never_died() {
    let (place, plan) = (Workspace::new(), [1, 2, 2]);
    let long = ["--set", "train.epochs=12", "--set", "train.checkpoint_minutes=1e-9"];
    succeed(vec![place.train(plan, "whole", &long).spawn().unwrap()]);

    // The first, which writes, as well as any other.
    for (victim, out) in [(2, "killed"), (0, "first-killed")] {
        let Some(mut command) = under_mpirun(&place.train(plan, out, &long), 4) else {
            return eprintln!("skipped: mpirun is not installed");
        };
        let launcher = command.spawn().unwrap();
        wait_for(&place.path(out).join("checkpoint.safetensors"));
        let pids = [0, 1, 2, 3].map(|rank| started_as(launcher.id(), rank).unwrap());
        assert!(Command::new("kill").args(["-9", &pids[victim].to_string()]).status().unwrap().success());
        let killed = Instant::now();
        let output = launcher.wait_with_output().unwrap();
        wait_until(|| !pids.into_iter().any(runs), "the end of the others");
        assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let named = said.contains(&format!("rank {victim}")) || said.contains(&format!("process {victim} of 4"));
        assert!(!output.status.success() && named, "{said}");

        // Another number of processes goes on.
        let resume = [&long[..], &["--resume"]].concat();
        succeed(vec![under_mpirun(&place.train(plan, out, &resume), 2).unwrap().spawn().unwrap()]);
        assert_eq!(place.hashes(out), place.hashes("whole"), "process {victim} was killed");
        assert_eq!(place.report(out)["transport"], UNDER_MPIRUN);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_process_stops_all_with_a_checkpoint() {
    let (place, plan) = (Workspace::new(), [1, 2, 2]);
    let long = ["--set", "train.epochs=8", "--set", "train.checkpoint_minutes=1e-9"];
    succeed(vec![place.train(plan, "whole", &long).spawn().unwrap()]);
    let children = place.start(2, plan, "stopped", &long);
    wait_for(&place.path("stopped/checkpoint.safetensors"));
    assert!(Command::new("kill").args(["-INT", &children[1].id().to_string()]).status().unwrap().success());
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.code() == Some(130)), "{outputs:?}");
    let said = String::from_utf8_lossy(&outputs[0].stdout);
    assert!(said.contains("stopped; go on with") && said.contains("--resume"), "{said}");
    succeed(place.start(4, plan, "stopped", &[&long[..], &["--resume"]].concat()));
    assert_eq!(place.hashes("stopped"), place.hashes("whole"));
}

#[test]
fn a_fault_of_one_process_is_reported_by_all() {
    let place = Workspace::new();
    let plan = [1, 1, 2];
    let first = place.start(2, plan, "run", &[]);
    succeed(first);
    // The run is there already, which the first process alone looks for.
    let outputs: Vec<Output> =
        place.start(2, plan, "run", &[]).into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in outputs {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("holds a run already"), "{said}");
    }
    // Three processes cannot share two lanes.
    let outputs: Vec<Output> =
        place.start(3, plan, "other", &[]).into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in outputs {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("1 x 1 x 2") && said.contains("3 processes"), "{said}");
    }
}
