//! What a log of record goes on from, so that it is not replayed into a history of other events.

use serde::{Deserialize, Serialize};

use crate::Manifest;
use crate::artifact::past::PastHash;
use crate::log::{Entry, Log, LogError, ReplayError, next_seq};
use crate::request::{FieldPath, ticks};

/// Entries read at a time.
const AT_ONCE: usize = 4096;

/// Which log it is, and which events were before its first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOrigin {
    /// A name that no other log has.
    pub id: String,
    /// How many events were before its first.
    pub first_seq: u64,
    /// A hash of them, where the artifact that it was begun with has one.
    pub past: Option<String>,
}

/// Notes what an empty log goes on from, or checks that a log goes on from what an artifact has seen. Gives the log's name, if it has
/// one.
///
/// # Errors
/// [`ReplayError::OtherPast`], or a log that cannot be read.
pub(crate) fn begin_or_check(
    log: &dyn Log,
    manifest: &Manifest,
    id: impl FnOnce() -> String,
) -> Result<Option<String>, ReplayError> {
    let origin = log.origin()?;
    if next_seq(log)?.is_some() {
        check_past(log, manifest)?;
        return Ok(origin.map(|origin| origin.id));
    }
    let id = origin.map_or_else(id, |origin| origin.id);
    log.set_origin(&LogOrigin { id, first_seq: manifest.log_position, past: manifest.past.clone() })?;
    Ok(log.origin()?.map(|origin| origin.id))
}

/// Checks that the events that an artifact has seen are those before and in the log, as far as both know.
///
/// # Errors
/// As [`begin_or_check`].
pub(crate) fn check_past(log: &dyn Log, manifest: &Manifest) -> Result<(), ReplayError> {
    let seen = manifest.log_position;
    let unknown = |why: &str| {
        tracing::warn!("it is not known whether the log of record goes on from the artifact's events: {why}");
        Ok(())
    };
    let Some(theirs) = manifest.past.as_deref().and_then(PastHash::parse) else {
        return unknown("the artifact was written without a hash of them; export it again");
    };
    let Some(origin) = log.origin()? else {
        return unknown("the log was begun without a note of its first events");
    };
    let Some(past) = origin.past.as_deref().and_then(PastHash::parse) else {
        return unknown("the log was begun with an artifact without a hash of its events");
    };
    match past_after(log, manifest, origin.first_seq, past)? {
        Some(ours) if ours == theirs => Ok(()),
        Some(ours) => {
            Err(ReplayError::OtherPast { seen, artifact: theirs.to_string(), log: ours.to_string(), id: origin.id })
        }
        None => unknown("the log does not keep all events up to there"),
    }
}

/// The hash of all events up to the artifact's position, from the log's first on; nothing if the log does not have them.
fn past_after(
    log: &dyn Log,
    manifest: &Manifest,
    first_seq: u64,
    mut past: PastHash,
) -> Result<Option<PastHash>, LogError> {
    let (mut seq, mut place) = (first_seq, log.retained().start);
    while seq < manifest.log_position {
        let entries = log.read(place, AT_ONCE)?;
        if entries.is_empty() {
            return Ok(None);
        }
        place += entries.len() as u64;
        for entry in &entries {
            if entry.first_seq != seq {
                return Ok(None);
            }
            for event in entry.new_events().iter().take((manifest.log_position - seq) as usize) {
                let Ok(time) = ticks(&manifest.time_unit, &event.time, FieldPath::field("time")) else {
                    return Ok(None);
                };
                past.push(&event.src, &event.dst, time.0);
            }
            seq = Entry::next_seq(entry);
            if seq >= manifest.log_position {
                break;
            }
        }
    }
    Ok((first_seq <= manifest.log_position).then_some(past))
}
