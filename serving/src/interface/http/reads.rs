//! Queries over HTTP.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::Manifest;
use crate::access::error::{ApiError, ErrorKind};
use crate::interface::http::body::{HttpResult, json, receive, write};
use crate::interface::server::{ReadConsistency, Server};
use crate::request::id::ExternalId;
use crate::request::{NewEvent, PairQuery, Position, RankQuery, Ranked, RequestError, probability, side_of};
use crate::schedule::{AnswerBody, ReadRequest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreRequest {
    queries: Vec<PairQuery>,
    #[serde(default)]
    during: Vec<NewEvent>,
    min_seq: Option<u64>,
    max_staleness_ms: Option<u64>,
}

/// Scores, with their position and the version of the weights.
#[derive(Serialize)]
struct Scored<'a> {
    scores: &'a [f32],
    probabilities: Vec<f32>,
    log_seq: u64,
    version: u64,
    model: &'a str,
}

/// `POST /v1/score`: logits of pairs.
pub(crate) async fn score(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, ScoreRequest { queries, during, min_seq, max_staleness_ms }) = json(&server, request).await?;
    let answer = server
        .query(&call, ReadRequest::Score { queries, during }, ReadConsistency { min_seq, max_staleness_ms })
        .await?;
    let AnswerBody::Scores(scores) = &answer.body else { return Err(ApiError::broken()) };
    let probabilities = scores.iter().copied().map(probability).collect();
    let Position { log_seq, version } = answer.position;
    write(&server, &Scored { scores, probabilities, log_seq, version, model: &answer.model })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RankRequest {
    src: ExternalId,
    candidates: Option<Vec<ExternalId>>,
    time: Option<Number>,
    #[serde(default = "ten")]
    k: usize,
    min_seq: Option<u64>,
    max_staleness_ms: Option<u64>,
}

fn ten() -> usize {
    10
}

#[derive(Serialize)]
struct RankedAnswer<'a> {
    ranked: &'a [Ranked],
    log_seq: u64,
    version: u64,
    model: &'a str,
}

/// `POST /v1/rank`: the best destinations of a source.
pub(crate) async fn rank(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, RankRequest { src, candidates, time, k, min_seq, max_staleness_ms }) = json(&server, request).await?;
    let answer = server
        .query(
            &call,
            ReadRequest::Rank(RankQuery { src, candidates, time, k }),
            ReadConsistency { min_seq, max_staleness_ms },
        )
        .await?;
    let AnswerBody::Ranked(ranked) = &answer.body else { return Err(ApiError::broken()) };
    let Position { log_seq, version } = answer.position;
    write(&server, &RankedAnswer { ranked, log_seq, version, model: &answer.model })
}

/// Values of a query string are text. They are parsed where they are used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddingQuery {
    node: String,
    side: Option<String>,
    time: Option<String>,
    min_seq: Option<String>,
    max_staleness_ms: Option<String>,
}

#[derive(Serialize)]
struct EmbeddingAnswer<'a> {
    embedding: &'a [f32],
    log_seq: u64,
    version: u64,
    model: &'a str,
}

/// `GET /v1/embedding?node=17&side=source&time=1300`.
pub(crate) async fn embedding(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let query = Query::<EmbeddingQuery>::try_from_uri(request.uri());
    let Query(query) = query.map_err(|rejection| ApiError::new(ErrorKind::Malformed, rejection.body_text()))?;
    let (read, seen) = embedding_of(&query)?;
    let (call, _) = receive(&server, request).await?;
    let answer = server.query(&call, read, seen).await?;
    let AnswerBody::Embedding(embedding) = &answer.body else { return Err(ApiError::broken()) };
    let Position { log_seq, version } = answer.position;
    write(&server, &EmbeddingAnswer { embedding, log_seq, version, model: &answer.model })
}

fn embedding_of(query: &EmbeddingQuery) -> Result<(ReadRequest, ReadConsistency), RequestError> {
    let whole = |field: &str, text: &str, what: &str| {
        text.parse().map_err(|_| {
            RequestError::invalid(field, format!("is `{text}`, which is not {what}: a whole number from 0"))
        })
    };
    let count =
        |field: &str, text: &Option<String>| text.as_deref().map(|text| whole(field, text, "a count")).transpose();
    let node = ExternalId::from(query.node.as_str());
    let side = query.side.as_deref().map(side_of).transpose()?;
    let number = |text: &String| {
        text.parse().map_err(|_| RequestError::invalid("time", format!("is `{text}`, which is not a number")))
    };
    let time = query.time.as_ref().map(number).transpose()?;
    let seen = ReadConsistency {
        min_seq: count("min_seq", &query.min_seq)?,
        max_staleness_ms: count("max_staleness_ms", &query.max_staleness_ms)?,
    };
    Ok((ReadRequest::Embedding { node, side, time }, seen))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainRequest {
    src: ExternalId,
    dst: ExternalId,
    time: Option<Number>,
    min_seq: Option<u64>,
    max_staleness_ms: Option<u64>,
}

#[derive(Serialize)]
struct Explained<'a> {
    explanation: Value,
    log_seq: u64,
    version: u64,
    model: &'a str,
}

/// `POST /v1/explain`: a pair's score with the neighbours that it depends on.
pub(crate) async fn explain(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (call, ExplainRequest { src, dst, time, min_seq, max_staleness_ms }) = json(&server, request).await?;
    let (explanation, position, model) =
        server.explain(&call, PairQuery { src, dst, time }, ReadConsistency { min_seq, max_staleness_ms }).await?;
    write(&server, &Explained { explanation, log_seq: position.log_seq, version: position.version, model: &model })
}

#[derive(Serialize)]
struct Model<'a> {
    manifest: &'a Manifest,
    nodes: usize,
    /// Time of the newest event.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<Number>,
    /// A source that can be queried.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<ExternalId>,
    log_seq: u64,
    version: u64,
    model: String,
}

/// `GET /v1/model`: the manifest, and the engine's position.
pub(crate) async fn model(State(server): State<Arc<Server>>) -> HttpResult {
    let engine = server.service()?.engine();
    let (manifest, Position { log_seq, version }) = (engine.manifest(), engine.position());
    write(
        &server,
        &Model {
            manifest,
            nodes: engine.nodes(),
            newest: engine.newest(),
            example: engine.example(),
            log_seq,
            version,
            model: manifest.model_version(),
        },
    )
}
