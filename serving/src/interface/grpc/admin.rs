//! Administration. Needs a token with the role `admin`.

use serde_json::Value;
use tonic::{Request, Response};

use crate::access::error::ApiError;
use crate::interface::grpc::proto::tempograph as message;
use crate::interface::grpc::proto::tempograph::admin_server::Admin;
use crate::interface::grpc::{Calls, GrpcResult};

fn done(value: &Value) -> GrpcResult<message::AdminAnswer> {
    Ok(Response::new(message::AdminAnswer { json: value.to_string() }))
}

#[tonic::async_trait]
impl Admin for Calls {
    async fn status(&self, _: Request<message::StatusRequest>) -> GrpcResult<message::StatusAnswer> {
        let json = serde_json::to_string(&self.0.status()?).map_err(|_| ApiError::broken())?;
        Ok(Response::new(message::StatusAnswer { json }))
    }

    async fn reload(&self, request: Request<message::ReloadRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.reload(request.into_inner().artifact.into()).await?)
    }

    async fn rollback(&self, _: Request<message::RollbackRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.rollback().await?)
    }

    async fn snapshot(&self, _: Request<message::SnapshotRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.snapshot().await?)
    }

    async fn drain(&self, _: Request<message::DrainRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.drain().await?)
    }

    async fn expire(&self, _: Request<message::ExpireRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.expire().await?)
    }

    async fn promote(&self, _: Request<message::PromoteRequest>) -> GrpcResult<message::AdminAnswer> {
        done(&self.0.promote().await?)
    }
}
