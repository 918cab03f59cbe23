//! Evaluation: scores events against negatives and trains nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use tempograph_framework::{
    Batch, Draw, EventId, EventLog, History, LinkAccumulator, LinkMetrics, NegativeSet, NewNodes, Purpose, PurposeDraw,
    Queries, ScoredBatch, Scorer, TiePolicy, Update, View,
};

use crate::TrainError;
use crate::step::audit::{NegativeAudit, NegativeFacts, blank_undefined};
use crate::step::record::SampledNegatives;
use crate::step::walk::{ReplayVisitor, replay};

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Over all events; MRR and Hits@k over the ranked ones.
    #[serde(flatten)]
    pub all: LinkMetrics,
    /// Events whose positive was ranked among all its negatives.
    pub ranked: u64,
    /// What those negatives are.
    #[serde(default)]
    pub negatives: NegativeFacts,
    /// The metrics that mean nothing here, and why. They are null.
    #[serde(default)]
    pub undefined: BTreeMap<String, String>,
    /// Over the ranked events that touch a node unseen in training (inductive), where there are any.
    pub new_nodes: Option<LinkMetrics>,
    /// Seconds it took.
    pub seconds: f64,
}

/// The settings of an evaluation.
#[derive(Debug)]
pub struct EvaluationTask<'a> {
    /// The events to evaluate.
    pub range: Range<usize>,
    /// Events a batch.
    pub batch: usize,
    /// The negatives of each positive.
    pub negatives: &'a NegativeSet,
    /// Rank every n-th event among all its negatives. The others are scored against the first negative only.
    pub rank_every: usize,
    /// Nodes unseen in training, for the inductive numbers.
    pub new_nodes: Option<&'a NewNodes>,
}

/// Scores of one evaluated batch, for a callback.
#[derive(Debug)]
pub struct BatchScores<'a> {
    /// First event of the batch.
    pub first: EventId,
    /// The queries.
    pub queries: &'a Queries,
    /// Logits, `[P]`.
    pub scores: &'a [f32],
}

/// Evaluates `model` on consecutive events. Each batch is scored, then observed.
///
/// `history` is warm: it has observed everything before the range. `heard` is called with the scores of every batch.
///
/// # Errors
/// A score that is not finite, a negative that cannot be drawn, or an event that cannot be observed. `Ok(None)` if
/// stopped.
pub fn evaluate(
    model: &mut dyn Scorer,
    history: &mut History,
    log: &EventLog,
    asked: &EvaluationTask<'_>,
    stop: &AtomicBool,
    heard: &mut dyn FnMut(&BatchScores<'_>),
) -> Result<Option<Evaluation>, TrainError> {
    let start = std::time::Instant::now();
    let mut evaluator = Evaluator {
        model,
        asked,
        all: LinkAccumulator::new(TiePolicy::Mean),
        ranked: LinkAccumulator::new(TiePolicy::Mean),
        new_nodes: LinkAccumulator::new(TiePolicy::Mean),
        heard,
        audit: NegativeAudit::new(log),
        events: Vec::new(),
        drawn: SampledNegatives::default(),
    };
    let end = replay(history, log, asked.range.clone(), asked.batch, sampling(), stop, &mut evaluator)?;
    if end < asked.range.end {
        return Ok(None);
    }
    let (Some(mut all), Some(ranked)) = (evaluator.all.finish(), evaluator.ranked.finish()) else {
        return Err(TrainError::EmptySplit { range: asked.range.clone() });
    };
    (all.mrr, all.hits1, all.hits3, all.hits10) = (ranked.mrr, ranked.hits1, ranked.hits3, ranked.hits10);
    let mut new_nodes = asked.new_nodes.and_then(|_| evaluator.new_nodes.finish());
    let negatives = evaluator.audit.finish();
    let undefined = blank_undefined(&mut all, &negatives);
    new_nodes.iter_mut().for_each(|new| drop(blank_undefined(new, &negatives)));
    let seconds = start.elapsed().as_secs_f64();
    Ok(Some(Evaluation { all, ranked: ranked.count, negatives, undefined, new_nodes, seconds }))
}

/// Observes `range` without scoring: only the history changes.
///
/// # Errors
/// An event that cannot be observed. `Ok(false)` if stopped.
pub fn warm_up(
    model: &mut dyn Scorer,
    history: &mut History,
    log: &EventLog,
    range: Range<usize>,
    batch: usize,
    stop: &AtomicBool,
) -> Result<bool, TrainError> {
    let end = range.end;
    Ok(replay(history, log, range, batch, sampling(), stop, &mut WarmUp(model))? == end)
}

/// Outside training, uniform neighbours are drawn the same way every time.
fn sampling() -> PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}

struct Evaluator<'a> {
    model: &'a mut dyn Scorer,
    asked: &'a EvaluationTask<'a>,
    all: LinkAccumulator,
    ranked: LinkAccumulator,
    new_nodes: LinkAccumulator,
    heard: &'a mut dyn FnMut(&BatchScores<'_>),
    audit: NegativeAudit<'a>,
    /// The events of the current batch; `drawn` has their negatives.
    events: Vec<EventId>,
    drawn: SampledNegatives,
}

impl EvaluationTask<'_> {
    fn is_ranked(&self, event: EventId) -> bool {
        (event.index() - self.range.start).is_multiple_of(self.rank_every)
    }
}

impl ReplayVisitor for Evaluator<'_> {
    fn ask(&mut self, batch: &Batch<'_>, queries: &mut Queries) -> Result<(), TrainError> {
        let (asked, SampledNegatives { nodes, offsets }) = (self.asked, &mut self.drawn);
        self.events.clear();
        nodes.clear();
        offsets.clear();
        offsets.push(0);
        for event in batch.events() {
            let start = nodes.len();
            let of_rule = asked.negatives.append(event.id, nodes)?;
            if asked.is_ranked(event.id) {
                self.audit.count(event.id.index(), &nodes[start..], of_rule);
            } else {
                nodes.truncate(start + 1);
            }
            self.events.push(event.id);
            offsets.push(nodes.len());
        }
        queries.set_batch(batch, nodes, offsets);
        Ok(())
    }

    fn answer(&mut self, batch: &Batch<'_>, queries: &Queries, view: &View) -> Result<&Update, TrainError> {
        let (scores, update) = self.model.score(queries, view);
        (self.heard)(&BatchScores { first: batch.first, queries, scores });
        let (positive, negative) = scores.split_at(self.events.len());
        let scored = ScoredBatch::ragged(&self.events, positive, negative, &self.drawn.offsets)?;
        self.all.push(scored)?;
        self.ranked.push_where(scored, |event| self.asked.is_ranked(event))?;
        if let Some(new) = self.asked.new_nodes {
            let at = |event: EventId| event.index() - batch.first.index();
            let touched = |event: EventId| new.touched_by(batch.src[at(event)], batch.dst[at(event)]);
            self.new_nodes.push_where(scored, |event| self.asked.is_ranked(event) && touched(event))?;
        }
        Ok(update)
    }
}

struct WarmUp<'a>(&'a mut dyn Scorer);

impl ReplayVisitor for WarmUp<'_> {
    fn ask(&mut self, batch: &Batch<'_>, queries: &mut Queries) -> Result<(), TrainError> {
        if self.0.needs().ends {
            queries.set_ends(batch);
        }
        Ok(())
    }

    fn answer(&mut self, _: &Batch<'_>, queries: &Queries, view: &View) -> Result<&Update, TrainError> {
        Ok(self.0.advance(queries, view))
    }
}
