//! Health and reflection, as gRPC's own tools and probes expect them.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha;

use crate::interface::grpc::{Calls, GrpcResult};
use crate::interface::server::Server;

/// The schemas of `serving/proto`, compiled.
const DESCRIPTORS: &[u8] = include_bytes!("../../../proto/generated/descriptors.bin");

/// Services that are as healthy as the server is ready. The empty name is the server.
const SERVICES: [&str; 5] =
    ["", "tempograph.v1.Events", "tempograph.v1.Reads", "tempograph.v1.Admin", "inference.GRPCInferenceService"];

/// Healthy as long as the process answers: for a liveness probe.
const LIVENESS: &str = "liveness";

/// How often a watched health is looked at.
const LOOK: Duration = Duration::from_millis(250);

fn health(server: &Server, service: &str) -> Option<ServingStatus> {
    match service {
        LIVENESS => Some(ServingStatus::Serving),
        known if SERVICES.contains(&known) => {
            Some(if server.ready().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing })
        }
        _ => None,
    }
}

fn answer(status: i32) -> HealthCheckResponse {
    HealthCheckResponse { status }
}

/// The protocol's number of a service that is not known.
const UNKNOWN: i32 = 3;

#[tonic::async_trait]
impl Health for Calls {
    async fn check(&self, request: Request<HealthCheckRequest>) -> GrpcResult<HealthCheckResponse> {
        let service = request.into_inner().service;
        let status = health(&self.0, &service).ok_or_else(|| {
            let known = SERVICES[1..].join("`, `");
            Status::not_found(format!(
                "there is no service `{service}`; there are `{LIVENESS}`, `{known}`, and the empty name"
            ))
        })?;
        Ok(Response::new(answer(status as i32)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends the health now, and then each change of it.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> GrpcResult<Self::WatchStream> {
        let (server, service) = (self.0.clone(), request.into_inner().service);
        let (changes, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut told = None;
            loop {
                let now = health(&server, &service).map_or(UNKNOWN, |status| status as i32);
                if told != Some(now) {
                    told = Some(now);
                    if changes.send(Ok(answer(now))).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = changes.closed() => return,
                    refused = server.closing() => {
                        // The client may be gone already.
                        let _ = changes.send(Err(refused.into())).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn schemas<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The schemas of all services, for clients that have none.
///
/// # Errors
/// The compiled schemas are damaged, which a test would find.
pub(crate) fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, tonic_reflection::server::Error> {
    schemas().build_v1()
}

/// The same in the form that older clients ask for.
///
/// # Errors
/// As [`reflection`].
pub(crate) fn older_reflection()
-> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, tonic_reflection::server::Error> {
    schemas().build_v1alpha()
}
