//! The middleware of every request: it authorizes the caller, reads the deadline, and counts the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};
use tracing::Instrument;

use crate::access::auth::Role;
use crate::access::error::{ApiError, ErrorKind, Said};
use crate::access::live::Access;
use crate::access::routes::{ROUTES, Route, place};
use crate::access::web::{allow_reading, allow_sending};
use crate::interface::listen::Peer;
use crate::interface::server::{Call, Server};
use crate::observe::audit::{AuditDetails, AuditEntry};
use crate::observe::metrics::Ended;

/// Marks requests of the listener for probes, which needs no token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfProbes;

/// Authorizes a request or refuses it in the form of its protocol. Counts it by its route, and writes the audit log.
pub(crate) async fn handle_request(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let access = server.access.now();
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = matched.and_then(place);
    let unlisted = matched.is_some() && route.is_none();
    let grpc = Route::is_grpc(request.uri().path());
    let span = tracing::debug_span!("request", route = matched_name(route));
    #[cfg(feature = "otel")]
    crate::observe::otel::continue_from(&span, request.headers());
    let from = access.web.check(request.headers(), request.uri());
    if let Ok(Some(origin)) = &from
        && request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return preflight(origin.clone());
    }
    let mut audited = Audited::new(&server, route, &request);
    let authorized = if let Err(refused) = &from {
        Err(refused.clone())
    } else if unlisted {
        Err(ApiError::new(ErrorKind::NotFound, "this route is closed"))
    } else {
        authorize(&server, &access, route, &request, &mut audited)
    };
    let mut response = match authorized {
        Err(refused) => {
            audited.refused(&refused);
            if grpc { Status::from(refused).into_http::<axum::body::Body>() } else { refused.into_response() }
        }
        Ok(call) => {
            request.extensions_mut().insert(call);
            next.run(request).instrument(span).await
        }
    };
    if grpc {
        name_oversize(&mut response);
    }
    let (ended, took) = (ended(&response, grpc), begun.elapsed());
    tracing::debug!(route = matched_name(route), ended = %ended, micros = took.as_micros() as u64, "answered");
    server.metrics.answered(route, ended, took);
    audited.answered(&response, ended, grpc);
    if let Ok(Some(origin)) = from {
        allow_reading(response.headers_mut(), origin);
    }
    response
}

/// The gRPC library refuses a message over the limit as OUT_OF_RANGE, before a handler sees it. Over HTTP the same
/// refusal is `too_large`.
fn name_oversize(response: &mut Response) {
    let headers = response.headers_mut();
    if headers.get("grpc-status").is_some_and(|value| value.as_bytes() == b"11") {
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        headers.insert("tempograph-code", HeaderValue::from_static(ErrorKind::TooLarge.word()));
    }
}

/// A request's line in the audit log. It is written where the request changes the server or is denied. If the client
/// leaves before the answer, it is written when this is dropped.
struct Audited<'a> {
    server: &'a Server,
    begun: Instant,
    action: String,
    address: Option<String>,
    by: Option<Arc<str>>,
    details: AuditDetails,
    error: Option<String>,
    denied: bool,
    privileged: bool,
    written: bool,
}

impl<'a> Audited<'a> {
    fn new(server: &'a Server, route: Option<usize>, request: &Request) -> Audited<'a> {
        let role = route.and_then(|at| ROUTES[at].role);
        Audited {
            server,
            begun: Instant::now(),
            action: route.map_or("other".into(), |at| ROUTES[at].path.into()),
            address: request.extensions().get::<Peer>().map(|peer| peer.0.to_string()),
            by: None,
            details: AuditDetails::default(),
            error: None,
            denied: false,
            privileged: matches!(role, Some(Role::Admin | Role::Retract)),
            written: false,
        }
    }

    fn refused(&mut self, refused: &ApiError) {
        use ErrorKind::{Forbidden, Unauthenticated, WrongHost, WrongOrigin};
        self.denied = matches!(refused.kind, Unauthenticated | Forbidden | WrongHost | WrongOrigin);
        self.error = Some(refused.error.clone());
    }

    fn answered(&mut self, response: &Response, ended: Ended, grpc: bool) {
        if self.error.is_none() {
            let message = response.headers().get("grpc-message").and_then(|value| value.to_str().ok());
            let said = response.extensions().get::<Said>().map(|said| said.0.clone());
            self.error = said.or_else(|| message.filter(|_| grpc).map(String::from));
        }
        let fine = matches!(ended, Ended::Http(200..=299) | Ended::Grpc(Code::Ok));
        self.write(
            if self.denied {
                "denied"
            } else if fine {
                "done"
            } else {
                "refused"
            },
            Some(ended),
        );
    }

    fn write(&mut self, outcome: &'static str, ended: Option<Ended>) {
        self.written = true;
        if !self.privileged && !self.denied {
            return;
        }
        self.server.audit.record(&AuditEntry {
            action: &self.action,
            by: self.by.as_deref(),
            address: self.address.take(),
            outcome,
            status: ended.map(|ended| ended.to_string()),
            error: self.error.take(),
            details: self.details.take(),
            micros: self.begun.elapsed().as_micros() as u64,
        });
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        if !self.written {
            self.write("abandoned", None);
        }
    }
}

/// The answer to a browser that asks whether a page of an allowed origin may send a request.
fn preflight(origin: HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    allow_reading(response.headers_mut(), origin);
    allow_sending(response.headers_mut());
    response
}

fn matched_name(route: Option<usize>) -> &'static str {
    route.map_or("other", |at| ROUTES[at].path)
}

fn authorize(
    server: &Server,
    access: &Access,
    route: Option<usize>,
    request: &Request,
    audited: &mut Audited<'_>,
) -> Result<Call, ApiError> {
    let headers = request.headers();
    let of_probes = request.extensions().get::<OfProbes>().is_some();
    // The router refuses an unknown path, with the same answer for every caller.
    let caller = match route.and_then(|at| ROUTES[at].role) {
        // Open routes ignore the token, so that health checks work even with an unknown token.
        None => access.authenticator.caller(None)?,
        Some(Role::Metrics) if of_probes => access.authenticator.caller(None)?,
        Some(role) => {
            let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
            let caller = access.authenticator.caller(shown)?;
            audited.by.clone_from(&caller.name);
            caller.require_role(role)?;
            if !route.is_some_and(|at| ROUTES[at].reports_status()) {
                server.caught_up()?;
            }
            caller
        }
    };
    refuse_large(headers, route, server.limits.body_bytes)?;
    let tenant = tenant(headers, caller.name.as_ref())?;
    let deadline = deadline(headers)?.map(|within| Instant::now() + within);
    Ok(Call { tenant, deadline, details: audited.details.clone() })
}

/// Refuses a body by its declared length before it is sent. A body without a declared length is cut off while it is
/// read.
fn refuse_large(headers: &HeaderMap, route: Option<usize>, most: usize) -> Result<(), ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let streams = route.is_some_and(|at| ROUTES[at].path == "/v1/events/stream");
    if length.is_some_and(|length| length > most as u64) && !streams { Err(ApiError::too_large(most)) } else { Ok(()) }
}

/// The tenant of a request. The name of a token takes precedence over the header, since any client can write a header.
fn tenant(headers: &HeaderMap, token: Option<&Arc<str>>) -> Result<Arc<str>, ApiError> {
    let malformed = || ApiError::new(ErrorKind::Malformed, "the header `tenant` is not text of at most 64 bytes");
    match (token, headers.get("tenant")) {
        (Some(name), _) => Ok(name.clone()),
        (None, None) => Ok("".into()),
        (None, Some(value)) => {
            value.to_str().ok().filter(|name| name.len() <= 64).map(Into::into).ok_or_else(malformed)
        }
    }
}

/// The time until the deadline, from `deadline-ms` or gRPC's `grpc-timeout`.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let wrong =
        |name: &str, wanted: &str| ApiError::new(ErrorKind::Malformed, format!("the header `{name}` is not {wanted}"));
    if let Some(value) = headers.get("deadline-ms") {
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        let millis: u32 = millis.ok_or_else(|| wrong("deadline-ms", "a whole number of milliseconds"))?;
        return Ok(Some(Duration::from_millis(u64::from(millis))));
    }
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(grpc_timeout);
    Ok(Some(parsed.ok_or_else(|| wrong("grpc-timeout", "up to eight digits and one of H, M, S, m, u, n"))?))
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(3600 * count)),
        "M" => Some(Duration::from_secs(60 * count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// How a request ended. Only a gRPC refusal has its status in the headers.
fn ended(response: &Response, grpc: bool) -> Ended {
    if !grpc {
        return Ended::Http(response.status().as_u16());
    }
    Ended::Grpc(response.headers().get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn deadlines_are_read_in_either_form_and_anything_else_refused() {
        let read = |name, value: &str| deadline(&headers(name, value.as_bytes())).map_err(|refused| refused.kind);
        assert_eq!(read("deadline-ms", "250"), Ok(Some(Duration::from_millis(250))));
        for (text, nanos) in
            [("3S", 3_000_000_000), ("250m", 250_000_000), ("7u", 7_000), ("99999999n", 99_999_999), ("0m", 0)]
        {
            assert_eq!(read("grpc-timeout", text), Ok(Some(Duration::from_nanos(nanos))));
        }
        assert_eq!(read("other", "x"), Ok(None));
        for (name, text) in
            [("deadline-ms", "-1"), ("deadline-ms", "1.5"), ("grpc-timeout", "S"), ("grpc-timeout", "123456789S")]
        {
            assert_eq!(read(name, text), Err(ErrorKind::Malformed), "{text}");
        }
        for text in ["", "5", "5x", "+5S", "5 S"] {
            assert_eq!(read("grpc-timeout", text), Err(ErrorKind::Malformed), "{text}");
        }
        assert!(deadline(&headers("grpc-timeout", "5ä".as_bytes())).is_err());
    }

    #[test]
    fn a_tenant_is_the_tokens_name_or_what_the_header_says() {
        let named = headers("tenant", b"shop");
        assert_eq!(&*tenant(&named, None).unwrap(), "shop");
        assert_eq!(&*tenant(&named, Some(&"token".into())).unwrap(), "token");
        assert_eq!(&*tenant(&HeaderMap::new(), None).unwrap(), "");
        assert!(tenant(&headers("tenant", &[b'x'; 65]), None).is_err());
    }
}
