//! Files: settings, artifacts, the log of record, snapshots.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempograph_framework::sha256_hex;
use tempograph_serving::{
    EmbeddedLog, Engine, Entry, Granularity, Log, Mutation, PairQuery, Retraction, ServeSpec, Service, ServiceSpec,
};

use crate::world::{artifact as make_artifact, copy, new_events};

/// The files of an artifact, by the first byte of the input.
const FILES: [&str; 6] = [
    "manifest.json",
    "spec.toml",
    "weights.safetensors",
    "history.safetensors",
    "ids.safetensors",
    "features.safetensors",
];

/// Any text is settings or refused.
pub fn spec(text: &str) {
    let _ = ServeSpec::parse(text, &[]);
    let _ = ServeSpec::parse("", &[text.to_string()]);
}

/// Any bytes are an entry, which its own bytes are again, or refused.
pub fn entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::from_bytes(bytes) {
        let again = entry.to_bytes();
        // Told apart by bytes: a feature may be no number.
        assert_eq!(Entry::from_bytes(&again).map(|entry| entry.to_bytes()), Ok(again));
    }
}

pub(crate) fn entry_examples() -> Vec<Vec<u8>> {
    let late = vec![(1, 3.5.to_string().parse().expect("a number"))];
    let acts = [
        Mutation::Events { events: new_events(0..3), granularity: Granularity::Event, late },
        Mutation::Events { events: new_events(3..4), granularity: Granularity::Batch, late: Vec::new() },
        Mutation::Retract { events: vec![Retraction { seq: 900, src: 1.into(), dst: u64::MAX.into() }], newest: None },
        Mutation::Retract { events: vec![Retraction { seq: 900, src: 1.into(), dst: "ada".into() }], newest: Some(17.into()) },
        Mutation::Hold { first_arrival: 3, events: new_events(4..6) },
        Mutation::Release { arrivals: vec![4, 3], events: new_events(4..6) },
        Mutation::Drop { arrivals: vec![4, 3] },
        Mutation::Expire { before: 1_000_000.into(), nodes: 0..u32::MAX },
        Mutation::Expire { before: 1_000_000.into(), nodes: 8192..16384 },
    ];
    acts.into_iter().map(|mutation| Entry { first_seq: 77, mutation }.to_bytes()).collect()
}

/// Any bytes as a file of an artifact whose checksums are right all the same: it is opened, and then does what an
/// engine does, or refused.
pub fn artifact(bytes: &[u8]) {
    let Some((&which, content)) = bytes.split_first() else { return };
    let Some(name) = FILES.get(usize::from(which)) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let spoilt = folder.path().join("artifact");
    copy(&whole().join("artifact"), &spoilt);
    fs::write(spoilt.join(name), content).expect("a file");
    if *name != FILES[0] {
        seal(&spoilt, name, content);
    }
    let Ok(engine) = Engine::open(&spoilt) else { return };
    let _ = engine.observe(&new_events(30..60), Granularity::Event);
    let _ = engine.score(&[PairQuery { src: 1.into(), dst: 2.into(), time: None }], &[]);
    let _ = engine.top_k(1, 3, None);
    let _ = engine.expire(&2_000_000_040.into());
    engine.save(&folder.path().join("saved")).expect("what was opened can be saved");
    Engine::open(&folder.path().join("saved")).expect("what was saved can be opened");
}

/// Says in the manifest what a file is now.
fn seal(artifact: &Path, name: &str, content: &[u8]) {
    let path = artifact.join(FILES[0]);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("JSON");
    manifest["files"][name] = json!({ "bytes": content.len(), "sha256": sha256_hex([content]) });
    fs::write(path, manifest.to_string()).expect("a manifest");
}

pub(crate) fn artifact_examples() -> Vec<Vec<u8>> {
    let read = |(which, name): (usize, &&str)| {
        [vec![which as u8], fs::read(whole().join("artifact").join(name)).expect("a file")].concat()
    };
    FILES.iter().enumerate().map(read).collect()
}

/// Any bytes instead of the journal's end, from the place on that the first two say: the log is opened with what is
/// whole, or refused.
pub fn journal(bytes: &[u8]) {
    let Some((place, end)) = bytes.split_first_chunk::<2>() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    copy(&whole().join("log"), &log);
    let path = journal_of(&log);
    let mut content = fs::read(&path).expect("a journal");
    content.truncate(usize::from(u16::from_le_bytes(*place)));
    content.extend_from_slice(end);
    fs::write(path, content).expect("a journal");
    let Ok(log) = EmbeddedLog::open(&log) else { return };
    let Ok(read) = log.read(log.retained().start, usize::MAX) else { return };
    let appended = log.append(&[Entry { first_seq: 1000, mutation: Mutation::Retract { events: Vec::new(), newest: None } }]);
    assert!(
        appended.is_err() || log.retained().end == log.retained().start + read.len() as u64 + 1,
        "{:?}",
        log.retained()
    );
}

fn journal_of(log: &Path) -> PathBuf {
    let files = fs::read_dir(log).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jnl")).expect("a journal")
}

pub(crate) fn journal_examples() -> Vec<Vec<u8>> {
    let content = fs::read(journal_of(&whole().join("log"))).expect("a journal");
    let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let from = |place: usize| [&(place as u16).to_le_bytes()[..], &content[place..end]].concat();
    vec![from(0), from(end / 2), from(end)]
}

/// Any bytes as the note of a snapshot: it is passed over, or as it was.
pub fn snapshot(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("served");
    copy(&whole().join("served"), &at);
    fs::write(at.join("artifact.snapshots/1/snapshot.json"), bytes).expect("a note");
    let service = Service::open(&at.join("artifact"), &without_snapshots()).expect("there is the artifact");
    service.wait_until_ready(std::time::Instant::now() + std::time::Duration::from_secs(30));
    assert_eq!(service.position().log_seq, 60, "{}", String::from_utf8_lossy(bytes));
}

pub(crate) fn snapshot_examples() -> Vec<Vec<u8>> {
    vec![fs::read(whole().join("served/artifact.snapshots/1/snapshot.json")).expect("a note")]
}

fn without_snapshots() -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    (spec.snapshots.at_drain, spec.snapshots.every_events) = (false, 0);
    spec
}

/// A folder with an artifact, a log, and an artifact that was served, with its log and a snapshot.
fn whole() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let artifact = make_artifact(folder.path());
        let log = EmbeddedLog::open(&folder.path().join("log")).expect("a log");
        for i in 0..4 {
            let mutation =
                Mutation::Events { events: new_events(i..i + 1), granularity: Granularity::Event, late: Vec::new() };
            log.append(&[Entry { first_seq: i as u64, mutation }]).expect("an entry");
        }
        let served = folder.path().join("served");
        copy(&artifact, &served.join("artifact"));
        let service = Service::open(&served.join("artifact"), &without_snapshots()).expect("a service");
        service.wait_until_ready(std::time::Instant::now() + std::time::Duration::from_secs(30));
        let tell = |events| tempograph_serving::IngestRequest {
            events,
            granularity: Granularity::Event,
            ack: tempograph_serving::Ack::Applied,
            on_error: tempograph_serving::OnError::Abort,
        };
        service.ingest(tell(new_events(30..50))).expect("events");
        service.snapshot().expect("a snapshot");
        service.ingest(tell(new_events(50..60))).expect("events");
        folder
    });
    made.path()
}
