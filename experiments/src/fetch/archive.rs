//! Unpacking a zip archive that is not trusted: no entry leaves the folder, and each has the length it declares.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::fetch::FetchError;
use crate::fetch::part::with_suffix;
use crate::fetch::progress::Progress;
use crate::fetch::sums;

const CHUNK: usize = 128 * 1024;

/// A file of the archive that may be unpacked.
struct Entry {
    index: usize,
    name: String,
    size: u64,
}

/// An archive being unpacked into a folder.
struct Unpacking<'a> {
    archive: &'a Path,
    dir: &'a Path,
    stop: &'a AtomicBool,
    progress: &'a Progress,
}

/// Unpacks `archive` into `dir`. Each file takes its name only once it is whole and `accept` agreed to its SHA-256.
///
/// All entries are looked at before the first is written: an archive with one bad entry leaves nothing behind.
pub fn unpack(
    archive: &Path,
    dir: &Path,
    wanted: &[&'static str],
    stop: &AtomicBool,
    progress: &Progress,
    mut accept: impl FnMut(&str, String) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let file = File::open(archive).map_err(|source| FetchError::reading(archive, source))?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(archive, &error))?;
    let entries = entries(&mut zip, archive)?;
    if let Some(missing) = wanted.iter().copied().find(|file| entries.iter().all(|entry| entry.name != *file)) {
        let found = entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(FetchError::MissingEntry { archive: archive.to_path_buf(), found, missing });
    }
    let unpacking = Unpacking { archive, dir, stop, progress };
    for entry in &entries {
        let source = zip.by_index(entry.index).map_err(|error| broken(archive, &error))?;
        unpacking.write(entry, source, &mut accept)?;
    }
    Ok(())
}

/// The archive's files, or the first entry that is unsafe.
fn entries<R: Read + std::io::Seek>(zip: &mut ZipArchive<R>, archive: &Path) -> Result<Vec<Entry>, FetchError> {
    let mut entries = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(|error| broken(archive, &error))?;
        let name = entry.name();
        let complaint = if entry.is_symlink() { Some("is a link") } else { complaint(name) };
        if let Some(why) = complaint {
            return Err(FetchError::UnsafeEntry { archive: archive.to_path_buf(), entry: name.to_owned(), why });
        }
        if !entry.is_dir() {
            entries.push(Entry { index, name: name.to_owned(), size: entry.size() });
        }
    }
    Ok(entries)
}

/// What is wrong with an entry's name. Stricter than need be: no honest archive of data has any of these.
fn complaint(name: &str) -> Option<&'static str> {
    let pieces = name.strip_suffix('/').unwrap_or(name).split('/');
    if name.contains(['\\', ':', '\0']) {
        return Some("has a character that means something to a file system");
    }
    if name.starts_with('/') {
        return Some("is an absolute path");
    }
    for piece in pieces {
        match piece {
            ".." => return Some("leads out of the folder"),
            "" | "." => return Some("has an empty piece in its path"),
            _ => {}
        }
    }
    None
}

impl Unpacking<'_> {
    fn write(
        &self,
        entry: &Entry,
        source: impl Read,
        accept: &mut impl FnMut(&str, String) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let target = self.dir.join(&entry.name);
        let draft = with_suffix(&target, ".part");
        let parent = target.parent().unwrap_or(self.dir);
        fs::create_dir_all(parent).map_err(|source| FetchError::writing(parent, source))?;
        self.progress.begin(&entry.name, 0, Some(entry.size));
        let accepted = self.copy(entry, source, &draft).and_then(|digest| accept(&entry.name, digest));
        self.progress.end();
        if let Err(error) = accepted {
            // What failed is worth more to the user than a draft that could not be removed.
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        fs::rename(&draft, &target).map_err(|source| FetchError::writing(&target, source))
    }

    /// Copies the entry to `draft` and returns its SHA-256.
    fn copy(&self, entry: &Entry, source: impl Read, draft: &Path) -> Result<String, FetchError> {
        let mut file = File::create(draft).map_err(|source| FetchError::writing(draft, source))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut written = 0;
        // One byte beyond the declared length is enough to tell that there is more.
        let mut source = source.take(entry.size.saturating_add(1));
        loop {
            self.check_stop()?;
            let count = source.read(&mut buffer).map_err(|error| self.broken_entry(entry, &error))?;
            written += count as u64;
            if written > entry.size || (count == 0 && written < entry.size) {
                return Err(self.wrong_size(entry, written));
            }
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|source| FetchError::writing(draft, source))?;
            self.progress.advance(written);
        }
        file.sync_all().map_err(|source| FetchError::writing(draft, source))?;
        Ok(sums::hex(hasher))
    }

    /// The archive is what can be gone on from: unpacking begins again from it.
    fn check_stop(&self) -> Result<(), FetchError> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kept = fs::metadata(self.archive).map_err(|source| FetchError::reading(self.archive, source))?.len();
        Err(FetchError::Interrupted { part: self.archive.to_path_buf(), kept })
    }

    fn wrong_size(&self, entry: &Entry, found: u64) -> FetchError {
        FetchError::EntrySize { archive: self.path(), entry: entry.name.clone(), declared: entry.size, found }
    }

    fn broken_entry(&self, entry: &Entry, error: &std::io::Error) -> FetchError {
        FetchError::Archive { archive: self.path(), reason: format!("entry `{}`: {error}", entry.name) }
    }

    fn path(&self) -> PathBuf {
        self.archive.to_path_buf()
    }
}

fn broken(archive: &Path, error: &ZipError) -> FetchError {
    FetchError::Archive { archive: archive.to_path_buf(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["../x", "a/../../x", "a/../x", "/etc/x", "..", "..\\x", "c:x", "a//x", "./x", "x\0", "a/.."] {
            assert!(complaint(name).is_some(), "{name:?}");
        }
        for name in ["x.csv", "a/x.csv", "a/b/", "..x", "a..b/x"] {
            assert_eq!(complaint(name), None, "{name:?}");
        }
    }
}
