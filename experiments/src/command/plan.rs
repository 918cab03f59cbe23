//! `tempograph plan`: proposes the `i x j x k` plan for a log and its machines.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tempograph_framework::{Captured, Graph, History, Timestamp, captured_shares};
use tempograph_trainers::{ParallelSpec, Plan, PlanInputs, Proposal, TrainingData, propose, timetable};

use crate::bench::aligned;
use crate::setup::data;
use crate::setup::device::Device;
use crate::setup::machine::Machine;
use crate::setup::model::build_learner;
use crate::setup::spec::RunSpec;
use crate::terminal::print::{print, quoted};

/// Propose how to divide a training run over devices and machines.
///
/// A plan is minibatch x epoch x memory parallelism: i shards of each batch, j lanes on each history, k histories.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph plan experiments/wikipedia.toml --devices 8 --timetable
  tempograph plan experiments/wikipedia.toml --devices 8 --machines 4 --json

i grows until a batch would capture less than --keep of what train.batch captures: a node updates its memory once a batch, so
of its events in a batch all but one are not captured. k is a history for each machine, and more where there is room. j is the
rest. A plan means the same on any machine: fewer devices than lanes take turns.")]
pub struct PlanArgs {
    /// The experiment.
    spec: PathBuf,
    /// Override a setting of the spec, for example train.batch=600.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Devices of each machine [default: this machine's GPUs where the spec's device is one, else its cores].
    #[arg(long)]
    devices: Option<usize>,
    /// Number of machines like this one.
    #[arg(long, default_value_t = 1)]
    machines: usize,
    /// The least part of the events captured with train.batch that a larger batch must still capture, 0 to 1.
    #[arg(long, default_value_t = 0.8)]
    keep: f64,
    /// Also draw which lane trains what in the first steps.
    #[arg(long)]
    timetable: bool,
    /// Print the proposal as JSON.
    #[arg(long)]
    json: bool,
}

/// The largest batch to examine, in multiples of `train.batch`.
const LARGEST: usize = 64;
/// Share of a machine's memory that histories and lanes may fill.
const FILL: f64 = 0.8;
/// Steps that are drawn.
const DRAWN: u64 = 10;

/// Runs the command.
///
/// # Errors
/// A problem of the spec or the data, with its name. A plan that does not fit into the machine, with the sizes.
pub fn run(args: &PlanArgs) -> Result<()> {
    if !(0.0..=1.0).contains(&args.keep) {
        bail!("--keep {}: it lies in 0 to 1", args.keep);
    }
    let mut spec = RunSpec::read(&args.spec, &args.sets)?;
    let device = Device::parse(&spec.device)?;
    let mut training_data = data::open(&spec.data)?;
    data::resolve(&mut spec, &mut training_data)?;
    let machine = Machine::here();
    let devices =
        args.devices.unwrap_or_else(|| if device == Device::Cpu { machine.cores } else { machine.gpus.len() });
    let sizes = Sizes::of(&spec, &training_data, devices)?;
    let facts = PlanInputs {
        batch: spec.train.batch,
        events: training_data.split.train.len(),
        captured: captured_by_size(&training_data, spec.train.batch),
        keep: args.keep,
        machines: args.machines,
        devices,
        room: sizes.room(&machine),
        history: sizes.history,
        lane: sizes.gradients,
        view: sizes.view,
        ahead: ahead(&spec.parallel),
    };
    let proposal = propose(&facts)?;
    let threads = devices.min(machine.cores);
    let report = PlanReport { args, facts, sizes, machine, device, proposal, threads, epochs: spec.train.epochs };
    if args.json { print(format!("{:#}", report.json())) } else { print(report.to_text().trim_end()) }
}

/// The captured share of `batch`, of its multiples by powers of two and of the sizes half-way between them, up to half
/// of the training events.
fn captured_by_size(training_data: &TrainingData, batch: usize) -> Vec<Captured> {
    let train = training_data.split.train.clone();
    let doubled = std::iter::successors(Some(1), |factor| Some(factor * 2)).take_while(|&factor| factor <= LARGEST);
    let factors = doubled.flat_map(|factor| [factor, factor + factor / 2]);
    let mut sizes: Vec<usize> =
        factors.map(|factor| factor * batch).filter(|&size| size == batch || 2 * size <= train.len()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(train.len() as u64) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("captured events {wide_bar} {pos}/{len} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let shares =
        captured_shares(&training_data.dataset.log.batch(train), &sizes, &mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    shares
}

/// Bytes that a training run holds.
struct Sizes {
    /// One history, with the prefetch graph if there is one.
    history: u64,
    /// Weights, both moments and the sum of all lanes' gradients. Lanes share them.
    weights: u64,
    /// The gradients of one lane.
    gradients: u64,
    /// The view of one batch, at most.
    view: u64,
    /// Features of edges and nodes and static memory. Lanes share them.
    features: u64,
    /// Columns of the log, and the log by node if neighbours are read there. Lanes share them.
    log: u64,
}

/// Views of a lane for prefetched batches: those in the pipeline and the one taken out of it.
fn ahead(spec: &ParallelSpec) -> usize {
    if spec.prefetch > 0 { spec.prefetch + 1 } else { 0 }
}

impl Sizes {
    fn of(spec: &RunSpec, training_data: &TrainingData, devices: usize) -> Result<Sizes> {
        let needs = spec.needs()?;
        let (nodes, events, widths) =
            (training_data.dataset.nodes, training_data.dataset.log.len(), data::widths(training_data));
        // The size of a history grows with its nodes, and with the distinct pairs it may keep. There are no more pairs
        // than events.
        let sample = nodes.clamp(1, 1000);
        let small = History::new(sample, needs.clone(), Timestamp(0), training_data.features.clone());
        let small = small.bytes() + if spec.parallel.prefetch > 0 { small.graph().bytes() } else { 0 };
        let pairs = if needs.pairs { 36 * events } else { 0 };
        let graphs = if spec.parallel.prefetch > 0 { 2 * devices } else { devices };
        let follows = Graph::attaches_log(&needs, &training_data.dataset.log, graphs * nodes);
        let by_node = if follows { training_data.dataset.log.needed_by_node() } else { 0 };
        let of_nodes = widths.node + training_data.features.static_memory.as_ref().map_or(0, |rows| rows.width());
        let roots = spec.train.batch * (2 + spec.train.negatives);
        let window = roots.saturating_mul(needs.window_spec().map_or(0, |look| look.neighbours));
        let near = roots.saturating_mul((1 + needs.neighbours).saturating_pow(needs.layers as u32));
        let rows = nodes.min(near.saturating_add(window));
        let walks = needs.walks.map_or(0, |rule| rule.numbers());
        let bytes = |numbers: usize| 4 * numbers as u64;
        let parameters = build_learner(spec, training_data, &Device::Cpu)?.learner.parameters().values().len();
        Ok(Sizes {
            history: (small * nodes / sample + pairs) as u64,
            weights: bytes(4 * parameters),
            gradients: bytes(parameters),
            view: bytes(rows * (2 * needs.memory + 8) + (roots * needs.neighbours + window) * 4 + roots * walks),
            features: bytes(widths.edge * events + of_nodes * nodes),
            log: (20 * events + by_node) as u64,
        })
    }

    /// Bytes of one machine for histories and lanes, less the copy of a history that validation makes. Several lanes
    /// have their histories in host memory, on any device.
    fn room(&self, machine: &Machine) -> u64 {
        let Sizes { history, weights, features, log, .. } = self;
        machine.memory.map_or(u64::MAX, |memory| {
            ((FILL * memory as f64) as u64).saturating_sub(features + log + weights + history)
        })
    }
}

/// Everything that the command prints.
struct PlanReport<'a> {
    args: &'a PlanArgs,
    facts: PlanInputs,
    sizes: Sizes,
    machine: Machine,
    device: Device,
    proposal: Proposal,
    threads: usize,
    /// `train.epochs` of the spec.
    epochs: usize,
}

impl PlanReport<'_> {
    fn to_text(&self) -> String {
        let Plan { minibatch, epoch, memory } = self.proposal.plan;
        format!(
            "{}\n{}\n{}\n{}\n{minibatch} x {epoch} x {memory}: {}\n\n{}{}\n{}\n",
            self.captured_table(),
            self.sizes_table(),
            self.machine_line(),
            self.bounds(),
            self.meaning(),
            if self.args.timetable { self.drawn() } else { String::new() },
            self.lines(),
            self.launch(),
        )
    }

    fn captured_table(&self) -> String {
        let own = self.own_share();
        let head = ["batch", "captured events", "of train.batch's", ""].map(String::from).to_vec();
        let row = |&Captured { batch, share }: &Captured| {
            let enough = if batch == self.proposal.largest { "the largest that captures enough" } else { "" };
            vec![batch.to_string(), percent(share), percent(share / own), enough.to_string()]
        };
        aligned(&std::iter::once(head).chain(self.facts.captured.iter().map(row)).collect::<Vec<_>>())
    }

    fn own_share(&self) -> f64 {
        self.facts.captured.first().map_or(1.0, |own| own.share)
    }

    fn sizes_table(&self) -> String {
        let Sizes { history, weights, gradients, view, features, log } = &self.sizes;
        let on_devices = if self.device == Device::Cpu { "" } else { ", and on each device as far as they fit" };
        let of_a_lane = match self.facts.ahead {
            0 => "lane, for each of its j sets of negatives: what it reads of the past, at most".to_string(),
            ahead => format!(
                "lane, for each of its j sets of negatives and {ahead} batches ahead: what it reads of the past, at most"
            ),
        };
        let held = [
            (*history, "history: memory, mail, neighbours; and once for validation".to_string()),
            (*weights, "machine: weights, moments, the sum of gradients".into()),
            (*gradients, "lane: gradients".into()),
            (*view, of_a_lane),
            (*features, format!("machine: features, mapped{on_devices}")),
            (*log, "machine: the log".into()),
        ];
        held.map(|(bytes, what)| format!("{:>10} each {what}\n", megabytes(bytes))).concat()
    }

    fn machine_line(&self) -> String {
        let Machine { cores, memory, gpus } = &self.machine;
        let gpus: Vec<String> = gpus.iter().map(|gpu| format!("{} with {}", gpu.name, megabytes(gpu.bytes))).collect();
        let gpus = if gpus.is_empty() { String::new() } else { format!(", {}", gpus.join(", ")) };
        let PlanInputs { machines, devices, .. } = self.facts;
        let memory = memory.map_or("memory unknown".into(), megabytes);
        format!("each of {machines} machines: {devices} devices, {cores} cores, {memory}{gpus}\n")
    }

    /// Why each of the three axes is not larger.
    fn bounds(&self) -> String {
        let PlanInputs { batch, keep, room, .. } = self.facts;
        let Proposal { largest, copies, .. } = self.proposal;
        format!(
            "i: at most {}, for batches of more than {largest} events capture less than {} of what {batch} do\nk: at most {copies} a machine, for {} are left for histories and lanes\nj: the rest\n",
            (largest / batch).max(1),
            percent(keep),
            megabytes(room),
        )
    }

    fn meaning(&self) -> String {
        let Plan { minibatch, epoch, memory } = self.proposal.plan;
        let global = minibatch * self.facts.batch;
        let steps = self.facts.events.div_ceil(global);
        format!("batches of {global} events, {steps} an epoch, on {memory} histories of {epoch} x {minibatch} lanes")
    }

    /// A cell is batch.set of negatives. `*` reads and observes the batch, `|` resets the history first.
    fn drawn(&self) -> String {
        let plan = self.proposal.plan;
        let drawn = timetable(&plan, plan.batches(self.facts.events, self.facts.batch), DRAWN);
        format!("{drawn}batch.negatives: * begun, that is read and observed; | the history emptied first\n\n")
    }

    fn lines(&self) -> String {
        let Plan { minibatch, epoch, memory } = self.proposal.plan;
        let device = self.several().map_or(String::new(), |device| format!("device = \"{device}\"\n\n"));
        let passes = self.proposal.plan.passes();
        let epochs = self.epochs.next_multiple_of(passes);
        let whole = match epochs == self.epochs {
            true => String::new(),
            false => format!(
                "# in [train], so that histories are passed whole, {passes} epochs at a time:\n# epochs = {epochs}\n"
            ),
        };
        let threads = self.threads;
        format!(
            "{device}[parallel]\nminibatch = {minibatch}\nepoch = {epoch}\nmemory = {memory}\nthreads = {threads}\n{whole}"
        )
    }

    /// The devices of a machine, if there are several for the lanes.
    fn several(&self) -> Option<Device> {
        let several = self.device.first(self.facts.devices);
        (self.facts.devices > 1 && several != Device::Cpu).then_some(several)
    }

    /// The command that starts it, where that takes several processes: one for each machine.
    fn launch(&self) -> String {
        let machines = self.facts.machines;
        let start = if machines > 1 { format!("mpirun -n {machines} ") } else { String::new() };
        let sets: String = self.args.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
        format!("{start}tempograph train {}{sets}", quoted(&self.args.spec.display().to_string()))
    }

    fn json(&self) -> serde_json::Value {
        let PlanInputs { batch, events, captured, keep, machines, devices, room, .. } = &self.facts;
        let Proposal { plan: Plan { minibatch, epoch, memory }, largest, copies } = self.proposal;
        let Sizes { history, weights, gradients, view, features, log } = self.sizes;
        let gpus: Vec<_> =
            self.machine.gpus.iter().map(|gpu| json!({ "name": gpu.name, "bytes": gpu.bytes })).collect();
        json!({
            "captured": captured.iter().map(|c| json!({ "batch": c.batch, "share": c.share })).collect::<Vec<_>>(),
            "keep": keep, "batch": batch, "events": events, "largest_batch": largest,
            "bytes": { "history": history, "weights": weights, "gradients": gradients, "view": view, "features": features, "log": log, "room": room },
            "machine": { "cores": self.machine.cores, "memory_bytes": self.machine.memory, "gpus": gpus },
            "machines": machines, "devices": devices, "histories_a_machine": copies,
            "device": self.several().map(|device| device.to_string()),
            "parallel": { "minibatch": minibatch, "epoch": epoch, "memory": memory, "threads": self.threads },
            "command": self.launch(),
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 10_000.0 { format!("{megabytes:.1} MB") } else { format!("{:.1} GB", megabytes / 1e3) }
}
