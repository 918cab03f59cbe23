//! Converts tensors to queries, and answers to tensors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::oip::{Model, Port, Tensor, Values};
use crate::interface::server::{Call, ReadConsistency, Server};
use crate::observe::metrics::inference::InferenceTimes;
use crate::request::id::ExternalId;
use crate::request::{PairQuery, Position, RankQuery, probability, side_of};
use crate::schedule::{Answer, AnswerBody, ReadRequest};

/// A parameter of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameter {
    Bool(bool),
    Whole(i64),
    Real(f64),
    Text(String),
}

/// A request, over either transport.
#[derive(Clone, Debug)]
pub(crate) struct Inference {
    pub model: Model,
    pub id: String,
    pub parameters: BTreeMap<String, Parameter>,
    pub inputs: Vec<Tensor>,
    /// The outputs to return, in this order; empty for all.
    pub outputs: Vec<String>,
}

/// The answer of a request.
#[derive(Clone, Debug)]
pub(crate) struct InferenceResult {
    /// The version of the weights.
    pub version: String,
    /// The position of the answer, with any outputs.
    pub position: Position,
    pub outputs: Vec<Tensor>,
}

impl Inference {
    /// Runs the query and returns the answer as tensors.
    ///
    /// # Errors
    /// [`ApiError`], naming the invalid tensor or parameter.
    pub async fn run(self, server: &Server, call: &Call) -> Result<InferenceResult, ApiError> {
        let (begun, model, mut times) = (Instant::now(), self.model, InferenceTimes::default());
        let outcome = self.answer(server, call, &mut times).await;
        server.metrics.inference[model as usize].record(begun.elapsed(), outcome.is_ok().then_some(times));
        outcome
    }

    async fn answer(
        self,
        server: &Server,
        call: &Call,
        times: &mut InferenceTimes,
    ) -> Result<InferenceResult, ApiError> {
        let begun = Instant::now();
        self.check_names()?;
        let (read, seen) = (self.read()?, self.consistency()?);
        times.queries = if let ReadRequest::Score { queries, .. } = &read { queries.len() as u64 } else { 1 };
        let call = Call { deadline: self.deadline(call)?, ..call.clone() };
        let asked = Instant::now();
        times.input = asked - begun;
        let answer = server.query(&call, read, seen).await?;
        let answered = Instant::now();
        times.infer = answered - asked;
        let mut all = tensors(&answer);
        let taken = |name: &String| all.iter().position(|tensor| tensor.name == *name).map(|at| all.swap_remove(at));
        let outputs = if self.outputs.is_empty() { all } else { self.outputs.iter().filter_map(taken).collect() };
        times.output = answered.elapsed();
        Ok(InferenceResult { version: answer.model.to_string(), position: answer.position, outputs })
    }

    fn check_names(&self) -> Result<(), ApiError> {
        let model = self.model.name();
        let names = |ports: &[Port]| ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
        for (i, input) in self.inputs.iter().enumerate() {
            let (known, name) = (self.model.inputs(), &input.name);
            if !known.iter().any(|port| port.name == name) {
                return Err(malformed(format!("model `{model}` has no input `{name}`; it has {}", names(known))));
            }
            if self.inputs[..i].iter().any(|other| other.name == *name) {
                return Err(malformed(format!("input `{name}` is given twice")));
            }
        }
        for port in self.model.inputs().iter().filter(|port| !port.optional) {
            self.input(port.name)
                .ok_or_else(|| malformed(format!("model `{model}` needs the input `{}`", port.name)))?;
        }
        for (i, name) in self.outputs.iter().enumerate() {
            let known = self.model.outputs();
            if !known.iter().any(|port| port.name == name) {
                return Err(malformed(format!("model `{model}` has no output `{name}`; it has {}", names(known))));
            }
            if self.outputs[..i].contains(name) {
                return Err(malformed(format!("output `{name}` is asked for twice")));
            }
        }
        Ok(())
    }

    fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.iter().find(|input| input.name == name)
    }

    fn ids(&self, name: &str) -> Result<Vec<ExternalId>, ApiError> {
        self.input(name).map_or_else(|| Ok(Vec::new()), Tensor::ids)
    }

    fn id(&self, name: &str) -> Result<ExternalId, ApiError> {
        match &self.ids(name)?[..] {
            [id] => Ok(id.clone()),
            ids => Err(malformed(format!("input `{name}` has {} values; it takes one", ids.len()))),
        }
    }

    fn time(&self) -> Result<Option<serde_json::Number>, ApiError> {
        let mut times = self.input("time").map(Tensor::times).transpose()?.unwrap_or_default();
        match times.len() {
            0 | 1 => Ok(times.pop()),
            more => Err(malformed(format!("input `time` has {more} values; it takes one"))),
        }
    }

    fn read(&self) -> Result<ReadRequest, ApiError> {
        match self.model {
            Model::Score => self.pairs().map(|queries| ReadRequest::Score { queries, during: Vec::new() }),
            Model::Rank => {
                let candidates = self.input("candidates").map(Tensor::ids).transpose()?;
                let k = self.count("k")?.unwrap_or(10) as usize;
                Ok(ReadRequest::Rank(RankQuery { src: self.id("src")?, candidates, time: self.time()?, k }))
            }
            Model::Embedding => {
                let side = match self.parameters.get("side") {
                    None => None,
                    Some(Parameter::Text(name)) => Some(side_of(name)?),
                    Some(other) => return Err(malformed(format!("parameter `side` is {other:?}; it is text"))),
                };
                Ok(ReadRequest::Embedding { node: self.id("node")?, side, time: self.time()? })
            }
        }
    }

    fn pairs(&self) -> Result<Vec<PairQuery>, ApiError> {
        let (src, dst) = (self.ids("src")?, self.ids("dst")?);
        let times = self.input("time").map(Tensor::times).transpose()?;
        if src.len() != dst.len() || times.as_ref().is_some_and(|times| times.len() != src.len()) {
            let counts = times.as_ref().map_or(String::new(), |times| format!(" and {} of `time`", times.len()));
            return Err(malformed(format!("there are {} values of `src`, {} of `dst`{counts}", src.len(), dst.len())));
        }
        let mut times = times.into_iter().flatten();
        Ok(src.into_iter().zip(dst).map(|(src, dst)| PairQuery { src, dst, time: times.next() }).collect())
    }

    fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.parameters.get(name) {
            None => Ok(None),
            Some(&Parameter::Whole(value)) if value >= 0 => Ok(Some(value as u64)),
            Some(other) => Err(malformed(format!("parameter `{name}` is {other:?}; it is a whole number from 0"))),
        }
    }

    fn consistency(&self) -> Result<ReadConsistency, ApiError> {
        Ok(ReadConsistency { min_seq: self.count("min_seq")?, max_staleness_ms: self.count("max_staleness_ms")? })
    }

    fn deadline(&self, call: &Call) -> Result<Option<Instant>, ApiError> {
        // A time too far in the future to be represented is no deadline.
        let asked = self.count("timeout")?.and_then(|micros| Instant::now().checked_add(Duration::from_micros(micros)));
        Ok([asked, call.deadline].into_iter().flatten().min())
    }
}

fn malformed(fact: String) -> ApiError {
    ApiError::new(ErrorKind::Malformed, fact)
}

/// Ids as the values of a tensor: numbers, or texts where the set's ids are text.
fn ids<'a>(ids: impl Iterator<Item = &'a ExternalId> + Clone) -> Values {
    match ids.clone().map(ExternalId::number).collect() {
        Some(numbers) => Values::Unsigned(numbers),
        None => Values::Text(ids.map(ExternalId::to_string).collect()),
    }
}

fn tensors(answer: &Answer) -> Vec<Tensor> {
    let float = |name: &str, values: Vec<f32>| Tensor::row(name, Values::Float(values));
    let whole = |name: &str, values: Vec<u64>| Tensor::row(name, Values::Unsigned(values));
    let mut all = match &answer.body {
        AnswerBody::Scores(scores) => {
            vec![
                float("score", scores.clone()),
                float("probability", scores.iter().copied().map(probability).collect()),
            ]
        }
        AnswerBody::Ranked(ranked) => vec![
            Tensor::row("dst", ids(ranked.iter().map(|one| &one.dst))),
            float("score", ranked.iter().map(|one| one.score).collect()),
            float("probability", ranked.iter().map(|one| one.probability).collect()),
        ],
        AnswerBody::Embedding(embedding) => vec![float("embedding", embedding.clone())],
        // No model of the protocol returns an explanation.
        AnswerBody::Explained(explained) => vec![float("score", vec![explained.score])],
    };
    all.push(whole("log_seq", vec![answer.position.log_seq]));
    all.push(whole("version", vec![answer.position.version]));
    all
}
