//! Submits and retracts events.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};

use crate::interface::http::body::{HttpResult, json, write};
use crate::interface::server::Server;
use crate::request::{Granularity, NewEvent, Position};
use crate::service::{Ack, IngestRequest, Receipt};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsRequest {
    events: Vec<NewEvent>,
    #[serde(default)]
    granularity: Granularity,
    #[serde(default)]
    ack: Ack,
}

/// The receipt that a client gets.
#[derive(Serialize)]
pub(crate) struct EventsAnswer {
    first_seq: u64,
    accepted: u64,
    duplicates: u64,
    late: u64,
    log_seq: u64,
    version: u64,
    model: String,
}

impl EventsAnswer {
    pub fn of(receipt: &Receipt, model: String) -> EventsAnswer {
        let Receipt { first_seq, accepted, duplicates, late, position } = *receipt;
        EventsAnswer {
            first_seq,
            accepted,
            duplicates,
            late,
            log_seq: position.log_seq,
            version: position.version,
            model,
        }
    }
}

/// `POST /v1/events`: all events of the request are applied, or none.
pub(crate) async fn events(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, EventsRequest { events, granularity, ack }) = json(&server, request).await?;
    let receipt = server.ingest(&call, IngestRequest { events, granularity, ack }).await?;
    write(&server, &EventsAnswer::of(&receipt, server.model()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetractRequest {
    ids: Vec<String>,
}

/// `POST /v1/retract`: events are retracted by their ids.
pub(crate) async fn retract(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, RetractRequest { ids }) = json(&server, request).await?;
    let (retracted, position) = server.retract(&call, ids).await?;
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
