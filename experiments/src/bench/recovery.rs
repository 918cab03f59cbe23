//! The time a server takes to restart, over the length of its log of record.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tempograph_framework::{Dataset, Features, History, SliceModel};
use tempograph_models::FeatureWidths;
use tempograph_serving::{
    Ack, Export, ExternalId, Granularity, IngestRequest, NewEvent, OnError, Readiness, Service, ServiceSpec,
    SnapshotSpec,
};

use crate::bench::numbers::stats::quantile;
use crate::bench::{BenchArgs, table};
use crate::setup::device;
use crate::setup::spec::RunSpec;
use crate::terminal::print::{note, print};

const LENGTHS: [usize; 2] = [1_000_000, 10_000_000];
/// Events from one snapshot to the next. A server that dies just before the next snapshot replays this many.
const EVERY: usize = 100_000;
/// Events of a request while the log is written.
const REQUEST: usize = 1000;
/// Users and items of the stream.
const NODES: [usize; 2] = [8_000, 2_000];

/// The results for one length.
#[derive(Serialize)]
struct Point {
    events: usize,
    /// Events after the newest snapshot; without one, all.
    replayed: usize,
    /// Median time from the start until ready.
    ready_seconds: f64,
    /// The part of it until the log and the snapshot were verified in memory.
    open_seconds: f64,
    runs: usize,
    log_bytes: u64,
    snapshot_bytes: u64,
    ingested_per_second: f64,
}

/// Writes logs of every length and opens them again.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    device::init_thread_pool(spec.threads)?;
    let lengths = if args.events.is_empty() { &LENGTHS[..] } else { &args.events };
    let mut points = Vec::new();
    for &events in lengths {
        ensure!(events > EVERY, "--events {events}: more than {EVERY} are needed, which are replayed");
        note(format!("{events} events"));
        let folder = tempfile_in(args)?;
        points.extend(measure(args, &spec, events, &folder.0)?);
    }
    if args.json {
        print(format!("{:#}", json!({ "threads": device::threads(), "every": EVERY, "points": points })))?;
        return Ok(());
    }
    print(table::aligned(&rows(&points)).trim_end())?;
    if let Some(out) = &args.out {
        fs::write(out.join("recovery.md"), page(args, &points))
            .with_context(|| format!("cannot write to {}", out.display()))?;
    }
    Ok(())
}

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // The disk says what stays behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempfile_in(args: &BenchArgs) -> Result<Folder> {
    let parent = args.out.clone().unwrap_or_else(std::env::temp_dir);
    let folder = parent.join(format!(".tempograph-recovery-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(Folder(folder))
}

fn measure(args: &BenchArgs, spec: &RunSpec, events: usize, folder: &Path) -> Result<Vec<Point>> {
    let [users, items] = NODES;
    let set = Dataset::from_spec(&format!("synthetic:events={events},users={users},items={items}"))?;
    let artifact = folder.join("artifact");
    export(spec, &set, &artifact)?;
    let begun = Instant::now();
    let kept = events - EVERY;
    let service = open(&artifact, &settings(EVERY as u64))?;
    ingest(&service, &set, 0..kept, Granularity::Batch)?;
    service.snapshot()?;
    ensure!(service.drain(Instant::now() + Duration::from_secs(600)), "the service did not come to an end");
    drop(service);
    let service = open(&artifact, &settings(0))?;
    ingest(&service, &set, kept..events, Granularity::Event)?;
    drop(service);
    let ingested_per_second = events as f64 / begun.elapsed().as_secs_f64();
    let mut points = vec![ready(args, &artifact, events, EVERY, ingested_per_second)?];
    if events == *args.events.iter().min().unwrap_or(&LENGTHS[0]) {
        fs::remove_dir_all(folder.join("artifact.snapshots"))?;
        points.push(ready(args, &artifact, events, events, ingested_per_second)?);
    }
    Ok(points)
}

/// Exports an artifact of the spec's model, untrained and with an empty history.
fn export(spec: &RunSpec, set: &Dataset, artifact: &Path) -> Result<()> {
    let made = spec.model.on_slices(FeatureWidths::default(), spec.seed);
    let model = made.map_err(anyhow::Error::msg)?;
    let history = History::new(set.nodes, model.needs(), set.log.time()[0], Features::default());
    Export { model: &model, history: &history, dataset: set, batch: spec.train.batch, replace: true }
        .write(artifact)?;
    Ok(())
}

/// Settings with a snapshot after every `every_events` events, or none.
fn settings(every_events: u64) -> ServiceSpec {
    ServiceSpec {
        snapshots: SnapshotSpec { every_events, every_mib: 0, at_drain: false, ..SnapshotSpec::default() },
        ..ServiceSpec::default()
    }
}

fn open(artifact: &Path, spec: &ServiceSpec) -> Result<Arc<Service>> {
    let service = Service::open(artifact, spec)?;
    match service.wait_until_ready(Instant::now() + Duration::from_secs(7200)) {
        Readiness::Ready => Ok(service),
        other => anyhow::bail!("the service is not ready: {other}"),
    }
}

fn ingest(service: &Service, set: &Dataset, range: std::ops::Range<usize>, granularity: Granularity) -> Result<()> {
    let (log, ids) = (&set.log, &set.ids);
    let tell = |i: usize| NewEvent {
        src: ExternalId::of(ids, log.src()[i]),
        dst: ExternalId::of(ids, log.dst()[i]),
        time: log.time()[i].0.into(),
        label: 0.0,
        features: None,
        id: None,
    };
    for start in range.clone().step_by(REQUEST) {
        let events: Vec<NewEvent> = (start..range.end.min(start + REQUEST)).map(tell).collect();
        // Waits for each request: the queue holds only some requests.
        service.ingest(IngestRequest { events, granularity, ack: Ack::Applied, on_error: OnError::Abort })?;
    }
    Ok(())
}

/// Opens the service and waits until it is ready, several times.
fn ready(args: &BenchArgs, artifact: &Path, events: usize, replayed: usize, ingested_per_second: f64) -> Result<Point> {
    let runs = if replayed > 10 * EVERY { 1 } else { args.pairs };
    let (mut whole, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        let service = Service::open(artifact, &settings(0))?;
        opened.push(begun.elapsed().as_secs_f64());
        let readiness = service.wait_until_ready(Instant::now() + Duration::from_secs(7200));
        whole.push(begun.elapsed().as_secs_f64());
        ensure!(
            readiness == Readiness::Ready && service.position().log_seq == events as u64,
            "the service is {readiness}"
        );
    }
    let median = |times: Vec<f64>| quantile(times, 0.5).unwrap_or(f64::NAN);
    let beside = |what: &str| artifact.with_file_name(format!("artifact.{what}"));
    let newest = fs::read_dir(beside("snapshots"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .max();
    Ok(Point {
        events,
        replayed,
        ready_seconds: median(whole),
        open_seconds: median(opened),
        runs,
        log_bytes: size(&beside("log"))?,
        snapshot_bytes: newest.map_or(Ok(0), |newest| size(&beside("snapshots").join(newest.to_string())))?,
        ingested_per_second,
    })
}

/// Bytes of a folder on the disk. Bytes that a sparse file has reserved but not written are not counted.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { allocated(&entry.metadata()?) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn allocated(file: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file) * 512
}

#[cfg(not(unix))]
fn allocated(file: &fs::Metadata) -> u64 {
    file.len()
}

fn rows(points: &[Point]) -> Vec<Vec<String>> {
    let head = [
        "events",
        "replayed",
        "ready, s",
        "of it opening, s",
        "runs",
        "log, bytes an event",
        "snapshot, MB",
        "written at, events/s",
    ];
    let row = |point: &Point| {
        vec![
            point.events.to_string(),
            point.replayed.to_string(),
            format!("{:.2}", point.ready_seconds),
            format!("{:.2}", point.open_seconds),
            point.runs.to_string(),
            format!("{:.1}", point.log_bytes as f64 / point.events as f64),
            format!("{:.1}", point.snapshot_bytes as f64 / 1e6),
            format!("{:.0}", point.ingested_per_second),
        ]
    };
    std::iter::once(head.map(String::from).to_vec()).chain(points.iter().map(row)).collect()
}

fn page(args: &BenchArgs, points: &[Point]) -> String {
    let [users, items] = NODES;
    let sets: String = args.sets.iter().map(|set| format!(" --set {set}")).collect();
    let events: Vec<String> = args.events.iter().map(usize::to_string).collect();
    let events = if events.is_empty() { String::new() } else { format!(" --events {}", events.join(",")) };
    format!(
        "# Recovery\n\n\
         Time from opening the log of record to ready, of the model of `{}` over the built-in stream with {users} users and {items} items,\n\
         with {} threads on {}; files were in the page cache. With a snapshot every {EVERY} events a server replays {EVERY} at worst, and that is\n\
         what is measured; the row that replays all has no snapshot. The log was written by requests of {REQUEST} events without ids or features.\n\n\
         {}\n    tempograph bench {} --recovery{events} --pairs {}{sets}\n",
        args.spec.display(),
        device::threads(),
        table::machine_name(),
        table::markdown(&rows(points)),
        args.spec.display(),
        args.pairs,
    )
}
