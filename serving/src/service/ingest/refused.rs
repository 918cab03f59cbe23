//! Events that were refused one by one. They are kept, so that someone can look at them, send them again or forget them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tempograph_framework::write_atomic;

use crate::request::{NewEvent, RequestError};

/// An event of a request that was refused, while others of the request were accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Index of the event in the request.
    pub index: usize,
    /// The event.
    pub event: NewEvent,
    /// Why it was refused.
    pub error: RequestError,
}

/// A refused event that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedEvent {
    /// Its number in the list. Numbers are never used twice.
    pub number: u64,
    /// Seconds since 1970 by the server's clock when it was refused.
    pub refused_at: u64,
    /// Why it was refused.
    pub error: String,
    /// The event.
    pub event: NewEvent,
}

/// Counts of the list of refused events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusedStatus {
    /// Events in the list.
    pub kept: u64,
    /// Refused events that were dropped because newer ones needed the room.
    pub dropped: u64,
}

/// The list. Each change is written to the file before it is acknowledged, so a process that is killed loses nothing.
#[derive(Debug)]
pub(crate) struct RefusedList {
    most: usize,
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<RefusedEvent>,
    next: u64,
    dropped: u64,
    file: Option<File>,
    /// Lines in the file, of which those of removed events are of no use.
    lines: usize,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Refused(RefusedEvent),
    Removed(Vec<u64>),
    Next(u64),
}

impl RefusedList {
    /// The list in the file at `path`, or in memory. A last line that was cut off is left out.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn open(path: Option<PathBuf>, most: usize) -> io::Result<RefusedList> {
        let mut inner = Inner::default();
        if let Some(path) = &path {
            let text = match fs::read_to_string(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                read => read?,
            };
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for (i, line) in text[..whole].lines().enumerate() {
                let line = serde_json::from_str(line).map_err(|error| {
                    io::Error::other(format!("line {} of {} is damaged: {error}", i + 1, path.display()))
                })?;
                inner.take(line);
            }
        }
        let list = RefusedList { most, path, inner: Mutex::new(inner) };
        if list.path.is_some() {
            list.rewrite(&mut list.lock())?;
        }
        Ok(list)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Ignoring poison is safe: nothing panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events. Returns their numbers, which are consecutive: the first.
    ///
    /// # Errors
    /// The file cannot be written; then none is added.
    pub fn add(&self, refusals: &[Refusal], now: u64) -> io::Result<u64> {
        let mut inner = self.lock();
        let first = inner.next;
        let numbered = refusals.iter().zip(first..).map(|(refusal, number)| RefusedEvent {
            number,
            refused_at: now,
            error: refusal.error.to_string(),
            event: refusal.event.clone(),
        });
        let lines: Vec<Line> = numbered.map(Line::Refused).collect();
        self.write(&mut inner, &lines)?;
        lines.into_iter().for_each(|line| inner.take(line));
        let over = inner.events.len().saturating_sub(self.most);
        inner.dropped += over as u64;
        inner.events.drain(..over);
        self.rewrite_if_long(&mut inner)?;
        Ok(first)
    }

    /// The events from number `from` on, at most `count`.
    pub fn list(&self, from: u64, count: usize) -> Vec<RefusedEvent> {
        let inner = self.lock();
        let start = inner.events.partition_point(|event| event.number < from);
        inner.events.iter().skip(start).take(count).cloned().collect()
    }

    /// The events with these numbers; all without numbers.
    pub fn find(&self, numbers: Option<&[u64]>) -> Vec<RefusedEvent> {
        let inner = self.lock();
        let wanted = |event: &&RefusedEvent| numbers.is_none_or(|numbers| numbers.contains(&event.number));
        inner.events.iter().filter(wanted).cloned().collect()
    }

    /// Removes the events with these numbers. Returns how many there were.
    ///
    /// # Errors
    /// The file cannot be written; then none is removed.
    pub fn remove(&self, numbers: &[u64]) -> io::Result<usize> {
        let mut inner = self.lock();
        let before = inner.events.len();
        let line = Line::Removed(numbers.to_vec());
        self.write(&mut inner, std::slice::from_ref(&line))?;
        inner.take(line);
        self.rewrite_if_long(&mut inner)?;
        Ok(before - inner.events.len())
    }

    pub fn status(&self) -> RefusedStatus {
        let inner = self.lock();
        RefusedStatus { kept: inner.events.len() as u64, dropped: inner.dropped }
    }

    fn write(&self, inner: &mut Inner, lines: &[Line]) -> io::Result<()> {
        let Some(file) = &mut inner.file else { return Ok(()) };
        let before = file.metadata()?.len();
        // What is half written would spoil the next line.
        file.write_all(&to_bytes(lines)?).inspect_err(|_| _ = file.set_len(before))?;
        inner.lines += lines.len();
        Ok(())
    }

    fn rewrite_if_long(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.lines > 2 * self.most + 1000 && self.path.is_some() { self.rewrite(inner) } else { Ok(()) }
    }

    /// Writes the file anew, with the events that are left only.
    fn rewrite(&self, inner: &mut Inner) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let kept = inner.events.iter().cloned().map(Line::Refused);
        let lines: Vec<Line> = std::iter::once(Line::Next(inner.next)).chain(kept).collect();
        create_parent(path)?;
        write_atomic(path, &to_bytes(&lines)?)?;
        inner.file = Some(File::options().append(true).open(path)?);
        inner.lines = lines.len();
        Ok(())
    }
}

impl Inner {
    fn take(&mut self, line: Line) {
        match line {
            Line::Refused(event) => {
                self.next = self.next.max(event.number + 1);
                self.events.push_back(event);
            }
            Line::Removed(numbers) => self.events.retain(|event| !numbers.contains(&event.number)),
            Line::Next(next) => self.next = self.next.max(next),
        }
    }
}

fn to_bytes(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(src: u64) -> Refusal {
        let event = NewEvent {
            src: src.into(),
            dst: 2.into(),
            time: 3.into(),
            label: 0.5,
            features: Some(vec![0.25]),
            id: None,
        };
        Refusal { index: 0, event, error: RequestError::invalid("events[0].time", "is wrong") }
    }

    #[test]
    fn refused_events_outlive_the_process_and_their_numbers_are_used_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/refused.jsonl");
        let list = RefusedList::open(Some(path.clone()), 5).unwrap();
        assert_eq!(list.add(&[refusal(1), refusal(2), refusal(3)], 77).unwrap(), 0);
        assert_eq!(list.remove(&[1, 2, 9]).unwrap(), 2);
        let kept = list.list(0, 10);
        drop(list);
        // A process that dies may leave part of a line.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"refused\":{\"num").unwrap();
        let list = RefusedList::open(Some(path), 5).unwrap();
        assert_eq!((list.list(0, 10), list.find(None), kept.len()), (kept.clone(), kept, 1));
        assert_eq!(list.add(&[refusal(4)], 78).unwrap(), 3);
    }

    #[test]
    fn the_oldest_make_room_and_are_counted_and_the_file_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refused.jsonl");
        let list = RefusedList::open(Some(path.clone()), 10).unwrap();
        for src in 0..5000 {
            list.add(&[refusal(src)], 0).unwrap();
        }
        assert_eq!(list.status(), RefusedStatus { kept: 10, dropped: 4990 });
        assert_eq!(
            list.list(4993, 2).iter().map(|event| event.event.src.number()).collect::<Vec<_>>(),
            [Some(4993), Some(4994)]
        );
        assert!(fs::read_to_string(path).unwrap().lines().count() <= 1021);
    }
}
