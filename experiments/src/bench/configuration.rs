//! The configurations of one call: every combination of the given settings.

use anyhow::Result;

use crate::bench::BenchArgs;
use crate::setup::spec::RunSpec;

/// One combination: its settings, and the resulting spec.
#[derive(Debug)]
pub(super) struct Configuration {
    /// Settings that override the spec's file, the user's first.
    pub sets: Vec<String>,
    /// The spec with them.
    pub spec: RunSpec,
    /// Steps a run.
    pub steps: usize,
}

impl Configuration {
    /// Its name: `data/wikipedia, features none, batch 200, 2 threads`.
    pub fn name(&self) -> String {
        let RunSpec { data, train, threads, .. } = &self.spec;
        format!("{}, edge features {}, batch {}, {threads} threads", data.path, data.edge_features, train.batch)
    }
}

/// Every combination, edge features slowest and threads fastest.
pub(super) fn configurations(args: &BenchArgs) -> Result<Vec<Configuration>> {
    let mut found = Vec::new();
    for features in choices("data.edge_features", &args.edge_features) {
        for batch in choices("train.batch", &args.batch) {
            for threads in choices("threads", &args.threads) {
                let chosen = [&features, &batch, &threads].into_iter().flatten().cloned();
                let sets: Vec<String> = args.sets.iter().cloned().chain(chosen).collect();
                let mut spec = RunSpec::read(&args.spec, &sets)?;
                if spec.threads == 0 {
                    spec.threads = std::thread::available_parallelism().map_or(1, usize::from);
                }
                let steps = args.events.first().map_or(args.steps, |events| events.div_ceil(spec.train.batch));
                found.push(Configuration { sets, spec, steps });
            }
        }
    }
    Ok(found)
}

/// The settings for a list of values. An empty list leaves the spec as it is.
fn choices<T: std::fmt::Display>(key: &str, values: &[T]) -> Vec<Option<String>> {
    if values.is_empty() { vec![None] } else { values.iter().map(|value| Some(format!("{key}={value}"))).collect() }
}
