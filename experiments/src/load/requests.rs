//! The threads of a phase. Each has a connection, takes the next request that is due, and records its result.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempograph_framework::{Draw, Purpose, RandomNumbers};
use tempograph_serving::ExternalId;

use crate::load::http::{Connection, Failure, Response};
use crate::load::material::id_as_json;
use crate::load::phase::{PATIENCE, PhaseState, ScheduledRead, ThreadResult};
use crate::load::staleness::{ObservedPosition, SentEvents};

/// The error of a request for which no connection was free in time.
const UNSENT: &str = "not sent: all connections busy";

/// The part of its deadline that a request waits for a connection. One that waited longer would reach the server too
/// late, and take a connection from a request that is in time.
const WAITS: u32 = 4;

/// A kind of read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Score,
    Rank,
}

/// Sends reads.
pub(super) struct Reader<'a> {
    running: &'a PhaseState<'a>,
    connection: Connection<'a>,
    chance: RandomNumbers,
    /// The number of events whose nodes the server knows.
    known: u64,
    noted: ThreadResult,
    body: String,
}

impl<'a> Reader<'a> {
    pub fn new(running: &'a PhaseState<'a>, known: u64, number: u64) -> Reader<'a> {
        let runner = running.runner;
        let chance = Draw::new(runner.settings.seed).of(Purpose::Negatives).at(0, number);
        let connection = Connection::new(runner.target, PATIENCE);
        Reader { running, connection, chance, known, noted: ThreadResult::default(), body: String::new() }
    }

    pub fn run(mut self) -> ThreadResult {
        while let Some(&ScheduledRead { at, kind }) =
            self.running.reads.get(self.running.next_read.fetch_add(1, Ordering::Relaxed))
        {
            if !self.running.wait_until(at) {
                break;
            }
            self.ask(at, kind);
            self.running.runner.done.fetch_add(1, Ordering::Relaxed);
        }
        self.noted
    }

    fn ask(&mut self, at: Duration, kind: Kind) {
        let settings = self.running.runner.settings;
        let waited = self.running.begin.elapsed().saturating_sub(at);
        let (tally, deadline) = match kind {
            Kind::Score => (&mut self.noted.scores, settings.deadline),
            Kind::Rank => (&mut self.noted.ranks, settings.rank_deadline),
        };
        if waited > deadline / WAITS {
            return tally.failed(UNSENT, 1);
        }
        let runner = self.running.runner;
        let path =
            question(&mut self.body, kind, settings.pairs, || runner.material.pair(self.known, &mut self.chance));
        let answer = self.connection.send("POST", path, settings.tells_deadline.then(|| deadline - waited), &self.body);
        let now = self.running.begin.elapsed();
        match answer {
            Ok(Response { status: 200, body }) => {
                tally.answered(now.saturating_sub(at), deadline);
                self.noted.seen.extend(number(body, "log_seq").map(|log_seq| ObservedPosition { at: now, log_seq }));
            }
            other => tally.failed(&what_is_wrong(other), 1),
        }
    }
}

/// Writes a request to `body`. Gives its path.
fn question(
    body: &mut String,
    kind: Kind,
    pairs: usize,
    mut pair: impl FnMut() -> (ExternalId, ExternalId),
) -> &'static str {
    body.clear();
    // Writing to a string cannot fail.
    match kind {
        Kind::Rank => {
            let _ = write!(body, r#"{{"src":{},"k":10}}"#, id_as_json(&pair().0));
            "/v1/rank"
        }
        Kind::Score => {
            body.push_str("{\"queries\":[");
            for i in 0..pairs {
                let (src, dst) = pair();
                let (src, dst) = (id_as_json(&src), id_as_json(&dst));
                let _ = write!(body, r#"{}{{"src":{src},"dst":{dst}}}"#, if i == 0 { "" } else { "," });
            }
            body.push_str("]}");
            "/v1/score"
        }
    }
}

/// Sends events.
pub(super) struct EventSender<'a> {
    running: &'a PhaseState<'a>,
    connection: Connection<'a>,
    noted: ThreadResult,
    body: String,
}

/// Events of one request: their moments, and the number of the first in the endless log.
struct Due<'a> {
    at: &'a [Duration],
    seq: u64,
}

impl<'a> EventSender<'a> {
    pub fn new(running: &'a PhaseState<'a>) -> EventSender<'a> {
        EventSender {
            running,
            connection: Connection::new(running.runner.target, PATIENCE),
            noted: ThreadResult::default(),
            body: String::new(),
        }
    }

    pub fn run(mut self) -> ThreadResult {
        while let Some(due) = self.due() {
            self.send(&due);
            self.running.runner.done.fetch_add(due.at.len() as u64, Ordering::Relaxed);
        }
        self.noted
    }

    /// Waits for the next event, and takes all that are due by then. Events that have waited for too long are given up.
    fn due(&mut self) -> Option<Due<'a>> {
        let (running, settings) = (self.running, self.running.runner.settings);
        let mut next = running.next_event.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (from, seq) = *next;
            if !running.wait_until(*running.events.get(from)?) {
                return None;
            }
            let now = running.begin.elapsed();
            let hopeless = running.events[from..].partition_point(|&at| at + settings.deadline / WAITS < now);
            if hopeless > 0 {
                self.noted.events.failed(UNSENT, hopeless as u64);
                next.0 += hopeless;
                continue;
            }
            let count = running.events[from..].partition_point(|&at| at <= now).min(settings.events);
            *next = (from + count, seq + count as u64);
            return Some(Due { at: &running.events[from..from + count], seq });
        }
    }

    fn send(&mut self, due: &Due<'_>) {
        let runner = self.running.runner;
        self.body.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.body, r#"{{"ack":"{}","events":["#, runner.settings.ack);
        for i in 0..due.at.len() as u64 {
            if i > 0 {
                self.body.push(',');
            }
            runner.material.write_event(due.seq + i, &mut self.body);
        }
        self.body.push_str("]}");
        let answer = self.connection.send("POST", "/v1/events", None, &self.body);
        let now = self.running.begin.elapsed();
        match answer {
            Ok(Response { status: 200, body }) => {
                due.at
                    .iter()
                    .for_each(|&at| self.noted.events.answered(now.saturating_sub(at), runner.settings.deadline));
                self.noted
                    .sent
                    .extend(number(body, "first_seq").map(|first| SentEvents { first, at: due.at.to_vec() }));
            }
            other => {
                self.noted.events.failed(&what_is_wrong(other), due.at.len() as u64);
                self.resend(due);
            }
        }
    }

    /// Sends events that were not accepted again in place of the next ones, so that the log and this side's count
    /// agree. With several connections others may be ahead already: then they are left out.
    fn resend(&self, due: &Due<'_>) {
        if self.running.runner.settings.ingest_connections == 1 {
            self.running.next_event.lock().unwrap_or_else(PoisonError::into_inner).1 = due.seq;
        }
    }
}

/// The error as text: `429 busy` and the like.
fn what_is_wrong(answer: Result<Response<'_>, Failure>) -> String {
    match answer {
        Err(failure) => failure.name().to_string(),
        Ok(Response { status, body }) => match text(body, "code") {
            Some(code) => format!("{status} {code}"),
            None => status.to_string(),
        },
    }
}

/// The value of a field of a flat JSON answer. Nothing else of an answer is parsed, to save time.
fn value<'b>(body: &'b [u8], field: &str) -> Option<&'b [u8]> {
    let name = format!("\"{field}\":");
    // The fields that are read come after the long ones.
    let at = body.windows(name.len()).rposition(|part| part == name.as_bytes())?;
    Some(&body[at + name.len()..])
}

fn number(body: &[u8], field: &str) -> Option<u64> {
    let digits = value(body, field)?.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number: Option<u64>, digit| Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0')))
}

fn text<'b>(body: &'b [u8], field: &str) -> Option<&'b str> {
    let quoted = value(body, field)?.strip_prefix(b"\"")?;
    std::str::from_utf8(&quoted[..quoted.iter().position(|&byte| byte == b'"')?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_parts_of_an_answer_are_found() {
        let body = br#"{"scores":[1.5],"log_seq":412,"version":7,"model":"m","first_seq":0}"#;
        assert_eq!(
            (number(body, "log_seq"), number(body, "first_seq"), number(body, "seq")),
            (Some(412), Some(0), None)
        );
        let refused = Response { status: 429, body: br#"{"code":"busy","error":"full"}"# };
        assert_eq!(what_is_wrong(Ok(refused)), "429 busy");
        assert_eq!(what_is_wrong(Ok(Response { status: 500, body: b"oh" })), "500");
        assert_eq!(what_is_wrong(Err(Failure::Timeout)), "no answer in time");
    }

    #[test]
    fn questions_are_json() {
        let mut body = String::new();
        assert_eq!(question(&mut body, Kind::Score, 2, || (3.into(), 4.into())), "/v1/score");
        assert_eq!(body, r#"{"queries":[{"src":3,"dst":4},{"src":3,"dst":4}]}"#);
        assert_eq!(question(&mut body, Kind::Rank, 2, || (3.into(), 4.into())), "/v1/rank");
        assert_eq!(body, r#"{"src":3,"k":10}"#);
    }
}
