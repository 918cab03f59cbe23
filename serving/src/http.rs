//! The engine over HTTP with JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, MatchedPath, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};
use tempograph_framework::Side;

use crate::metrics::Metrics;
use crate::request::{Granularity, NewEvent, PairQuery, Position, RankQuery, RequestError, probability};
use crate::{Engine, Manifest};

/// Largest body read, in bytes.
const LARGEST_BODY: usize = 16 << 20;

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Server {
    engine: Arc<Engine>,
    manifest: Manifest,
    /// Names the weights in every answer.
    model: String,
    metrics: Metrics,
}

impl Server {
    pub fn new(engine: Arc<Engine>) -> Server {
        let metrics = Metrics::default();
        metrics.stands_at(engine.position(), engine.nodes());
        let manifest = engine.manifest().clone();
        Server { model: manifest.model_version(), manifest, metrics, engine }
    }
}

/// All routes.
pub(crate) fn router(server: Server) -> Router {
    let server = Arc::new(server);
    Router::new()
        .route("/v1/events", post(events))
        .route("/v1/score", post(score))
        .route("/v1/rank", post(rank))
        .route("/v1/embedding", get(embedding))
        .route("/v1/model", get(model))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(refuse_large))
        .layer(from_fn_with_state(server.clone(), measure))
        .with_state(server)
}

/// An error as a client sees it: `{"error": "…"}`.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: error.into() }
    }

    fn too_large() -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {LARGEST_BODY} bytes"))
    }

    fn panicked() -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off: this is a bug, and the server's log says where")
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        let status = match error {
            RequestError::UnknownNode { .. } => StatusCode::NOT_FOUND,
            RequestError::Late { .. } => StatusCode::CONFLICT,
            RequestError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            RequestError::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RequestError::NotFinite | RequestError::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}

/// An answer, with what it has seen.
#[derive(Serialize)]
struct Answer<T> {
    #[serde(flatten)]
    body: T,
    #[serde(flatten)]
    position: Position,
    model: String,
}

type Body = Result<Bytes, BytesRejection>;
type Answered = Result<Response, Refusal>;

/// Works off the reactor: reading a large body and everything an engine does takes longer than other connections should wait.
async fn compute<T: Serialize + Send + 'static>(
    server: Arc<Server>,
    work: impl FnOnce(&Server) -> Result<(T, Position), Refusal> + Send + 'static,
) -> Answered {
    let model = server.model.clone();
    let (body, position) = tokio::task::spawn_blocking(move || work(&server)).await.map_err(|_| Refusal::panicked())??;
    Ok(Json(Answer { body, position, model }).into_response())
}

/// Reads a body, or says at which field, line and column it is not what it should be.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(),
        status => Refusal::new(status, rejection.body_text()),
    })?;
    let json = &mut serde_json::Deserializer::from_slice(&body);
    let malformed = |fact: String| Refusal::new(StatusCode::BAD_REQUEST, fact);
    let value = serde_path_to_error::deserialize(&mut *json).map_err(|error| match error.path().to_string().as_str() {
        "." => malformed(error.inner().to_string()),
        path => malformed(format!("{path}: {}", error.inner())),
    })?;
    json.end().map_err(|error| malformed(error.to_string()))?;
    Ok(value)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsRequest {
    events: Vec<NewEvent>,
    #[serde(default)]
    granularity: Granularity,
}

/// `POST /v1/events`: all events of the request happen, or none.
async fn events(State(server): State<Arc<Server>>, body: Body) -> Response {
    let answered = compute(server, move |server| {
        let request: EventsRequest = read(body)?;
        let position = server.engine.observe(&request.events, request.granularity).inspect_err(|error| count_late(server, error))?;
        server.metrics.events.fetch_add(request.events.len() as u64, Ordering::Relaxed);
        server.metrics.stands_at(position, server.engine.nodes());
        Ok((json!({ "applied": request.events.len() }), position))
    });
    answered.await.unwrap_or_else(|refusal| match refusal.status.is_server_error() {
        true => refusal.into_response(),
        false => (refusal.status, Json(json!({ "error": refusal.error, "applied": 0 }))).into_response(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreRequest {
    queries: Vec<PairQuery>,
    #[serde(default)]
    during: Vec<NewEvent>,
}

/// `POST /v1/score`: logits of pairs.
async fn score(State(server): State<Arc<Server>>, body: Body) -> Answered {
    compute(server, move |server| {
        let request: ScoreRequest = read(body)?;
        let found = server.engine.score(&request.queries, &request.during).inspect_err(|error| count_late(server, error))?;
        let probabilities: Vec<f32> = found.answer.iter().copied().map(probability).collect();
        Ok((json!({ "scores": found.answer, "probabilities": probabilities }), found.position))
    })
    .await
}

/// `POST /v1/rank`: the best destinations of a source.
async fn rank(State(server): State<Arc<Server>>, body: Body) -> Answered {
    compute(server, move |server| {
        let query: RankQuery = read(body)?;
        let found = server.engine.rank(&query).inspect_err(|error| count_late(server, error))?;
        Ok((json!({ "ranked": found.answer }), found.position))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddingQuery {
    node: String,
    side: Option<String>,
    time: Option<String>,
}

/// `GET /v1/embedding?node=17&side=source&time=1300`.
async fn embedding(State(server): State<Arc<Server>>, query: Result<Query<EmbeddingQuery>, QueryRejection>) -> Answered {
    let Query(query) = query.map_err(|rejection| Refusal::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let (node, side, time) = embedding_of(&query)?;
    compute(server, move |server| {
        let found = server.engine.embedding(node, side, time.as_ref()).inspect_err(|error| count_late(server, error))?;
        Ok((json!({ "embedding": found.answer }), found.position))
    })
    .await
}

fn embedding_of(query: &EmbeddingQuery) -> Result<(u64, Option<Side>, Option<Number>), RequestError> {
    let node = query
        .node
        .parse()
        .map_err(|_| RequestError::invalid("node", format!("is `{}`, which is not an id: a whole number from 0", query.node)))?;
    let side = match query.side.as_deref() {
        None => None,
        Some("source") => Some(Side::Source),
        Some("destination") => Some(Side::Destination),
        Some(other) => return Err(RequestError::invalid("side", format!("is `{other}`; it is `source` or `destination`"))),
    };
    let number = |text: &String| text.parse().map_err(|_| RequestError::invalid("time", format!("is `{text}`, which is not a number")));
    Ok((node, side, query.time.as_ref().map(number).transpose()?))
}

fn count_late(server: &Server, error: &RequestError) {
    if matches!(error, RequestError::Late { .. }) {
        server.metrics.late.fetch_add(1, Ordering::Relaxed);
    }
}

/// `GET /v1/model`: the manifest, and where the engine stands.
async fn model(State(server): State<Arc<Server>>) -> Answered {
    compute(server, |server| Ok((json!({ "manifest": server.manifest, "nodes": server.engine.nodes() }), server.engine.position()))).await
}

async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "live" }))
}

/// Ready from the start, since an engine is opened before it listens, until a panic leaves it half-way through an event.
async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.engine.is_broken() {
        return Refusal { status: StatusCode::SERVICE_UNAVAILABLE, ..RequestError::Broken.into() }.into_response();
    }
    Json(json!({ "status": "ready" })).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], server.metrics.text()).into_response()
}

async fn no_such_route(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

/// Refuses a body that announces itself as too large before it is sent; one that does not is cut off while it is read.
async fn refuse_large(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > LARGEST_BODY as u64) { Refusal::too_large().into_response() } else { next.run(request).await }
}

/// Counts every request by its route, so that a client cannot make up labels.
async fn measure(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other".to_string(), |path| path.as_str().to_string());
    let response = next.run(request).await;
    server.metrics.answered(&route, response.status().as_u16(), start.elapsed());
    response
}
