//! A blocking gRPC client.

use std::future::Future;
use std::net::SocketAddr;

use tempograph_serving::proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tempograph_serving::proto::tempograph::admin_client::AdminClient;
use tempograph_serving::proto::tempograph::events_client::EventsClient;
use tempograph_serving::proto::tempograph::reads_client::ReadsClient;
use tokio::runtime::Runtime;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

pub type Served = InterceptedService<Channel, BearerToken>;

/// Sends a token, if there is one.
#[derive(Clone)]
pub struct BearerToken(Option<String>);

impl Interceptor for BearerToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(request)
    }
}

pub struct Grpc {
    runtime: Runtime,
    channel: Channel,
    pub token: Option<String>,
}

impl Grpc {
    pub fn connect(address: SocketAddr) -> Grpc {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Grpc { runtime, channel, token: None }
    }

    /// Calls of a service that has no client here.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for a call.
    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    fn service(&self) -> Served {
        InterceptedService::new(self.channel.clone(), BearerToken(self.token.clone()))
    }

    pub fn events<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        ask: impl FnOnce(EventsClient<Served>) -> F,
    ) -> Result<T, Status> {
        self.runtime.block_on(ask(EventsClient::new(self.service()))).map(Response::into_inner)
    }

    pub fn reads<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        ask: impl FnOnce(ReadsClient<Served>) -> F,
    ) -> Result<T, Status> {
        self.runtime.block_on(ask(ReadsClient::new(self.service()))).map(Response::into_inner)
    }

    pub fn admin<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        ask: impl FnOnce(AdminClient<Served>) -> F,
    ) -> Result<T, Status> {
        self.runtime.block_on(ask(AdminClient::new(self.service()))).map(Response::into_inner)
    }

    pub fn inference<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        ask: impl FnOnce(GrpcInferenceServiceClient<Served>) -> F,
    ) -> Result<T, Status> {
        self.runtime.block_on(ask(GrpcInferenceServiceClient::new(self.service()))).map(Response::into_inner)
    }
}
