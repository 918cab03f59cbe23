//! What the page of some runs shows, ready to be printed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;
use tempograph_framework::LinkMetrics;
use tempograph_trainers::{EpochReport, Report, Status};

use crate::bench::numbers::plot::{self, Line, Plot, Scale};
use crate::setup::spec::flat;
use crate::terminal::tables::{metric, negative_notes};

/// The page.
#[derive(Serialize)]
pub(super) struct Page {
    title: String,
    runs: Vec<RunRow>,
    /// What a reader has to know before the numbers: runs that failed or are not finished.
    warnings: Vec<String>,
    tests: Vec<TestTable>,
    seeds: Vec<SeedRow>,
    charts: Vec<String>,
    /// The colour of each run in the charts, and its label.
    colours: Vec<[String; 2]>,
    stages: Vec<StageBar>,
    staleness: Vec<Staleness>,
    differing: Differing,
    data: Vec<DataRow>,
    machines: Vec<MachineRow>,
    epochs: Vec<EpochTable>,
    specs: Vec<[String; 2]>,
}

#[derive(Serialize)]
struct RunRow {
    label: String,
    status: String,
    kind: String,
    data: String,
    seed: u64,
    parameters: String,
    epochs: usize,
    best: String,
    val_mrr: String,
    test_ap: String,
    test_mrr: String,
    rate: String,
}

/// The test under one rule for the negatives.
#[derive(Serialize)]
struct TestTable {
    rule: String,
    rows: Vec<TestRow>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct TestRow {
    name: String,
    /// `model`, `part` or `baseline`.
    class: &'static str,
    events: String,
    numbers: Vec<String>,
}

/// Runs that differ in their seed alone.
#[derive(Serialize)]
struct SeedRow {
    runs: String,
    rule: String,
    numbers: Vec<String>,
}

#[derive(Serialize)]
struct StageBar {
    label: String,
    total: String,
    parts: Vec<StagePart>,
}

#[derive(Serialize)]
struct StagePart {
    name: &'static str,
    percent: String,
    seconds: String,
}

#[derive(Serialize)]
struct Staleness {
    label: String,
    /// Batches whose memories were 0, 1, 2, … batches behind.
    batches: Vec<u64>,
}

/// The settings in which the runs differ, and each run's values.
#[derive(Serialize)]
struct Differing {
    labels: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

#[derive(Serialize)]
struct DataRow {
    label: String,
    name: String,
    events: String,
    nodes: String,
    edge_features: usize,
    node_features: usize,
    split: String,
    new_nodes: String,
    checksum: String,
}

#[derive(Serialize)]
struct MachineRow {
    label: String,
    program: String,
    device: String,
    threads: usize,
    processes: usize,
    memory: String,
    history: String,
    seconds: String,
    weights: String,
}

#[derive(Serialize)]
struct EpochTable {
    label: String,
    rows: Vec<Vec<String>>,
}

impl Page {
    /// The page of these runs, each with its label.
    pub fn of(runs: &[(String, Report)]) -> Result<Page> {
        let title = match runs {
            [(label, _)] => label.clone(),
            _ => format!("{} runs", runs.len()),
        };
        Ok(Page {
            title,
            runs: runs.iter().map(run_row).collect(),
            warnings: runs.iter().filter_map(warning).collect(),
            tests: test_tables(runs),
            seeds: seed_rows(runs),
            charts: charts(runs)?,
            colours: runs.iter().enumerate().map(|(i, (label, _))| [plot::colour(i), label.clone()]).collect(),
            stages: runs.iter().filter_map(stage_bar).collect(),
            staleness: runs.iter().filter_map(staleness).collect(),
            differing: differing(runs)?,
            data: runs.iter().map(data_row).collect(),
            machines: runs.iter().map(machine_row).collect(),
            epochs: runs.iter().map(epoch_table).collect(),
            specs: runs.iter().map(spec_text).collect::<Result<_>>()?,
        })
    }
}

fn run_row((label, report): &(String, Report)) -> RunRow {
    let best = report.best_epoch.and_then(|best| report.epochs.iter().find(|epoch| epoch.epoch == best));
    let test = |of: fn(&LinkMetrics) -> Option<f64>| {
        report.test.as_ref().map_or_else(|| "-".into(), |test| metric(of(&test.all)))
    };
    let rates: Vec<f64> = report.epochs.iter().map(|epoch| epoch.train.events_per_second).collect();
    RunRow {
        label: label.clone(),
        status: status(report.status),
        kind: report.spec["model"]["kind"].as_str().unwrap_or("-").into(),
        data: report.data.name.clone(),
        seed: report.seed,
        parameters: grouped(report.parameters as u64),
        epochs: report.epochs.last().map_or(0, |epoch| epoch.epoch),
        best: report.best_epoch.map_or_else(|| "-".into(), |best| best.to_string()),
        val_mrr: metric(best.map(|epoch| epoch.val.all.mrr)),
        test_ap: test(|all| all.ap),
        test_mrr: test(|all| Some(all.mrr)),
        rate: median(rates).map_or_else(|| "-".into(), |rate| grouped(rate as u64)),
    }
}

fn status(status: Status) -> String {
    serde_json::to_value(status).ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
}

fn warning((label, report): &(String, Report)) -> Option<String> {
    let why = report.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match report.status {
        Status::Finished => None,
        Status::Running => Some(format!("{label} is under way; its numbers are not final")),
        Status::Stopped => Some(format!("{label} was stopped; --resume goes on with it")),
        Status::Failed => Some(format!("{label} failed{why}")),
        Status::Diverged => Some(format!("{label} diverged{why}")),
    }
}

/// AP, AUC, MRR, Hits@1, Hits@3, Hits@10.
fn numbers(metrics: &LinkMetrics) -> [Option<f64>; 6] {
    [metrics.ap, metrics.auc, Some(metrics.mrr), Some(metrics.hits1), metrics.hits3, metrics.hits10]
}

fn test_tables(runs: &[(String, Report)]) -> Vec<TestTable> {
    let rules: BTreeSet<&String> = runs.iter().flat_map(|(_, report)| report.test_by_rule.keys()).collect();
    let row = |name: String, class, metrics: &LinkMetrics| TestRow {
        name,
        class,
        events: grouped(metrics.count),
        numbers: numbers(metrics).map(metric).to_vec(),
    };
    let table = |rule: &String| {
        let (mut rows, mut baselines, mut notes) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (label, report) in runs {
            let Some(test) = report.test_by_rule.get(rule) else { continue };
            rows.push(row(label.clone(), "model", &test.all));
            rows.extend(test.new_nodes.iter().map(|new| row("on new nodes".into(), "part", new)));
            notes.extend(negative_notes(rule, test));
            for baseline in report.floors.iter().filter(|baseline| baseline.negatives == *rule) {
                // Runs on the same events and the same negatives have the same baselines.
                let key = (report.data.checksum.clone(), baseline.name.clone(), baseline.test.mrr.to_bits());
                baselines.entry(key).or_insert_with(|| row(baseline.name.clone(), "baseline", &baseline.test));
            }
        }
        rows.extend(baselines.into_values());
        notes.dedup();
        TestTable { rule: rule.clone(), rows, notes }
    };
    rules.into_iter().map(table).collect()
}

fn seed_rows(runs: &[(String, Report)]) -> Vec<SeedRow> {
    let mut groups: BTreeMap<String, Vec<&(String, Report)>> = BTreeMap::new();
    for run in runs.iter().filter(|(_, report)| report.status == Status::Finished) {
        let mut spec = run.1.spec.clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("seed");
            spec.remove("name");
        }
        groups.entry(format!("{} {spec}", run.1.data.checksum)).or_default().push(run);
    }
    let mut rows = Vec::new();
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let labels: Vec<&str> = group.iter().map(|(label, _)| label.as_str()).collect();
        for rule in group[0].1.test_by_rule.keys() {
            let found: Vec<[Option<f64>; 6]> =
                group.iter().filter_map(|(_, report)| Some(numbers(&report.test_by_rule.get(rule)?.all))).collect();
            let column = |i: usize| found.iter().map(|row| row[i]).collect::<Option<Vec<f64>>>();
            let cells = (0..6).map(|i| column(i).map_or_else(|| "-".into(), |values| mean_and_deviation(&values)));
            rows.push(SeedRow {
                runs: format!("{} ({} seeds)", labels.join(", "), found.len()),
                rule: rule.clone(),
                numbers: cells.collect(),
            });
        }
    }
    rows
}

/// Mean and sample standard deviation.
fn mean_and_deviation(values: &[f64]) -> String {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return format!("{mean:.4}");
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    format!("{mean:.4} ± {:.4}", variance.sqrt())
}

/// A number of each epoch, where it has one.
type OfEpoch = fn(&EpochReport) -> Option<f64>;

fn charts(runs: &[(String, Report)]) -> Result<Vec<String>> {
    let wanted: [(&str, &str, OfEpoch); 5] = [
        ("Training loss", "loss", |epoch| Some(epoch.train.loss)),
        ("Validation MRR", "MRR", |epoch| Some(epoch.val.all.mrr)),
        ("Validation AP", "AP", |epoch| epoch.val.all.ap),
        ("Mean norm of the memories", "norm", |epoch| Some(epoch.memory_norm)),
        ("Events trained on each second", "events/s", |epoch| Some(epoch.train.events_per_second)),
    ];
    let mut drawn = Vec::new();
    for (title, unit, value) in wanted {
        let line = |(label, report): &(String, Report)| {
            let points = report.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?)));
            Line { name: label.clone(), points: points.filter(|(_, y)| y.is_finite()).collect() }
        };
        // Also a run without points has its colour.
        let lines: Vec<Line> = runs.iter().map(line).collect();
        if lines.iter().any(|line| !line.points.is_empty()) {
            drawn.push(plot::svg(&Plot {
                title,
                axes: ["epoch", unit],
                lines: &lines,
                scale: Scale::Linear,
                legend: false,
            })?);
        }
    }
    Ok(drawn)
}

fn stage_bar((label, report): &(String, Report)) -> Option<StageBar> {
    let sum = |of: &dyn Fn(&EpochReport) -> f64| report.epochs.iter().map(of).sum::<f64>();
    let parts = [
        ("ask", sum(&|epoch| epoch.train.stages.ask)),
        ("view", sum(&|epoch| epoch.train.stages.view)),
        ("forward", sum(&|epoch| epoch.train.stages.forward)),
        ("backward", sum(&|epoch| epoch.train.stages.backward)),
        ("exchange", sum(&|epoch| epoch.train.stages.exchange)),
        ("step", sum(&|epoch| epoch.train.stages.step)),
        ("observe", sum(&|epoch| epoch.train.stages.observe)),
        ("validation", sum(&|epoch| epoch.val.seconds)),
    ];
    let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    if total <= 0.0 {
        return None;
    }
    let parts = parts.into_iter().filter(|(_, seconds)| *seconds > 0.0).map(|(name, seconds)| StagePart {
        name,
        percent: format!("{:.2}", 100.0 * seconds / total),
        seconds: format!("{seconds:.2}"),
    });
    Some(StageBar { label: label.clone(), total: format!("{total:.1}"), parts: parts.collect() })
}

fn staleness((label, report): &(String, Report)) -> Option<Staleness> {
    let mut batches: Vec<u64> = Vec::new();
    for epoch in &report.epochs {
        let found = &epoch.train.prefetch.staleness;
        batches.resize(batches.len().max(found.len()), 0);
        batches.iter_mut().zip(found).for_each(|(sum, more)| *sum += *more);
    }
    (!batches.is_empty()).then(|| Staleness { label: label.clone(), batches })
}

fn differing(runs: &[(String, Report)]) -> Result<Differing> {
    let specs = runs.iter().map(|(_, report)| Ok(flat(&table(report)?))).collect::<Result<Vec<_>>>()?;
    let keys: BTreeSet<&String> = specs.iter().flat_map(BTreeMap::keys).collect();
    let values = |key: &String| -> Vec<String> {
        specs.iter().map(|spec| spec.get(key).map_or_else(|| "left out".into(), ToString::to_string)).collect()
    };
    let rows = keys.into_iter().map(|key| (key.clone(), values(key)));
    let differ = |(_, values): &(String, Vec<String>)| values.iter().any(|value| *value != values[0]);
    Ok(Differing { labels: runs.iter().map(|(label, _)| label.clone()).collect(), rows: rows.filter(differ).collect() })
}

/// The spec of a run as TOML, which has no null: a key without a value is left out.
fn table(report: &Report) -> Result<toml::Table> {
    fn without_null(value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => {
                let kept = map.iter().filter(|(_, value)| !value.is_null());
                kept.map(|(key, value)| (key.clone(), without_null(value))).collect()
            }
            value => value.clone(),
        }
    }
    Ok(toml::Table::try_from(without_null(&report.spec))?)
}

fn spec_text((label, report): &(String, Report)) -> Result<[String; 2]> {
    Ok([label.clone(), toml::to_string_pretty(&table(report)?)?])
}

fn data_row((label, report): &(String, Report)) -> DataRow {
    let data = &report.data;
    let [val, test] = data.split;
    DataRow {
        label: label.clone(),
        name: data.name.clone(),
        events: grouped(data.events as u64),
        nodes: grouped(data.nodes as u64),
        edge_features: data.edge_features,
        node_features: data.node_features,
        split: [val, test - val, data.events - test].map(|part| grouped(part as u64)).join(" / "),
        new_nodes: data.new_node_events.map(|part| grouped(part as u64)).join(" / "),
        checksum: data.checksum.clone(),
    }
}

fn machine_row((label, report): &(String, Report)) -> MachineRow {
    let commit = report.commit.as_deref().map(|commit| format!(", commit {}", commit.get(..12).unwrap_or(commit)));
    MachineRow {
        label: label.clone(),
        program: format!("{}{}", report.version, commit.unwrap_or_default()),
        device: report.device.clone(),
        threads: report.threads,
        processes: report.processes.len().max(1),
        memory: format!("{} MB", report.peak_memory_bytes >> 20),
        history: format!("{:.1} MB", report.history_bytes as f64 / 1048576.0),
        seconds: format!("{:.1}", report.seconds),
        weights: report.weights_sha256.clone().unwrap_or_else(|| "-".into()),
    }
}

fn epoch_table((label, report): &(String, Report)) -> EpochTable {
    let row = |epoch: &EpochReport| {
        let val = &epoch.val.all;
        vec![
            epoch.epoch.to_string(),
            format!("{:.4}", epoch.train.loss),
            format!("{:.2e}", epoch.train.lr),
            metric(val.ap),
            metric(val.auc),
            metric(Some(val.mrr)),
            metric(val.hits10),
            grouped(epoch.train.events_per_second as u64),
            format!("{:.1}", epoch.train.seconds),
            format!("{:.3}", epoch.memory_norm),
        ]
    };
    EpochTable { label: label.clone(), rows: report.epochs.iter().map(row).collect() }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
