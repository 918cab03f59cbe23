//! What a run and an evaluation print: the introduction, the tables of metrics, the end.

use std::fmt;
use std::path::Path;

use tempograph_framework::{LinkMetrics, Lookup};
use tempograph_trainers::{Baseline, Evaluation, Report};

/// What is trained, on what.
pub(crate) fn introduction(report: &Report) -> String {
    let data = &report.data;
    format!(
        "{}: {} events, {} nodes, {} edge and {} node features; trains on {}, validates on {}, tests on {}\n{} parameters, {} threads on {}",
        data.name,
        data.events,
        data.nodes,
        data.edge_features,
        data.node_features,
        data.split[0],
        data.split[1] - data.split[0],
        data.events - data.split[1],
        report.parameters,
        report.threads,
        report.device
    )
}

/// A table of metrics under construction: rows of numbers, and notes between them.
#[derive(Default)]
pub(crate) struct MetricTable<'a> {
    lines: Vec<Line<'a>>,
}

enum Line<'a> {
    Metrics(String, &'a LinkMetrics),
    Note(String),
}

impl<'a> MetricTable<'a> {
    pub fn row(&mut self, name: impl Into<String>, metrics: &'a LinkMetrics) {
        self.lines.push(Line::Metrics(name.into(), metrics));
    }

    pub fn notes(&mut self, notes: Vec<String>) {
        self.lines.extend(notes.into_iter().map(Line::Note));
    }

    /// The lines of the table. The first column is as wide as its longest name.
    pub fn lines(&self) -> Vec<String> {
        let names = self.lines.iter().filter_map(|line| match line {
            Line::Metrics(name, _) => Some(name.chars().count()),
            Line::Note(_) => None,
        });
        let width = names.max().unwrap_or(0).max(28);
        let title = format!("{:<width$} {:>7} {:>7} {:>7} {:>8}", "test", "AP", "AUC", "MRR", "Hits@10");
        let lines = self.lines.iter().map(|line| match line {
            Line::Metrics(name, metrics) => {
                let [ap, auc, hits10] = [metrics.ap, metrics.auc, metrics.hits10].map(metric);
                format!("{name:<width$} {ap:>7} {auc:>7} {:>7.4} {hits10:>8}", metrics.mrr)
            }
            Line::Note(note) => note.clone(),
        });
        [title].into_iter().chain(lines).collect()
    }
}

/// The table of an evaluation: the model's rows, those of the baselines, and what the negatives are.
pub(crate) fn metric_table(model: &str, by_rule: &[(&str, &Evaluation)], baselines: &[Baseline]) -> Vec<String> {
    let mut table = MetricTable::default();
    for (rule, evaluation) in by_rule {
        table.row(format!("{model} ({rule})"), &evaluation.all);
        if let Some(new) = &evaluation.new_nodes {
            table.row(format!("  {} new-node events", new.count), new);
        }
        for baseline in baselines.iter().filter(|baseline| baseline.negatives == **rule) {
            table.row(format!("{} ({rule})", baseline.name), &baseline.test);
        }
        table.notes(negative_notes(rule, evaluation));
    }
    table.lines()
}

/// What a reader has to know of the negatives: true ones, others than the rule's, few.
pub(crate) fn negative_notes(rule: &str, evaluation: &Evaluation) -> Vec<String> {
    let facts = &evaluation.negatives;
    let mut notes = Vec::new();
    if facts.of_rule < 1.0 {
        let other = 100.0 * (1.0 - facts.of_rule);
        let of_rule = 100.0 * facts.of_rule;
        notes.push(format!(
            "  of the negatives {of_rule:.1} % are {rule}, {other:.1} % random, where there were too few"
        ));
    }
    if facts.true_at_time > 0.0 {
        let share = 100.0 * facts.true_at_time;
        notes.push(format!("  of the negatives ({rule}) {share:.1} % are true: they happen at the time of the event"));
    }
    if facts.fewest_distinct < 10 {
        notes.push(format!(
            "  MRR ({rule}) is among few: an event has {:.1} different negatives on average, and one has {}",
            facts.distinct, facts.fewest_distinct
        ));
    }
    notes.extend(evaluation.undefined.iter().map(|(metric, why)| format!("  no {metric} ({rule}): {why}")));
    notes
}

/// Four decimals, or a dash for what means nothing.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.4}"))
}

/// The result under the protocol of the Temporal Graph Benchmark: the mean reciprocal rank of each part among the benchmark's own negatives,
/// and what a query saw of its own batch, which the benchmark leaves open.
pub(crate) struct TgbResult {
    pub test: Option<f64>,
    pub val: Option<f64>,
    pub lookups: Lookup,
}

impl TgbResult {
    /// That of a run, whose lookups are given. Events of which only some were ranked give no result of their part.
    pub fn of_run(report: &Report, lookups: Lookup) -> TgbResult {
        let mrr = |found: &Evaluation| (found.ranked == found.all.count).then_some(found.all.mrr);
        let best = report.epochs.iter().find(|epoch| Some(epoch.epoch) == report.best_epoch);
        TgbResult { test: report.test.as_ref().and_then(mrr), val: best.and_then(|best| mrr(&best.val)), lookups }
    }

    /// What the lookups are called.
    pub fn lookups(&self) -> &'static str {
        match self.lookups {
            Lookup::Exact => "exact",
            Lookup::Ordered => "ordered",
            Lookup::Batch => "batch",
        }
    }
}

impl fmt::Display for TgbResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The benchmark's evaluator computes in 32 bits.
        let mrr = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.6}"));
        write!(f, "TGB protocol: test MRR {}, val MRR {}, lookups {}", mrr(self.test), mrr(self.val), self.lookups())
    }
}

/// The tables of a finished run.
pub(crate) fn conclusion(report: &Report, tgb: Option<&TgbResult>, folder: &Path) -> String {
    let by_rule: Vec<(&str, &Evaluation)> =
        report.test_by_rule.iter().map(|(rule, evaluation)| (rule.as_str(), evaluation)).collect();
    let mut lines = metric_table(&report.name, &by_rule, &report.floors);
    lines.extend(tgb.map(TgbResult::to_string));
    lines.push(format!(
        "best epoch {}, {:.0} s, {} MB; report in {}",
        report.best_epoch.unwrap_or(0),
        report.seconds,
        report.peak_memory_bytes >> 20,
        folder.join("report.json").display()
    ));
    lines.join("\n")
}
