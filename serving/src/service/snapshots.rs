//! The snapshot store: artifacts of a service's state, in their own folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempograph_framework::write_atomic;

use crate::{ArtifactError, Engine};

/// The metadata file next to each snapshot's artifact.
const NOTE: &str = "snapshot.json";
const ARTIFACT: &str = "artifact";
/// The format version of the metadata; snapshots of other versions are skipped.
const FORM: u64 = 1;

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
    /// Seconds since 1970 by the wall clock, for information only.
    pub taken_at: u64,
}

/// A folder of snapshots, `NUMBER/snapshot.json` and `NUMBER/artifact/`. Only one process writes to it.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    dir: PathBuf,
    keep: usize,
}

/// The newest complete snapshot, opened, if there is one, and the reasons why newer ones were skipped.
type Newest<T> = (Option<(SnapshotMetadata, T)>, Vec<String>);

impl SnapshotStore {
    /// Opens the snapshot store in `dir`, and creates the folder if it does not exist. Removes what an interrupted
    /// write left.
    pub fn open(dir: &Path, keep: usize) -> Result<SnapshotStore, ArtifactError> {
        let snapshot_store = SnapshotStore { dir: dir.to_owned(), keep };
        fs::create_dir_all(dir).map_err(ArtifactError::io(dir))?;
        for entry in fs::read_dir(dir).map_err(ArtifactError::io(dir))? {
            let path = entry.map_err(ArtifactError::io(dir))?.path();
            if path.extension().is_some_and(|extension| extension == "partial") {
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
    /// after the given number of events.
    pub fn write(
        &self,
        engine: &Engine,
        base: &str,
        taken_at: u64,
        place: impl FnOnce(u64) -> Result<u64, ArtifactError>,
    ) -> Result<SnapshotMetadata, ArtifactError> {
        let number = self.numbers()?.first().map_or(1, |newest| newest + 1);
        let partial = self.dir.join(format!("{number}.partial"));
        let written = self.write_in(&partial, engine, |log_seq| {
            Ok(SnapshotMetadata { form: FORM, number, base: base.into(), log_seq, place: place(log_seq)?, taken_at })
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
        let numbers = self.numbers()?;
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
            (FORM, found) if found == number => Ok(note),
            (FORM, found) => Err(damaged(&path, format!("is of snapshot {found}, not {number}"))),
            (other, _) => Err(damaged(&path, format!("has form {other}, and this program reads form {FORM}"))),
        }
    }
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
