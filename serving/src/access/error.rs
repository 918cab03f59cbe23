//! The errors of requests, in the form of each interface.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

use crate::RequestError;
use crate::schedule::ReadError;

/// Kinds of refusal. Each has one HTTP status, one gRPC status and one code word for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Not the expected JSON, tensor or header.
    Malformed,
    /// No token, or an unknown one.
    Unauthenticated,
    /// A token without the role.
    Forbidden,
    /// A request for a host that this server is not.
    WrongHost,
    /// A request of another server's page.
    WrongOrigin,
    /// No node has this id.
    UnknownNode,
    /// No such route, model or tensor.
    NotFound,
    /// The route has other methods.
    WrongMethod,
    /// The request did not arrive in time.
    SlowRequest,
    /// A time before the newest event.
    Late,
    /// A time too far in the future.
    Ahead,
    /// An id that another event has.
    IdReused,
    /// The request conflicts with what the server is doing or has done.
    Conflict,
    /// The request has more entries than are allowed.
    TooLarge,
    /// A content type or coding that is not supported.
    WrongMedia,
    /// An invalid value.
    Invalid,
    /// A queue is full.
    Busy,
    /// A budget of the server is used up.
    OverBudget,
    /// A bug, or an answer that is not finite.
    Internal,
    /// Not ready yet, or stopping.
    Unavailable,
    /// The deadline has passed.
    Deadline,
    /// The required events were not applied in time.
    Stale,
}

impl ErrorKind {
    /// Status over HTTP, status over gRPC, and code word.
    const fn facts(self) -> (u16, Code, &'static str) {
        match self {
            ErrorKind::Malformed => (400, Code::InvalidArgument, "malformed"),
            ErrorKind::Unauthenticated => (401, Code::Unauthenticated, "unauthenticated"),
            ErrorKind::Forbidden => (403, Code::PermissionDenied, "forbidden"),
            ErrorKind::WrongHost => (403, Code::PermissionDenied, "wrong_host"),
            ErrorKind::WrongOrigin => (403, Code::PermissionDenied, "wrong_origin"),
            ErrorKind::UnknownNode => (404, Code::NotFound, "unknown_node"),
            ErrorKind::NotFound => (404, Code::NotFound, "not_found"),
            ErrorKind::WrongMethod => (405, Code::Unimplemented, "wrong_method"),
            ErrorKind::SlowRequest => (408, Code::DeadlineExceeded, "slow_request"),
            ErrorKind::Late => (409, Code::FailedPrecondition, "late"),
            ErrorKind::Ahead => (422, Code::InvalidArgument, "ahead"),
            ErrorKind::IdReused => (409, Code::AlreadyExists, "id_reused"),
            ErrorKind::Conflict => (409, Code::FailedPrecondition, "conflict"),
            ErrorKind::TooLarge => (413, Code::ResourceExhausted, "too_large"),
            ErrorKind::WrongMedia => (415, Code::InvalidArgument, "wrong_media"),
            ErrorKind::Invalid => (422, Code::InvalidArgument, "invalid"),
            ErrorKind::Busy => (429, Code::ResourceExhausted, "busy"),
            ErrorKind::OverBudget => (507, Code::ResourceExhausted, "over_budget"),
            ErrorKind::Internal => (500, Code::Internal, "internal"),
            ErrorKind::Unavailable => (503, Code::Unavailable, "unavailable"),
            ErrorKind::Deadline => (504, Code::DeadlineExceeded, "deadline"),
            ErrorKind::Stale => (504, Code::DeadlineExceeded, "stale"),
        }
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn code(self) -> Code {
        self.facts().1
    }

    pub fn word(self) -> &'static str {
        self.facts().2
    }
}

/// A refusal: its kind, a sentence, when to try again, and more fields for the client.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub kind: ErrorKind,
    pub error: String,
    pub retry_after: Option<Duration>,
    /// More fields of the JSON form, such as the counts of a stream.
    pub more: Map<String, Value>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, error: impl Into<String>) -> ApiError {
        ApiError { kind, error: error.into(), retry_after: None, more: Map::new() }
    }

    pub fn too_large(bytes: usize) -> ApiError {
        ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {bytes} bytes"))
    }

    /// The refusal after a panic.
    pub fn broken() -> ApiError {
        ApiError::new(ErrorKind::Internal, "the answer broke off: this is a bug, and the server's log says where")
    }

    /// Adds a field to the JSON form.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> ApiError {
        self.more.insert(field.into(), value.into());
        self
    }

    /// Puts the place of the fault in front of the sentence.
    pub fn at(mut self, place: impl std::fmt::Display) -> ApiError {
        self.error = format!("{place}: {}", self.error);
        self
    }
}

/// The sentence of a refusal, as an extension of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Said(pub String);

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> ApiError {
        let kind = match error {
            RequestError::UnknownNode { .. } => ErrorKind::UnknownNode,
            RequestError::Late { .. } => ErrorKind::Late,
            RequestError::IdReused { .. } => ErrorKind::IdReused,
            RequestError::Ahead(_) => ErrorKind::Ahead,
            RequestError::Invalid { .. } => ErrorKind::Invalid,
            RequestError::TooMany { .. } => ErrorKind::TooLarge,
            RequestError::Deadline { .. } => ErrorKind::Deadline,
            _ => ErrorKind::Internal,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(refusal: ReadError) -> ApiError {
        let error = refusal.to_string();
        let (kind, retry_after) = match refusal {
            ReadError::Request(error) => return error.into(),
            ReadError::Full { retry_after, .. } | ReadError::TooLate { retry_after, .. } => {
                (ErrorKind::Busy, Some(retry_after))
            }
            ReadError::Stale { .. } => (ErrorKind::Stale, None),
            ReadError::Unavailable(_) => (ErrorKind::Unavailable, None),
            ReadError::Broken => (ErrorKind::Internal, None),
        };
        ApiError { retry_after, ..ApiError::new(kind, error) }
    }
}

impl IntoResponse for ApiError {
    /// `{"error": "…", "code": "…"}` and more fields. `retry-after` is in whole seconds; `retry_after_ms` is more
    /// precise.
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "code": self.kind.word() });
        let said = Said(self.error);
        if let Value::Object(fields) = &mut body {
            fields.extend(self.more);
            if let Some(after) = self.retry_after {
                fields.insert("retry_after_ms".into(), (after.as_millis() as u64).into());
            }
        }
        let mut response = (self.kind.status(), Json(body)).into_response();
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil().max(1.0) as u64));
        }
        if self.kind == ErrorKind::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(said);
        response
    }
}

impl From<ApiError> for Status {
    /// The code word is in the metadata as `tempograph-code`, the time until a retry as `grpc-retry-pushback-ms`.
    fn from(refused: ApiError) -> Status {
        let mut status = Status::new(refused.kind.code(), refused.error);
        let metadata = status.metadata_mut();
        metadata.insert("tempograph-code", tonic::metadata::MetadataValue::from_static(refused.kind.word()));
        if let Some(after) = refused.retry_after {
            metadata.insert("grpc-retry-pushback-ms", (after.as_millis() as u64).into());
        }
        status
    }
}
