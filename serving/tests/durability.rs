//! Durable events survive restarts, torn writes, damaged snapshots, a full disk and a clock that goes backwards.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use common::service::{ingest, ingest_with_retry, open, saved, soon, with_ids, without_snapshots};
use common::{EVENTS, SEEN, World, rounds, small};
use tempograph_serving::{
    BudgetSpec, Clock, EmbeddedLog, Engine, Entry, Granularity, IngestError, Log, LogError, LogSpec, Mutation,
    NewEvent, Readiness, Service, ServiceSpec, SnapshotSpec,
};

fn numbers(dir: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        fs::read_dir(dir).unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The number of the event under an id.
fn number(log: &impl Log, id: &str) -> Option<u64> {
    log.find(id).unwrap().map(|known| known.seq)
}

fn beside(world: &World, what: &str) -> PathBuf {
    world.folder().with_file_name(format!("artifact.{what}"))
}

#[test]
fn a_service_opened_again_is_where_it_was_to_the_last_bit() {
    for features in [0, 3] {
        let world = World::new(&small(), features);
        let engine = world.engine();
        for part in [SEEN..SEEN + 37, SEEN + 37..SEEN + 80, SEEN + 80..EVENTS] {
            let service = open(&world.folder(), &without_snapshots());
            assert_eq!(service.position().log_seq, part.start as u64);
            ingest(&service, &world.new_events(part)).unwrap();
        }
        engine.observe(&world.new_events(SEEN..EVENTS), Granularity::Event).unwrap();
        let service = open(&world.folder(), &without_snapshots());
        assert_eq!(saved(&service.engine()), saved(&engine));
        assert_eq!((service.durable_seq(), service.position()), (EVENTS as u64, engine.position()));
    }
}

#[test]
fn snapshots_are_taken_as_events_come_old_ones_are_removed_and_the_newest_is_opened() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let snapshots = SnapshotSpec { every_events: 20, at_drain: true, keep: 3, ..without_snapshots().snapshots };
    let spec = ServiceSpec { snapshots, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    for event in world.new_events(SEEN..EVENTS).chunks(10) {
        ingest(&service, event).unwrap();
        let last = || service.status().snapshots.last.map_or(SEEN as u64, |last| last.log_seq);
        while last() + 20 <= service.position().log_seq {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(service.drain(soon()));
    let last = service.status().snapshots.last.unwrap();
    assert_eq!(last.log_seq, EVENTS as u64);
    drop(service);
    let kept = numbers(&beside(&world, "snapshots"));
    assert_eq!(kept, [last.number - 2, last.number - 1, last.number]);
    // Without the log, recovery has only the snapshots.
    fs::remove_dir_all(world.folder().join("../artifact.log")).unwrap();
    engine.observe(&world.new_events(SEEN..EVENTS), Granularity::Event).unwrap();
    let snapshot = beside(&world, "snapshots").join(last.number.to_string()).join("artifact");
    assert_eq!(saved(&Engine::open(&snapshot).unwrap()), saved(&engine));
}

#[test]
fn snapshots_are_taken_by_the_size_of_the_log_and_by_the_clock_too() {
    let world = World::new(&small(), 2560);
    world.engine();
    let waited_for = |service: &Service, what: &str| {
        let deadline = soon();
        while service.status().snapshots.last.is_none() {
            assert!(std::time::Instant::now() < deadline, "no snapshot was taken by {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let by_size = ServiceSpec {
        snapshots: SnapshotSpec { every_mib: 1, ..without_snapshots().snapshots },
        ..without_snapshots()
    };
    let service = open(&world.folder(), &by_size);
    ingest(&service, &world.new_events(SEEN..SEEN + 10)).unwrap();
    // Each event has 10 KiB of features in the log.
    for request in 0..11 {
        assert!(
            request > 8 || service.status().snapshots.last.is_none(),
            "a snapshot was taken after {request} requests"
        );
        ingest(&service, &world.new_events(SEEN + 10 * request + 10..SEEN + 10 * request + 20)).unwrap();
    }
    waited_for(&service, "the size of the log");
    drop(service);
    let world = World::new(&small(), 2);
    world.engine();
    let by_clock = ServiceSpec {
        snapshots: SnapshotSpec { every_seconds: 1, ..without_snapshots().snapshots },
        ..without_snapshots()
    };
    let service = open(&world.folder(), &by_clock);
    ingest(&service, &world.new_events(SEEN..SEEN + 10)).unwrap();
    waited_for(&service, "the clock");
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_one_before_and_the_log_makes_up_for_it() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let service = open(&world.folder(), &without_snapshots());
    for part in [SEEN..SEEN + 30, SEEN + 30..SEEN + 60] {
        ingest(&service, &world.new_events(part)).unwrap();
        service.snapshot().unwrap();
    }
    ingest(&service, &world.new_events(SEEN + 60..SEEN + 70)).unwrap();
    drop(service);
    engine.observe(&world.new_events(SEEN..SEEN + 70), Granularity::Event).unwrap();
    let shelf = beside(&world, "snapshots");
    let note = |newest: &Path, key: &str, change: fn(u64) -> u64| {
        let path = newest.join("snapshot.json");
        let mut note: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        note[key] = change(note[key].as_u64().unwrap()).into();
        fs::write(path, note.to_string()).unwrap();
    };
    let damage: [&dyn Fn(&Path); 8] = [
        &|newest| {
            let path = newest.join("artifact/history.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        },
        &|newest| fs::remove_file(newest.join("artifact/weights.safetensors")).unwrap(),
        &|newest| fs::write(newest.join("snapshot.json"), "{").unwrap(),
        &|newest| fs::remove_dir_all(newest.join("artifact")).unwrap(),
        &|newest| note(newest, "log_seq", |seq| seq - 1),
        &|newest| note(newest, "place", |place| place - 1),
        &|newest| note(newest, "place", |place| place + 1),
        &|newest| note(newest, "place", |place| place + 1000),
    ];
    let whole = world.folder().with_file_name("whole");
    copy(&shelf.join("2"), &whole);
    for (broken, damage) in damage.into_iter().enumerate() {
        fs::remove_dir_all(shelf.join("2")).unwrap();
        copy(&whole, &shelf.join("2"));
        damage(&shelf.join("2"));
        let service = open(&world.folder(), &without_snapshots());
        assert_eq!(service.status().passed_over, 1, "damage {broken}");
        assert_eq!(saved(&service.engine()), saved(&engine), "damage {broken}");
    }
    fs::remove_dir_all(shelf.join("1")).unwrap();
    let service = open(&world.folder(), &without_snapshots());
    assert_eq!(saved(&service.engine()), saved(&engine), "there is always the artifact");
}

#[test]
fn a_snapshot_that_was_not_finished_is_none() {
    let world = World::new(&small(), 0);
    world.engine();
    let half = beside(&world, "snapshots").join("7.partial");
    fs::create_dir_all(half.join("artifact")).unwrap();
    let service = open(&world.folder(), &without_snapshots());
    assert!(!half.exists());
    assert_eq!(service.snapshot().unwrap().number, 1);
}

/// Entries of one event each, with `features` features.
fn entries(range: std::ops::Range<u64>, features: usize) -> Vec<Entry> {
    let event = |seq: u64| NewEvent {
        src: seq.into(),
        dst: (seq + 1).into(),
        time: seq.into(),
        label: 0.0,
        features: Some(vec![seq as f32 + 0.5; features]),
        id: Some(format!("e{seq}")),
    };
    let entry = |seq| Entry {
        first_seq: seq,
        mutation: Mutation::Events { events: vec![event(seq)], granularity: Granularity::Event, late: vec![] },
    };
    range.map(entry).collect()
}

fn journal(dir: &Path) -> PathBuf {
    let journals = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap()
}

/// Length of the written part of a journal in bytes.
fn written(journal: &Path) -> usize {
    fs::read(journal).unwrap().iter().rposition(|&byte| byte != 0).unwrap() + 1
}

#[test]
fn a_torn_write_at_the_end_of_the_log_takes_nothing_with_it_that_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = EmbeddedLog::open(&dir).unwrap();
    log.append(&entries(0..20, 2)).unwrap();
    let before = written(&journal(&dir));
    log.append(&entries(20..23, 3000)).unwrap();
    let after = written(&journal(&dir));
    drop(log);
    let whole = fs::read(journal(&dir)).unwrap();
    assert!(after - before > 36_000);
    type Tear = fn(&mut Vec<u8>, usize, usize);
    let tears: [Tear; 5] = [
        |bytes, before, _| bytes.truncate(before + 1),
        |bytes, _, after| bytes.truncate(after - 1),
        // Pages that were not written to the disk read as zero.
        |bytes, before, _| bytes[before + 4096..before + 8192].fill(0),
        |bytes, before, after| bytes[(before + after) / 2] ^= 0x40,
        |bytes, before, after| bytes[before..after].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7) as u8),
    ];
    for (case, tear) in tears.into_iter().enumerate() {
        let torn = folder.path().join(format!("torn-{case}"));
        copy(&dir, &torn);
        let mut bytes = whole.clone();
        tear(&mut bytes, before, after);
        fs::write(journal(&torn), bytes).unwrap();
        let log = EmbeddedLog::open(&torn).unwrap();
        assert_eq!(log.retained(), 0..20, "tear {case}");
        assert_eq!(log.read(0, 100).unwrap(), entries(0..20, 2), "tear {case}");
        assert_eq!((number(&log, "e19"), number(&log, "e20")), (Some(19), None), "tear {case}");
        log.append(&entries(20..25, 2)).unwrap();
        drop(log);
        assert_eq!(EmbeddedLog::open(&torn).unwrap().read(0, 100).unwrap(), entries(0..25, 2), "tear {case}");
    }
}

#[test]
fn damage_before_durable_events_is_reported_and_nothing_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = EmbeddedLog::open(&dir).unwrap();
    log.append(&entries(0..10, 40)).unwrap();
    let before = written(&journal(&dir));
    log.append(&entries(10..20, 40)).unwrap();
    log.append(&entries(20..30, 40)).unwrap();
    drop(log);
    let path = journal(&dir);
    let mut bytes = fs::read(&path).unwrap();
    bytes[before + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = EmbeddedLog::open(&dir).unwrap_err().to_string();
    assert!(error.contains(&format!("is damaged from byte {before} to byte ")), "{error}");
    bytes[before + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(EmbeddedLog::open(&dir).unwrap().read(0, 100).unwrap(), entries(0..30, 40));
}

#[test]
fn two_processes_do_not_share_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    let error = EmbeddedLog::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()) && error.contains("has it"), "{error}");
    drop(log);
}

#[test]
fn a_log_gives_up_what_is_old_with_its_ids_and_keeps_its_places() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    log.append(&entries(0..9000, 0)).unwrap();
    log.truncate_before(8000).unwrap();
    assert_eq!(log.retained(), 8000..9000);
    assert_eq!(log.read(7999, 1), Err(LogError::NotRetained { place: 7999, retained: 8000..9000 }));
    assert_eq!((number(&log, "e7999"), number(&log, "e8000")), (None, Some(8000)));
    log.truncate_before(20_000).unwrap();
    drop(log);
    let log = EmbeddedLog::open(folder.path()).unwrap();
    assert_eq!(log.retained(), 8999..9000);
    log.append(&entries(9000..9001, 0)).unwrap();
    assert_eq!(log.read(8999, 10).unwrap(), entries(8999..9001, 0));
}

#[test]
fn a_log_that_keeps_less_than_an_artifact_needs_is_refused_with_what_is_missing() {
    let world = World::new(&small(), 0);
    world.engine();
    let spec = ServiceSpec { log: LogSpec { keep_events: Some(0), ..LogSpec::default() }, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    for event in world.new_events(SEEN..SEEN + 20) {
        ingest(&service, &[event]).unwrap();
    }
    service.snapshot().unwrap();
    for event in world.new_events(SEEN + 20..SEEN + 30) {
        ingest(&service, &[event]).unwrap();
    }
    let engine = service.engine();
    drop(service);
    assert_eq!(saved(&open(&world.folder(), &spec).engine()), saved(&engine));
    fs::remove_dir_all(beside(&world, "snapshots")).unwrap();
    let error = Service::open(&world.folder(), &spec).unwrap_err().to_string();
    let expected = "the history has seen 300 events and the log of record begins with event 319: those between are not kept any more";
    assert_eq!(error, expected);
}

#[test]
fn an_artifact_that_has_seen_more_than_the_log_is_refused() {
    let mut world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &without_snapshots());
    ingest(&service, &world.new_events(SEEN..SEEN + 5)).unwrap();
    drop(service);
    world.observe_all(SEEN..SEEN + 40, 40);
    fs::remove_dir_all(world.folder()).unwrap();
    world.engine();
    let error = Service::open(&world.folder(), &without_snapshots()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the history has seen 340 events, but the log of record ends after 305: they do not belong together"
    );
}

static NOW: AtomicU64 = AtomicU64::new(2_000_000_000);

#[test]
fn a_clock_that_goes_backwards_changes_no_order_and_loses_nothing() {
    let clock = Clock(|| UNIX_EPOCH + Duration::from_secs(NOW.fetch_sub(100_000_000, Ordering::Relaxed)));
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let spec =
        ServiceSpec { snapshots: SnapshotSpec { clock, ..without_snapshots().snapshots }, ..without_snapshots() };
    for part in [SEEN..SEEN + 30, SEEN + 30..SEEN + 60, SEEN + 60..EVENTS] {
        let service = open(&world.folder(), &spec);
        assert_eq!(service.position().log_seq, part.start as u64);
        ingest(&service, &world.new_events(part.clone())).unwrap();
        assert_eq!(service.snapshot().unwrap().log_seq, part.end as u64);
        assert_eq!(service.status().snapshots.age_seconds, 0);
    }
    // Recovery must not depend on the files' times.
    let shelf = beside(&world, "snapshots");
    for (age, number) in numbers(&shelf).into_iter().enumerate() {
        let note = File::open(shelf.join(number.to_string()).join("snapshot.json")).unwrap();
        note.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000 - 1000 * age as u64)).unwrap();
    }
    let service = open(&world.folder(), &spec);
    engine.observe(&world.new_events(SEEN..EVENTS), Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
}

/// A small file system of a few MiB, where mounting one is allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_is_really_full_refuses_events_and_takes_them_when_there_is_room_again() {
    (0..rounds()).for_each(|round| fill_a_disk_and_make_room(10 + round % 50));
}

/// Fills the disk after `first` events or a few more, then frees space.
fn fill_a_disk_and_make_room(first: usize) {
    let Some(disk) = SmallDisk::mount("3m") else {
        eprintln!(
            "skipped: no file system can be mounted here; `a_full_disk_refuses_events_and_answers_reads_until_there_is_room` has the rest"
        );
        return;
    };
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let dir = disk.0.path().join("log");
    // The budget would refuse events long before the disk is full.
    let budget = BudgetSpec { disk_reserve_mib: 0, ..BudgetSpec::default() };
    let log = LogSpec { dir: Some(dir.clone()), ..LogSpec::default() };
    let spec = ServiceSpec { log, budget, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    let events = with_ids(world.new_events(SEEN..EVENTS));
    ingest(&service, &events[..first]).unwrap();
    let ballast = disk.0.path().join("ballast");
    let mut filling = File::create(&ballast).unwrap();
    let mut taken = first;
    let error = loop {
        // A failed write may have freed some space.
        while filling.write_all(&[1; 4096]).is_ok() {}
        match ingest(&service, &events[taken..taken + 1]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < first + 60, "the disk is not full");
    };
    assert!(
        matches!(&error, IngestError::Log(LogError::Storage { place, .. }) if *place == dir.display().to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("No space left") || error.to_string().contains("StorageFull"), "{error}");
    assert_eq!((service.readiness(), service.position().log_seq), (Readiness::Ready, (SEEN + taken) as u64));
    service.engine().score(&world.queries(SEEN + taken - 1..SEEN + taken), &[]).unwrap();
    fs::remove_file(&ballast).unwrap();
    let receipt = ingest_with_retry(&service, &events[taken..]).unwrap();
    assert_eq!((receipt.first_seq, receipt.duplicates), ((SEEN + taken) as u64, 0));
    engine.observe(&events, Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    drop(service);
    assert_eq!(saved(&open(&world.folder(), &spec).engine()), saved(&engine));
}

#[test]
fn a_full_disk_costs_a_snapshot_and_no_event() {
    let Some(disk) = SmallDisk::mount("400k") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let world = World::new(&small(), 0);
    world.engine();
    let spec = ServiceSpec {
        snapshots: SnapshotSpec { dir: Some(disk.0.path().join("shelf")), ..without_snapshots().snapshots },
        ..without_snapshots()
    };
    let service = open(&world.folder(), &spec);
    ingest(&service, &world.new_events(SEEN..SEEN + 10)).unwrap();
    service.snapshot().unwrap();
    let ballast = disk.0.path().join("ballast");
    assert!(fs::write(&ballast, vec![1u8; 1 << 20]).is_err());
    ingest(&service, &world.new_events(SEEN + 10..SEEN + 20)).unwrap();
    assert!(service.snapshot().unwrap_err().to_string().contains("No space left"));
    assert_eq!((numbers(&disk.0.path().join("shelf")), service.status().snapshots.failures), (vec![1], 1));
    ingest(&service, &world.new_events(SEEN + 20..SEEN + 30)).unwrap();
    fs::remove_file(&ballast).unwrap();
    assert_eq!(service.snapshot().unwrap().log_seq, SEEN as u64 + 30);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}

#[test]
fn a_log_with_an_entry_of_another_form_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(folder.path()).unwrap());
    log.append(&entries(0..3, 0)).unwrap();
    let mut bytes = entries(0..1, 0)[0].to_bytes();
    bytes[0] = 9;
    assert_eq!(Entry::from_bytes(&bytes).unwrap_err(), "it has form 9, and this program reads form 1");
}
