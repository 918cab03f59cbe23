//! All metrics of a split, gathered batch by batch.
use serde::{Deserialize, Serialize};

use crate::EventId;
use crate::metrics::rank::mean;
use crate::metrics::{MetricError, TiePolicy, average_precision, hits_at, mrr, rank, roc_auc};

/// The metrics of link prediction over one split.
///
/// AP and AUC compare every event's positive with its *first* negative; MRR and Hits@k rank the positive among all its
/// negatives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkMetrics {
    /// Events scored.
    pub count: u64,
    /// Average precision over the whole split; nothing of a single event.
    pub ap: Option<f64>,
    /// Area under the ROC curve over the whole split; nothing of a single event.
    pub auc: Option<f64>,
    /// Mean of the average precisions of the batches, unweighted, as the codes of TGN and PyG print it. It depends on
    /// the batch size.
    pub ap_batch_mean: f64,
    /// Mean of the ROC areas of the batches, likewise.
    pub auc_batch_mean: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Share of events ranked first.
    pub hits1: f64,
    /// Share of events ranked third or better; nothing where every rank is.
    pub hits3: Option<f64>,
    /// Share of events ranked tenth or better; nothing where every rank is.
    pub hits10: Option<f64>,
}

/// The scores of one batch: `B` positives and, for each, at least one negative.
#[derive(Clone, Copy, Debug)]
pub struct ScoredBatch<'a> {
    events: &'a [EventId],
    positive: &'a [f32],
    negative: &'a [f32],
    layout: Layout<'a>,
}

/// How an event's negatives are found in the column of all.
#[derive(Clone, Copy, Debug)]
enum Layout<'a> {
    Even(usize),
    Ragged(&'a [usize]),
}

impl Layout<'_> {
    fn range(self, row: usize) -> std::ops::Range<usize> {
        match self {
            Layout::Even(each) => row * each..(row + 1) * each,
            Layout::Ragged(offsets) => offsets[row]..offsets[row + 1],
        }
    }
}

impl<'a> ScoredBatch<'a> {
    /// A batch with the same number of negatives for every event: `positive` is `[B]`, `negative` is `[B, M]`, row by
    /// row.
    ///
    /// # Errors
    /// When the lengths do not fit each other.
    pub fn even(events: &'a [EventId], positive: &'a [f32], negative: &'a [f32]) -> Result<Self, MetricError> {
        let each = negative.len().checked_div(events.len()).unwrap_or(0);
        let counted = each * events.len();
        Self { events, positive, negative, layout: Layout::Even(each) }.checked(counted == negative.len(), counted)
    }

    /// A batch whose events differ in their number of negatives: those of row `i` are
    /// `negative[offsets[i]..offsets[i + 1]]`; `offsets` is `[B + 1]`.
    ///
    /// # Errors
    /// When the lengths do not fit each other or the offsets descend.
    pub fn ragged(
        events: &'a [EventId],
        positive: &'a [f32],
        negative: &'a [f32],
        offsets: &'a [usize],
    ) -> Result<Self, MetricError> {
        let covers = offsets.first() == Some(&0) && offsets.last() == Some(&negative.len()) && offsets.is_sorted();
        let fits = covers && offsets.len() == events.len() + 1;
        Self { events, positive, negative, layout: Layout::Ragged(offsets) }
            .checked(fits, offsets.last().copied().unwrap_or(0))
    }

    fn checked(self, fits: bool, counted: usize) -> Result<Self, MetricError> {
        let (events, positives, negatives) = (self.events.len(), self.positive.len(), self.negative.len());
        if fits && events == positives {
            Ok(self)
        } else {
            Err(MetricError::Shape { events, positives, negatives, counted })
        }
    }

    /// Row `row`, with its scores known to be finite.
    fn row(&self, row: usize) -> Result<(f32, &'a [f32]), MetricError> {
        let (event, positive, negatives) =
            (self.events[row], self.positive[row], &self.negative[self.layout.range(row)]);
        if !positive.is_finite() {
            return Err(MetricError::Positive { event, value: positive });
        }
        if let Some((index, &value)) = negatives.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(MetricError::Negative { event, index, value });
        }
        if negatives.is_empty() { Err(MetricError::NoNegatives { event }) } else { Ok((positive, negatives)) }
    }
}

/// Gathers the scores of a split batch by batch.
///
/// ```
/// use tempograph_framework::{EventId, LinkAccumulator, ScoredBatch, TiePolicy};
///
/// let mut split = LinkAccumulator::new(TiePolicy::Mean);
/// split.push(ScoredBatch::even(&[EventId(7), EventId(8)], &[0.9, 0.4], &[0.1, 0.2, 0.6, 0.3])?)?;
/// let metrics = split.finish().expect("two events were pushed");
/// assert_eq!((metrics.count, metrics.mrr, metrics.hits1), (2, 0.75, 0.5));
/// # Ok::<(), tempograph_framework::MetricError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinkAccumulator {
    ties: TiePolicy,
    /// Positives and first negatives in turn.
    scores: Vec<f32>,
    ranks: Vec<f64>,
    batch_ap: Vec<f64>,
    batch_auc: Vec<f64>,
}

impl LinkAccumulator {
    /// Starts with no scores; ranks will follow `ties`.
    pub fn new(ties: TiePolicy) -> Self {
        Self { ties, scores: Vec::new(), ranks: Vec::new(), batch_ap: Vec::new(), batch_auc: Vec::new() }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// When a score is NaN or infinite or an event has no negatives; nothing of the batch is then kept.
    pub fn push(&mut self, batch: ScoredBatch<'_>) -> Result<(), MetricError> {
        self.push_where(batch, |_| true)
    }

    /// Adds those events of a batch for which `keep` holds, for instance the ones that touch a new node. An empty
    /// batch changes nothing.
    ///
    /// # Errors
    /// When a kept score is NaN or infinite or a kept event has no negatives; nothing of the batch is then kept.
    pub fn push_where(&mut self, batch: ScoredBatch<'_>, keep: impl Fn(EventId) -> bool) -> Result<(), MetricError> {
        let kept = (0..batch.events.len()).filter(|&row| keep(batch.events[row]));
        let rows = kept.map(|row| batch.row(row)).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        let start = self.scores.len();
        for (positive, negatives) in rows {
            self.scores.extend([positive, negatives[0]]);
            self.ranks.push(rank(positive, negatives, self.ties));
        }
        let scores = &self.scores[start..];
        let labels = alternating(scores.len());
        self.batch_ap.push(average_precision(scores, &labels)?);
        self.batch_auc.push(roc_auc(scores, &labels)?);
        Ok(())
    }

    /// The metrics of all added events; `None` if there are none.
    pub fn finish(&self) -> Option<LinkMetrics> {
        let labels = alternating(self.scores.len());
        let several = self.ranks.len() > 1;
        Some(LinkMetrics {
            count: self.ranks.len() as u64,
            ap: Some(average_precision(&self.scores, &labels).ok()?).filter(|_| several),
            auc: Some(roc_auc(&self.scores, &labels).ok()?).filter(|_| several),
            ap_batch_mean: mean(self.batch_ap.iter().copied())?,
            auc_batch_mean: mean(self.batch_auc.iter().copied())?,
            mrr: mrr(&self.ranks)?,
            hits1: hits_at(1, &self.ranks)?,
            hits3: Some(hits_at(3, &self.ranks)?),
            hits10: Some(hits_at(10, &self.ranks)?),
        })
    }
}

/// Labels of positives and negatives in turn.
fn alternating(count: usize) -> Vec<bool> {
    (0..count).map(|i| i % 2 == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draw, Purpose};

    fn ids(count: u64) -> Vec<EventId> {
        (100..100 + count).map(EventId).collect()
    }

    fn random_scores(count: usize, seed: u64) -> Vec<f32> {
        let mut generator = Draw::new(seed).of(Purpose::Generator).at(0, 0);
        (0..count).map(|_| generator.below(20) as f32 / 7.0).collect()
    }

    fn gather(events: &[EventId], positive: &[f32], negative: &[f32], batch: usize) -> LinkMetrics {
        let each = negative.len() / positive.len();
        let mut split = LinkAccumulator::new(TiePolicy::Mean);
        let rows = events.chunks(batch).zip(positive.chunks(batch)).zip(negative.chunks(batch * each));
        for ((events, positive), negative) in rows {
            split.push(ScoredBatch::even(events, positive, negative).unwrap()).unwrap();
        }
        split.finish().unwrap()
    }

    #[test]
    fn only_the_batch_means_depend_on_the_batch_size() {
        let (events, positive, negative) = (ids(90), random_scores(90, 1), random_scores(90 * 5, 2));
        let (whole, batched) = (gather(&events, &positive, &negative, 90), gather(&events, &positive, &negative, 7));
        let of_whole = |metric: Option<f64>| metric.unwrap();
        let (ap, auc) = (of_whole(whole.ap), of_whole(whole.auc));
        assert_eq!(LinkMetrics { ap_batch_mean: ap, auc_batch_mean: auc, ..batched }, whole);
        assert_ne!(batched.ap_batch_mean, ap);

        let batch_ap = |(p, n): (&[f32], &[f32])| {
            let scores: Vec<f32> = p.iter().copied().chain(n.iter().copied().step_by(5)).collect();
            let labels: Vec<bool> = (0..scores.len()).map(|i| i < p.len()).collect();
            average_precision(&scores, &labels).unwrap()
        };
        let expected = mean(positive.chunks(7).zip(negative.chunks(35)).map(batch_ap)).unwrap();
        assert!((batched.ap_batch_mean - expected).abs() < 1e-12);
    }

    #[test]
    fn ragged_and_even_layouts_of_the_same_scores_agree() {
        let (events, positive, negative) = (ids(10), random_scores(10, 3), random_scores(40, 4));
        let offsets: Vec<usize> = (0..=10).map(|i| 4 * i).collect();
        let mut ragged = LinkAccumulator::new(TiePolicy::Mean);
        ragged.push(ScoredBatch::ragged(&events, &positive, &negative, &offsets).unwrap()).unwrap();
        assert_eq!(ragged.finish(), Some(gather(&events, &positive, &negative, 10)));
    }

    #[test]
    fn a_subset_is_measured_as_if_the_rest_had_not_been_scored() {
        let (events, positive, negative) = (ids(20), random_scores(20, 5), random_scores(20, 6));
        let mut subset = LinkAccumulator::new(TiePolicy::Mean);
        subset.push_where(ScoredBatch::even(&events, &positive, &negative).unwrap(), |event| event.0 >= 110).unwrap();
        assert_eq!(subset.finish(), Some(gather(&events[10..], &positive[10..], &negative[10..], 10)));
    }

    #[test]
    fn a_split_without_events_has_no_metrics() {
        let mut split = LinkAccumulator::new(TiePolicy::Mean);
        split.push(ScoredBatch::even(&[], &[], &[]).unwrap()).unwrap();
        split.push_where(ScoredBatch::even(&ids(1), &[0.0], &[0.0]).unwrap(), |_| false).unwrap();
        assert_eq!(split.finish(), None);
    }

    #[test]
    fn a_score_that_is_not_finite_is_refused_by_the_name_of_its_event_and_leaves_no_trace() {
        let (mut split, events) = (LinkAccumulator::new(TiePolicy::Mean), ids(2));
        let refused = split.push(ScoredBatch::even(&events, &[0.0, f32::NAN], &[0.0, 0.0]).unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "event 101: the positive's score is NaN");
        let refused = split
            .push(ScoredBatch::even(&events, &[0.0, 0.0], &[0.0, 0.0, 1.0, f32::NEG_INFINITY]).unwrap())
            .unwrap_err();
        assert_eq!(refused, MetricError::Negative { event: EventId(101), index: 1, value: f32::NEG_INFINITY });
        assert_eq!(split.finish(), None);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let events = ids(2);
        assert!(ScoredBatch::even(&events, &[0.0, 0.0], &[0.0, 0.0, 0.0]).is_err());
        assert!(ScoredBatch::even(&events, &[0.0], &[0.0, 0.0]).is_err());
        assert!(ScoredBatch::even(&[], &[], &[0.0]).is_err());
        for offsets in [&[0, 1][..], &[0, 2, 1], &[1, 1, 2], &[0, 1, 1], &[]] {
            assert!(ScoredBatch::ragged(&events, &[0.0, 0.0], &[0.0, 0.0], offsets).is_err(), "{offsets:?}");
        }
        let empty_row = ScoredBatch::ragged(&events, &[0.0, 0.0], &[0.0, 0.0], &[0, 2, 2]).unwrap();
        assert_eq!(
            LinkAccumulator::new(TiePolicy::Mean).push(empty_row),
            Err(MetricError::NoNegatives { event: EventId(101) })
        );
    }
}
