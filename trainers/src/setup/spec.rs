//! What a spec may say about training and evaluation.

use serde::{Deserialize, Serialize};
use tempograph_framework::NegativeRule;

use crate::Plan;

/// How a model is trained; what is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Events a step (200).
    pub batch: usize,
    /// Passes of one trainer over the training split (10). A plan with `j` sets of negatives and `k` histories is examined after every `j k` of
    /// them, when its histories have been passed once; any other number leaves them on their way at the end.
    pub epochs: usize,
    /// Learning rate (1e-4).
    pub lr: f64,
    /// Decoupled weight decay, as AdamW's (0).
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 does not clip (0).
    pub clip: f64,
    /// How the learning rate goes over all steps: `constant`, `linear` or `cosine`, the last two down to zero.
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
    /// Minutes between checkpoints (10); each examination writes one anyway.
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

/// How trainers share the work; what is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParallelSpec {
    /// `i`: shards of a global batch of `i` times `train.batch` events (1).
    pub minibatch: usize,
    /// `j`: lanes on one history, each batch trained by one of them in `j` steps against `j` sets of negatives (1).
    pub epoch: usize,
    /// `k`: histories at different places of the log (1).
    pub memory: usize,
    /// Lanes that compute at the same time, each begun by a thread of its own; threads that have none help. 0 takes as many as there are
    /// threads, which no more can be (0). The others wait for their turn: a plan means the same whatever this is.
    pub threads: usize,
    /// What `train.lr` is multiplied by where several batches are averaged in a step (`linear`).
    pub lr_scale: LrScale,
    /// What becomes of Adam's betas where batches are trained in several steps in a row (`epoch`).
    pub beta_scale: BetaScale,
    /// Batches made ready while the one before them is trained: a pipeline on two threads of its own looks up neighbours and reads memories
    /// ahead; 0 has none (0). What is trained does not depend on it.
    pub prefetch: usize,
    /// Batches by which the memories a batch is shown may be behind its neighbours: 0 is exact (0). With more, nothing is left to be read
    /// between two batches; it is another training.
    pub staleness: usize,
    /// Steps between two checks that all processes have the same weights, which is also looked at before anything is written and at the end;
    /// 0 never checks (100).
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

    /// Says what makes no sense, naming the key and its value.
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
        self.plan().check(usize::MAX)
    }

    /// What the learning rate is multiplied by.
    pub fn lr_factor(&self) -> f64 {
        let lanes = self.plan().lanes() as f64;
        match self.lr_scale {
            LrScale::Linear => lanes,
            LrScale::Sqrt => lanes.sqrt(),
            LrScale::None => 1.0,
        }
    }

    /// The power that Adam's betas are taken to.
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

/// What becomes of Adam's betas where epoch lanes train each batch in `j` steps in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BetaScale {
    /// Each to the power `j`: gradients of successive steps share all but one of their `j` batches, and a mean over as many steps is that of
    /// nearly the same gradient.
    Epoch,
    /// They stay, as in DistTGL.
    None,
}

/// The course of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Straight down to zero at the last step.
    Linear,
    /// Half a cosine down to zero at the last step.
    Cosine,
}

/// The validation score that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectBy {
    /// Average precision, one against one.
    Ap,
    /// Mean reciprocal rank.
    Mrr,
}

/// How a model is evaluated; what is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSpec {
    /// Negatives an event is ranked among (49); AP and AUC use the first of them.
    pub negatives: usize,
    /// Rank every n-th validation event only (1): ranking is what evaluation spends its time on. The test split is always ranked whole.
    pub val_every: usize,
    /// Rules the test split is evaluated under, the first for the headline numbers (`random`).
    pub rules: Vec<NegativeRule>,
    /// Seed of the evaluation negatives (0): the same for every run that is to be compared.
    pub seed: u64,
    /// Heuristics to stand beside the model: EdgeBank and last-10 (true).
    pub floors: bool,
}

impl Default for EvalSpec {
    fn default() -> EvalSpec {
        EvalSpec { negatives: 49, val_every: 1, rules: vec![NegativeRule::Random], seed: 0, floors: true }
    }
}

impl TrainSpec {
    /// Says what makes no sense, naming the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero or a rate that is not a number of the right sign.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("batch", self.batch), ("epochs", self.epochs), ("negatives", self.negatives)] {
            if value == 0 {
                return Err(format!("train.{key} is 0; it must be at least 1"));
            }
        }
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
    /// Says what makes no sense, naming the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero or an empty list of rules.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in
            [("negatives", self.negatives), ("val_every", self.val_every), ("rules (its length)", self.rules.len())]
        {
            if value == 0 {
                return Err(format!("eval.{key} is 0; it must be at least 1"));
            }
        }
        Ok(())
    }
}
