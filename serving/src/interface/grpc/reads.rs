//! Queries over gRPC.

use tonic::{Request, Response};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::grpc::convert;
use crate::interface::grpc::convert::time;
use crate::interface::grpc::proto::tempograph as message;
use crate::interface::grpc::proto::tempograph::reads_server::Reads;
use crate::interface::grpc::{Calls, GrpcResult, call};
use crate::request::id::ExternalId;
use crate::request::{RankQuery, probability};
use crate::schedule::{AnswerBody, ReadRequest};

#[tonic::async_trait]
impl Reads for Calls {
    async fn score(&self, mut request: Request<message::ScoreRequest>) -> GrpcResult<message::ScoreAnswer> {
        let call = call(&mut request)?;
        let message::ScoreRequest { pairs, during, terms } = request.into_inner();
        let pair = |(i, pair)| convert::pair(&format!("pairs[{i}]"), pair);
        let queries = pairs.into_iter().enumerate().map(pair).collect::<Result<_, ApiError>>()?;
        let read = ReadRequest::Score { queries, during: convert::events("during", during)? };
        let answer = self.0.query(&call, read, convert::consistency(terms)).await?;
        let AnswerBody::Scores(scores) = answer.body else { return Err(ApiError::broken().into()) };
        let probabilities = scores.iter().copied().map(probability).collect();
        Ok(Response::new(message::ScoreAnswer {
            scores,
            probabilities,
            position: convert::position(answer.position, &*answer.model),
        }))
    }

    async fn rank(&self, mut request: Request<message::RankRequest>) -> GrpcResult<message::RankAnswer> {
        let call = call(&mut request)?;
        let message::RankRequest { src, candidates, src_text, candidates_text, k, terms, when } = request.into_inner();
        let time = time!(when, rank_request, "time")?;
        let k = if k == 0 { 10 } else { k as usize };
        let numbers = candidates.into_iter().map(ExternalId::from);
        let candidates: Vec<ExternalId> = numbers.chain(candidates_text.iter().map(|id| (&**id).into())).collect();
        let candidates = (!candidates.is_empty()).then_some(candidates);
        let query = RankQuery { src: convert::node(src, src_text), candidates, time, k };
        let answer = self.0.query(&call, ReadRequest::Rank(query), convert::consistency(terms)).await?;
        let AnswerBody::Ranked(ranked) = &answer.body else { return Err(ApiError::broken().into()) };
        let encoded = |one: &crate::Ranked| {
            let (dst, dst_text) = convert::fields(&one.dst);
            message::Ranked { dst, dst_text, score: one.score, probability: one.probability }
        };
        let ranked = ranked.iter().map(encoded).collect();
        Ok(Response::new(message::RankAnswer { ranked, position: convert::position(answer.position, &*answer.model) }))
    }

    async fn embed(&self, mut request: Request<message::EmbedRequest>) -> GrpcResult<message::EmbedAnswer> {
        let call = call(&mut request)?;
        let message::EmbedRequest { node, node_text, side, terms, when } = request.into_inner();
        let node = convert::node(node, node_text);
        let read =
            ReadRequest::Embedding { node, side: convert::side(side)?, time: time!(when, embed_request, "time")? };
        let answer = self.0.query(&call, read, convert::consistency(terms)).await?;
        let AnswerBody::Embedding(embedding) = answer.body else { return Err(ApiError::broken().into()) };
        Ok(Response::new(message::EmbedAnswer {
            embedding,
            position: convert::position(answer.position, &*answer.model),
        }))
    }

    async fn explain(&self, mut request: Request<message::ExplainRequest>) -> GrpcResult<message::ExplainAnswer> {
        let call = call(&mut request)?;
        let message::ExplainRequest { pair, terms } = request.into_inner();
        let pair = pair.ok_or_else(|| ApiError::new(ErrorKind::Malformed, "pair is missing"))?;
        let (explained, position, model) =
            self.0.explain(&call, convert::pair("pair", pair)?, convert::consistency(terms)).await?;
        Ok(Response::new(message::ExplainAnswer {
            json: explained.to_string(),
            position: convert::position(position, model),
        }))
    }

    async fn model(&self, _: Request<message::ModelRequest>) -> GrpcResult<message::ModelAnswer> {
        let engine = self.0.service()?.engine();
        let manifest = serde_json::to_string(engine.manifest()).map_err(|_| ApiError::broken())?;
        let position = convert::position(engine.position(), engine.manifest().model_version());
        Ok(Response::new(message::ModelAnswer { manifest, nodes: engine.nodes() as u64, position }))
    }
}
