//! The Open Inference Protocol, version 2: tensors in, tensors out, over HTTP and gRPC.
//!
//! | model | inputs | outputs |
//! |---|---|---|
//! | `score` | `src`, `dst` `[N]`, `time`? `[N]` | `score`, `probability` `[N]` |
//! | `rank` | `src` `[1]`, `candidates`? `[C]`, `time`? `[1]`; parameter `k` | `dst`, `score`, `probability` `[K]`, best first |
//! | `embedding` | `node` `[1]`, `time`? `[1]`; parameter `side` | `embedding` `[O]` |
//!
//! Every answer also has its position, `log_seq` and `version`, `[1]`, as outputs and as parameters. The parameters are
//! for clients that select other outputs. Parameters `min_seq`, `max_staleness_ms` and `timeout` (microseconds, as
//! usual in the protocol) are honoured, or the request is refused.

mod infer;
mod tensor;

pub(crate) use infer::{Inference, InferenceResult, Parameter};
pub(crate) use tensor::{Tensor, Values};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::server::Server;

/// An input or output of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub name: &'static str,
    pub datatype: &'static str,
    /// -1 for any length.
    pub shape: i64,
    pub optional: bool,
}

/// A query that can be written as tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Score,
    Rank,
    Embedding,
}

const fn port(name: &'static str, datatype: &'static str, shape: i64) -> Port {
    Port { name, datatype, shape, optional: false }
}

const fn maybe(name: &'static str, datatype: &'static str, shape: i64) -> Port {
    Port { name, datatype, shape, optional: true }
}

const SEEN: [Port; 2] = [port("log_seq", "UINT64", 1), port("version", "UINT64", 1)];

/// The protocol extensions that the server supports.
pub(crate) const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "model_configuration", "statistics", "model_repository"];

/// The version that means whichever is served. Clients of the protocol expect versions to be numbers from 1.
pub(crate) const ANY_VERSION: &str = "1";

/// The state of all models in the index, and the reason if they are not ready.
pub(crate) fn ready_state(server: &Server) -> (&'static str, String) {
    match server.ready() {
        Ok(()) => ("READY", String::new()),
        Err(refused) => ("UNAVAILABLE", refused.error),
    }
}

impl Model {
    /// All models, by name.
    pub const ALL: [(&'static str, Model); 3] =
        [("score", Model::Score), ("rank", Model::Rank), ("embedding", Model::Embedding)];

    /// # Errors
    /// 404 for a name or a version that is not served; `now` is the served version. An empty version means any.
    pub fn find(name: &str, version: &str, now: &str) -> Result<Model, ApiError> {
        let Some((_, model)) = Model::ALL.into_iter().find(|(known, _)| *known == name) else {
            let known = Model::ALL.map(|(known, _)| format!("`{known}`")).join(", ");
            return Err(ApiError::new(ErrorKind::NotFound, format!("there is no model `{name}`; there are {known}")));
        };
        if !["", now, ANY_VERSION].contains(&version) {
            return Err(ApiError::new(
                ErrorKind::NotFound,
                format!("model `{name}` has no version `{version}`; it is `{now}`, or `{ANY_VERSION}` for any"),
            ));
        }
        Ok(model)
    }

    pub fn name(self) -> &'static str {
        Model::ALL[self as usize].0
    }

    pub fn inputs(self) -> &'static [Port] {
        const SCORE: [Port; 3] = [port("src", "UINT64", -1), port("dst", "UINT64", -1), maybe("time", "INT64", -1)];
        const RANK: [Port; 3] =
            [port("src", "UINT64", 1), maybe("candidates", "UINT64", -1), maybe("time", "INT64", 1)];
        const EMBEDDING: [Port; 2] = [port("node", "UINT64", 1), maybe("time", "INT64", 1)];
        match self {
            Model::Score => &SCORE,
            Model::Rank => &RANK,
            Model::Embedding => &EMBEDDING,
        }
    }

    pub fn outputs(self) -> &'static [Port] {
        const SCORE: [Port; 4] = [port("score", "FP32", -1), port("probability", "FP32", -1), SEEN[0], SEEN[1]];
        const RANK: [Port; 5] =
            [port("dst", "UINT64", -1), port("score", "FP32", -1), port("probability", "FP32", -1), SEEN[0], SEEN[1]];
        const EMBEDDING: [Port; 3] = [port("embedding", "FP32", -1), SEEN[0], SEEN[1]];
        match self {
            Model::Score => &SCORE,
            Model::Rank => &RANK,
            Model::Embedding => &EMBEDDING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_under_their_names() {
        for (name, model) in Model::ALL {
            assert_eq!((Model::find(name, "", "v").unwrap(), model.name()), (model, name));
            assert!(Model::find(name, "v", "v").is_ok() && Model::find(name, "1", "v").is_ok());
            assert_eq!(
                Model::find(name, "2", "v").unwrap_err().error,
                format!("model `{name}` has no version `2`; it is `v`, or `1` for any")
            );
        }
        assert!(Model::find("gpt", "", "v").unwrap_err().error.contains("there are `score`, `rank`, `embedding`"));
    }
}
