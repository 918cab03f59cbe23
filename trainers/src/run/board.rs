//! TensorBoard: the one file that knows how its event files are written.

use std::path::Path;

use crate::run::event_file::{EventFile, Histogram};
use crate::{EpochReport, Evaluation, PrefetchReport, StepRecord, TrainingObserver};

/// Writes scalars for TensorBoard: per step loss, learning rate, gradient norm and events/s; per epoch metrics, stage times, staleness
/// and memory norms, under the number of steps taken.
pub struct TensorBoardWriter {
    file: EventFile,
    /// The first error. Nothing is written after it.
    failed: std::io::Result<()>,
    steps: usize,
    every: usize,
}

impl TensorBoardWriter {
    /// Writes into `folder`, one point every `every` steps.
    ///
    /// # Errors
    /// A folder or a file that cannot be made.
    pub fn new(folder: &Path, every: usize) -> std::io::Result<TensorBoardWriter> {
        Ok(TensorBoardWriter { file: EventFile::create(folder)?, failed: Ok(()), steps: 0, every: every.max(1) })
    }

    /// The first error since it was asked last. After one, nothing more is written: the points of a run are worth less than the run.
    ///
    /// # Errors
    /// What the file system says.
    pub fn take_error(&mut self) -> std::io::Result<()> {
        match &self.failed {
            Err(error) if error.kind() != std::io::ErrorKind::Other => {
                let gathered = std::io::Error::new(error.kind(), error.to_string());
                self.failed = Err(std::io::Error::other("reported before"));
                Err(gathered)
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut EventFile) -> std::io::Result<()>) {
        if self.failed.is_ok() {
            self.failed = write(&mut self.file);
        }
    }

    fn scalar(&mut self, tag: &str, value: f64) {
        let step = self.steps;
        self.write(|file| file.scalar(tag, value as f32, step));
    }

    /// What a pipeline did in an epoch, if there was one.
    fn prefetch(&mut self, report: &PrefetchReport) {
        let batches: u64 = report.staleness.iter().sum();
        if batches == 0 {
            return;
        }
        let named = [
            ("sampling", report.sampling),
            ("reading", report.reading),
            ("waiting", report.waiting),
            ("hidden", report.hidden()),
        ];
        named.iter().for_each(|(name, value)| self.scalar(&format!("prefetch/{name}"), *value));
        let counts: Vec<f64> = report.staleness.iter().map(|&count| count as f64).collect();
        let limits: Vec<f64> = (0..counts.len()).map(|behind| behind as f64 + 0.5).collect();
        let sum = |power: i32| {
            counts.iter().enumerate().map(|(behind, count)| count * (behind as f64).powi(power)).sum::<f64>()
        };
        let most = counts.len() as f64 - 1.0;
        let (one, two) = (sum(1), sum(2));
        let histogram =
            Histogram { range: [0.0, most], sum: one, sum_of_squares: two, limits: &limits, counts: &counts };
        let step = self.steps;
        self.write(|file| file.histogram("prefetch/staleness", &histogram, step));
    }

    /// Metrics of a split.
    pub fn evaluation(&mut self, split: &str, evaluation: &Evaluation) {
        let metrics = &evaluation.all;
        let named = [
            ("ap", metrics.ap),
            ("auc", metrics.auc),
            ("mrr", Some(metrics.mrr)),
            ("hits10", metrics.hits10),
            ("seconds", Some(evaluation.seconds)),
            ("new_nodes/ap", evaluation.new_nodes.and_then(|new| new.ap)),
            ("new_nodes/mrr", evaluation.new_nodes.map(|new| new.mrr)),
        ];
        for (name, value) in named {
            value.into_iter().for_each(|value| self.scalar(&format!("{split}/{name}"), value));
        }
        self.write(EventFile::flush);
    }
}

impl TrainingObserver for TensorBoardWriter {
    fn step(&mut self, _: usize, _: usize, _: usize, record: &StepRecord) {
        self.steps = record.step as usize + 1;
        if !self.steps.is_multiple_of(self.every) {
            return;
        }
        self.scalar("train/loss", record.loss);
        self.scalar("train/lr", record.lr);
        self.scalar("train/gradient_norm", record.gradient_norm);
        self.scalar("train/events_per_second", record.events as f64 / record.stages.total().max(f64::MIN_POSITIVE));
    }

    fn epoch(&mut self, report: &EpochReport, _: bool) {
        self.scalar("epoch/loss", report.train.loss);
        self.scalar("epoch/events_per_second", report.train.events_per_second);
        self.scalar("epoch/memory_norm", report.memory_norm);
        let stages = &report.train.stages;
        let named = [
            ("ask", stages.ask),
            ("view", stages.view),
            ("forward", stages.forward),
            ("backward", stages.backward),
            ("exchange", stages.exchange),
            ("step", stages.step),
            ("observe", stages.observe),
        ];
        named.iter().for_each(|(name, seconds)| self.scalar(&format!("stages/{name}"), *seconds));
        self.prefetch(&report.train.prefetch);
        self.evaluation("val", &report.val);
    }
}
