//! Extensions of the Open Inference Protocol over HTTP that load generators and orchestrators ask for: configuration,
//! statistics and the index of models.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::interface::http::body::{HttpResult, json_or_nothing, write};
use crate::interface::http::oip::Named;
use crate::interface::oip::{Model, Port, ready_state};
use crate::interface::server::Server;
use crate::observe::metrics::inference::InferenceStatistics;

/// `GET /v2/models/{model}/config`.
pub(crate) async fn config(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> HttpResult {
    let model = named.find(&server)?;
    let port = |port: &Port| {
        let mut encoded =
            json!({ "name": port.name, "data_type": format!("TYPE_{}", port.datatype), "dims": [port.shape] });
        if port.optional {
            encoded["optional"] = true.into();
        }
        encoded
    };
    let (inputs, outputs): (Vec<Value>, Vec<Value>) =
        (model.inputs().iter().map(port).collect(), model.outputs().iter().map(port).collect());
    Ok(Json(json!({
        "name": model.name(), "platform": "tempograph", "backend": "tempograph", "max_batch_size": 0,
        "input": inputs, "output": outputs,
    }))
    .into_response())
}

/// `GET /v2/models/{model}/stats`.
pub(crate) async fn model_statistics(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> HttpResult {
    let model = named.find(&server)?;
    Ok(Json(json!({ "model_stats": [statistics_of(&server, model)?] })).into_response())
}

/// `GET /v2/models/stats`.
pub(crate) async fn statistics(State(server): State<Arc<Server>>) -> HttpResult {
    let all = Model::ALL.into_iter().map(|(_, model)| statistics_of(&server, model)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({ "model_stats": all })).into_response())
}

fn statistics_of(server: &Server, model: Model) -> Result<Value, crate::access::error::ApiError> {
    let InferenceStatistics { success, fail, input, infer, output, queries, last_ms } =
        server.metrics.inference[model as usize].now();
    let timed = |(count, ns): (u64, u64)| json!({ "count": count, "ns": ns });
    Ok(json!({
        "name": model.name(),
        "version": server.model()?,
        "last_inference": last_ms,
        "inference_count": queries,
        "execution_count": success.0,
        "inference_stats": {
            "success": timed(success), "fail": timed(fail), "queue": timed((0, 0)), "compute_input": timed(input),
            "compute_infer": timed(infer), "compute_output": timed(output), "cache_hit": timed((0, 0)),
            "cache_miss": timed((0, 0)),
        },
        "batch_stats": [],
    }))
}

#[derive(Default, Deserialize)]
struct IndexRequest {
    /// Only models that are ready.
    #[serde(default)]
    ready: bool,
}

/// `POST /v2/repository/index`.
pub(crate) async fn index(State(server): State<Arc<Server>>, request: Request) -> HttpResult {
    let (_, IndexRequest { ready }) = json_or_nothing(&server, request).await?;
    let (state, reason) = ready_state(&server);
    let version = server.model()?;
    let encoded = |(name, _)| json!({ "name": name, "version": version, "state": state, "reason": reason });
    let models: Vec<Value> = Model::ALL.into_iter().filter(|_| !ready || reason.is_empty()).map(encoded).collect();
    write(&server, &models)
}
