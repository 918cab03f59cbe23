//! Progress of a run: a bar on a terminal, elsewhere a line an epoch.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
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
        let style =
            ProgressStyle::with_template("{prefix:>14} {wide_bar} {pos}/{len} {per_sec:>14} eta {eta:>4} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
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
            "epoch {:>3}/{}  loss {:.4}  {:>7.0} events/s  val AP {:.4}  AUC {:.4}  MRR {:.4}  ({:.1} s + {:.1} s){}",
            report.epoch,
            self.epochs,
            train.loss,
            train.events_per_second,
            val.ap,
            val.auc,
            val.mrr,
            train.seconds,
            report.val.seconds,
            if best { "  best" } else { "" }
        );
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
