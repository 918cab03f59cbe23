//! The service over gRPC: the requests of HTTP, as the messages of `serving/proto`.
mod admin;
mod convert;
mod events;
mod health;
mod oip;
pub mod proto;
mod reads;
mod stream;

use std::sync::Arc;

use axum::Router;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;

use crate::access::error::ApiError;
use crate::access::routes::{ROUTES, Route};
use crate::interface::grpc::proto::open_inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::interface::grpc::proto::tempograph::admin_server::AdminServer;
use crate::interface::grpc::proto::tempograph::events_server::EventsServer;
use crate::interface::grpc::proto::tempograph::reads_server::ReadsServer;
use crate::interface::server::{Call, Server};

/// The handler of gRPC calls.
#[derive(Clone, Debug)]
struct Calls(Arc<Server>);

type GrpcResult<T> = Result<Response<T>, Status>;

/// The router of all gRPC methods in [`ROUTES`].
pub(crate) fn router(server: &Arc<Server>) -> Router<Arc<Server>> {
    let calls = Arc::new(Calls(server.clone()));
    // The same limit as over HTTP, instead of the library's own 4 MiB.
    let largest = server.limits.body_bytes;
    macro_rules! service {
        ($server:ident) => {
            $server::from_arc(calls.clone())
                .max_decoding_message_size(largest)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
        };
    }
    let (events, reads, admin) = (service!(EventsServer), service!(ReadsServer), service!(AdminServer));
    let inference = service!(GrpcInferenceServiceServer);
    let (reflection, older) = (health::reflection(), health::older_reflection());
    let paths = ROUTES.iter().map(|route| route.path).filter(|path| Route::is_grpc(path));
    let router = paths.fold(Router::new(), |router, path| match path.split('/').nth(1) {
        Some("tempograph.v1.Events") => router.route_service(path, events.clone()),
        Some("tempograph.v1.Reads") => router.route_service(path, reads.clone()),
        Some("tempograph.v1.Admin") => router.route_service(path, admin.clone()),
        Some("inference.GRPCInferenceService") => router.route_service(path, inference.clone()),
        Some("grpc.reflection.v1.ServerReflection") => match &reflection {
            Ok(reflection) => router.route_service(path, reflection.clone()),
            Err(error) => without_schemas(router, error),
        },
        Some("grpc.reflection.v1alpha.ServerReflection") => match &older {
            Ok(older) => router.route_service(path, older.clone()),
            Err(error) => without_schemas(router, error),
        },
        _ => router,
    });
    router.merge(health_router(server))
}

fn without_schemas(router: Router<Arc<Server>>, error: &tonic_reflection::server::Error) -> Router<Arc<Server>> {
    tracing::error!(%error, "the schemas of gRPC cannot be shown, which is a bug");
    router
}

/// The router of gRPC's health service alone.
pub(crate) fn health_router(server: &Arc<Server>) -> Router<Arc<Server>> {
    let health = HealthServer::new(Calls(server.clone()));
    let paths = ROUTES.iter().map(|route| route.path).filter(|path| path.starts_with("/grpc.health.v1.Health/"));
    paths.fold(Router::new(), |router, path| router.route_service(path, health.clone()))
}

/// The caller, as the middleware has authorized it.
fn call<T>(request: &mut Request<T>) -> Result<Call, ApiError> {
    request.extensions_mut().remove::<Call>().ok_or_else(ApiError::broken)
}
