//! A stream of events: one JSON object a line, in any number, read as fast as events are applied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

use crate::access::error::{ApiError, ErrorKind};
use crate::access::limits::LimitsSpec;
use crate::interface::http::body::{HttpResult, JSON, check_type, read, write};
use crate::interface::server::{Call, Server, Submitted};
use crate::request::{Granularity, NewEvent, Position};
use crate::service::{Ack, IngestRequest, OnError, Receipt};

/// How long a partial batch waits for the next line.
const BATCH_WAIT: Duration = Duration::from_millis(2);
/// Most batches in flight: while one is written to the disk, the next are read.
const AHEAD: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    ack: Ack,
    #[serde(default)]
    on_error: OnError,
    /// Most events of a batch.
    batch: Option<usize>,
    #[serde(default)]
    receipts: Receipts,
}

/// Events of a batch without the option `batch`.
const BATCH: usize = 1000;

/// When the client gets receipts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Receipts {
    /// One summary, at the end.
    #[default]
    End,
    /// A line for each batch when it is acknowledged, and a summary at the end.
    Batch,
}

/// The result of a whole stream.
#[derive(Clone, Default, Serialize)]
struct StreamSummary {
    lines: u64,
    accepted: u64,
    duplicates: u64,
    late: u64,
    waiting: u64,
    refused: u64,
    log_seq: u64,
    version: u64,
    model: String,
}

impl StreamSummary {
    fn add(&mut self, receipt: &Receipt) {
        self.accepted += receipt.accepted;
        self.duplicates += receipt.duplicates;
        self.late += receipt.late;
        self.waiting += receipt.waiting;
        self.refused += receipt.refused;
        let Position { log_seq, version } = receipt.position;
        (self.log_seq, self.version) = (log_seq, version);
    }

    /// A refusal, with the counts of the stream before it.
    fn then(self, refused: ApiError) -> ApiError {
        refused.with("accepted", self.accepted).with("duplicates", self.duplicates).with("late", self.late)
    }
}

/// `POST /v1/events/stream?ack=applied&batch=1000&receipts=end`, one event a line. An invalid line ends the stream. The
/// batches before it remain, and the answer has their counts.
pub(crate) async fn stream(State(server): State<Arc<Server>>, mut request: Request) -> HttpResult {
    let options = Query::<Options>::try_from_uri(request.uri());
    let Query(options) = options.map_err(|rejection| ApiError::new(ErrorKind::Malformed, rejection.body_text()))?;
    LimitsSpec::count("batch", options.batch.unwrap_or(1), server.limits.events)?;
    check_type(request.headers(), &["application/x-ndjson", "application/ndjson", "application/jsonl", JSON])?;
    let call = request.extensions_mut().remove::<Call>().ok_or_else(ApiError::broken)?;
    let body = request.into_body();
    if options.receipts == Receipts::End {
        let sum = Lines::new(server.clone(), call, &options, None).take(body).await?;
        return write(&server, &sum);
    }
    let (sender, receipts) = mpsc::channel(AHEAD);
    let lines = Lines::new(server, call, &options, Some(sender.clone()));
    tokio::spawn(async move {
        let last = match lines.take(body).await {
            Ok(sum) => line(&sum),
            Err(refused) => axum::body::to_bytes(refused.into_response().into_body(), usize::MAX)
                .await
                .map_or_else(|_| Bytes::new(), |json| [&json[..], b"\n"].concat().into()),
        };
        // An error means that the client is gone.
        let _ = sender.send(Ok(last)).await;
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(ReceiverStream::new(receipts)))
        .into_response())
}

fn line(value: &impl Serialize) -> Bytes {
    let mut json = serde_json::to_vec(value).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

/// A stream in progress.
struct Lines {
    server: Arc<Server>,
    call: Call,
    ack: Ack,
    on_error: OnError,
    batch: usize,
    receipts: Option<mpsc::Sender<Result<Bytes, Infallible>>>,
    events: Vec<NewEvent>,
    /// The line number of each event.
    numbers: Vec<u64>,
    in_flight: VecDeque<Submitted>,
    sum: StreamSummary,
}

impl Lines {
    fn new(
        server: Arc<Server>,
        call: Call,
        options: &Options,
        receipts: Option<mpsc::Sender<Result<Bytes, Infallible>>>,
    ) -> Lines {
        let batch = options.batch.unwrap_or(BATCH).clamp(1, server.limits.events);
        Lines {
            server,
            call,
            ack: options.ack,
            on_error: options.on_error,
            batch,
            receipts,
            events: Vec::new(),
            numbers: Vec::new(),
            in_flight: VecDeque::new(),
            sum: StreamSummary::default(),
        }
    }

    async fn take(mut self, body: Body) -> Result<StreamSummary, ApiError> {
        let ended = self.run(body.into_data_stream()).await;
        // Submitted batches are awaited even if a later line is invalid, so that the answer has the right counts.
        let settled = self.wait_for_receipts(0).await;
        self.sum.model = self.server.model()?;
        match ended.and(settled) {
            Ok(()) => Ok(self.sum),
            Err(refused) => Err(self.sum.then(refused)),
        }
    }

    async fn run(&mut self, mut body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin) -> Result<(), ApiError> {
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let patience = if self.events.is_empty() { self.server.limits.body() } else { BATCH_WAIT };
            let server = self.server.clone();
            let next = tokio::select! {
                next = tokio::time::timeout(patience, body.next()) => next,
                refused = server.closing() => {
                    self.submit_batch().await?;
                    return Err(refused);
                }
            };
            let piece = match next {
                Ok(piece) => piece,
                // The client pauses: a partial batch waits no longer.
                Err(_) if !self.events.is_empty() => {
                    self.submit_batch().await?;
                    self.wait_for_receipts(0).await?;
                    continue;
                }
                Err(_) => {
                    return Err(ApiError::new(
                        ErrorKind::SlowRequest,
                        format!("nothing came for {} ms", self.server.limits.body_ms),
                    ));
                }
            };
            let Some(piece) = piece else { break };
            let piece =
                piece.map_err(|error| ApiError::new(ErrorKind::Malformed, format!("the stream broke off: {error}")))?;
            rest = self.split(rest, &piece).await?;
        }
        if !rest.is_empty() {
            self.line(&rest).await?;
        }
        self.submit_batch().await
    }

    /// Reads the complete lines. Returns the incomplete last one.
    async fn split(&mut self, mut rest: Vec<u8>, piece: &[u8]) -> Result<Vec<u8>, ApiError> {
        let mut lines = piece.split(|&byte| byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            if rest.is_empty() {
                self.line(line).await?;
            } else {
                rest.extend_from_slice(line);
                self.line(&std::mem::take(&mut rest)).await?;
            }
        }
        rest.extend_from_slice(last);
        if rest.len() > self.server.limits.line_bytes {
            self.sum.lines += 1;
            return Err(self.too_long());
        }
        Ok(rest)
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), ApiError> {
        self.sum.lines += 1;
        if line.len() > self.server.limits.line_bytes {
            return Err(self.too_long());
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        self.events.push(read(line).map_err(|refused| self.at_line(refused))?);
        self.numbers.push(self.sum.lines);
        if self.events.len() >= self.batch { self.submit_batch().await } else { Ok(()) }
    }

    fn too_long(&self) -> ApiError {
        self.at_line(ApiError::new(
            ErrorKind::TooLarge,
            format!("is longer than {} bytes", self.server.limits.line_bytes),
        ))
    }

    /// A refusal of the current line.
    fn at_line(&self, refused: ApiError) -> ApiError {
        refused.at(format_args!("line {}", self.sum.lines)).with("line", self.sum.lines)
    }

    /// Submits the events read so far, and waits if the queue is full.
    async fn submit_batch(&mut self) -> Result<(), ApiError> {
        if self.events.is_empty() {
            return Ok(());
        }
        self.wait_for_receipts(AHEAD - 1).await?;
        let (events, numbers) = (std::mem::take(&mut self.events), std::mem::take(&mut self.numbers));
        let request = IngestRequest { events, granularity: Granularity::Event, ack: self.ack, on_error: self.on_error };
        let submitted = self.server.submit_when_room(request).await;
        self.in_flight.push_back(submitted.map_err(|refused| by_line(refused, &numbers))?);
        Ok(())
    }

    /// Waits for receipts until no more than `left` batches are in flight.
    async fn wait_for_receipts(&mut self, left: usize) -> Result<(), ApiError> {
        while self.in_flight.len() > left
            && let Some(mut submitted) = self.in_flight.pop_front()
        {
            let refusals = submitted.take_refusals();
            let receipt = self.server.wait_for_receipt(&self.call, submitted).await?;
            self.sum.add(&receipt);
            if let Some(receipts) = &self.receipts {
                // If the client does not read its receipts, this waits, and no more lines are read. An error means that
                // the client is gone.
                let _ = receipts
                    .send(Ok(line(&crate::interface::http::events::EventsAnswer::of(
                        &receipt,
                        &refusals,
                        self.server.model()?,
                    ))))
                    .await;
            }
        }
        Ok(())
    }
}

/// Names the line of the event in a refusal of `events[i]…`.
fn by_line(refused: ApiError, numbers: &[u64]) -> ApiError {
    let index = refused.error.strip_prefix("events[").and_then(|rest| rest.split_once(']'));
    let found = index.and_then(|(index, rest)| {
        Some((*numbers.get(index.parse::<usize>().ok()?)?, rest.trim_start_matches('.').to_string()))
    });
    match found {
        Some((line, error)) => ApiError { error: format!("line {line}: {error}"), ..refused }.with("line", line),
        None => refused,
    }
}
