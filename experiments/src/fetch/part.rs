//! The part file: bytes that have arrived, and the version of the remote file they belong to.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::fetch::FetchError;
use crate::fetch::http::Resume;
use crate::fetch::sums;

/// A partial download: `FILE.part`, locked while this value lives, with its version in `FILE.part.version`.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    version_path: PathBuf,
    file: File,
    len: u64,
    version: Option<String>,
}

impl Part {
    /// Opens the part file of `target`, creating an empty one.
    pub fn open(target: &Path) -> Result<Self, FetchError> {
        let path = with_suffix(target, ".part");
        let version_path = with_suffix(target, ".part.version");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|source| FetchError::writing(&path, source))?;
        // A file system without locks is not refused: the lock only guards against a second fetch.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(FetchError::Busy { part: path });
        }
        let len = file.metadata().map_err(|source| FetchError::reading(&path, source))?.len();
        let version = match fs::read_to_string(&version_path) {
            Ok(version) => Some(version),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(FetchError::reading(&version_path, source)),
        };
        Ok(Self { target: target.to_path_buf(), path, version_path, file, len, version })
    }

    /// The path of the bytes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The point to resume from, if there are bytes and their version is known.
    pub fn resume(&self) -> Option<Resume<'_>> {
        let version = self.version.as_deref()?;
        (self.len > 0).then_some(Resume { from: self.len, version })
    }

    /// Deletes the bytes: the next ones are the beginning of `version`.
    ///
    /// The bytes are deleted before the version is written, so that after a crash between the two no bytes have a wrong
    /// version.
    pub fn restart(&mut self, version: Option<String>) -> Result<(), FetchError> {
        if self.len > 0 {
            self.file.set_len(0).map_err(|source| FetchError::writing(&self.path, source))?;
            self.len = 0;
        }
        match &version {
            Some(version) => fs::write(&self.version_path, version)
                .map_err(|source| FetchError::writing(&self.version_path, source))?,
            None => remove_if_there(&self.version_path)?,
        }
        self.version = version;
        Ok(())
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|source| FetchError::writing(&self.path, source))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of the bytes. They are read through the handle that holds the lock: except on Unix, no other handle
    /// may read them.
    pub fn digest(&mut self) -> Result<String, FetchError> {
        self.file.seek(SeekFrom::Start(0)).map_err(|source| FetchError::reading(&self.path, source))?;
        sums::digest_of(&self.file, &self.path)
    }

    /// Renames the file to its final name.
    pub fn finish(self) -> Result<(), FetchError> {
        self.file.sync_all().map_err(|source| FetchError::writing(&self.path, source))?;
        fs::rename(&self.path, &self.target).map_err(|source| FetchError::writing(&self.target, source))?;
        remove_if_there(&self.version_path)
    }

    /// Removes the file.
    pub fn discard(self) -> Result<(), FetchError> {
        remove_if_there(&self.path)?;
        remove_if_there(&self.version_path)
    }
}

/// `path` with `suffix` after its whole name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("")).to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

fn remove_if_there(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FetchError::writing(path, source)),
        _ => Ok(()),
    }
}
