//! Request and response bodies.

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::http::coding::given_coding;
use crate::interface::server::{Call, Server, run_blocking};
use crate::observe::metrics::Stage;

pub(crate) type HttpResult = Result<Response, ApiError>;

/// Most bytes of JSON that are parsed or written on a thread that drives connections. Longer work would delay other
/// connections.
const SHORT: usize = 32 << 10;

/// The caller of a request and its body.
///
/// # Errors
/// 408, 413 or 415: the body is too slow, too large or compressed in another way than gzip and deflate.
pub(crate) async fn receive(server: &Server, request: Request) -> Result<(Call, Bytes), ApiError> {
    let (mut head, body) = request.into_parts();
    let call = head.extensions.remove::<Call>().ok_or_else(ApiError::broken)?;
    let coding = given_coding(&head.headers)?;
    let most = server.limits.body_bytes;
    let reading = axum::body::to_bytes(body, most);
    let slow = |_| {
        ApiError::new(ErrorKind::SlowRequest, format!("the body did not arrive within {} ms", server.limits.body_ms))
    };
    let body = tokio::time::timeout(server.limits.body(), reading).await.map_err(slow)?;
    let body = body.map_err(|error| broken_off(&error, most))?;
    let Some(coding) = coding.filter(|_| !body.is_empty()) else { return Ok((call, body)) };
    let whole = run_blocking(move || coding.expand(&body, most)).await??;
    Ok((call, whole.into()))
}

/// The error of a body: it is too large, or the client closed the connection.
fn broken_off(error: &axum::Error, most: usize) -> ApiError {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("length limit") {
            return ApiError::too_large(most);
        }
        source = error.source();
    }
    ApiError::new(ErrorKind::Malformed, format!("the body broke off: {error}"))
}

/// Whether a body is of the type `kind`, such as `json`. A page of any other origin can send forms, plain text and
/// bodies without a type, and its browser does not ask first. So none of these is taken for the wanted type.
///
/// # Errors
/// 415 naming the type.
pub(crate) fn check_type(headers: &HeaderMap, kinds: &[&str]) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("no text"));
    let bare = given.and_then(|given| given.split(';').next()).map(|bare| bare.trim().to_ascii_lowercase());
    if bare.as_ref().is_some_and(|bare| kinds.contains(&bare.as_str())) {
        return Ok(());
    }
    let given = given.map_or("the body has no content type".into(), |given| format!("the body is `{given}`"));
    Err(ApiError::new(
        ErrorKind::WrongMedia,
        format!("{given}; this route reads {}: send the header `content-type: {}`", kinds.join(" and "), kinds[0]),
    ))
}

/// The type of JSON bodies.
pub(crate) const JSON: &str = "application/json";

/// Receives a body and parses it as JSON.
///
/// # Errors
/// As [`receive`], or 400 naming the field, line and column.
pub(crate) async fn json<T: DeserializeOwned + Send + 'static>(
    server: &Server,
    request: Request,
) -> Result<(Call, T), ApiError> {
    let begun = Instant::now();
    check_type(request.headers(), &[JSON])?;
    let (call, body) = receive(server, request).await?;
    let value = if body.len() <= SHORT { read(&body)? } else { run_blocking(move || read(&body)).await?? };
    server.metrics.stage(Stage::Read, begun.elapsed());
    Ok((call, value))
}

/// Parses JSON. An error names field, line and column.
///
/// # Errors
/// 400 as above.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Tracking the path of fields is slow, so it is done only after an error.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let json = &mut serde_json::Deserializer::from_slice(body);
    let malformed = |fact: String| ApiError::new(ErrorKind::Malformed, fact);
    let value =
        serde_path_to_error::deserialize(&mut *json).map_err(|error| match error.path().to_string().as_str() {
            "." => malformed(error.inner().to_string()),
            path => malformed(format!("{path}: {}", error.inner())),
        })?;
    json.end().map_err(|error| malformed(error.to_string()))?;
    Ok(value)
}

/// Writes an answer as JSON.
///
/// # Errors
/// 500 if the value has no JSON form, which is a bug.
pub(crate) fn write<T: Serialize>(server: &Server, value: &T) -> HttpResult {
    let begun = Instant::now();
    let bytes = serde_json::to_vec(value)
        .map_err(|error| ApiError::new(ErrorKind::Internal, format!("the answer cannot be written: {error}")))?;
    server.metrics.stage(Stage::Write, begun.elapsed());
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response())
}

/// A request without fields: `{}`, or no body at all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// As [`json`]; no body counts as an empty object.
///
/// # Errors
/// As [`json`].
pub(crate) async fn json_or_nothing<T: DeserializeOwned + Default>(
    server: &Server,
    request: Request,
) -> Result<(Call, T), ApiError> {
    let typed = check_type(request.headers(), &[JSON]);
    let (call, body) = receive(server, request).await?;
    if body.is_empty() {
        return Ok((call, T::default()));
    }
    typed?;
    let value = read(&body)?;
    Ok((call, value))
}
