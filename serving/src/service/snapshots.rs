//! The snapshot store: artifacts of a service's state, in their own folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempograph_framework::write_atomic;

use crate::{ArtifactError, Engine};

/// The metadata file next to each snapshot's artifact.
const NOTE: &str = "snapshot.json";
const ARTIFACT: &str = "artifact";
/// The format version of the metadata that is written; 2 names the log. Snapshots of versions other than these are skipped.
const FORM: u64 = 2;
const OLDEST_FORM: u64 = 1;
/// What notes call every log in memory: none can be gone on from.
pub(crate) const MEMORY: &str = "memory";
/// Locked by the server that writes here; holds the number of its process.
const LOCK: &str = "lock";

/// Metadata of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotMetadata {
    pub form: u64,
    /// The number of the snapshot. Snapshots are ordered by it, not by any clock.
    pub number: u64,
    /// SHA-256 of the manifest of the artifact from which the service was started. The service may have loaded other
    /// weights since.
    pub base: String,
    /// Events seen.
    pub log_seq: u64,
    /// Log position from which to continue.
    pub place: u64,
    /// Log position of the first entry with events that waited then; nothing if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_from: Option<u64>,
    /// Name of the log of record whose events it has seen, where that has one.
    #[serde(default)]
    pub log: Option<String>,
    /// Seconds since 1970 by the wall clock, for information only.
    pub taken_at: u64,
}

/// A folder of snapshots, `NUMBER/snapshot.json` and `NUMBER/artifact/`. Only one process writes to it.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    dir: PathBuf,
    keep: usize,
    /// Name of the log of record, where it has one.
    log: Option<String>,
    /// The lock is given up when it is closed. Servers that keep their log in memory go on without it.
    _lock: Option<File>,
}

/// The newest complete snapshot, opened, if there is one, and the reasons why newer ones were skipped.
type Newest<T> = (Option<(SnapshotMetadata, T)>, Vec<String>);

impl SnapshotStore {
    /// Opens the snapshot store in `dir`, and creates the folder if it does not exist. Removes what an interrupted
    /// write left.
    ///
    /// # Errors
    /// Another server that has the folder, by its process.
    pub fn open(dir: &Path, keep: usize, log: Option<String>) -> Result<SnapshotStore, ArtifactError> {
        fs::create_dir_all(dir).map_err(ArtifactError::io(dir))?;
        let lock = match lock(dir) {
            Err(ArtifactError::Inconsistent { .. }) if log.as_deref() == Some(MEMORY) => None,
            lock => Some(lock?),
        };
        let cleans_up = lock.is_some();
        let snapshot_store = SnapshotStore { dir: dir.to_owned(), keep, log, _lock: lock };
        for entry in fs::read_dir(dir).map_err(ArtifactError::io(dir))? {
            let path = entry.map_err(ArtifactError::io(dir))?.path();
            if cleans_up && path.extension().is_some_and(|extension| extension == "partial") {
                fs::remove_dir_all(&path).map_err(ArtifactError::io(&path))?;
            }
        }
        Ok(snapshot_store)
    }

    /// Numbers of the snapshots, newest first.
    pub fn numbers(&self) -> Result<Vec<u64>, ArtifactError> {
        let entries = fs::read_dir(&self.dir).map_err(ArtifactError::io(&self.dir))?;
        let mut numbers: Vec<u64> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// The newest complete snapshot of `base`, with the skipped ones and the reasons.
    pub fn newest<T>(
        &self,
        base: &str,
        open: impl Fn(&Path, &SnapshotMetadata) -> Result<T, ArtifactError>,
    ) -> Result<Newest<T>, ArtifactError> {
        let mut passed_over = Vec::new();
        for number in self.numbers()? {
            match self.note(number) {
                Ok(note) if note.base != base => {}
                Ok(note) if note.log.as_deref() == Some(MEMORY) => {
                    passed_over.push(format!("snapshot {number} is passed over: its log was in memory, and is gone"));
                }
                Ok(SnapshotMetadata { log: Some(theirs), .. })
                    if self.log.as_ref().is_some_and(|log| *log != theirs) =>
                {
                    let fact = format!(
                        "snapshot {number} in {} is of the log of record {theirs}, and this server has the log {}: each needs a \
                         folder of its own; give this one another `snapshots.dir`, or move these snapshots away if their log is \
                         gone",
                        self.dir.display(),
                        self.log.as_deref().unwrap_or_default()
                    );
                    return Err(ArtifactError::Inconsistent { fact });
                }
                Ok(note) => match open(&self.path(number).join(ARTIFACT), &note) {
                    Ok(opened) => return Ok((Some((note, opened)), passed_over)),
                    Err(error) => passed_over.push(format!("snapshot {number} is passed over: {error}")),
                },
                Err(error) => passed_over.push(format!("snapshot {number} is passed over: {error}")),
            }
        }
        Ok((None, passed_over))
    }

    /// Writes a snapshot of `engine` to a temporary folder and renames the folder. `place` returns the log position
    /// after the given number of events, `waiting_from` that of the first entry with events that wait.
    pub fn write(
        &self,
        engine: &Engine,
        base: &str,
        taken_at: u64,
        place: impl FnOnce(u64) -> Result<u64, ArtifactError>,
        waiting_from: impl FnOnce() -> Result<Option<u64>, ArtifactError>,
    ) -> Result<SnapshotMetadata, ArtifactError> {
        let number = self.numbers()?.first().map_or(1, |newest| newest + 1);
        let partial = self.dir.join(format!("{number}.partial"));
        let written = self.write_in(&partial, engine, |log_seq| {
            Ok(SnapshotMetadata {
                form: FORM,
                number,
                base: base.into(),
                log_seq,
                place: place(log_seq)?,
                waiting_from: waiting_from()?,
                log: self.log.clone(),
                taken_at,
            })
        });
        let moved = written.and_then(|note| {
            let path = self.path(number);
            fs::rename(&partial, &path)
                .and_then(|()| File::open(&self.dir)?.sync_all())
                .map_err(ArtifactError::io(&path))?;
            Ok(note)
        });
        if moved.is_err() {
            // The first error is returned. The partial folder is removed because it wastes space, above all on a full
            // disk.
            let _ = fs::remove_dir_all(&partial);
        }
        moved
    }

    fn write_in(
        &self,
        dir: &Path,
        engine: &Engine,
        note: impl FnOnce(u64) -> Result<SnapshotMetadata, ArtifactError>,
    ) -> Result<SnapshotMetadata, ArtifactError> {
        fs::create_dir_all(dir).map_err(ArtifactError::io(dir))?;
        let manifest = engine.save(&dir.join(ARTIFACT))?;
        let note = note(manifest.log_position)?;
        let path = dir.join(NOTE);
        let text = serde_json::to_vec_pretty(&note).map_err(|error| damaged(&path, error.to_string()))?;
        write_atomic(&path, &text).map_err(ArtifactError::io(&path))?;
        Ok(note)
    }

    /// Removes all snapshots but the newest ones; returns the oldest that is left.
    pub fn prune(&self) -> Result<Option<SnapshotMetadata>, ArtifactError> {
        // Those of another log are another server's.
        let foreign = |number: u64| self.note(number).is_ok_and(|note| note.log.is_some() && note.log != self.log);
        let numbers: Vec<u64> = self.numbers()?.into_iter().filter(|&number| !foreign(number)).collect();
        for &number in numbers.iter().skip(self.keep) {
            let path = self.path(number);
            fs::remove_dir_all(&path).map_err(ArtifactError::io(&path))?;
        }
        numbers.iter().take(self.keep).next_back().map(|&number| self.note(number)).transpose()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn note(&self, number: u64) -> Result<SnapshotMetadata, ArtifactError> {
        let path = self.path(number).join(NOTE);
        let text = fs::read(&path).map_err(ArtifactError::io(&path))?;
        let note: SnapshotMetadata =
            serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
        match (note.form, note.number) {
            (OLDEST_FORM..=FORM, found) if found == number => Ok(note),
            (OLDEST_FORM..=FORM, found) => Err(damaged(&path, format!("is of snapshot {found}, not {number}"))),
            (other, _) => {
                Err(damaged(&path, format!("has form {other}, and this program reads forms {OLDEST_FORM} to {FORM}")))
            }
        }
    }
}

/// Locks the folder for this process.
fn lock(dir: &Path) -> Result<File, ArtifactError> {
    let path = dir.join(LOCK);
    let io = |error| ArtifactError::Io { path: path.clone(), error };
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let fact = format!(
                "the server of process {} keeps its snapshots in {}; give this one a folder of its own: `snapshots.dir`, or \
                 `--data DIR`",
                holder.trim(),
                dir.display()
            );
            return Err(ArtifactError::Inconsistent { fact });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes())).map_err(io)?;
    Ok(file)
}

fn damaged(path: &Path, fact: String) -> ArtifactError {
    ArtifactError::Damaged { path: path.to_owned(), fact }
}

/// SHA-256 of an artifact's manifest, which identifies the artifact.
pub(crate) fn identity(artifact: &Path) -> Result<String, ArtifactError> {
    let path = artifact.join(crate::artifact::manifest::MANIFEST);
    let facts = crate::artifact::manifest::FileFacts::of(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if artifact.exists() => ArtifactError::NotArtifact { path: artifact.to_owned() },
        io::ErrorKind::NotFound => ArtifactError::Io { path: artifact.to_owned(), error },
        _ => ArtifactError::Io { path: path.clone(), error },
    })?;
    Ok(facts.sha256)
}
