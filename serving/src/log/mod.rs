//! The log of record: what happened, in the one order it happened in.

mod embedded;
mod encode;
mod entry;
mod journal;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
mod origin;
mod replay;
pub(crate) mod spec;

use std::ops::Range;

pub use embedded::EmbeddedLog;
pub use entry::{Entry, Mutation};
#[cfg(feature = "kafka")]
pub use kafka::KafkaLog;
pub use memory::MemoryLog;
pub use origin::LogOrigin;
pub(crate) use origin::{begin_or_check, check_past};
pub use replay::ReplayError;
pub(crate) use replay::{Applied, apply_entry, entry_after, next_seq, replay, resumes_at};
pub use spec::{LogKind, LogSpec};

/// An append-only sequence of entries, numbered from 0 by their place.
///
/// One thread appends; any number read meanwhile.
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Appends entries, all of them or none. They are on the disk when this returns. Says how many bytes they take.
    ///
    /// # Errors
    /// [`LogError`]: then none of them is [retained](Log::retained), and nothing can be appended before [`reopen`](Log::reopen) has succeeded.
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError>;

    /// Entries from place `from` on, in order: at least one if there is one, and no more once `events` events are reached.
    ///
    /// # Errors
    /// [`LogError`], naming a place that is not kept any more or does not hold what was written.
    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError>;

    /// Places that are retained.
    fn retained(&self) -> Range<u64>;

    /// The number of the event that was told under `id`, if the log remembers one.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    fn find(&self, id: &str) -> Result<Option<u64>, LogError>;

    /// Gives up the entries before `place`, but for the last there is, and the ids of their events.
    ///
    /// # Errors
    /// [`LogError`]; some may be given up by then.
    fn truncate_before(&self, place: u64) -> Result<(), LogError>;

    /// Makes a log that failed usable again. What a failed append left behind is taken out, or where that is not possible is found behind
    /// what was retained. Nothing is done to a log that did not fail.
    ///
    /// # Errors
    /// [`LogError`] when it still cannot be used.
    fn reopen(&self) -> Result<(), LogError>;

    /// Looks whether another server has written more, which is [retained](Log::retained) from then on. Of a log nobody else writes there is nothing
    /// to be seen.
    ///
    /// # Errors
    /// [`LogError`] when it cannot be looked at.
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
    /// What stores it refused: no room, no disk, no broker.
    #[error("the log of record {place} cannot be used: {fact}")]
    Storage {
        /// Its folder or its address.
        place: String,
        /// What was said.
        fact: String,
    },
    /// An entry does not hold what was written.
    #[error("entry {place} of the log of record is damaged: {fact}")]
    Damaged {
        /// Its place.
        place: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// An entry is not kept any more.
    #[error("entry {place} is not in the log of record, which keeps {} up to {}", retained.start, retained.end)]
    NotRetained {
        /// Its place.
        place: u64,
        /// The places retained.
        retained: Range<u64>,
    },
}
