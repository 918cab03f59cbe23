//! Drawing negatives.
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::draw::{PurposeDraw, RandomNumbers};
use crate::negatives::NegativesError;
use crate::negatives::candidates::{Candidates, MetWhen, PastDestinations};
use crate::{EventId, NodeId};

/// How negatives are drawn. The source stays, the destination is replaced.
///
/// The historical and inductive rules are those of Poursafaei et al., "Towards Better Evaluation for Dynamic Link
/// Prediction" (NeurIPS 2022). Differs: there both ends of a negative edge are redrawn from a pool of edges; here, as
/// in the Temporal Graph Benchmark, the source is kept, so that a negative answers "whom else might this source meet
/// now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeRule {
    /// Uniform with replacement over the log's destinations, the event's own destination excluded. Scored as a
    /// positive and a negative at once it could only blur the metric, and by much on a log of few destinations.
    #[default]
    Random,
    /// Uniform with replacement over the log's destinations, the event's own included, as PyG's TGN example draws.
    RandomWithPositive,
    /// Without replacement from the destinations that the source met in training and strictly before the event's time,
    /// but does not meet at that time. Where there are too few, the rest is drawn by `Random`.
    Historical,
    /// Without replacement from the destinations that the source first met after training and strictly before the
    /// event's time, but does not meet at that time. Where there are too few (always so in training), the rest is
    /// drawn by `Random`.
    Inductive,
}

/// Draws an event's negatives as a pure function of (seed, purpose, epoch, event).
#[derive(Clone, Debug)]
pub struct NegativeSampler {
    candidates: Arc<Candidates>,
    rule: NegativeRule,
    draw: PurposeDraw,
}

impl NegativeSampler {
    /// A sampler over an indexed log; `draw` carries the seed and whether this is for training or evaluation.
    pub fn new(candidates: Arc<Candidates>, rule: NegativeRule, draw: PurposeDraw) -> Self {
        Self { candidates, rule, draw }
    }

    /// The rule it follows.
    pub fn rule(&self) -> NegativeRule {
        self.rule
    }

    /// Fills `out` with the negatives of `event`, and gives how many the rule gave: the others were drawn at random.
    ///
    /// # Errors
    /// When the event is not in the log, or its destination is the only one.
    pub fn fill(&self, epoch: u32, event: EventId, out: &mut [NodeId]) -> Result<usize, NegativesError> {
        let mut numbers = self.draw.at(epoch, event.0);
        let drawn = match self.rule {
            NegativeRule::Random | NegativeRule::RandomWithPositive => 0,
            NegativeRule::Historical => {
                fill_from_past(&self.candidates.past(event, MetWhen::InTraining)?, &mut numbers, out)
            }
            NegativeRule::Inductive => {
                fill_from_past(&self.candidates.past(event, MetWhen::AfterTraining)?, &mut numbers, out)
            }
        };
        self.fill_at_random(event, &mut numbers, &mut out[drawn..])?;
        let random = matches!(self.rule, NegativeRule::Random | NegativeRule::RandomWithPositive);
        Ok(if random { out.len() } else { drawn })
    }

    fn fill_at_random(
        &self,
        event: EventId,
        numbers: &mut RandomNumbers,
        out: &mut [NodeId],
    ) -> Result<(), NegativesError> {
        let own = self.candidates.destination(event)?;
        let destinations = self.candidates.destinations();
        // Skipping one position and shifting the later ones down keeps the rest equally likely without drawing twice.
        let (count, skip) = match self.rule {
            NegativeRule::RandomWithPositive => (destinations.len(), destinations.len()),
            _ => (destinations.len() - 1, destinations.partition_point(|&destination| destination < own)),
        };
        if count == 0 && !out.is_empty() {
            return Err(NegativesError::NoCandidate { event, dst: own });
        }
        for slot in out {
            let place = numbers.below(count as u32) as usize;
            *slot = destinations[place + usize::from(place >= skip)];
        }
        Ok(())
    }
}

/// Writes distinct destinations of the past to the front of `out`, in random order, and returns their number.
fn fill_from_past(past: &PastDestinations<'_>, numbers: &mut RandomNumbers, out: &mut [NodeId]) -> usize {
    let available = past.len();
    let wanted = (available as usize).min(out.len());
    // Floyd's algorithm for distinct positions; `out` itself holds the positions until they are looked up.
    for slot in 0..wanted {
        let last = available - (wanted - slot) as u32;
        let place = NodeId(numbers.below(last + 1));
        out[slot] = if out[..slot].contains(&place) { NodeId(last) } else { place };
    }
    numbers.shuffle(&mut out[..wanted]);
    for slot in &mut out[..wanted] {
        *slot = past.get(slot.0);
    }
    wanted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::draw::{Draw, Purpose};
    use proptest::prelude::*;

    /// A small log with ties in time and many repeats.
    #[derive(Clone, Debug)]
    pub struct Log {
        pub src: Vec<NodeId>,
        pub dst: Vec<NodeId>,
        pub time: Vec<Timestamp>,
        pub train_end: usize,
    }

    impl Log {
        pub fn candidates(&self) -> Candidates {
            Candidates::build(&self.src, &self.dst, &self.time, EventId(self.train_end as u64)).unwrap()
        }

        pub fn sampler(&self, rule: NegativeRule) -> NegativeSampler {
            NegativeSampler::new(Arc::new(self.candidates()), rule, Draw::new(3).of(Purpose::Negatives))
        }
    }

    /// Random logs of up to 40 events.
    pub fn logs() -> impl Strategy<Value = Log> {
        let event = (0u32..4, 4u32..10, 0i64..3);
        (prop::collection::vec(event, 1..40), 0.0..1.0f64).prop_map(|(events, train)| {
            let train_end = (events.len() as f64 * train) as usize;
            let mut now = 0;
            let mut log = Log { src: vec![], dst: vec![], time: vec![], train_end };
            for (src, dst, gap) in events {
                now += gap;
                log.src.push(NodeId(src));
                log.dst.push(NodeId(dst));
                log.time.push(Timestamp(now));
            }
            log
        })
    }

    /// One source that met 10, 11, 12, 13 in training, 14 and 15 later, and now meets 10 and 14 at once; 16 belongs to
    /// another source.
    fn story() -> Log {
        let dst = [10, 11, 12, 13, 16, 14, 15, 10, 14];
        let src = [0, 0, 0, 0, 1, 0, 0, 0, 0];
        let time = [0, 1, 2, 3, 4, 5, 6, 7, 7];
        Log {
            src: src.map(NodeId).to_vec(),
            dst: dst.map(NodeId).to_vec(),
            time: time.map(Timestamp).to_vec(),
            train_end: 5,
        }
    }

    fn draw(sampler: &NegativeSampler, epoch: u32, event: u64, count: usize) -> Vec<u32> {
        let mut out = vec![NodeId(u32::MAX); count];
        sampler.fill(epoch, EventId(event), &mut out).unwrap();
        out.iter().map(|node| node.0).collect()
    }

    /// How often each of the nodes 0..32 is the first negative of `event` over many epochs.
    fn frequencies(sampler: &NegativeSampler, event: u64, epochs: u32, count: usize) -> [u32; 32] {
        let mut counts = [0; 32];
        for epoch in 0..epochs {
            counts[draw(sampler, epoch, event, count)[0] as usize] += 1;
        }
        counts
    }

    fn assert_even_over(counts: [u32; 32], expected: &[usize]) {
        let each = counts.iter().sum::<u32>() as f64 / expected.len() as f64;
        for (node, &count) in counts.iter().enumerate() {
            let wanted = if expected.contains(&node) { each } else { 0.0 };
            assert!((f64::from(count) - wanted).abs() <= 6.0 * wanted.sqrt(), "node {node}: {count} of {wanted}");
        }
    }

    #[test]
    fn random_draws_every_destination_but_the_own_equally_and_no_source_ever() {
        let log = story();
        assert_even_over(frequencies(&log.sampler(NegativeRule::Random), 8, 6000, 1), &[10, 11, 12, 13, 15, 16]);
        assert_even_over(
            frequencies(&log.sampler(NegativeRule::RandomWithPositive), 8, 7000, 1),
            &[10, 11, 12, 13, 14, 15, 16],
        );
    }

    #[test]
    fn historical_draws_what_was_met_in_training_and_is_not_met_now() {
        let log = story();
        let sampler = log.sampler(NegativeRule::Historical);
        assert_even_over(frequencies(&sampler, 7, 3000, 1), &[11, 12, 13]);
        assert_even_over(frequencies(&sampler, 8, 3000, 2), &[11, 12, 13]);
        // In training only the past counts: at event 2 the source had met 10 and 11.
        assert_even_over(frequencies(&sampler, 2, 3000, 1), &[10, 11]);
    }

    #[test]
    fn inductive_draws_what_was_first_met_after_training_and_is_not_met_now() {
        let sampler = story().sampler(NegativeRule::Inductive);
        assert_even_over(frequencies(&sampler, 7, 3000, 1), &[15]);
        assert_even_over(frequencies(&sampler, 6, 3000, 1), &[14]);
        // Nothing was met after training yet: any destination except the event's own.
        assert_even_over(frequencies(&sampler, 5, 6000, 1), &[10, 11, 12, 13, 15, 16]);
    }

    #[test]
    fn too_few_candidates_are_all_taken_once_and_random_ones_follow() {
        let log = story();
        for epoch in 0..200 {
            let drawn = draw(&log.sampler(NegativeRule::Historical), epoch, 7, 20);
            let mut front = drawn[..3].to_vec();
            front.sort_unstable();
            assert_eq!(front, [11, 12, 13]);
            assert!(drawn[3..].iter().all(|&node| node != 10 && (11..17).contains(&node)), "{drawn:?}");
        }
    }

    proptest! {
        #[test]
        fn negatives_depend_on_nothing_but_epoch_and_event(log in logs(), epoch in 0u32..3) {
            prop_assume!(log.candidates().destinations().len() > 1);
            for rule in [NegativeRule::RandomWithPositive, NegativeRule::Historical, NegativeRule::Inductive] {
                let sampler = log.sampler(rule);
                let forwards: Vec<_> = (0..log.src.len() as u64).map(|event| draw(&sampler, epoch, event, 4)).collect();
                let backwards: Vec<_> = (0..log.src.len() as u64).rev().map(|event| draw(&log.sampler(rule), epoch, event, 4)).collect();
                prop_assert!(forwards.iter().eq(backwards.iter().rev()));
            }
        }
    }

    #[test]
    fn an_event_without_any_other_destination_is_an_error() {
        let log = Log { src: vec![NodeId(0)], dst: vec![NodeId(7)], time: vec![Timestamp(0)], train_end: 1 };
        let refused = log.sampler(NegativeRule::Historical).fill(0, EventId(0), &mut [NodeId(0)]).unwrap_err();
        assert_eq!(refused.to_string(), "event 0: its destination 7 is the only one, so it has no negative");
        assert_eq!(draw(&log.sampler(NegativeRule::RandomWithPositive), 0, 0, 2), [7, 7]);
        let unknown = log.sampler(NegativeRule::Random).fill(0, EventId(1), &mut []).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "event 1 has no negatives: they are known for events 0 up to, not including, 1"
        );
    }
}
