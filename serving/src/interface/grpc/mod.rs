//! The service over gRPC: the requests of HTTP, as the messages of `serving/proto`.
mod admin;
mod convert;
mod events;
mod oip;
pub mod proto;
mod reads;

use std::sync::Arc;

use axum::Router;
use tonic::{Request, Response, Status};

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
    let events = EventsServer::from_arc(calls.clone()).max_decoding_message_size(largest);
    let reads = ReadsServer::from_arc(calls.clone()).max_decoding_message_size(largest);
    let admin = AdminServer::from_arc(calls.clone()).max_decoding_message_size(largest);
    let inference = GrpcInferenceServiceServer::from_arc(calls).max_decoding_message_size(largest);
    let paths = ROUTES.iter().map(|route| route.path).filter(|path| Route::is_grpc(path));
    paths.fold(Router::new(), |router, path| match path.split('/').nth(1) {
        Some("tempograph.v1.Events") => router.route_service(path, events.clone()),
        Some("tempograph.v1.Reads") => router.route_service(path, reads.clone()),
        Some("tempograph.v1.Admin") => router.route_service(path, admin.clone()),
        _ => router.route_service(path, inference.clone()),
    })
}

/// The caller, as the middleware has authorized it.
fn call<T>(request: &mut Request<T>) -> Result<Call, ApiError> {
    request.extensions_mut().remove::<Call>().ok_or_else(ApiError::broken)
}
