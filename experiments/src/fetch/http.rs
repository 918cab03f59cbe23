//! The only file that uses the HTTP client.
//!
//! TLS is rustls with ring: ring compiles C and assembly with the compiler driver that Rust links with anyway, and
//! needs neither cmake nor nasm. The root certificates are compiled in. Bodies are requested without compression:
//! lengths and ranges of a compressed transfer would not be those of the file.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Proxy};

use crate::fetch::FetchError;

/// The point a download resumes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume<'a> {
    /// Bytes that are already present.
    pub from: u64,
    /// The version of the remote file they belong to.
    pub version: &'a str,
}

/// A response with a body.
pub struct Reply {
    /// Where in the file the body begins: zero, unless the server honoured the range.
    pub from: u64,
    /// Bytes in the body, if announced.
    pub length: Option<u64>,
    /// The remote file's version: a strong ETag, or else its modification date.
    pub version: Option<String>,
    /// The body.
    pub body: Box<dyn Read>,
}

/// Sends requests.
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client for `url` that gives a connection up after `patience` of silence.
    pub fn new(url: &str, patience: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("tempograph/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .proxy(if is_loopback(url) { None } else { Proxy::try_from_env() })
            .build()
            .new_agent();
        Self { agent }
    }

    /// Requests `url`, or its rest. `None` means that the server cannot resume: start again.
    pub fn get(&self, url: &str, resume: Option<Resume>) -> Result<Option<Reply>, FetchError> {
        let mut request = self.agent.get(url);
        if let Some(resume) = resume {
            request = request.header("range", format!("bytes={}-", resume.from)).header("if-range", resume.version);
        }
        let response = request.call().map_err(|error| refusal(url, error))?;
        match (response.status().as_u16(), resume) {
            (200, _) => reply(url, response, 0).map(Some),
            (206, Some(resume)) if continues(response.headers(), resume) => reply(url, response, resume.from).map(Some),
            (206 | 416, Some(_)) => Ok(None),
            (code @ (404 | 410), _) => Err(FetchError::NotFound { url: url.to_owned(), code }),
            (code, _) => Err(FetchError::Status { url: url.to_owned(), code }),
        }
    }
}

fn reply(url: &str, response: Response<Body>, from: u64) -> Result<Reply, FetchError> {
    let headers = response.headers();
    if let Some(encoding) = text(headers, "content-encoding").filter(|encoding| *encoding != "identity") {
        let reason = format!("the server sent the body as `{encoding}`, though it was asked to send it as it is");
        return Err(FetchError::Protocol { url: url.to_owned(), reason });
    }
    let length = text(headers, "content-length").and_then(|length| length.parse().ok());
    let version = version(headers).map(str::to_owned);
    Ok(Reply { from, length, version, body: Box::new(response.into_body().into_reader()) })
}

/// Whether a partial answer is the rest of the same file. The version is compared here too because some servers know
/// `Range` but not `If-Range`.
fn continues(headers: &HeaderMap, resume: Resume) -> bool {
    let begins = text(headers, "content-range").and_then(range_start) == Some(resume.from);
    begins && version(headers).is_none_or(|version| version == resume.version)
}

/// The first byte of `bytes FIRST-LAST/TOTAL`.
fn range_start(content_range: &str) -> Option<u64> {
    let (first, _) = content_range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}

/// A valid value for `If-Range`: a quoted strong ETag or a date. A weak ETag does not promise the same bytes. An
/// unquoted one (some object stores send them) would be parsed as a date.
fn version(headers: &HeaderMap) -> Option<&str> {
    text(headers, "etag").filter(|etag| etag.starts_with('"')).or_else(|| text(headers, "last-modified"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn refusal(url: &str, error: ureq::Error) -> FetchError {
    let url = url.to_owned();
    let reason = error.to_string();
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => FetchError::Unreachable { url, reason },
        _ => FetchError::Protocol { url, reason },
    }
}

/// Whether the address is this machine's own, which no proxy could reach on our behalf.
fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next());
    matches!(host, Some("localhost" | "127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_validators_that_promise_the_same_bytes_are_used() {
        assert_eq!(version(&headers(&[("etag", "\"a\""), ("last-modified", "Mon")])), Some("\"a\""));
        assert_eq!(version(&headers(&[("etag", "W/\"a\""), ("last-modified", "Mon")])), Some("Mon"));
        assert_eq!(version(&headers(&[("etag", "d41d8cd9"), ("last-modified", "Mon")])), Some("Mon"));
        assert_eq!(version(&headers(&[("etag", "W/\"a\"")])), None);
    }

    #[test]
    fn a_partial_answer_continues_only_at_the_right_byte_of_the_same_version() {
        let resume = Resume { from: 10, version: "\"a\"" };
        assert!(continues(&headers(&[("content-range", "bytes 10-19/20"), ("etag", "\"a\"")]), resume));
        assert!(continues(&headers(&[("content-range", "bytes 10-19/20")]), resume));
        assert!(!continues(&headers(&[("content-range", "bytes 9-19/20"), ("etag", "\"a\"")]), resume));
        assert!(!continues(&headers(&[("content-range", "bytes 10-19/20"), ("etag", "\"b\"")]), resume));
        assert!(!continues(&headers(&[("content-range", "lines 10-19/20")]), resume));
        assert!(!continues(&headers(&[]), resume));
    }
}
