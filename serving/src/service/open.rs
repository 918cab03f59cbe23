//! Opening a service: settings, log, and the newest snapshot that is whole.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, RwLock};

use crate::log::{Log, LogKind, end_of, goes_on_at, place_after};
use crate::service::admission::Facts;
use crate::service::ingest::failing::Failing;
use crate::service::ingest::line::{Line, Start};
use crate::service::ingest::progress::{Progress, Reached};
use crate::service::ingest::readiness::Shown;
use crate::service::keeper::Keeper;
use crate::service::snapshots::{Note, Shelf, identity};
use crate::service::status::Counts;
use crate::service::{Core, Readiness, Service, ServiceError, ServiceSpec, threads};
use crate::{ArtifactError, Engine};

impl Service {
    /// Opens the log, and of the snapshots the newest that is whole, or the artifact where there is none. What the log has beyond it is
    /// replayed in the background: see [`readiness`](Service::readiness).
    ///
    /// Snapshots belong to the artifact the service was started from. Started from another, it warms that one with the log.
    ///
    /// # Errors
    /// [`ServiceError`]: the artifact, the log or the settings will not do, or they do not belong together.
    pub fn open(artifact: &Path, spec: &ServiceSpec) -> Result<Arc<Service>, ServiceError> {
        Service::with_log(artifact, spec, spec.log.open(artifact)?)
    }

    /// As [`open`](Service::open), with a log of one's own.
    ///
    /// # Errors
    /// As [`open`](Service::open).
    pub fn with_log(artifact: &Path, spec: &ServiceSpec, log: Arc<dyn Log>) -> Result<Arc<Service>, ServiceError> {
        spec.check()?;
        let base = identity(artifact)?;
        let shelf = Shelf::open(&spec.snapshots.dir(artifact), spec.snapshots.keep)?;
        // A log that forgets cannot go on where a snapshot stands.
        let (found, passed_over) = match spec.log.kind {
            LogKind::Memory => (None, Vec::new()),
            _ => shelf.newest(&base, |path, note| {
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
            Some(note) if note.place >= log.kept().start => note.place,
            _ => place_after(&*log, position.log_seq)?,
        };
        let end = end_of(&*log)?.unwrap_or(position.log_seq);
        if end < position.log_seq {
            return Err(crate::log::ReplayError::Ahead { seen: position.log_seq, end }.into());
        }
        let (due, to_keep) = channel();
        let core = Arc::new(Core {
            spec: spec.clone(),
            facts: Facts::of(engine.manifest()),
            engine: RwLock::new(Arc::new(engine)),
            previous: Mutex::default(),
            applying: Mutex::new(place),
            log,
            line: Line::starting_at(Start { seq: end, newest: None }),
            progress: Progress::new(Reached { durable_seq: end, applied: position }),
            readiness: Shown::new(Readiness::Recovering { applied: position.log_seq, of: end }),
            taking_over: AtomicBool::new(false),
            counts: Counts::passing_over(passed_over.len()),
            failing: Failing::default(),
            unlooked: AtomicU64::new(0),
            looking: Mutex::default(),
            keeper: Keeper::new(shelf, base, note, due),
        });
        let threads = Mutex::new(threads::start(&core, to_keep)?);
        Ok(Arc::new(Service { core, threads }))
    }
}

/// Whether a snapshot is what its note says, which has no checksum.
fn fits(note: &Note, engine: &Engine, log: &dyn Log) -> Result<(), ArtifactError> {
    let (noted, seen) = (note.log_seq, engine.position().log_seq);
    let inconsistent = |fact| Err(ArtifactError::Inconsistent { fact });
    if noted != seen {
        return inconsistent(format!("its note says {noted} events, and it has seen {seen}"));
    }
    match goes_on_at(log, note.place, seen) {
        Ok(true) => Ok(()),
        Ok(false) => {
            inconsistent(format!("its note says it goes on at entry {} of the log, where it does not", note.place))
        }
        Err(error) => inconsistent(error.to_string()),
    }
}
