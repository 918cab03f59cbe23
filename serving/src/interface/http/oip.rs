//! The Open Inference Protocol over HTTP: JSON, and optionally tensors as bytes after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::http::body::{HttpResult, JSON, check_type, read, receive};
use crate::interface::http::coding::{Coding, accepted_coding};
use crate::interface::oip::{
    ANY_VERSION, EXTENSIONS, Inference, InferenceResult, Model, Parameter, Port, Tensor, Values,
};
use crate::interface::server::Server;
use crate::request::Position;

/// The header with the length of the JSON part of a body. Tensors follow it.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A model and its version, from the path.
#[derive(Deserialize)]
pub(crate) struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

impl Named {
    /// # Errors
    /// As [`Model::find`], or 503 while the server is being opened.
    pub fn find(&self, server: &Server) -> Result<Model, ApiError> {
        Model::find(&self.model, &self.version, &server.model()?)
    }
}

/// `GET /v2`.
pub(crate) async fn server() -> Json<Value> {
    Json(json!({ "name": "tempograph", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

/// `GET /v2/health/live`.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// `GET /v2/health/ready`.
pub(crate) async fn ready(State(server): State<Arc<Server>>) -> Response {
    let ready = server.ready().is_ok();
    (status(ready), Json(json!({ "ready": ready }))).into_response()
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `GET /v2/models/{model}/ready`.
pub(crate) async fn model_ready(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> HttpResult {
    named.find(&server)?;
    let ready = server.ready().is_ok();
    Ok((status(ready), Json(json!({ "name": named.model, "ready": ready }))).into_response())
}

/// `GET /v2/models/{model}`.
pub(crate) async fn model(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> HttpResult {
    let model = named.find(&server)?;
    let ports = |ports: &[Port]| {
        let encoded = |port: &Port| json!({ "name": port.name, "datatype": port.datatype, "shape": [port.shape] });
        ports.iter().map(encoded).collect::<Vec<_>>()
    };
    let (inputs, outputs) = (ports(model.inputs()), ports(model.outputs()));
    let encoded = json!({ "name": named.model, "versions": [server.model()?, ANY_VERSION], "platform": "tempograph", "inputs": inputs, "outputs": outputs });
    Ok(Json(encoded).into_response())
}

#[derive(Deserialize)]
struct InferRequest {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Value>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Which outputs are returned as bytes.
struct Binary {
    all: bool,
    some: BTreeMap<String, bool>,
}

impl Binary {
    fn wants(&self, name: &str) -> bool {
        self.some.get(name).copied().unwrap_or(self.all)
    }
}

/// `POST /v2/models/{model}/infer`.
pub(crate) async fn infer(State(server): State<Arc<Server>>, Path(named): Path<Named>, request: Request) -> HttpResult {
    let model = named.find(&server)?;
    let length = json_length(request.headers())?;
    // Clients of the protocol may leave the type out. A request without one changes nothing, and no page of another
    // origin may read its answer.
    if request.headers().contains_key(header::CONTENT_TYPE) {
        check_type(request.headers(), &[JSON, "application/octet-stream"])?;
    }
    let coding = accepted_coding(request.headers());
    let (call, body) = receive(&server, request).await?;
    let (inference, binary) = parse(model, &body, length)?;
    let id = inference.id.clone();
    let outcome = inference.run(&server, &call).await?;
    let answer = write(&named.model, id, &outcome, &binary)?;
    compressed(answer, coding)
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        ApiError::new(ErrorKind::Malformed, format!("the header `{JSON_LENGTH}` is not a count of bytes"))
    })
}

/// Parses a request: JSON, then the bytes of the inputs that are not in it.
fn parse(model: Model, body: &Bytes, json_length: Option<usize>) -> Result<(Inference, Binary), ApiError> {
    let malformed = |fact: String| ApiError::new(ErrorKind::Malformed, fact);
    let length = json_length.unwrap_or(body.len());
    let Some((head, mut bytes)) = body.split_at_checked(length) else {
        return Err(malformed(format!("the header `{JSON_LENGTH}` says {length} bytes of a body of {}", body.len())));
    };
    let InferRequest { id, parameters, inputs, outputs } = read(head)?;
    let mut tensors = Vec::with_capacity(inputs.len());
    for Input { name, datatype, shape, parameters, data } in inputs {
        let size = parameters.get("binary_data_size");
        let values = match (data, size) {
            (Some(data), None) => Values::of_json(&name, &datatype, &data)?,
            (None, Some(size)) => {
                let taken = size.as_u64().and_then(|size| bytes.split_at_checked(usize::try_from(size).ok()?));
                let short = || {
                    malformed(format!("input `{name}` has binary_data_size {size}, but {} bytes are left", bytes.len()))
                };
                let (taken, rest) = taken.ok_or_else(short)?;
                bytes = rest;
                Values::of_bytes(&name, &datatype, taken)?
            }
            _ => {
                return Err(malformed(format!(
                    "input `{name}` needs either `data` or the parameter `binary_data_size`"
                )));
            }
        };
        tensors.push(Tensor::new(&name, &shape, values)?);
    }
    if !bytes.is_empty() {
        return Err(malformed(format!("{} bytes are left over behind the inputs", bytes.len())));
    }
    let flag = |parameters: &Map<String, Value>, name: &str| parameters.get(name).and_then(Value::as_bool);
    let all = flag(&parameters, "binary_data_output").unwrap_or(false);
    let some = outputs
        .iter()
        .filter_map(|output| Some((output.name.clone(), flag(&output.parameters, "binary_data")?)))
        .collect();
    let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, parameter(value)?))).collect();
    let outputs = outputs.into_iter().map(|output| output.name).collect();
    Ok((Inference { model, id, parameters, inputs: tensors, outputs }, Binary { all, some }))
}

fn parameter(value: Value) -> Option<Parameter> {
    match value {
        Value::Bool(value) => Some(Parameter::Bool(value)),
        Value::Number(value) => value.as_i64().map(Parameter::Whole).or_else(|| value.as_f64().map(Parameter::Real)),
        Value::String(value) => Some(Parameter::Text(value)),
        _ => None,
    }
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    /// The position of the answer.
    parameters: Position,
    outputs: Vec<Told<'a>>,
}

/// An output: its values, or the number of their bytes after the JSON.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Values>,
}

fn write(
    name: &str,
    id: String,
    outcome: &InferenceResult,
    binary: &Binary,
) -> Result<(Vec<u8>, Option<usize>), ApiError> {
    let mut bytes = Vec::new();
    let mut outputs = Vec::new();
    for Tensor { name, shape, values } in &outcome.outputs {
        let datatype = values.datatype();
        if !binary.wants(name) {
            outputs.push(Told { name, datatype, shape, parameters: None, data: Some(values) });
            continue;
        }
        let behind = values.to_bytes();
        bytes.extend_from_slice(&behind);
        outputs.push(Told {
            name,
            datatype,
            shape,
            parameters: Some(json!({ "binary_data_size": behind.len() })),
            data: None,
        });
    }
    let head =
        InferResponse { model_name: name, model_version: &outcome.version, id, parameters: outcome.position, outputs };
    let mut body = serde_json::to_vec(&head)
        .map_err(|error| ApiError::new(ErrorKind::Internal, format!("the answer cannot be written: {error}")))?;
    let length = (!bytes.is_empty()).then_some(body.len());
    body.append(&mut bytes);
    Ok((body, length))
}

/// The answer of a request: JSON, and with `length` bytes of it tensors behind. Compressed if the client wants it so.
fn compressed((body, length): (Vec<u8>, Option<usize>), coding: Option<Coding>) -> HttpResult {
    let kind = if length.is_some() { "application/octet-stream" } else { JSON };
    let broken =
        |error: std::io::Error| ApiError::new(ErrorKind::Internal, format!("the answer cannot be compressed: {error}"));
    let body = match coding {
        Some(coding) => coding.compress(&body).map_err(broken)?,
        None => body,
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from(body)).into_response();
    if let Some(length) = length {
        response.headers_mut().insert(JSON_LENGTH, length.into());
    }
    if let Some(coding) = coding {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(response)
}
