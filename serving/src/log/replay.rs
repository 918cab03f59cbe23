//! Replays the log into a history.

use std::ops::ControlFlow;

use crate::log::{Entry, Log, LogError, Mutation};
use crate::request::{Granularity, NewEvent, RequestError};
use crate::{AtPosition, Engine, Position, Retraction};

/// Events read from the log and applied to an engine at a time.
const AT_ONCE: usize = 4096;

/// Why a history cannot catch up with the log.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The model refuses an event of the log.
    #[error("a logged event cannot be applied: {0}")]
    Refused(#[from] RequestError),
    /// Events between the history and the log's first entry are not retained any more.
    #[error(
        "the history has seen {seen} events and the log of record begins with event {first}: those between are not kept any more"
    )]
    Gap {
        /// Events of the history.
        seen: u64,
        /// The first event of the log, or the next where it is empty.
        first: u64,
    },
    /// The log goes on from other events than the history has seen.
    #[error(
        "the artifact has seen {seen} events with the hash {artifact}, and the log of record {id} goes on from others, with the hash \
         {log}: they do not belong together; serve the artifact that the log was begun with or one of the same events, or give this \
         one a log of its own (`--data DIR`)"
    )]
    OtherPast {
        /// Events of the artifact.
        seen: u64,
        /// Their hash.
        artifact: String,
        /// The hash of as many events before and in the log.
        log: String,
        /// The log's name.
        id: String,
    },
    /// The history has seen more than there is.
    #[error("the history has seen {seen} events, but the log of record ends after {end}: they do not belong together")]
    Ahead {
        /// Events of the history.
        seen: u64,
        /// Events up to the end of the log.
        end: u64,
    },
}

/// Number of the next event after those of the log, if the log ever held an entry.
pub(crate) fn next_seq(log: &dyn Log) -> Result<Option<u64>, LogError> {
    let Some(last) = log.retained().end.checked_sub(1) else { return Ok(None) };
    Ok(log.read(last, 1)?.first().map(Entry::next_seq))
}

/// The position from which a history that has seen `seen` events continues.
///
/// An entry without new events, just after them, may be applied already. It is applied again, which changes nothing.
pub(crate) fn entry_after(log: &dyn Log, seen: u64) -> Result<u64, ReplayError> {
    let retained = log.retained();
    let entry = |place| -> Result<Option<Entry>, LogError> { Ok(log.read(place, 1)?.into_iter().next()) };
    let Some(end) = next_seq(log)? else { return Ok(retained.start) };
    if seen > end {
        return Err(ReplayError::Ahead { seen, end });
    }
    let first = entry(retained.start)?.map_or(end, |entry| entry.first_seq);
    if seen < first {
        return Err(ReplayError::Gap { seen, first });
    }
    let (mut low, mut high) = (retained.start, retained.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match entry(middle)?.is_some_and(|entry| entry.first_seq < seen && entry.next_seq() <= seen) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// Whether a history that has seen `seen` events continues at `place`, as far as the log can tell: it has seen the
/// entry before that position, and not the entry at it.
pub(crate) fn resumes_at(log: &dyn Log, place: u64, seen: u64) -> Result<bool, LogError> {
    let retained = log.retained();
    if place < retained.start {
        return Ok(true);
    }
    if place > retained.end {
        return Ok(next_seq(log)?.is_none_or(|end| end < seen));
    }
    let is_seen = |place| -> Result<bool, LogError> {
        let entry = log.read(place, 1)?.into_iter().next();
        Ok(entry.is_some_and(|entry| entry.first_seq < seen && entry.next_seq() <= seen))
    };
    Ok((place == retained.start || is_seen(place - 1)?) && (place == retained.end || !is_seen(place)?))
}

/// Applies the entries of the log from position `from` to position `to` to `engine`. Calls `on_progress` with the
/// position reached after each read; it may stop the replay. Returns the position of the next entry.
pub(crate) fn replay(
    log: &dyn Log,
    engine: &Engine,
    from: u64,
    to: u64,
    mut on_progress: impl FnMut(Position) -> ControlFlow<()>,
) -> Result<u64, ReplayError> {
    let mut place = from;
    while place < to {
        let mut entries = log.read(place, AT_ONCE)?;
        entries.truncate((to - place) as usize);
        if entries.is_empty() {
            break;
        }
        place += entries.len() as u64;
        // What waits changes nothing, and must not part the events that are applied together.
        entries.retain(|entry| !entry.changes_only_waiting());
        for group in entries.chunk_by(|a, b| one_by_one(a) && one_by_one(b)) {
            apply_entries(engine, group)?;
        }
        if on_progress(engine.position()).is_break() {
            break;
        }
    }
    Ok(place)
}

/// The result of an entry.
pub(crate) struct Applied {
    pub position: Position,
    /// Number of events that were known and are retracted, or of nodes that are expired.
    pub changed: u64,
}

/// Applies an entry to the engine, without the events that the engine has seen already.
pub(crate) fn apply_entry(engine: &Engine, entry: &Entry) -> Result<Applied, ReplayError> {
    let seen = engine.position().log_seq;
    if entry.first_seq > seen {
        return Err(ReplayError::Gap { seen, first: entry.first_seq });
    }
    match &entry.mutation {
        Mutation::Events { granularity, .. } => observe_unseen(engine, entry, *granularity),
        Mutation::Release { .. } => observe_unseen(engine, entry, Granularity::Event),
        Mutation::Hold { .. } => Ok(Applied { position: engine.position(), changed: 0 }),
        Mutation::Drop { arrivals } => Ok(Applied { position: engine.position(), changed: arrivals.len() as u64 }),
        Mutation::Retract { events, newest } => {
            let AtPosition { answer, position } = retract_known(engine, events)?;
            if let Some(newest) = newest {
                engine.lower_newest(newest)?;
            }
            Ok(Applied { position, changed: answer as u64 })
        }
        Mutation::Expire { before, nodes } => {
            let AtPosition { answer, position } = engine.expire_among(before, nodes.clone())?;
            Ok(Applied { position, changed: answer as u64 })
        }
    }
}

/// Observes the events of an entry that the engine has not seen.
fn observe_unseen(engine: &Engine, entry: &Entry, granularity: Granularity) -> Result<Applied, ReplayError> {
    let events = entry.new_events();
    let known = ((engine.position().log_seq - entry.first_seq) as usize).min(events.len());
    Ok(Applied { position: engine.observe(&events[known..], granularity)?, changed: 0 })
}

/// Retracts the events whose nodes are not expired. Of the others the history holds nothing.
fn retract_known(engine: &Engine, events: &[Retraction]) -> Result<AtPosition<usize>, RequestError> {
    match engine.retract(events) {
        Err(RequestError::UnknownNode { .. }) => {}
        done => return done,
    }
    let mut taken = 0;
    for event in events {
        match engine.retract(std::slice::from_ref(event)) {
            Ok(AtPosition { answer, .. }) => taken += answer,
            Err(RequestError::UnknownNode { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(AtPosition { answer: taken, position: engine.position() })
}

fn one_by_one(entry: &Entry) -> bool {
    matches!(entry.mutation, Mutation::Events { granularity: Granularity::Event, .. } | Mutation::Release { .. })
}

/// Applies entries together: events that are applied one by one give the same state however they are grouped.
fn apply_entries(engine: &Engine, group: &[Entry]) -> Result<(), ReplayError> {
    let [first, _, ..] = group else { return group.iter().try_for_each(|entry| apply_entry(engine, entry).map(drop)) };
    let all: Vec<NewEvent> = group.iter().flat_map(Entry::new_events).cloned().collect();
    let whole = Entry {
        first_seq: first.first_seq,
        mutation: Mutation::Events { events: all, granularity: Granularity::Event, late: Vec::new() },
    };
    apply_entry(engine, &whole).map(drop)
}
