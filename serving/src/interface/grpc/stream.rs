//! A stream of requests of the Open Inference Protocol, answered in their order.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};

use crate::access::error::ApiError;
use crate::interface::grpc::oip::infer;
use crate::interface::grpc::proto::open_inference as message;
use crate::interface::server::{Call, Server};

/// Most requests of a stream in flight.
const AHEAD: usize = 16;

type Answered = Result<message::ModelStreamInferResponse, Status>;

/// A request that is being answered. Ends with its client.
struct Answering(JoinHandle<message::ModelStreamInferResponse>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers the requests of a stream. A refused request has its refusal as the answer, and the stream goes on.
pub(crate) fn answer_stream(
    server: Arc<Server>,
    call: Call,
    requests: Streaming<message::ModelInferRequest>,
) -> mpsc::Receiver<Answered> {
    let (begun, waiting) = mpsc::channel(AHEAD);
    tokio::spawn(begin_requests(server, call, requests, begun));
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(send_answers(waiting, answers));
    stream
}

async fn begin_requests(
    server: Arc<Server>,
    call: Call,
    mut requests: Streaming<message::ModelInferRequest>,
    begun: mpsc::Sender<Result<Answering, Status>>,
) {
    loop {
        let next = tokio::select! {
            next = requests.next() => match next {
                Some(Ok(request)) => Ok(begin(server.clone(), call.clone(), request)),
                Some(Err(status)) if status.code() == Code::OutOfRange => {
                    Err(ApiError::too_large(server.limits.body_bytes).into())
                }
                // The stream has ended. If it broke off, no client is left to get an error.
                None | Some(Err(_)) => return,
            },
            () = begun.closed() => return,
            refused = server.closing() => Err(refused.into()),
        };
        let over = next.is_err();
        if begun.send(next).await.is_err() || over {
            return;
        }
    }
}

fn begin(server: Arc<Server>, call: Call, request: message::ModelInferRequest) -> Answering {
    Answering(tokio::spawn(async move {
        let id = request.id.clone();
        match infer(&server, &call, request).await {
            Ok(answer) => {
                message::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
            }
            Err(refused) => message::ModelStreamInferResponse {
                error_message: refused.error,
                infer_response: Some(message::ModelInferResponse { id, ..Default::default() }),
            },
        }
    }))
}

async fn send_answers(mut waiting: mpsc::Receiver<Result<Answering, Status>>, answers: mpsc::Sender<Answered>) {
    while let Some(next) = waiting.recv().await {
        let answer = match next {
            Ok(mut answering) => tokio::select! {
                answer = &mut answering.0 => answer.map_err(|_| ApiError::broken().into()),
                () = answers.closed() => return,
            },
            Err(status) => Err(status),
        };
        let over = answer.is_err();
        if answers.send(answer).await.is_err() || over {
            return;
        }
    }
}
