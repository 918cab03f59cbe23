//! Opens a service: settings, log, and the newest complete snapshot.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tempograph_framework::Timestamp;

use crate::artifact::open::read_manifest;
use crate::artifact::past::PastHash;
use crate::log::{Log, LogKind, begin_or_check, entry_after, next_seq, resumes_at};
use crate::service::ingest::budget::Budget;
use crate::service::ingest::event_time::TimeBounds;
use crate::service::ingest::failing::LogHealth;
use crate::service::ingest::progress::{LogProgress, Progress};
use crate::service::ingest::queue::{IngestQueue, NewestTimes, SeqPoint};
use crate::service::ingest::readiness::SharedReadiness;
use crate::service::ingest::refused::RefusedList;
use crate::service::run::threads;
use crate::service::schema::EventSchema;
use crate::service::snapshots::{MEMORY, SnapshotMetadata, SnapshotStore, identity};
use crate::service::snapshotter::Snapshotter;
use crate::service::status::Counts;
use crate::service::{Core, Readiness, Service, ServiceError, ServiceSpec};
use crate::{ArtifactError, Engine};

impl Service {
    /// Opens the log, and the newest complete snapshot, or the artifact if there is none. The log entries after it are
    /// replayed in the background: see [`readiness`](Service::readiness).
    ///
    /// Snapshots belong to the artifact from which the service was started. A service started from another artifact
    /// warms that artifact with the log.
    ///
    /// # Errors
    /// [`ServiceError`]: the artifact, the log or the settings are invalid, or they do not belong together.
    pub fn open(artifact: &Path, spec: &ServiceSpec) -> Result<Arc<Service>, ServiceError> {
        Service::with_log(artifact, spec, spec.log.open(artifact)?)
    }

    /// As [`open`](Service::open), with the caller's own log.
    ///
    /// # Errors
    /// As [`open`](Service::open).
    pub fn with_log(artifact: &Path, spec: &ServiceSpec, log: Arc<dyn Log>) -> Result<Arc<Service>, ServiceError> {
        spec.check()?;
        let base = identity(artifact)?;
        let snapshots = spec.snapshots.dir(artifact);
        let log_id = begin_or_check(&*log, &read_manifest(artifact)?, || new_id(&base))?;
        let log_id = if spec.log.kind == LogKind::Memory { Some(MEMORY.into()) } else { log_id };
        let snapshot_store = SnapshotStore::open(&snapshots, spec.snapshots.keep, log_id)?;
        // A log in memory is empty after a restart, so it cannot continue from a snapshot.
        let (found, passed_over) = match spec.log.kind {
            LogKind::Memory => (None, Vec::new()),
            _ => snapshot_store.newest(&base, |path, note| {
                let engine = Engine::open_with(path, &spec.engine)?;
                fits(note, &engine, &*log).map(|()| engine)
            })?,
        };
        passed_over.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (engine, note) = match found {
            Some((note, engine)) => (engine, Some(note)),
            None => (Engine::open_with(artifact, &spec.engine)?, None),
        };
        let position = engine.position();
        let place = match &note {
            Some(note) if note.place >= log.retained().start => note.place,
            _ => entry_after(&*log, position.log_seq)?,
        };
        let end = next_seq(&*log)?.unwrap_or(position.log_seq);
        if end < position.log_seq {
            return Err(crate::log::ReplayError::Ahead { seen: position.log_seq, end }.into());
        }
        let manifest = read_manifest(artifact)?;
        let artifact_newest = manifest.newest.map(Timestamp);
        let bounds = TimeBounds::new(
            &spec.event_time,
            manifest.time_unit.clone(),
            engine.history().origin(),
            artifact_newest,
            spec.snapshots.clock,
        );
        let budget = Budget::new(
            &spec.budget,
            engine.nodes() as u64,
            engine.history_bytes() as u64,
            (spec.log.kind == LogKind::Embedded).then(|| spec.log.dir(artifact)),
        );
        let refused = RefusedList::open(spec.log.refused_path(artifact), spec.event_time.refused_kept)?;
        let waiting_from = note.as_ref().map_or(0, |note| note.waiting_from.unwrap_or(note.place));
        let (due, to_keep) = channel();
        let core = Arc::new(Core {
            spec: spec.clone(),
            schema: EventSchema::of(engine.manifest()),
            engine: RwLock::new(Arc::new(engine)),
            previous: Mutex::default(),
            next_entry: Mutex::new(place),
            log,
            bounds,
            budget,
            artifact_end: SeqPoint { seq: manifest.log_position, newest: NewestTimes::applied(artifact_newest) },
            waiting_from,
            refused,
            queue: IngestQueue::starting_at(SeqPoint { seq: end, newest: NewestTimes::default() }),
            progress: Progress::new(LogProgress { durable_seq: end, applied: position }),
            readiness: SharedReadiness::new(Readiness::Recovering { applied: position.log_seq, of: end }),
            promoting: AtomicBool::new(false),
            counts: Counts::passing_over(passed_over.len()),
            log_health: LogHealth::default(),
            events_since_expiry: AtomicU64::new(0),
            expiry: Mutex::default(),
            snapshotter: Snapshotter::new(snapshot_store, base, note, due),
        });
        let threads = Mutex::new(threads::start(&core, to_keep)?);
        Ok(Arc::new(Service { core, threads }))
    }
}

/// A name for a new log that no other has: of the moment, the process and the artifact.
fn new_id(base: &str) -> String {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let mut id = PastHash::default();
    id.push(base, std::process::id(), moment as i64);
    id.to_string()[..12].to_string()
}

/// Checks a snapshot against its metadata, which has no checksum.
fn fits(note: &SnapshotMetadata, engine: &Engine, log: &dyn Log) -> Result<(), ArtifactError> {
    let (noted, seen) = (note.log_seq, engine.position().log_seq);
    let inconsistent = |fact| Err(ArtifactError::Inconsistent { fact });
    if noted != seen {
        return inconsistent(format!("its note says {noted} events, and it has seen {seen}"));
    }
    match resumes_at(log, note.place, seen) {
        Ok(true) => Ok(()),
        Ok(false) => {
            inconsistent(format!("its note says it goes on at entry {} of the log, where it does not", note.place))
        }
        Err(error) => inconsistent(error.to_string()),
    }
}
