//! One event served at a time, without a network: it is observed, then a pair is scored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Number, json};
use tempograph_framework::{Event, Scorer};
use tempograph_serving::{Engine, Export, ExternalId, Granularity, NewEvent, PairQuery};
use tempograph_trainers::{RunFiles, TrainSpec, TrainingData, TrainingObserver, TrainingRun, warm_up};

use crate::bench::BenchArgs;
use crate::bench::numbers::stats::quantile;
use crate::bench::strategies;
use crate::setup::allocations::allocations;
use crate::setup::data;
use crate::setup::device;
use crate::setup::device::Device;
use crate::setup::model::{build_learner, model_with};
use crate::setup::spec::RunSpec;
use crate::terminal::print::{note, print};

/// Events served, if the user names no number.
const EVENTS: usize = 2000;

/// The measurements of the served events.
struct Served {
    update_seconds: f64,
    score_seconds: f64,
    allocations: u64,
}

/// Trains briefly, opens the exported artifact, and serves the events that follow.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    if spec.data.edge_columns().map_err(anyhow::Error::msg)?.is_some_and(|columns| columns > 0) {
        bail!(
            "data.edge_features = \"{}\" is for comparisons; a model that reads made-up zeros is not served",
            spec.data.edge_features
        );
    }
    device::init_thread_pool(spec.threads)?;
    device::run_on_pool(|| measure(args, spec))
}

fn measure(args: &BenchArgs, mut spec: RunSpec) -> Result<()> {
    let mut training_data = data::open(&spec.data)?;
    data::resolve(&mut spec, &mut training_data)?;
    let trained = training_data.split.train.end.min(args.steps * spec.train.batch);
    training_data.split.train.end = trained;
    let folder = Folder(std::env::temp_dir().join(format!("tempograph-bench-{}", std::process::id())));
    note(format!("training on {trained} events"));
    export(&spec, &training_data, &folder.0)?;
    let wanted = args.events.first().copied().unwrap_or(EVENTS);
    let events = trained..training_data.dataset.log.len().min(trained + wanted);
    note(format!("serving {} events", events.len()));
    if args.strategies {
        let found = strategies::measure(&folder.0, &training_data, events)?;
        let text = if args.json { format!("{found:#}") } else { strategies::show(&found) };
        print(format!("{}, {} threads\n{text}", spec.data.path, device::threads()))?;
        return Ok(());
    }
    let engine = Engine::open(&folder.0).context("cannot open what was just exported")?;
    let served = serve(&engine, &training_data, events)?;
    show(args, &spec, &served)
}

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the system's temporary files does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct NoObserver;

impl TrainingObserver for NoObserver {}

/// Trains on the training split and writes an artifact that has observed it.
fn export(spec: &RunSpec, training_data: &TrainingData, folder: &Path) -> Result<()> {
    let train = TrainSpec { checkpoint_minutes: 0.0, ..spec.train.clone() };
    let nowhere = RunFiles { folder: PathBuf::new() };
    let stop = AtomicBool::new(false);
    let training = TrainingRun {
        training_data,
        train: &train,
        parallel: &spec.parallel,
        eval: &spec.eval,
        seed: spec.seed,
        files: nowhere,
        resume: false,
        stop: &stop,
        trace: None,
    };
    let mut trained = build_learner(spec, training_data, &Device::Cpu)?.print_notice();
    training.train_once(&mut trained, &mut NoObserver)?;
    let mut history = training_data.history(trained.needs());
    warm_up(
        &mut trained,
        &mut history,
        &training_data.dataset.log,
        training_data.split.train.clone(),
        spec.train.batch,
        &stop,
    )?;
    let model = model_with(spec, training_data, trained.parameters().to_store())?;
    Export {
        model: &model,
        history: &history,
        dataset: &training_data.dataset,
        batch: spec.train.batch,
        replace: true,
    }
    .write(folder)?;
    Ok(())
}

/// Observes each event and scores its pair just after it. The first tenth warms the engine and is not in the result.
fn serve(engine: &Engine, training_data: &TrainingData, events: std::ops::Range<usize>) -> Result<Vec<Served>> {
    let warm = events.len() / 10;
    let (mut served, mut scores) = (Vec::with_capacity(events.len()), Vec::new());
    for (i, event) in training_data.dataset.log.batch(events).events().enumerate() {
        let (message, asked) = ([request(training_data, event)?], [query(training_data, event)]);
        let before = allocations();
        let begun = Instant::now();
        engine.observe(&message, Granularity::Event)?;
        let observed = begun.elapsed().as_secs_f64();
        engine.score_into(&asked, &[], &mut scores)?;
        let (whole, after) = (begun.elapsed().as_secs_f64(), allocations());
        std::hint::black_box(&scores);
        if i >= warm {
            served.push(Served {
                update_seconds: observed,
                score_seconds: whole - observed,
                allocations: after - before,
            });
        }
    }
    if served.is_empty() {
        bail!("no event is left to serve");
    }
    Ok(served)
}

/// The event in the user's own ids and time.
pub(super) fn request(training_data: &TrainingData, event: Event) -> Result<NewEvent> {
    let (ids, unit) = (&training_data.dataset.ids, &training_data.dataset.time_unit);
    let time = match unit.scale {
        1 => Number::from(event.time.0),
        _ => Number::from_f64(unit.from_ticks(event.time)).context("a time is a number")?,
    };
    let features = training_data.features.edges.as_ref().map(|rows| rows.row(event.id.0).to_vec());
    Ok(NewEvent {
        src: ExternalId::of(ids, event.src),
        dst: ExternalId::of(ids, event.dst),
        time,
        label: event.label,
        features,
        id: None,
    })
}

fn query(training_data: &TrainingData, event: Event) -> PairQuery {
    let ids = &training_data.dataset.ids;
    PairQuery { src: ExternalId::of(ids, event.src), dst: ExternalId::of(ids, event.dst), time: None }
}

fn show(args: &BenchArgs, spec: &RunSpec, served: &[Served]) -> Result<()> {
    let micros = |of: fn(&Served) -> f64, share: f64| 1e6 * quantile(served.iter().map(of), share).unwrap_or(f64::NAN);
    let both = |one: &Served| one.update_seconds + one.score_seconds;
    let allocations = served.iter().map(|one| one.allocations).sum::<u64>() as f64 / served.len() as f64;
    if args.json {
        let all = json!({
            "data": spec.data.path, "threads": device::threads(), "events": served.len(),
            "update_score_p50_us": micros(both, 0.5), "update_score_p99_us": micros(both, 0.99),
            "update_p50_us": micros(|one| one.update_seconds, 0.5), "update_p99_us": micros(|one| one.update_seconds, 0.99),
            "score_p50_us": micros(|one| one.score_seconds, 0.5), "score_p99_us": micros(|one| one.score_seconds, 0.99),
            "allocations_per_event": allocations,
        });
        print(format!("{all:#}"))?;
        return Ok(());
    }
    print(format!("{}, {} events one at a time, {} threads", spec.data.path, served.len(), device::threads()))?;
    print(format!(
        "update + score  median {:>7.1} µs   99 % within {:>7.1} µs",
        micros(both, 0.5),
        micros(both, 0.99)
    ))?;
    let (update, score) = (|one: &Served| one.update_seconds, |one: &Served| one.score_seconds);
    print(format!(
        "update          median {:>7.1} µs   99 % within {:>7.1} µs",
        micros(update, 0.5),
        micros(update, 0.99)
    ))?;
    print(format!(
        "score           median {:>7.1} µs   99 % within {:>7.1} µs",
        micros(score, 0.5),
        micros(score, 0.99)
    ))?;
    print(format!("allocations     {allocations:.1} an event"))?;
    Ok(())
}
