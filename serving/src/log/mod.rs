//! The log of record: every entry, in the one order in which it is applied.

mod embedded;
mod encode;
mod entry;
mod journal;
#[cfg(feature = "kafka")]
mod kafka;
mod known;
mod memory;
mod origin;
mod replay;
pub(crate) mod spec;

use std::ops::Range;

pub use embedded::EmbeddedLog;
pub use entry::{Entry, Mutation};
#[cfg(feature = "kafka")]
pub use kafka::KafkaLog;
pub use known::KnownId;
pub(crate) use known::event_hash;
pub use memory::MemoryLog;
pub use origin::LogOrigin;
pub(crate) use origin::{begin_or_check, check_past};
pub use replay::ReplayError;
pub(crate) use replay::{Applied, apply_entry, entry_after, next_seq, replay, resumes_at};
pub use spec::{LogKind, LogSpec};

/// An append-only sequence of entries, numbered from 0 by position.
///
/// One thread appends; any number of threads may read at the same time.
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Appends entries, all of them or none. They are on the disk when this returns. Returns their size in bytes.
    ///
    /// # Errors
    /// [`LogError`]: then none of the entries is [retained](Log::retained), and nothing can be appended before
    /// [`reopen`](Log::reopen) has succeeded.
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError>;

    /// Entries from position `from` on, in order: at least one if there is one, and no more once `events` events are
    /// reached.
    ///
    /// # Errors
    /// [`LogError`], naming a position that is not retained any more or that does not hold what was written.
    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError>;

    /// The positions that are retained.
    fn retained(&self) -> Range<u64>;

    /// What the log remembers of the event that was appended under `id`.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    fn find(&self, id: &str) -> Result<Option<KnownId>, LogError>;

    /// Deletes the entries before position `place`, and the ids of their events. The last entry of the log is never
    /// deleted.
    ///
    /// # Errors
    /// [`LogError`]; some entries may be deleted by then.
    fn truncate_before(&self, place: u64) -> Result<(), LogError>;

    /// Makes a failed log usable again. Removes the entries of a failed append, or where that is not possible retains
    /// them after the entries that were [retained](Log::retained) before. Does nothing if the log has not failed.
    ///
    /// # Errors
    /// [`LogError`] when it still cannot be used.
    fn reopen(&self) -> Result<(), LogError>;

    /// Checks whether another server has appended entries, which are [retained](Log::retained) from then on. Does
    /// nothing for a log that no other server writes.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    fn refresh(&self) -> Result<(), LogError> {
        Ok(())
    }

    /// What the log goes on from, if it knows.
    ///
    /// # Errors
    /// [`LogError`] when its note cannot be read.
    fn origin(&self) -> Result<Option<LogOrigin>, LogError> {
        Ok(None)
    }

    /// Notes what the log, which is empty, goes on from. A log that keeps no such note does nothing.
    ///
    /// # Errors
    /// [`LogError`] when it cannot be written.
    fn set_origin(&self, _origin: &LogOrigin) -> Result<(), LogError> {
        Ok(())
    }

    /// Bytes it takes where it is stored.
    fn bytes(&self) -> u64;
}

/// Why the log cannot be written or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LogError {
    /// The storage failed: the disk is full or missing, or the broker does not answer.
    #[error("the log of record {place} cannot be used: {fact}")]
    Storage {
        /// The log's folder or address.
        place: String,
        /// The message of the storage.
        fact: String,
    },
    /// An entry does not hold what was written.
    #[error("entry {place} of the log of record is damaged: {fact}")]
    Damaged {
        /// The position of the entry.
        place: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// An entry is not retained any more.
    #[error("entry {place} is not in the log of record, which keeps {} up to {}", retained.start, retained.end)]
    NotRetained {
        /// The position of the entry.
        place: u64,
        /// The positions that are retained.
        retained: Range<u64>,
    },
}
