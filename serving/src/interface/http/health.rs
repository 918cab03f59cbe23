//! Liveness, readiness and status of the server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::access::error::ApiError;
use crate::interface::http::body::{HttpResult, write};
use crate::interface::server::Server;
use crate::service::Readiness;

/// Succeeds as long as the process answers.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Succeeds while events are accepted and answers are current; for a follower, while it follows.
pub(crate) async fn ready(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    server.ready()?;
    let follows = server.service()?.readiness() == Readiness::Following;
    Ok(Json(json!({ "status": if follows { "following" } else { "ready" } })))
}

/// `GET /v1/status`: all numbers of service and scheduler, as JSON.
pub(crate) async fn status(State(server): State<Arc<Server>>) -> HttpResult {
    write(&server, &server.status()?)
}

/// `GET /metrics`: all numbers in Prometheus' text format.
pub(crate) async fn metrics(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], server.prometheus_text()?)
        .into_response())
}
