//! Progress of a run: a bar on a terminal, elsewhere a line an epoch.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::terminal::print::note;
use crate::terminal::tables::metric;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tempograph_trainers::{EpochReport, StepRecord, TrainingObserver};

/// Shows a run's progress on standard error.
pub struct Terminal {
    bar: ProgressBar,
    epochs: usize,
    loss: f64,
    quiet: bool,
    drawn: Instant,
}

impl Terminal {
    /// For a run of `epochs`; `quiet` shows nothing.
    pub fn new(epochs: usize, quiet: bool) -> Terminal {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        bar.set_style(style("{prefix:>14} {wide_bar} {pos}/{len} {rate:>10} eta {eta:>4} {msg}"));
        Terminal { bar, epochs, loss: f64::NAN, quiet, drawn: Instant::now() }
    }

    fn show(&mut self, prefix: String, done: usize, of: usize) {
        if self.bar.prefix() != prefix {
            self.bar.reset();
            self.bar.set_prefix(prefix);
        }
        if self.drawn.elapsed() > Duration::from_millis(50) || done == of {
            self.drawn = Instant::now();
            self.bar.set_length(of as u64);
            self.bar.set_position(done as u64);
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl TrainingObserver for Terminal {
    fn step(&mut self, epoch: usize, events: usize, of: usize, record: &StepRecord) {
        self.loss = if self.loss.is_nan() { record.loss } else { 0.98 * self.loss + 0.02 * record.loss };
        self.bar.set_message(format!("loss {:.4}", self.loss));
        self.show(format!("epoch {epoch}/{}", self.epochs), events, of);
    }

    fn evaluation_progress(&mut self, what: &str, events: usize, of: usize) {
        self.bar.set_message("");
        self.show(what.to_string(), events, of);
    }

    fn epoch(&mut self, report: &EpochReport, best: bool) {
        if self.quiet {
            return;
        }
        let (train, val) = (&report.train, &report.val.all);
        let line = format!(
            "epoch {:>3}/{}  loss {:.4}  {:>7.0} events/s  val AP {}  AUC {}  MRR {:.4}  ({:.1} s + {:.1} s){}",
            report.epoch,
            self.epochs,
            train.loss,
            train.events_per_second,
            metric(val.ap),
            metric(val.auc),
            val.mrr,
            train.seconds,
            report.val.seconds,
            if best { "  best" } else { "" }
        );
        self.bar.suspend(|| note(&line));
    }
}

/// A bar's style, in which `{rate}` is rounded: `{per_sec}` has as many digits as a float.
pub(crate) fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{}", rate(state.per_sec()));
    })
}

/// A rate with as many digits as say something.
fn rate(per_second: f64) -> String {
    match per_second {
        rate if !rate.is_finite() => "-/s".into(),
        rate if rate < 10.0 => format!("{rate:.1}/s"),
        rate if rate < 1e6 => format!("{rate:.0}/s"),
        rate => format!("{:.1}M/s", rate / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_no_more_digits_than_a_terminal_has_room_for() {
        let rates = [0.0, 9.987654321, 5_959.557_669_383_69, 999_999.0, 12_345_678.9, f64::NAN, f64::INFINITY];
        let said = ["0.0/s", "10.0/s", "5960/s", "999999/s", "12.3M/s", "-/s", "-/s"];
        assert_eq!(rates.map(rate), said);
    }
}
