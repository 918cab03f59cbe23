//! Services of a small world, and a log that fails on request.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempograph_serving::{
    Ack, Engine, Entry, Granularity, IngestError, IngestRequest, KnownId, Log, LogError, LogKind, LogSpec, MemoryLog,
    NewEvent, OnError, Readiness, Receipt, Role, Service, ServiceSpec, SnapshotSpec, TokenSpec,
};

/// Settings without automatic snapshots.
pub fn without_snapshots() -> ServiceSpec {
    let snapshots = SnapshotSpec { every_events: 0, every_mib: 0, at_drain: false, ..SnapshotSpec::default() };
    ServiceSpec { snapshots, ..ServiceSpec::default() }
}

/// The same, and nothing on the disk.
pub fn in_memory() -> ServiceSpec {
    ServiceSpec { log: LogSpec { kind: LogKind::Memory, ..LogSpec::default() }, ..without_snapshots() }
}

/// A token, `chief`, with all roles.
pub fn chief() -> TokenSpec {
    use sha2::Digest;
    let sha256 = sha2::Sha256::digest("chief").iter().map(|byte| format!("{byte:02x}")).collect();
    let roles = vec![Role::Ingest, Role::Read, Role::Admin];
    TokenSpec { name: "chief".into(), roles, sha256: Some(sha256), ..TokenSpec::default() }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Opens a service and waits until it has caught up.
pub fn open(artifact: &Path, spec: &ServiceSpec) -> Arc<Service> {
    let service = Service::open(artifact, spec).unwrap();
    assert_eq!(service.wait_until_ready(soon()), Readiness::Ready);
    service
}

pub fn with_log(artifact: &Path, spec: &ServiceSpec, log: Arc<dyn Log>) -> Arc<Service> {
    let service = Service::with_log(artifact, spec, log).unwrap();
    assert_eq!(service.wait_until_ready(soon()), Readiness::Ready);
    service
}

pub fn request(events: &[NewEvent], ack: Ack) -> IngestRequest {
    IngestRequest { events: events.to_vec(), granularity: Granularity::Event, ack, on_error: OnError::Abort }
}

pub fn ingest(service: &Service, events: &[NewEvent]) -> Result<Receipt, IngestError> {
    service.ingest(request(events, Ack::Applied))
}

/// The same, repeated while the log of record fails.
pub fn ingest_with_retry(service: &Service, events: &[NewEvent]) -> Result<Receipt, IngestError> {
    let deadline = soon();
    loop {
        match ingest(service, events) {
            Err(IngestError::Log(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}

/// The events, each with its own id.
pub fn with_ids(events: Vec<NewEvent>) -> Vec<NewEvent> {
    events.into_iter().enumerate().map(|(i, event)| NewEvent { id: Some(format!("event-{i}")), ..event }).collect()
}

/// Checksums of all files that an engine saves.
pub fn saved(engine: &Engine) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let manifest = engine.save(&folder.path().join("saved")).unwrap();
    manifest.files.into_iter().map(|(name, facts)| (name, facts.sha256)).collect()
}

/// A log in memory whose appends can be made to fail, and whose appends and reads can be made to wait.
#[derive(Debug, Default)]
pub struct ScriptedLog {
    pub inner: MemoryLog,
    pub full: AtomicBool,
    /// Whether a failed append appears in the log later, as it can with a broker.
    pub keeps_failed: AtomicBool,
    failed: Mutex<Vec<Entry>>,
    script: Mutex<Script>,
    /// Number of appends that were begun.
    pub begun: AtomicU64,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Script {
    /// Whether appends wait.
    held: bool,
    /// End of the entries that may be read, one by one; left out, all may be read at once.
    readable: Option<u64>,
}

impl ScriptedLog {
    /// Makes appends wait, or lets them continue.
    pub fn hold(&self, held: bool) {
        self.script.lock().unwrap().held = held;
        self.changed.notify_all();
    }

    /// From now on entries are read one by one, and only the first `entries`.
    pub fn allow(&self, entries: u64) {
        self.script.lock().unwrap().readable = Some(entries);
        self.changed.notify_all();
    }

    fn full(&self) -> Result<(), LogError> {
        let error =
            LogError::Storage { place: "scripted".into(), fact: "No space left on device (os error 28)".into() };
        if self.full.load(Ordering::Relaxed) { Err(error) } else { Ok(()) }
    }
}

impl Log for ScriptedLog {
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        drop(self.changed.wait_while(self.script.lock().unwrap(), |script| script.held).unwrap());
        if self.full.load(Ordering::Relaxed) && self.keeps_failed.load(Ordering::Relaxed) {
            self.failed.lock().unwrap().extend(entries.to_vec());
        }
        self.full()?;
        self.inner.append(entries)
    }

    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError> {
        let mut script = self.script.lock().unwrap();
        // A read of a single entry searches a position, and does not wait.
        if events > 1 {
            script = self
                .changed
                .wait_while(script, |script| script.readable.is_some_and(|readable| from >= readable))
                .unwrap();
        }
        let events = if script.readable.is_some() { 1 } else { events };
        drop(script);
        self.inner.read(from, events)
    }

    fn retained(&self) -> Range<u64> {
        self.inner.retained()
    }

    fn find(&self, id: &str) -> Result<Option<KnownId>, LogError> {
        self.inner.find(id)
    }

    fn truncate_before(&self, place: u64) -> Result<(), LogError> {
        self.inner.truncate_before(place)
    }

    fn reopen(&self) -> Result<(), LogError> {
        self.full()?;
        self.inner.append(&std::mem::take(&mut *self.failed.lock().unwrap())).map(drop)
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
