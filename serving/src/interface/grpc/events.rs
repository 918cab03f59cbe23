//! Events by single requests or by a stream.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::access::error::{ApiError, ErrorKind};
use crate::access::limits::LimitsSpec;
use crate::interface::grpc::proto::tempograph::events_server::Events;
use crate::interface::grpc::proto::tempograph::{
    EventsRequest, ForgetAnswer, Receipt, RefusedAnswer, RefusedNumbers, RefusedRequest, ResendAnswer, RetractAnswer,
    RetractRequest,
};
use crate::interface::grpc::{Calls, GrpcResult, call, convert};
use crate::interface::server::{Call, Server, Submitted};
use crate::service::RefusedStatus;
use crate::service::run::resend::Resent;

/// Most requests of a stream in flight: while one is written to the disk, the next are read.
const AHEAD: usize = 16;

#[tonic::async_trait]
impl Events for Calls {
    async fn send(&self, mut request: Request<EventsRequest>) -> GrpcResult<Receipt> {
        let call = call(&mut request)?;
        let mut submitted = self.0.submit(convert::ingest_request(request.into_inner())?).await?;
        let refusals = submitted.take_refusals();
        let receipt = self.0.wait_for_receipt(&call, submitted).await?;
        Ok(Response::new(convert::receipt(&receipt, &refusals, self.0.model()?)))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<Receipt, Status>> + Send>>;

    /// Two tasks: one submits requests in their order, the other waits for their receipts. If a client does not read
    /// its receipts, the server stops reading its requests.
    async fn stream(&self, mut request: Request<Streaming<EventsRequest>>) -> GrpcResult<Self::StreamStream> {
        let call = call(&mut request)?;
        let (tickets, waiting) = mpsc::channel(AHEAD);
        tokio::spawn(submit_requests(self.0.clone(), request.into_inner(), tickets));
        let server = self.0.clone();
        let (receipts, outgoing) = mpsc::channel(1);
        tokio::spawn(send_receipts(server, call, waiting, receipts));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn retract(&self, mut request: Request<RetractRequest>) -> GrpcResult<RetractAnswer> {
        let call = call(&mut request)?;
        let RetractRequest { ids, seqs } = request.into_inner();
        let (retracted, position) = self.0.retract(&call, ids, seqs).await?;
        let remains = self.0.remains()?.into_iter().map(String::from).collect();
        Ok(Response::new(RetractAnswer { retracted, position: convert::position(position, self.0.model()?), remains }))
    }

    async fn refused(&self, request: Request<RefusedRequest>) -> GrpcResult<RefusedAnswer> {
        let RefusedRequest { from, limit } = request.into_inner();
        let limit = if limit == 0 { 100 } else { limit as usize };
        LimitsSpec::count("limit", limit, self.0.limits.events)?;
        let service = self.0.service()?;
        let RefusedStatus { kept, dropped } = service.status().refused_list;
        let events = service.refused(from, limit).into_iter().map(convert::refused_event).collect();
        Ok(Response::new(RefusedAnswer { kept, dropped, events }))
    }

    async fn resend(&self, mut request: Request<RefusedNumbers>) -> GrpcResult<ResendAnswer> {
        let call = call(&mut request)?;
        let numbers = convert::refused_numbers(request.into_inner())?;
        let Resent { accepted, duplicates, refused } = self.0.resend_refused(&call, numbers).await?;
        Ok(Response::new(ResendAnswer { accepted, duplicates, refused }))
    }

    async fn forget(&self, mut request: Request<RefusedNumbers>) -> GrpcResult<ForgetAnswer> {
        let call = call(&mut request)?;
        let numbers = convert::refused_numbers(request.into_inner())?;
        Ok(Response::new(ForgetAnswer { forgotten: self.0.forget_refused(&call, numbers).await? }))
    }
}

/// Submits requests until one is refused, the stream ends, or no task waits for receipts any more.
async fn submit_requests(
    server: Arc<Server>,
    mut requests: Streaming<EventsRequest>,
    tickets: mpsc::Sender<Result<Submitted, ApiError>>,
) {
    let mut at = 0_u64;
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(server.limits.body(), requests.next()) => match next {
                Ok(Some(Ok(request))) => submit_request(&server, request, at).await,
                Ok(Some(Err(status))) if status.code() == Code::OutOfRange => {
                    Err(ApiError::too_large(server.limits.body_bytes).at(format_args!("request {at} of the stream")))
                }
                // The stream has ended. If it broke off, no client is left to get an error.
                Ok(None | Some(Err(_))) => return,
                Err(_) => Err(ApiError::new(ErrorKind::SlowRequest, format!("nothing came for {} ms", server.limits.body_ms))),
            },
            refused = server.closing() => Err(refused),
        };
        let over = next.is_err();
        if tickets.send(next).await.is_err() || over {
            return;
        }
        at += 1;
    }
}

async fn submit_request(server: &Server, request: EventsRequest, at: u64) -> Result<Submitted, ApiError> {
    let place = |refused: ApiError| refused.at(format_args!("request {at} of the stream"));
    server.submit_when_room(convert::ingest_request(request).map_err(place)?).await.map_err(place)
}

async fn send_receipts(
    server: Arc<Server>,
    call: Call,
    mut waiting: mpsc::Receiver<Result<Submitted, ApiError>>,
    receipts: mpsc::Sender<Result<Receipt, Status>>,
) {
    while let Some(submitted) = waiting.recv().await {
        let mut refusals = Vec::new();
        let receipt = match submitted {
            Ok(mut submitted) => {
                refusals = submitted.take_refusals();
                server.wait_for_receipt(&call, submitted).await
            }
            Err(refused) => Err(refused),
        };
        let outgoing = receipt
            .and_then(|receipt| Ok(convert::receipt(&receipt, &refusals, server.model()?)))
            .map_err(Status::from);
        let over = outgoing.is_err();
        if receipts.send(outgoing).await.is_err() || over {
            return;
        }
    }
}
