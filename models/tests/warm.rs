//! A pass of any kind of model allocates no memory once it is warm.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/counting.rs"]
mod counting;
#[path = "kinds/row_model.rs"]
mod row_model;
#[path = "kinds/streams.rs"]
mod streams;

use tempograph_framework::{Draw, History, Purpose, SliceModel};
use tempograph_models::{FeatureWidths, SliceProgram, SliceWork};

use row_model::RowModel;
use streams::{NODES, batch_queries, batch_ranges, features, stream, variants};

#[test]
fn passes_ask_for_no_memory_once_the_largest_batch_was_seen() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (name, spec) in variants().into_iter().chain([("rows", RowModel { outputs: 3 }.into())]) {
        let log = stream(210, 3);
        let model = SliceProgram::new(spec.program(FeatureWidths { edge: 3, node: 2 }).unwrap(), 3);
        let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 2));
        let mut work = SliceWork::default();
        let mut seen = Vec::new();
        for range in batch_ranges().into_iter().take(4) {
            let batch = log.batch(range);
            let queries = batch_queries(&batch);
            let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
            model.forward(&queries, &view, None, &mut work);
            history.observe(&batch, &work.as_ref().update).unwrap();
            seen.push((queries, view));
        }
        let mut gradients = vec![0.0; model.parameters().values().len()];
        let output_grads = vec![0.1; 3 * 400];
        // Runs on a thread of the pool: submitting work from outside uses a queue, which grows.
        pool.install(|| {
            let mut round = || {
                for (queries, view) in &seen {
                    for seed in [None, Some(7)] {
                        model.forward(queries, view, seed, &mut work);
                        let rows = model.program().head().rows();
                        let outputs = rows.map_or(queries.pairs().len(), |head| queries.len() * head.outputs());
                        let output_grads = &output_grads[..outputs];
                        model.backward(queries, view, output_grads, &mut gradients, &mut work);
                    }
                    model.advance(queries, view, &mut work);
                }
            };
            // Tables and their gradients are swapped with arrays that have not been as large yet.
            (0..20).for_each(|_| round());
            let before = counting::asked();
            (0..5).for_each(|_| round());
            assert_eq!(counting::asked() - before, 0, "{name}");
        });
    }
}
