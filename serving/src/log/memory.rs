//! A log that exists only as long as its process.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use crate::log::{Entry, KnownId, Log, LogError, LogOrigin};

/// A log in memory, for trials and for servers that may lose events. "Durable" only means "in the log" here.
#[derive(Debug, Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
    origin: Mutex<Option<LogOrigin>>,
}

#[derive(Debug, Default)]
struct Inner {
    first: u64,
    entries: VecDeque<Entry>,
    ids: FxHashMap<String, KnownId>,
    bytes: u64,
}

impl MemoryLog {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before the lock is released, so poisoning is ignored.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError> {
        let mut inner = self.inner();
        let mut bytes = 0;
        for entry in entries {
            bytes += size_in_memory(entry);
            inner.ids.extend(entry.known_ids().map(|(id, known)| (id.to_owned(), known)));
            inner.entries.push_back(entry.clone());
        }
        inner.bytes += bytes;
        Ok(bytes)
    }

    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError> {
        let inner = self.inner();
        let retained = inner.retained();
        let skipped = from.checked_sub(inner.first).ok_or(LogError::NotRetained { place: from, retained })?;
        let mut count = 0;
        let wanted = inner.entries.iter().skip(skipped as usize).take_while(|entry| {
            let wanted = count < events;
            count += entry.events().max(1);
            wanted
        });
        Ok(wanted.cloned().collect())
    }

    fn retained(&self) -> Range<u64> {
        self.inner().retained()
    }

    fn find(&self, id: &str) -> Result<Option<KnownId>, LogError> {
        Ok(self.inner().ids.get(id).copied())
    }

    fn truncate_before(&self, place: u64) -> Result<(), LogError> {
        let mut inner = self.inner();
        while inner.first < place
            && inner.entries.len() > 1
            && let Some(entry) = inner.entries.pop_front()
        {
            inner.first += 1;
            inner.bytes -= size_in_memory(&entry);
            for id in entry.ids() {
                inner.ids.remove(id);
            }
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), LogError> {
        Ok(())
    }

    fn origin(&self) -> Result<Option<LogOrigin>, LogError> {
        Ok(self.origin.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn set_origin(&self, origin: &LogOrigin) -> Result<(), LogError> {
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin.clone());
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.inner().bytes
    }
}

impl Inner {
    fn retained(&self) -> Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }
}

fn size_in_memory(entry: &Entry) -> u64 {
    let features: usize =
        entry.new_events().iter().map(|event| event.features.as_ref().map_or(0, |row| size_of_val(&row[..]))).sum();
    (size_of::<Entry>() + size_of_val(entry.new_events()) + features) as u64
}
