//! Administration. Needs a token with the role `admin`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use serde::Deserialize;

use crate::interface::http::body::{HttpResult, Nothing, json, json_or_nothing, write};
use crate::interface::server::Server;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadRequest {
    artifact: PathBuf,
}

/// `POST /admin/reload` `{"artifact": FOLDER}`.
pub(crate) async fn reload(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, ReloadRequest { artifact }) = json(&server, request).await?;
    let done = server.reload(&call, artifact).await?;
    write(&server, &done)
}

/// `POST /admin/rollback`.
pub(crate) async fn rollback(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, Nothing {}) = json_or_nothing(&server, request).await?;
    let done = server.rollback(&call).await?;
    write(&server, &done)
}

/// `POST /admin/snapshot`.
pub(crate) async fn snapshot(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, Nothing {}) = json_or_nothing(&server, request).await?;
    let done = server.snapshot(&call).await?;
    write(&server, &done)
}

/// `POST /admin/promote`.
pub(crate) async fn promote(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, Nothing {}) = json_or_nothing(&server, request).await?;
    let done = server.promote(&call).await?;
    write(&server, &done)
}

/// `POST /admin/drain`.
pub(crate) async fn drain(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, Nothing {}) = json_or_nothing(&server, request).await?;
    let done = server.drain(&call).await?;
    write(&server, &done)
}

/// `POST /admin/expire`.
pub(crate) async fn expire(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, Nothing {}) = json_or_nothing(&server, request).await?;
    let done = server.expire(&call).await?;
    write(&server, &done)
}
