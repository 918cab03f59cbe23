//! Converts gRPC messages to the engine's types and back.

use serde_json::Number;
use tempograph_framework::Side;

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::grpc::proto::tempograph as message;
use crate::interface::server::ReadConsistency;
use crate::request::id::ExternalId;
use crate::request::{Granularity, NewEvent, PairQuery, Position, RequestError};
use crate::service::{Ack, IngestRequest, OnError, Receipt, Refusal, RefusedEvent};

/// A time. Each message has it in its own `oneof`.
macro_rules! time {
    ($when:expr, $of:ident, $place:expr) => {
        match $when {
            None => Ok(None),
            Some(crate::interface::grpc::proto::tempograph::$of::When::Time(time)) => {
                Ok(Some(serde_json::Number::from(time)))
            }
            Some(crate::interface::grpc::proto::tempograph::$of::When::FractionalTime(time)) => {
                $crate::interface::grpc::convert::fraction(time, $place).map(Some)
            }
        }
    };
}
pub(crate) use time;

/// # Errors
/// 422 for a value that is not a number.
pub(crate) fn fraction(time: f64, place: impl ToString) -> Result<Number, ApiError> {
    Number::from_f64(time).ok_or_else(|| RequestError::invalid(place, format!("is {time}, which is no time")).into())
}

/// # Errors
/// 422 naming the first event without a time, or 400 for an unknown enumeration value.
pub(crate) fn ingest_request(request: message::EventsRequest) -> Result<IngestRequest, ApiError> {
    let granularity = match request.granularity() {
        message::Granularity::Event => Granularity::Event,
        message::Granularity::Batch => Granularity::Batch,
    };
    if message::Granularity::try_from(request.granularity).is_err() {
        return Err(ApiError::new(
            ErrorKind::Malformed,
            format!("granularity is {}, which is none", request.granularity),
        ));
    }
    let ack = match message::Ack::try_from(request.ack) {
        Ok(message::Ack::Unspecified) => Ack::default(),
        Ok(message::Ack::Accepted) => Ack::Accepted,
        Ok(message::Ack::Durable) => Ack::Durable,
        Ok(message::Ack::Applied) => Ack::Applied,
        Err(_) => return Err(ApiError::new(ErrorKind::Malformed, format!("ack is {}, which is none", request.ack))),
    };
    let on_error = match message::OnError::try_from(request.on_error) {
        Ok(message::OnError::Abort) => OnError::Abort,
        Ok(message::OnError::Continue) => OnError::Continue,
        Err(_) => {
            let problem = format!("on_error is {}, which is none", request.on_error);
            return Err(ApiError::new(ErrorKind::Malformed, problem));
        }
    };
    Ok(IngestRequest { events: events("events", request.events)?, granularity, ack, on_error })
}

/// # Errors
/// 422 naming the first event without a time.
pub(crate) fn events(list: &str, events: Vec<message::Event>) -> Result<Vec<NewEvent>, ApiError> {
    let own = |(i, event): (usize, message::Event)| {
        let message::Event { id, src, dst, src_text, dst_text, label, features, when } = event;
        let place = || format!("{list}[{i}].time");
        let time = time!(when, event, place())?.ok_or_else(|| RequestError::invalid(place(), "is missing"))?;
        let features = (!features.is_empty()).then_some(features);
        let (src, dst) = (node(src, src_text), node(dst, dst_text));
        Ok(NewEvent { src, dst, time, label, features, id: (!id.is_empty()).then_some(id) })
    };
    events.into_iter().enumerate().map(own).collect()
}

/// An id: the text where there is one, else the number.
pub(crate) fn node(number: u64, text: String) -> ExternalId {
    if text.is_empty() { number.into() } else { text.as_str().into() }
}

/// The number and the text of an id, as messages have them.
pub(crate) fn fields(id: &ExternalId) -> (u64, String) {
    match id {
        ExternalId::Number(number) => (*number, String::new()),
        ExternalId::Text(text) => (0, text.to_string()),
    }
}

/// # Errors
/// 422 for a time that is not a number.
pub(crate) fn pair(place: &str, pair: message::Pair) -> Result<PairQuery, ApiError> {
    let message::Pair { src, dst, src_text, dst_text, when } = pair;
    Ok(PairQuery {
        src: node(src, src_text),
        dst: node(dst, dst_text),
        time: time!(when, pair, format!("{place}.time"))?,
    })
}

/// # Errors
/// 400 for an unknown side.
pub(crate) fn side(side: i32) -> Result<Option<Side>, ApiError> {
    match message::Side::try_from(side) {
        Ok(message::Side::Unspecified) => Ok(None),
        Ok(message::Side::Source) => Ok(Some(Side::Source)),
        Ok(message::Side::Destination) => Ok(Some(Side::Destination)),
        Err(_) => Err(ApiError::new(ErrorKind::Malformed, format!("side is {side}, which is none"))),
    }
}

pub(crate) fn consistency(terms: Option<message::Terms>) -> ReadConsistency {
    let message::Terms { min_seq, max_staleness_ms } = terms.unwrap_or_default();
    ReadConsistency { min_seq, max_staleness_ms }
}

pub(crate) fn position(position: Position, model: impl Into<String>) -> Option<message::Position> {
    Some(message::Position { log_seq: position.log_seq, version: position.version, model: model.into() })
}

pub(crate) fn receipt(receipt: &Receipt, refusals: &[Refusal], model: String) -> message::Receipt {
    let Receipt { first_seq, accepted, duplicates, late, waiting, refused, position: seen } = *receipt;
    let refusal = |of: &Refusal| message::Refusal { index: of.index as u64, error: of.error.to_string() };
    let refusals = refusals.iter().map(refusal).collect();
    message::Receipt {
        first_seq,
        accepted,
        duplicates,
        late,
        position: position(seen, model),
        waiting,
        refused,
        refusals,
    }
}

pub(crate) fn refused_event(event: RefusedEvent) -> message::RefusedEvent {
    let RefusedEvent { number, refused_at, error, event } = event;
    let NewEvent { src, dst, time, label, features, id } = event;
    let when = match time.as_i64() {
        Some(time) => message::event::When::Time(time),
        None => message::event::When::FractionalTime(time.as_f64().unwrap_or_default()),
    };
    let (id, features) = (id.unwrap_or_default(), features.unwrap_or_default());
    let ((src, src_text), (dst, dst_text)) = (fields(&src), fields(&dst));
    let event = Some(message::Event { id, src, dst, src_text, dst_text, label, features, when: Some(when) });
    message::RefusedEvent { number, refused_at, error, event }
}

/// # Errors
/// 400 for numbers together with `all`, and for neither.
pub(crate) fn refused_numbers(asked: message::RefusedNumbers) -> Result<Option<Vec<u64>>, ApiError> {
    match (asked.all, asked.numbers.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(asked.numbers)),
        (true, false) => Err(ApiError::new(ErrorKind::Malformed, "numbers are given and all is true; only one can be")),
        (false, true) => Err(ApiError::new(ErrorKind::Malformed, "numbers is empty; give some, or all = true")),
    }
}
