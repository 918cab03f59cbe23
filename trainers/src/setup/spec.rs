//! The sections `train`, `parallel` and `eval` of a spec.

use serde::{Deserialize, Serialize};
use tempograph_framework::NegativeRule;

use crate::Plan;

/// How a model is trained. A key that is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Events a step (200).
    pub batch: usize,
    /// Passes of one trainer over the training split (10). A plan with `j` sets of negatives and `k` histories is
    /// evaluated after every `j k` of them: then each of its histories has made one pass. With any other number the
    /// last pass stays incomplete.
    pub epochs: usize,
    /// Learning rate (1e-4).
    pub lr: f64,
    /// Decoupled weight decay, as AdamW's (0).
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 does not clip (0).
    pub clip: f64,
    /// How the learning rate changes over all steps: `constant`, `linear` or `cosine`. The last two go down to zero.
    pub schedule: Schedule,
    /// Steps over which the learning rate first rises from zero (0).
    pub warmup: usize,
    /// Negatives for each event (1).
    pub negatives: usize,
    /// How they are drawn (`random`).
    pub negative_rule: NegativeRule,
    /// Epochs without a better validation score after which training stops; 0 never stops (0).
    pub patience: usize,
    /// The validation score that decides which epoch is best: `ap` or `mrr` (`mrr`).
    pub select_by: SelectBy,
    /// Minutes between checkpoints (10). Each evaluation also writes one.
    pub checkpoint_minutes: f64,
}

impl Default for TrainSpec {
    fn default() -> TrainSpec {
        TrainSpec {
            batch: 200,
            epochs: 10,
            lr: 1e-4,
            weight_decay: 0.0,
            clip: 0.0,
            schedule: Schedule::Constant,
            warmup: 0,
            negatives: 1,
            negative_rule: NegativeRule::Random,
            patience: 0,
            select_by: SelectBy::Mrr,
            checkpoint_minutes: 10.0,
        }
    }
}

/// How trainers share the work. A key that is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParallelSpec {
    /// `i`: shards of a global batch of `i` times `train.batch` events (1).
    pub minibatch: usize,
    /// `j`: lanes on one history, each batch trained by one of them in `j` steps against `j` sets of negatives (1).
    pub epoch: usize,
    /// `k`: histories at different positions in the log (1).
    pub memory: usize,
    /// Lanes that compute at the same time, each on a thread of its own; idle threads help. 0 is the number of threads,
    /// which is also the largest (0). The other lanes wait for their turn. The result does not depend on this.
    pub threads: usize,
    /// The factor on `train.lr` where several batches are averaged in a step (`linear`).
    pub lr_scale: LrScale,
    /// How Adam's betas change where batches are trained in several steps in a row (`epoch`).
    pub beta_scale: BetaScale,
    /// Batches prepared while the one before them is trained: two threads sample neighbours and read memories ahead. 0
    /// prepares none (0). The result does not depend on this.
    pub prefetch: usize,
    /// Number of batches by which the memories of a batch may be older than its neighbours: 0 is exact (0). With more,
    /// nothing has to be read between two batches, but the result is another one.
    pub staleness: usize,
    /// Steps between two checks that all processes have the same weights; 0 never checks (100). With any other number,
    /// they are also checked before a file is written and at the end.
    pub check_every: u64,
}

impl Default for ParallelSpec {
    fn default() -> ParallelSpec {
        ParallelSpec {
            minibatch: 1,
            epoch: 1,
            memory: 1,
            threads: 0,
            prefetch: 0,
            staleness: 0,
            lr_scale: LrScale::Linear,
            beta_scale: BetaScale::Epoch,
            check_every: 100,
        }
    }
}

impl ParallelSpec {
    /// Its three axes.
    pub fn plan(&self) -> Plan {
        Plan { minibatch: self.minibatch, epoch: self.epoch, memory: self.memory }
    }

    /// Checks the values. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero, or staleness without a pipeline that deep.
    pub fn check(&self) -> Result<(), String> {
        let ParallelSpec { prefetch, staleness, .. } = self;
        if staleness > prefetch {
            return Err(format!(
                "parallel.staleness = {staleness} reads memories {staleness} batches ahead; parallel.prefetch = {prefetch} must be at least that"
            ));
        }
        at_most("parallel.prefetch", *prefetch, 1024)?;
        for (key, value) in [("minibatch", self.minibatch), ("epoch", self.epoch), ("memory", self.memory)] {
            at_most(&format!("parallel.{key}"), value, 4096)?;
        }
        self.plan().check(usize::MAX)
    }

    /// The factor on the learning rate.
    pub fn lr_factor(&self) -> f64 {
        let lanes = self.plan().lanes() as f64;
        match self.lr_scale {
            LrScale::Linear => lanes,
            LrScale::Sqrt => lanes.sqrt(),
            LrScale::None => 1.0,
        }
    }

    /// The exponent on Adam's betas.
    pub fn beta_power(&self) -> usize {
        match self.beta_scale {
            BetaScale::Epoch => self.epoch,
            BetaScale::None => 1,
        }
    }
}

/// How the learning rate grows with the batches averaged in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrScale {
    /// With their number, as in DistTGL.
    Linear,
    /// With its square root.
    Sqrt,
    /// Not at all.
    None,
}

/// How Adam's betas change where epoch lanes train each batch in `j` steps in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BetaScale {
    /// Each to the power `j`. Gradients of successive steps share all but one of their `j` batches, so without this
    /// Adam's means would average nearly the same gradient.
    Epoch,
    /// Unchanged, as in DistTGL.
    None,
}

/// How the learning rate changes over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Linearly down to zero at the last step.
    Linear,
    /// Half a cosine down to zero at the last step.
    Cosine,
}

/// The validation score that selects the best epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectBy {
    /// Average precision, one against one.
    Ap,
    /// Mean reciprocal rank.
    Mrr,
}

/// How a model is evaluated. A key that is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSpec {
    /// Negatives an event is ranked among (49); AP and AUC use the first of them.
    pub negatives: usize,
    /// Rank every n-th validation event only (1). Ranking takes most of the time of an evaluation. All events of the
    /// test split are ranked.
    pub val_every: usize,
    /// Negative rules for the test split (`random`). The first gives the headline numbers.
    pub rules: Vec<NegativeRule>,
    /// Seed of the evaluation negatives (0). Runs that are compared must have the same.
    pub seed: u64,
    /// Whether the baselines EdgeBank and last-10 are evaluated as well (true).
    pub floors: bool,
}

impl Default for EvalSpec {
    fn default() -> EvalSpec {
        EvalSpec { negatives: 49, val_every: 1, rules: vec![NegativeRule::Random], seed: 0, floors: true }
    }
}

impl TrainSpec {
    /// Checks the values. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero or a rate that is not a number of the right sign.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("batch", self.batch), ("epochs", self.epochs), ("negatives", self.negatives)] {
            if value == 0 {
                return Err(format!("train.{key} is 0; it must be at least 1"));
            }
        }
        at_most("train.batch", self.batch, 1 << 24)?;
        at_most("train.epochs", self.epochs, 1 << 24)?;
        at_most("train.negatives", self.negatives, 1 << 20)?;
        pairs("train", self.batch, self.negatives)?;
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(format!("train.lr = {}; it must be positive", self.lr));
        }
        for (key, value) in
            [("weight_decay", self.weight_decay), ("clip", self.clip), ("checkpoint_minutes", self.checkpoint_minutes)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("train.{key} = {value}; it must not be negative"));
            }
        }
        Ok(())
    }

    /// The learning rate of `step`, counted from 0, in a run of `steps`.
    pub fn lr_at(&self, step: u64, steps: u64) -> f64 {
        let done = (step as f64 / steps.max(1) as f64).min(1.0);
        let factor = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - done,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        let rise = if self.warmup == 0 { 1.0 } else { ((step + 1) as f64 / self.warmup as f64).min(1.0) };
        self.lr * factor * rise
    }
}

impl EvalSpec {
    /// Checks the values. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero, an empty list of rules, or a rule that is there twice.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in
            [("negatives", self.negatives), ("val_every", self.val_every), ("rules (its length)", self.rules.len())]
        {
            if value == 0 {
                return Err(format!("eval.{key} is 0; it must be at least 1"));
            }
        }
        if let Some(i) = (1..self.rules.len()).find(|&i| self.rules[..i].contains(&self.rules[i])) {
            return Err(format!("eval.rules[{i}] is a rule that is in the list before it"));
        }
        at_most("eval.negatives", self.negatives, 1 << 24)
    }

    /// Checks the pairs of one batch of `batch` events.
    ///
    /// # Errors
    /// A sentence with their number, if there are more than a step computes at once.
    pub fn check_batch(&self, batch: usize) -> Result<(), String> {
        pairs("eval", batch, self.negatives)
    }
}

/// Pairs of a source and a destination that are scored at once at the most: their scores and rows are in memory together.
const PAIRS: usize = 1 << 25;

fn pairs(section: &str, batch: usize, negatives: usize) -> Result<(), String> {
    let pairs = batch.saturating_mul(negatives);
    if pairs <= PAIRS {
        return Ok(());
    }
    Err(format!(
        "train.batch = {batch} events with {section}.negatives = {negatives} each are {pairs} pairs in one batch; at most {PAIRS} are scored at \
         once: choose fewer of either"
    ))
}

fn at_most(key: &str, value: usize, most: usize) -> Result<(), String> {
    if value <= most { Ok(()) } else { Err(format!("{key} = {value}; it is at most {most}")) }
}
