//! The service over HTTP with JSON.

mod admin;
mod body;
mod coding;
mod events;
mod health;
mod lines;
mod oip;
mod reads;
mod triton;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::page::page;
use crate::interface::server::Server;

/// The router of all HTTP routes in [`ROUTES`](crate::access::routes::ROUTES).
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/", get(page))
        .route("/v1/events", post(events::events))
        .route("/v1/events/stream", post(lines::stream))
        .route("/v1/retract", post(events::retract))
        .route("/v1/refused", get(events::refused))
        .route("/v1/refused/resend", post(events::resend))
        .route("/v1/refused/forget", post(events::forget))
        .route("/v1/score", post(reads::score))
        .route("/v1/rank", post(reads::rank))
        .route("/v1/embedding", get(reads::embedding))
        .route("/v1/explain", post(reads::explain))
        .route("/v1/model", get(reads::model))
        .route("/v1/status", get(health::status))
        .route("/admin/reload", post(admin::reload))
        .route("/admin/rollback", post(admin::rollback))
        .route("/admin/snapshot", post(admin::snapshot))
        .route("/admin/promote", post(admin::promote))
        .route("/admin/drain", post(admin::drain))
        .route("/admin/expire", post(admin::expire))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi))
        .route("/v2", get(oip::server))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        .route("/v2/repository/index", post(triton::index))
        .route("/v2/models/stats", get(triton::statistics))
        .route("/v2/models/{model}", get(oip::model))
        .route("/v2/models/{model}/config", get(triton::config))
        .route("/v2/models/{model}/stats", get(triton::model_statistics))
        .route("/v2/models/{model}/versions/{version}/config", get(triton::config))
        .route("/v2/models/{model}/versions/{version}/stats", get(triton::model_statistics))
        .route("/v2/models/{model}/ready", get(oip::model_ready))
        .route("/v2/models/{model}/infer", post(oip::infer))
        .route("/v2/models/{model}/versions/{version}", get(oip::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(oip::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(oip::infer))
}

/// The routes of the listener for probes.
pub(crate) fn probes() -> Router<Arc<Server>> {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
}

/// The machine-readable description of all routes.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(crate) async fn no_such_route(request: Request) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is no {}", request.uri().path()))
}

pub(crate) async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(ErrorKind::WrongMethod, format!("{} does not take {}", request.uri().path(), request.method()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::access::routes::{ROUTES, Route};

    #[test]
    fn every_route_is_in_the_document_and_the_other_way_round() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut shown = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let role = operation["x-role"].as_str().unwrap_or("none");
                shown.insert(format!("{} {path} {role}", method.to_uppercase()));
            }
        }
        let role = |route: &Route| route.role.map_or("none".to_string(), |role| format!("{role:?}").to_lowercase());
        let http = ROUTES.iter().filter(|route| !Route::is_grpc(route.path));
        let known: BTreeSet<String> =
            http.map(|route| format!("{} {} {}", route.method, route.path, role(route))).collect();
        assert_eq!(shown, known);
    }
}
