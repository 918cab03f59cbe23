//! The log of record in local files.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tempograph_framework::write_atomic;

use crate::log::journal;
use crate::log::journal::Damage;
use crate::log::{Entry, KnownId, Log, LogError, LogOrigin};

/// Bytes retained in memory before they are sorted into tables. The same number of bytes is read from the journal when
/// the log is opened.
const MEMTABLE: u64 = 16 << 20;
/// Bytes of tables retained for reading.
const CACHE: u64 = 16 << 20;
/// What the log goes on from.
const ORIGIN: &str = "origin.json";
/// The number of the process that has the log.
const HOLDER: &str = "holder";
/// Entries given up in one write.
const TRUNCATED_AT_ONCE: usize = 4096;

/// A log in a folder, on [fjall](https://docs.rs/fjall): an append is one checksummed record of its journal, flushed to
/// the disk.
///
/// `entries` holds [`Entry::to_bytes`] by position (`u64`, big-endian), `ids` the number of an event and its hash (`u64`,
/// little-endian) by its id. An append writes both or neither. The end of the journal is checked and repaired
/// (`journal.rs`) before the storage opens it.
pub struct EmbeddedLog {
    dir: PathBuf,
    /// `None` after a failed write, until the log is reopened.
    store: RwLock<Option<Store>>,
    retained: Mutex<Range<u64>>,
}

struct Store {
    database: Database,
    entries: Keyspace,
    ids: Keyspace,
}

impl EmbeddedLog {
    /// Opens the log in `dir`. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// [`LogError`], naming the folder: it cannot be written, another process holds it, or the disk has lost part of
    /// it.
    pub fn open(dir: &Path) -> Result<EmbeddedLog, LogError> {
        let store = Store::open(dir)?;
        let first = store.entries.first_key_value().map(|entry| entry.key());
        let last = store.entries.last_key_value().map(|entry| entry.key());
        let place = |key: Option<fjall::Result<fjall::Slice>>| -> Result<Option<u64>, LogError> {
            key.transpose().map_err(storage(dir))?.map(|key| place_of(&key)).transpose()
        };
        let retained = match (place(first)?, place(last)?) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        };
        Ok(EmbeddedLog { dir: dir.to_owned(), store: RwLock::new(Some(store)), retained: Mutex::new(retained) })
    }

    fn with<T>(&self, work: impl FnOnce(&Store) -> fjall::Result<T>) -> Result<T, LogError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let store = store.as_ref().ok_or_else(|| self.closed())?;
        work(store).map_err(storage(&self.dir))
    }

    fn closed(&self) -> LogError {
        LogError::Storage { place: self.dir.display().to_string(), fact: "it is closed since a write failed".into() }
    }

    fn update_retained(&self, change: impl FnOnce(&mut Range<u64>)) {
        change(&mut self.retained.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Log for EmbeddedLog {
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError> {
        let first = self.retained().end;
        let written = self.with(|store| {
            let mut batch = store.database.batch().durability(Some(PersistMode::SyncData));
            let mut bytes = 0;
            for (entry, place) in entries.iter().zip(first..) {
                let value = entry.to_bytes();
                bytes += value.len() as u64;
                batch.insert(&store.entries, place.to_be_bytes(), value);
                entry.known_ids().for_each(|(id, known)| batch.insert(&store.ids, id, known.to_bytes()));
            }
            batch.commit().map(|()| bytes)
        });
        match written {
            Ok(_) => self.update_retained(|retained| retained.end += entries.len() as u64),
            // Only reading the disk again shows whether the failed write reached it.
            Err(_) => drop(self.store.write().unwrap_or_else(PoisonError::into_inner).take()),
        }
        written
    }

    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError> {
        let retained = self.retained();
        if from < retained.start {
            return Err(LogError::NotRetained { place: from, retained });
        }
        let mut entries = Vec::new();
        let mut count = 0;
        // An append in progress is not read, because it may still fail.
        let found = self.with(|store| {
            let mut found = Vec::new();
            for entry in store.entries.range(from.to_be_bytes()..retained.end.to_be_bytes()) {
                let (key, value) = entry.into_inner()?;
                let read = Entry::from_bytes(&value);
                count += read.as_ref().map_or(events, Entry::events).max(1);
                found.push((key, read));
                if count >= events {
                    break;
                }
            }
            Ok(found)
        })?;
        for ((key, read), place) in found.into_iter().zip(from..) {
            let damaged = |fact| LogError::Damaged { place, fact };
            if place_of(&key)? != place {
                return Err(damaged(format!("it is missing; the next there is has the place {}", place_of(&key)?)));
            }
            entries.push(read.map_err(damaged)?);
        }
        Ok(entries)
    }

    fn retained(&self) -> Range<u64> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, id: &str) -> Result<Option<KnownId>, LogError> {
        let found = self.with(|store| store.ids.get(id))?;
        let known = |bytes: fjall::Slice| {
            KnownId::from_bytes(&bytes).ok_or_else(|| {
                let fact = "where an event's number has 8, and with its hash 16";
                storage(&self.dir)(format!("the id `{id}` has {} bytes {fact}", bytes.len()))
            })
        };
        found.map(known).transpose()
    }

    fn truncate_before(&self, place: u64) -> Result<(), LogError> {
        loop {
            let retained = self.retained();
            let end = place.min(retained.end.saturating_sub(1)).min(retained.start + TRUNCATED_AT_ONCE as u64);
            if retained.start >= end {
                return Ok(());
            }
            self.with(|store| store.remove(retained.start..end, PersistMode::Buffer))?;
            self.update_retained(|retained| retained.start = end);
        }
    }

    fn reopen(&self) -> Result<(), LogError> {
        let mut held = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let store = Store::open(&self.dir)?;
            // A failed write may be on the disk all the same. Its client has an error as the answer, so it is removed.
            store.remove(self.retained().end..u64::MAX, PersistMode::SyncAll).map_err(storage(&self.dir))?;
            *held = Some(store);
        }
        Ok(())
    }

    fn origin(&self) -> Result<Option<LogOrigin>, LogError> {
        let path = self.dir.join(ORIGIN);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| storage(&self.dir)(format!("its note {} cannot be read: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage(&self.dir)(error)),
        }
    }

    fn set_origin(&self, origin: &LogOrigin) -> Result<(), LogError> {
        let text = serde_json::to_vec_pretty(origin).map_err(storage(&self.dir))?;
        write_atomic(&self.dir.join(ORIGIN), &text).map_err(storage(&self.dir))
    }

    fn bytes(&self) -> u64 {
        bytes_on_disk(&self.dir)
    }
}

impl Store {
    fn open(dir: &Path) -> Result<Store, LogError> {
        std::fs::create_dir_all(dir).map_err(storage(dir))?;
        match journal::repair(dir).map_err(storage(dir))? {
            Ok(0) => {}
            Ok(cut) => tracing::warn!("{}: the last write was torn; its {cut} bytes were cut off", dir.display()),
            Err(Damage { file, good, next }) => {
                let fact = format!(
                    "{} is damaged from byte {good} to byte {next}, and events that were durable follow",
                    file.display()
                );
                return Err(storage(dir)(fact));
            }
        }
        let open = || -> fjall::Result<Store> {
            let builder =
                Database::builder(dir).cache_size(CACHE).worker_threads(1).journal_compression(CompressionType::None);
            let database = builder.open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
            let entries = database.keyspace("entries", || {
                options().data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            })?;
            let ids = database.keyspace("ids", options)?;
            Ok(Store { database, entries, ids })
        };
        let store = open().map_err(|error| match error {
            fjall::Error::Locked => storage(dir)(held_by(dir)),
            other => storage(dir)(other),
        })?;
        // Only for the words of who finds it locked.
        let _ = std::fs::write(dir.join(HOLDER), std::process::id().to_string());
        Ok(store)
    }

    /// Removes entries and the ids of their events.
    fn remove(&self, places: Range<u64>, durability: PersistMode) -> fjall::Result<()> {
        let mut batch = self.database.batch().durability(Some(durability));
        for entry in self.entries.range(places.start.to_be_bytes()..places.end.to_be_bytes()) {
            let (key, value) = entry.into_inner()?;
            if let Ok(entry) = Entry::from_bytes(&value) {
                entry.ids().for_each(|id| batch.remove(&self.ids, id));
            }
            batch.remove(&self.entries, key);
        }
        batch.commit()
    }
}

/// Bytes that the files of a folder take on the disk. Files that vanish meanwhile count as empty.
fn bytes_on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => bytes_on_disk(&entry.path()),
            Ok(facts) => taken(&facts),
            Err(_) => 0,
        })
        .sum()
}

/// A file may be allocated in advance, so its length is not what it takes.
#[cfg(unix)]
fn taken(facts: &std::fs::Metadata) -> u64 {
    512 * std::os::unix::fs::MetadataExt::blocks(facts)
}

#[cfg(not(unix))]
fn taken(facts: &std::fs::Metadata) -> u64 {
    facts.len()
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog")
            .field("dir", &self.dir)
            .field("retained", &self.retained())
            .finish_non_exhaustive()
    }
}

/// Who has the log in `dir`, in words.
fn held_by(dir: &Path) -> String {
    let holder = std::fs::read_to_string(dir.join(HOLDER)).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let who = holder.map_or_else(|| "another server".to_string(), |process| format!("the server of process {process}"));
    format!("{who} has it; stop that one first, or give this one a log of its own (`--data DIR`)")
}

fn place_of(key: &[u8]) -> Result<u64, LogError> {
    let place = key.try_into().map(u64::from_be_bytes);
    place.map_err(|_| LogError::Damaged {
        place: 0,
        fact: format!("a place has {} bytes where it must have 8", key.len()),
    })
}

/// The error of the storage in `dir`.
fn storage<E: fmt::Display>(dir: &Path) -> impl Fn(E) -> LogError {
    let place = dir.display().to_string();
    move |error| LogError::Storage { place: place.clone(), fact: error.to_string() }
}
