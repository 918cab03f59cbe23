//! The server's recomputation strategies: events submitted in waves, and all destinations ranked after each request by
//! every strategy.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempograph_serving::{Engine, EngineSpec, Granularity, NewEvent, Ranked, Strategy};
use tempograph_trainers::TrainingData;

use crate::bench::numbers::stats::quantile;
use crate::bench::serve::request;
use crate::bench::table::aligned;

/// The largest number of events computed together.
const WAVES: [usize; 4] = [1, 8, 64, 256];
/// Events in a request of the waves.
const TOLD: usize = 256;
/// Rankings of all destinations, and the events submitted before each.
const RANKINGS: usize = 20;
const BETWEEN: [usize; 2] = [1, 32];

/// Measures each strategy on the artifact in `folder` and the events after it.
pub(super) fn measure(folder: &Path, training_data: &TrainingData, events: Range<usize>) -> Result<Value> {
    let message: Vec<NewEvent> = training_data
        .dataset
        .log
        .batch(events)
        .events()
        .map(|event| request(training_data, event))
        .collect::<Result<_>>()?;
    let waves = WAVES.into_iter().map(|wave| ingest(folder, &message, wave)).collect::<Result<Vec<_>>>()?;
    let mut rankings = Vec::new();
    for between in BETWEEN {
        rankings.push(rank(folder, &message, between)?);
    }
    Ok(json!({ "waves": waves, "rankings": rankings }))
}

fn open(folder: &Path, spec: EngineSpec) -> Result<Engine> {
    Engine::open_with(folder, &spec).context("cannot open what was just exported")
}

/// Submits all events in waves of at most `most`.
fn ingest(folder: &Path, message: &[NewEvent], most: usize) -> Result<Value> {
    let engine = open(folder, EngineSpec { wave: most, ..EngineSpec::default() })?;
    let begun = Instant::now();
    for request in message.chunks(TOLD) {
        engine.observe(request, Granularity::Event)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let stats = engine.stats();
    let (events, waves) = (stats.events as f64, stats.waves as f64);
    Ok(
        json!({ "wave": most, "events": stats.events, "events_per_wave": events / waves, "events_per_second": events / seconds }),
    )
}

/// Ranks all destinations after every `between` events, by each strategy in turn. The bench fails if the rankings
/// differ.
fn rank(folder: &Path, message: &[NewEvent], between: usize) -> Result<Value> {
    let strategies = [(Strategy::Full, 0), (Strategy::Affected, 0), (Strategy::Cached, 1), (Strategy::Cached, 2)];
    let spec = |(strategy, precompute)| EngineSpec { strategy, precompute, kept: 1 << 22, ..EngineSpec::default() };
    let engines = strategies.into_iter().map(|how| open(folder, spec(how))).collect::<Result<Vec<_>>>()?;
    let mut seconds = vec![Vec::new(); engines.len()];
    let mut tell_seconds = vec![Vec::new(); engines.len()];
    // The first ranking finds an empty cache.
    let (first, rest) = message.split_at(between.min(message.len()));
    for engine in &engines {
        engine.observe(first, Granularity::Event)?;
        engine.top_k(&first[0].src, 10, None)?;
    }
    let warm: Vec<_> = engines.iter().map(Engine::stats).collect();
    for request in rest.chunks(between).take(RANKINGS) {
        let mut answers: Vec<Vec<Ranked>> = Vec::new();
        for (at, engine) in engines.iter().enumerate() {
            let begun = Instant::now();
            engine.observe(request, Granularity::Event)?;
            tell_seconds[at].push(begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            answers.push(engine.top_k(&request[0].src, 10, None)?.answer);
            seconds[at].push(begun.elapsed().as_secs_f64());
        }
        ensure!(answers.iter().all(|answer| *answer == answers[0]), "the strategies' rankings differ: {answers:?}");
    }
    let median = |of: &[f64]| quantile(of.iter().copied(), 0.5).unwrap_or(f64::NAN);
    let full = median(&seconds[0]);
    let rows = engines.iter().enumerate().map(|(at, engine)| {
        let (stats, spec) = (engine.stats() - warm[at], engine.spec());
        json!({
            "strategy": spec.strategy, "precompute": spec.precompute, "nodes": engine.nodes(),
            "rank_ms": 1e3 * median(&seconds[at]), "tell_ms": 1e3 * median(&tell_seconds[at]), "speedup": full / median(&seconds[at]),
            "touched_fraction": if at == 0 { 1.0 } else { stats.touched_fraction() }, "skipped_mail": stats.skipped_mail(),
        })
    });
    Ok(
        json!({ "events_between": between, "rankings": seconds[0].len(), "equal": true, "strategies": rows.collect::<Vec<_>>() }),
    )
}

/// The results of [`measure`] as tables.
pub(super) fn show(found: &Value) -> String {
    let number =
        |value: &Value, digits: usize| value.as_f64().map_or(String::new(), |number| format!("{number:.digits$}"));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = vec![["wave", "events a wave", "events/s"].map(String::from).to_vec()];
    for row in list(&found["waves"]) {
        rows.push(vec![
            row["wave"].to_string(),
            number(&row["events_per_wave"], 1),
            number(&row["events_per_second"], 0),
        ]);
    }
    let mut text = aligned(&rows);
    for ranking in list(&found["rankings"]) {
        text += &format!("\nall destinations ranked after every {} events\n", ranking["events_between"]);
        let mut rows = vec![
            ["strategy", "ahead", "rank ms", "tell ms", "speedup", "touched", "mail skipped"]
                .map(String::from)
                .to_vec(),
        ];
        for row in list(&ranking["strategies"]) {
            rows.push(vec![
                row["strategy"].as_str().unwrap_or_default().to_string(),
                row["precompute"].to_string(),
                number(&row["rank_ms"], 3),
                number(&row["tell_ms"], 3),
                number(&row["speedup"], 1),
                number(&row["touched_fraction"], 4),
                number(&row["skipped_mail"], 3),
            ]);
        }
        text += &aligned(&rows);
    }
    text
}
