//! A log that lasts as long as its process.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::{Act, Entry, Log, LogError};

/// A log in memory: for trials, and for servers that may forget. "Durable" means no more here than "in the log".
#[derive(Debug, Default)]
pub struct MemoryLog {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    first: u64,
    entries: std::collections::VecDeque<Entry>,
    ids: FxHashMap<String, u64>,
}

impl MemoryLog {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is made whole before the lock is given back.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn append(&self, entries: &[Entry]) -> Result<(), LogError> {
        let mut held = self.held();
        for entry in entries {
            held.ids.extend(entry.ids().map(|(id, seq)| (id.to_owned(), seq)));
            held.entries.push_back(entry.clone());
        }
        Ok(())
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
            && let Some(entry) = held.entries.pop_front()
        {
            held.first += 1;
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
        let event = size_of::<crate::NewEvent>();
        self.held().entries.iter().map(|entry| (size_of::<Entry>() + entry.events() * event) as u64).sum()
    }
}

impl Held {
    fn kept(&self) -> Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }
}

impl Entry {
    /// Ids of its events, with their numbers.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&str, u64)> {
        let Act::Events { events, .. } = &self.act;
        let named = |(event, seq): (_, u64)| -> Option<(&str, u64)> {
            let event: &crate::NewEvent = event;
            Some((event.id.as_deref()?, seq))
        };
        events.iter().zip(self.first_seq..).filter_map(named)
    }
}
