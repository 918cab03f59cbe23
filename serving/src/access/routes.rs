//! All routes, with the role that each needs. A path that is not here is refused.

use crate::access::auth::Role;

/// A route over HTTP, or a method over gRPC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Route {
    /// In axum's syntax; for a gRPC method, `/package.Service/Method`.
    pub path: &'static str,
    pub method: &'static str,
    /// The role that a caller needs; `None` for open routes.
    pub role: Option<Role>,
}

const fn get(path: &'static str, role: Option<Role>) -> Route {
    Route { path, method: "GET", role }
}

const fn post(path: &'static str, role: Role) -> Route {
    Route { path, method: "POST", role: Some(role) }
}

const fn open(path: &'static str) -> Route {
    Route { path, method: "POST", role: None }
}

const READ: Option<Role> = Some(Role::Read);
const METRICS: Option<Role> = Some(Role::Metrics);

/// All routes.
pub(crate) const ROUTES: &[Route] = &[
    // The page itself is open. Its requests carry the token of its user.
    get("/", None),
    post("/v1/events", Role::Ingest),
    post("/v1/events/stream", Role::Ingest),
    post("/v1/retract", Role::Retract),
    get("/v1/refused", READ),
    post("/v1/refused/resend", Role::Ingest),
    post("/v1/refused/forget", Role::Ingest),
    post("/v1/score", Role::Read),
    post("/v1/rank", Role::Read),
    get("/v1/embedding", READ),
    post("/v1/explain", Role::Read),
    get("/v1/model", READ),
    get("/v1/status", METRICS),
    post("/admin/reload", Role::Admin),
    post("/admin/rollback", Role::Admin),
    post("/admin/snapshot", Role::Admin),
    post("/admin/promote", Role::Admin),
    post("/admin/drain", Role::Admin),
    post("/admin/expire", Role::Admin),
    get("/health/live", None),
    get("/health/ready", None),
    get("/metrics", METRICS),
    get("/openapi.json", None),
    get("/v2", READ),
    get("/v2/health/live", None),
    get("/v2/health/ready", None),
    post("/v2/repository/index", Role::Read),
    get("/v2/models/stats", READ),
    get("/v2/models/{model}", READ),
    get("/v2/models/{model}/config", READ),
    get("/v2/models/{model}/stats", READ),
    get("/v2/models/{model}/versions/{version}/config", READ),
    get("/v2/models/{model}/versions/{version}/stats", READ),
    get("/v2/models/{model}/ready", None),
    post("/v2/models/{model}/infer", Role::Read),
    get("/v2/models/{model}/versions/{version}", READ),
    get("/v2/models/{model}/versions/{version}/ready", None),
    post("/v2/models/{model}/versions/{version}/infer", Role::Read),
    post("/tempograph.v1.Events/Send", Role::Ingest),
    post("/tempograph.v1.Events/Stream", Role::Ingest),
    post("/tempograph.v1.Events/Retract", Role::Retract),
    post("/tempograph.v1.Events/Refused", Role::Ingest),
    post("/tempograph.v1.Events/Resend", Role::Ingest),
    post("/tempograph.v1.Events/Forget", Role::Ingest),
    post("/tempograph.v1.Reads/Score", Role::Read),
    post("/tempograph.v1.Reads/Rank", Role::Read),
    post("/tempograph.v1.Reads/Embed", Role::Read),
    post("/tempograph.v1.Reads/Explain", Role::Read),
    post("/tempograph.v1.Reads/Model", Role::Read),
    post("/tempograph.v1.Admin/Status", Role::Admin),
    post("/tempograph.v1.Admin/Reload", Role::Admin),
    post("/tempograph.v1.Admin/Rollback", Role::Admin),
    post("/tempograph.v1.Admin/Snapshot", Role::Admin),
    post("/tempograph.v1.Admin/Drain", Role::Admin),
    post("/tempograph.v1.Admin/Expire", Role::Admin),
    post("/tempograph.v1.Admin/Promote", Role::Admin),
    open("/inference.GRPCInferenceService/ServerLive"),
    open("/inference.GRPCInferenceService/ServerReady"),
    open("/inference.GRPCInferenceService/ModelReady"),
    post("/inference.GRPCInferenceService/ServerMetadata", Role::Read),
    post("/inference.GRPCInferenceService/ModelMetadata", Role::Read),
    post("/inference.GRPCInferenceService/ModelInfer", Role::Read),
    post("/inference.GRPCInferenceService/ModelStreamInfer", Role::Read),
    post("/inference.GRPCInferenceService/ModelConfig", Role::Read),
    post("/inference.GRPCInferenceService/ModelStatistics", Role::Read),
    post("/inference.GRPCInferenceService/RepositoryIndex", Role::Read),
    // The schemas are no secret: they are in the repository.
    open("/grpc.health.v1.Health/Check"),
    open("/grpc.health.v1.Health/Watch"),
    open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    open("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

impl Route {
    /// Whether it reports the progress of a replay, and so answers before the replay is complete.
    pub fn reports_status(&self) -> bool {
        matches!(self.path, "/v1/status" | "/metrics" | "/tempograph.v1.Admin/Status")
    }

    /// Whether it is a gRPC method.
    pub fn is_grpc(path: &str) -> bool {
        ["/tempograph.v1.", "/inference.", "/grpc."].iter().any(|package| path.starts_with(package))
    }
}

/// The index of a path in [`ROUTES`].
pub(crate) fn place(path: &str) -> Option<usize> {
    ROUTES.iter().position(|route| route.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_listed_once_and_what_changes_the_server_needs_an_admin() {
        for (at, route) in ROUTES.iter().enumerate() {
            assert_eq!(place(route.path), Some(at), "{}", route.path);
            let administers = route.path.starts_with("/admin/") || route.path.starts_with("/tempograph.v1.Admin/");
            assert_eq!(route.role == Some(Role::Admin), administers, "{}", route.path);
        }
    }
}
