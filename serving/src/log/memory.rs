//! A log that lasts as long as its process.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use crate::log::{Entry, Log, LogError};

/// A log in memory: for trials, and for servers that may forget. "Durable" means no more here than "in the log".
#[derive(Debug, Default)]
pub struct MemoryLog {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    first: u64,
    entries: VecDeque<Entry>,
    ids: FxHashMap<String, u64>,
    bytes: u64,
}

impl MemoryLog {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is made whole before the lock is given back.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError> {
        let mut held = self.held();
        let mut bytes = 0;
        for entry in entries {
            bytes += size_in_memory(entry);
            held.ids.extend(entry.ids().map(|(id, seq)| (id.to_owned(), seq)));
            held.entries.push_back(entry.clone());
        }
        held.bytes += bytes;
        Ok(bytes)
    }

    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError> {
        let held = self.held();
        let kept = held.kept();
        let skipped = from.checked_sub(held.first).ok_or(LogError::NotKept { place: from, kept })?;
        let mut count = 0;
        let wanted = held.entries.iter().skip(skipped as usize).take_while(|entry| {
            let wanted = count < events;
            count += entry.events().max(1);
            wanted
        });
        Ok(wanted.cloned().collect())
    }

    fn kept(&self) -> Range<u64> {
        self.held().kept()
    }

    fn find(&self, id: &str) -> Result<Option<u64>, LogError> {
        Ok(self.held().ids.get(id).copied())
    }

    fn forget(&self, place: u64) -> Result<(), LogError> {
        let mut held = self.held();
        while held.first < place
            && held.entries.len() > 1
            && let Some(entry) = held.entries.pop_front()
        {
            held.first += 1;
            held.bytes -= size_in_memory(&entry);
            for (id, _) in entry.ids() {
                held.ids.remove(id);
            }
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), LogError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.held().bytes
    }
}

impl Held {
    fn kept(&self) -> Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }
}

fn size_in_memory(entry: &Entry) -> u64 {
    let features: usize =
        entry.told().iter().map(|event| event.features.as_ref().map_or(0, |row| size_of_val(&row[..]))).sum();
    (size_of::<Entry>() + size_of_val(entry.told()) + features) as u64
}
