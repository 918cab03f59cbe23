//! The replay of a log without training: queries, view, scores, observe. Evaluation and warming up are its two
//! visitors.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempograph_framework::{Batch, EventLog, History, PurposeDraw, Queries, Update, View};

use crate::TrainError;

/// A visitor of the replay of a log.
pub(crate) trait ReplayVisitor {
    /// Fills `queries` for `batch`, before it is observed. They still hold those of the batch before.
    fn ask(&mut self, batch: &Batch<'_>, queries: &mut Queries) -> Result<(), TrainError>;

    /// Computes from the view, and gives the update of the batch.
    fn answer(&mut self, batch: &Batch<'_>, queries: &Queries, view: &View) -> Result<&Update, TrainError>;
}

/// Time spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StageTimes {
    /// Drawing negatives and forming queries, seconds.
    pub ask: f64,
    /// Reading the view: neighbours, memory rows, mail.
    pub view: f64,
    /// The forward pass and the loss.
    pub forward: f64,
    /// The backward pass.
    pub backward: f64,
    /// Summing the gradients of all lanes and processes, with the wait for the other processes.
    #[serde(default)]
    pub exchange: f64,
    /// The optimiser's step.
    pub step: f64,
    /// Writing memories, mail and neighbours.
    pub observe: f64,
}

impl StageTimes {
    /// Adds another's times to these.
    pub fn add(&mut self, other: &StageTimes) {
        self.ask += other.ask;
        self.view += other.view;
        self.forward += other.forward;
        self.backward += other.backward;
        self.exchange += other.exchange;
        self.step += other.step;
        self.observe += other.observe;
    }

    /// All stages together, seconds.
    pub fn total(&self) -> f64 {
        self.ask + self.view + self.forward + self.backward + self.exchange + self.step + self.observe
    }
}

/// Replays `range` of the log in batches of `size`. Gives the first event not replayed: `range.end`, unless stopped.
pub(crate) fn replay(
    history: &mut History,
    log: &EventLog,
    range: Range<usize>,
    size: usize,
    chance: PurposeDraw,
    stop: &AtomicBool,
    visitor: &mut impl ReplayVisitor,
) -> Result<usize, TrainError> {
    // Reused for every batch, so that later batches allocate nothing.
    let (mut queries, mut view) = (Queries::none(), View::default());
    let mut next = range.start;
    while next < range.end {
        if stop.load(Ordering::Relaxed) {
            return Ok(next);
        }
        let end = (next + size).min(range.end);
        let batch = log.batch(next..end);
        visitor.ask(&batch, &mut queries)?;
        history.view_into(&queries, Some(&batch), chance, &mut view);
        let update = visitor.answer(&batch, &queries, &view)?;
        history.observe(&batch, update)?;
        next = end;
    }
    Ok(next)
}

/// A stop watch read in laps.
pub(crate) struct LapTimer(Instant);

impl LapTimer {
    pub fn start() -> LapTimer {
        LapTimer(Instant::now())
    }

    /// Seconds since the last lap.
    pub fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - self.0;
        self.0 = now;
        lap.as_secs_f64()
    }
}
