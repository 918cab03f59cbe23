//! Administration. Needs a token with the role `admin`.

use serde_json::Value;
use tonic::{Request, Response};

use crate::access::error::ApiError;
use crate::interface::grpc::proto::tempograph as message;
use crate::interface::grpc::proto::tempograph::admin_server::Admin;
use crate::interface::grpc::{Calls, GrpcResult, call};

fn done(value: &Value) -> GrpcResult<message::AdminAnswer> {
    Ok(Response::new(message::AdminAnswer { json: value.to_string() }))
}

#[tonic::async_trait]
impl Admin for Calls {
    async fn status(&self, _: Request<message::StatusRequest>) -> GrpcResult<message::StatusAnswer> {
        let json = serde_json::to_string(&self.0.status()?).map_err(|_| ApiError::broken())?;
        Ok(Response::new(message::StatusAnswer { json }))
    }

    async fn reload(&self, mut request: Request<message::ReloadRequest>) -> GrpcResult<message::AdminAnswer> {
        let call = call(&mut request)?;
        done(&self.0.reload(&call, request.into_inner().artifact.into()).await?)
    }

    async fn rollback(&self, mut request: Request<message::RollbackRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.rollback(&call(&mut request)?).await?)
    }

    async fn snapshot(&self, mut request: Request<message::SnapshotRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.snapshot(&call(&mut request)?).await?)
    }

    async fn drain(&self, mut request: Request<message::DrainRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.drain(&call(&mut request)?).await?)
    }

    async fn expire(&self, mut request: Request<message::ExpireRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.expire(&call(&mut request)?).await?)
    }

    async fn promote(&self, mut request: Request<message::PromoteRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.promote(&call(&mut request)?).await?)
    }
}
