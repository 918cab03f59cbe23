//! Submits and retracts events.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::error::{ApiError, ErrorKind};
use crate::access::limits::LimitsSpec;
use crate::interface::http::body::{HttpResult, json as read_json, write};
use crate::interface::server::Server;
use crate::request::{Granularity, NewEvent, Position};
use crate::service::{Ack, IngestRequest, OnError, Receipt, Refusal, RefusedStatus};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsRequest {
    events: Vec<NewEvent>,
    #[serde(default)]
    granularity: Granularity,
    #[serde(default)]
    ack: Ack,
    #[serde(default)]
    on_error: OnError,
}

/// The receipt that a client gets.
#[derive(Serialize)]
pub(crate) struct EventsAnswer {
    first_seq: u64,
    accepted: u64,
    duplicates: u64,
    late: u64,
    waiting: u64,
    refused: u64,
    /// With `on_error: "continue"`: why each was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<RefusalAnswer>,
    log_seq: u64,
    version: u64,
    model: String,
}

/// Why an event was refused.
#[derive(Serialize)]
struct RefusalAnswer {
    index: usize,
    error: String,
}

impl EventsAnswer {
    pub fn of(receipt: &Receipt, refusals: &[Refusal], model: String) -> EventsAnswer {
        let Receipt { first_seq, accepted, duplicates, late, waiting, refused, position } = *receipt;
        let refusals =
            refusals.iter().map(|of| RefusalAnswer { index: of.index, error: of.error.to_string() }).collect();
        EventsAnswer {
            first_seq,
            accepted,
            duplicates,
            late,
            waiting,
            refused,
            refusals,
            log_seq: position.log_seq,
            version: position.version,
            model,
        }
    }
}

/// `POST /v1/events`: all events of the request are applied, or none.
pub(crate) async fn events(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, EventsRequest { events, granularity, ack, on_error }) = read_json(&server, request).await?;
    let mut submitted = server.submit(IngestRequest { events, granularity, ack, on_error }).await?;
    let refusals = submitted.take_refusals();
    let receipt = server.wait_for_receipt(&call, submitted).await?;
    write(&server, &EventsAnswer::of(&receipt, &refusals, server.model()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedOptions {
    #[serde(default)]
    from: u64,
    #[serde(default = "hundred")]
    limit: usize,
}

fn hundred() -> usize {
    100
}

/// `GET /v1/refused?from=0&limit=100`: events that were refused one by one.
pub(crate) async fn refused(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let options = Query::<RefusedOptions>::try_from_uri(request.uri());
    let Query(RefusedOptions { from, limit }) =
        options.map_err(|rejection| ApiError::new(ErrorKind::Malformed, rejection.body_text()))?;
    LimitsSpec::count("limit", limit, server.limits.events)?;
    let service = server.service()?;
    let RefusedStatus { kept, dropped } = service.status().refused_list;
    write(&server, &json!({ "kept": kept, "dropped": dropped, "events": service.refused(from, limit) }))
}

/// Which of the refused events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedNumbers {
    /// Their numbers; left out, all of them.
    numbers: Option<Vec<u64>>,
}

/// `POST /v1/refused/resend`: refused events are submitted again.
pub(crate) async fn resend(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, RefusedNumbers { numbers }) = read_json(&server, request).await?;
    write(&server, &server.resend_refused(&call, numbers).await?)
}

/// `POST /v1/refused/forget`: refused events are removed from the list.
pub(crate) async fn forget(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, RefusedNumbers { numbers }) = read_json(&server, request).await?;
    write(&server, &json!({ "forgotten": server.forget_refused(&call, numbers).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetractRequest {
    ids: Option<Vec<String>>,
    /// Numbers of events, for those without an id.
    seqs: Option<Vec<u64>>,
}

/// `POST /v1/retract`: events are retracted by their ids, or by their numbers.
pub(crate) async fn retract(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, RetractRequest { ids, seqs }) = read_json(&server, request).await?;
    if ids.is_none() && seqs.is_none() {
        return Err(ApiError::new(ErrorKind::Malformed, "no events are named: give their `ids` or their `seqs`"));
    }
    let (retracted, position) = server.retract(&call, ids.unwrap_or_default(), seqs.unwrap_or_default()).await?;
    let Position { log_seq, version } = position;
    write(&server, &Retracted { retracted, remains: server.remains()?, log_seq, version, model: server.model()? })
}

#[derive(Serialize)]
struct Retracted {
    retracted: u64,
    remains: Vec<&'static str>,
    log_seq: u64,
    version: u64,
    model: String,
}
