//! Reading the log back into a history.

use std::ops::ControlFlow;

use crate::log::{Act, Entry, Log, LogError};
use crate::request::{Granularity, NewEvent, RequestError};
use crate::{Answered, Engine, Position, Retraction};

/// Events read from the log, and told to an engine, at a time.
const AT_ONCE: usize = 4096;

/// Why a history cannot catch up with the log.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An event in the log will not do for the model.
    #[error("a logged event cannot be applied: {0}")]
    Refused(#[from] RequestError),
    /// The log begins after what the history has seen.
    #[error(
        "the history has seen {seen} events and the log of record begins with event {first}: those between are not kept any more"
    )]
    Gap {
        /// Events of the history.
        seen: u64,
        /// The first event of the log, or the next where it is empty.
        first: u64,
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

/// Number of the event after the last of the log, if it ever had one.
pub(crate) fn end_of(log: &dyn Log) -> Result<Option<u64>, LogError> {
    let Some(last) = log.kept().end.checked_sub(1) else { return Ok(None) };
    Ok(log.read(last, 1)?.first().map(Entry::next_seq))
}

/// The place from which a history that has seen `seen` events goes on.
///
/// An entry without events of its own, just after them, may have been done already: it is not skipped, and doing it again changes nothing.
pub(crate) fn place_after(log: &dyn Log, seen: u64) -> Result<u64, ReplayError> {
    let kept = log.kept();
    let entry = |place| -> Result<Option<Entry>, LogError> { Ok(log.read(place, 1)?.into_iter().next()) };
    let Some(end) = end_of(log)? else { return Ok(kept.start) };
    if seen > end {
        return Err(ReplayError::Ahead { seen, end });
    }
    let first = entry(kept.start)?.map_or(end, |entry| entry.first_seq);
    if seen < first {
        return Err(ReplayError::Gap { seen, first });
    }
    let (mut low, mut high) = (kept.start, kept.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match entry(middle)?.is_some_and(|entry| entry.first_seq < seen && entry.next_seq() <= seen) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// Whether a history that has seen `seen` events goes on at `place`, as far as the log knows: the entry there it has not seen, the one before
/// it has.
pub(crate) fn goes_on_at(log: &dyn Log, place: u64, seen: u64) -> Result<bool, LogError> {
    let kept = log.kept();
    if place < kept.start {
        return Ok(true);
    }
    if place > kept.end {
        return Ok(end_of(log)?.is_none_or(|end| end < seen));
    }
    let is_seen = |place| -> Result<bool, LogError> {
        let entry = log.read(place, 1)?.into_iter().next();
        Ok(entry.is_some_and(|entry| entry.first_seq < seen && entry.next_seq() <= seen))
    };
    Ok((place == kept.start || is_seen(place - 1)?) && (place == kept.end || !is_seen(place)?))
}

/// Does to `engine` what the log says was done, from place `from` up to place `to`. `told` hears how far it has come, and may break it off.
/// Says the place it has come to.
pub(crate) fn replay(
    log: &dyn Log,
    engine: &Engine,
    from: u64,
    to: u64,
    mut told: impl FnMut(Position) -> ControlFlow<()>,
) -> Result<u64, ReplayError> {
    let mut place = from;
    while place < to {
        let mut entries = log.read(place, AT_ONCE)?;
        entries.truncate((to - place) as usize);
        if entries.is_empty() {
            break;
        }
        for group in entries.chunk_by(|a, b| one_by_one(a) && one_by_one(b)) {
            happen_together(engine, group)?;
        }
        place += entries.len() as u64;
        if told(engine.position()).is_break() {
            break;
        }
    }
    Ok(place)
}

/// What an entry came to.
pub(crate) struct Happened {
    pub position: Position,
    /// Events that were known and are taken back, or nodes that are forgotten.
    pub changed: u64,
}

/// Does to the engine what an entry says; what it has seen of it already is left out.
pub(crate) fn happen(engine: &Engine, entry: &Entry) -> Result<Happened, ReplayError> {
    let seen = engine.position().log_seq;
    if entry.first_seq > seen {
        return Err(ReplayError::Gap { seen, first: entry.first_seq });
    }
    match &entry.act {
        Act::Events { events, granularity, .. } => {
            let known = ((seen - entry.first_seq) as usize).min(events.len());
            Ok(Happened { position: engine.observe(&events[known..], *granularity)?, changed: 0 })
        }
        Act::Retract { events } => {
            let Answered { answer, position } = take_back(engine, events)?;
            Ok(Happened { position, changed: answer as u64 })
        }
        Act::Expire { before, nodes } => {
            let Answered { answer, position } = engine.expire_among(before, nodes.clone())?;
            Ok(Happened { position, changed: answer as u64 })
        }
    }
}

/// Takes back those of the events whose nodes are not forgotten: of the others nothing is left.
fn take_back(engine: &Engine, events: &[Retraction]) -> Result<Answered<usize>, RequestError> {
    match engine.retract(events) {
        Err(RequestError::UnknownNode { .. }) => {}
        done => return done,
    }
    let mut taken = 0;
    for event in events {
        match engine.retract(std::slice::from_ref(event)) {
            Ok(Answered { answer, .. }) => taken += answer,
            Err(RequestError::UnknownNode { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Answered { answer: taken, position: engine.position() })
}

fn one_by_one(entry: &Entry) -> bool {
    matches!(entry.act, Act::Events { granularity: Granularity::Event, .. })
}

/// Events that happen one by one may be told at once, however they were told.
fn happen_together(engine: &Engine, group: &[Entry]) -> Result<(), ReplayError> {
    let [first, _, ..] = group else { return group.iter().try_for_each(|entry| happen(engine, entry).map(drop)) };
    let all: Vec<NewEvent> = group.iter().flat_map(Entry::told).cloned().collect();
    let whole = Entry {
        first_seq: first.first_seq,
        act: Act::Events { events: all, granularity: Granularity::Event, late: Vec::new() },
    };
    happen(engine, &whole).map(drop)
}
