//! Bounds on the requests of clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::error::{ApiError, ErrorKind};
use crate::request::MAX_ITEMS;

/// The section `limits` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSpec {
    /// Largest body of a request and largest gRPC message, in bytes. A stream of events may be longer.
    pub body_bytes: usize,
    /// Longest line of a stream of events, in bytes.
    pub line_bytes: usize,
    /// Most events of one request, and of one batch of a stream; at most 50,000.
    pub events: usize,
    /// Most pairs of one request; at most 50,000.
    pub pairs: usize,
    /// Most candidates that one request names; at most 50,000.
    pub candidates: usize,
    /// Most open connections; another one is closed at once, if all have sent something.
    pub connections: usize,
    /// Most open connections of one client's address, or of one /64 network of IPv6. Where this or `connections` is
    /// reached, the oldest connection that has sent nothing is closed for a new one.
    pub connections_per_address: usize,
    /// Most open HTTP/2 streams of one connection.
    pub streams: u32,
    /// Longest wait for a request's head and for a TLS handshake, and longest idle time of a connection, in
    /// milliseconds.
    pub head_ms: u64,
    /// Longest wait for a request's body, or for the next piece of a stream, in milliseconds.
    pub body_ms: u64,
    /// Longest deadline, in milliseconds. A request with a later deadline is answered or refused by then.
    pub wait_ms: u64,
}

impl Default for LimitsSpec {
    fn default() -> LimitsSpec {
        LimitsSpec {
            body_bytes: 16 << 20,
            line_bytes: 64 << 10,
            events: MAX_ITEMS,
            pairs: MAX_ITEMS,
            candidates: MAX_ITEMS,
            connections: 1024,
            connections_per_address: 512,
            streams: 128,
            head_ms: 30_000,
            body_ms: 30_000,
            wait_ms: 10_000,
        }
    }
}

impl LimitsSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        let counts = [("events", self.events), ("pairs", self.pairs), ("candidates", self.candidates)];
        if let Some((key, value)) = counts.into_iter().find(|&(_, value)| value == 0 || value > MAX_ITEMS) {
            return Err(format!("limits.{key} = {value}; it is from 1 to {MAX_ITEMS}"));
        }
        let sizes = [
            ("body_bytes", self.body_bytes as u64),
            ("line_bytes", self.line_bytes as u64),
            ("connections", self.connections as u64),
            ("connections_per_address", self.connections_per_address as u64),
            ("streams", u64::from(self.streams)),
            ("head_ms", self.head_ms),
            ("body_ms", self.body_ms),
            ("wait_ms", self.wait_ms),
        ];
        match sizes.into_iter().find(|&(_, value)| value == 0) {
            Some((key, _)) => Err(format!("limits.{key} = 0; it is at least 1")),
            None => Ok(()),
        }
    }

    /// # Errors
    /// 413 if `list` has more than `most` entries.
    pub(crate) fn count(list: &str, count: usize, most: usize) -> Result<(), ApiError> {
        if count <= most {
            return Ok(());
        }
        Err(ApiError::new(ErrorKind::TooLarge, format!("{list} has {count} entries; one request may hold {most}")))
    }

    pub(crate) fn head(&self) -> Duration {
        Duration::from_millis(self.head_ms)
    }

    pub(crate) fn body(&self) -> Duration {
        Duration::from_millis(self.body_ms)
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }
}
