//! The negatives that a split is evaluated with.
use std::sync::Arc;

use crate::draw::{Draw, Purpose};
use crate::negatives::{Candidates, FixedNegatives, NegativeRule, NegativeSampler, NegativesError};
use crate::{EventId, NodeId};

/// The negatives that a split is evaluated with: the same at every evaluation, whatever the batch size.
#[derive(Clone, Debug)]
pub enum NegativeSet {
    /// Drawn, the same number for every event.
    Sampled {
        /// Draws them; its epoch is always 0.
        sampler: NegativeSampler,
        /// Negatives for each event.
        per_event: usize,
    },
    /// Listed in a file.
    Fixed(FixedNegatives),
}

/// The negatives of some events: those of the `i`-th are `nodes[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchNegatives {
    /// The negatives, event after event.
    pub nodes: Vec<NodeId>,
    /// Start of each event's negatives, and the end of the last.
    pub offsets: Vec<usize>,
}

impl NegativeSet {
    /// Negatives drawn for evaluation under `seed`.
    pub fn sampled(candidates: Arc<Candidates>, rule: NegativeRule, seed: u64, per_event: usize) -> Self {
        Self::Sampled {
            sampler: NegativeSampler::new(candidates, rule, Draw::new(seed).of(Purpose::Evaluation)),
            per_event,
        }
    }

    /// The negatives of some events.
    ///
    /// # Errors
    /// When an event is unknown or has no candidate.
    pub fn of(&self, events: impl IntoIterator<Item = EventId>) -> Result<BatchNegatives, NegativesError> {
        let mut batch = BatchNegatives { nodes: Vec::new(), offsets: vec![0] };
        for event in events {
            self.append(event, &mut batch.nodes)?;
            batch.offsets.push(batch.nodes.len());
        }
        Ok(batch)
    }

    /// Adds the negatives of `event` to `nodes`, and gives how many of them are of the set's own rule.
    ///
    /// # Errors
    /// When the event is unknown or has no candidate.
    pub fn append(&self, event: EventId, nodes: &mut Vec<NodeId>) -> Result<usize, NegativesError> {
        let start = nodes.len();
        match self {
            Self::Fixed(table) => {
                nodes.extend_from_slice(table.of(event)?);
                Ok(nodes.len() - start)
            }
            Self::Sampled { sampler, per_event } => {
                nodes.resize(start + per_event, NodeId::default());
                sampler.fill(0, event, &mut nodes[start..])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::sampler::tests::logs;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_is_the_same_whatever_the_batch_size(log in logs(), size in 1usize..10) {
            prop_assume!(log.candidates().destinations().len() > 1);
            for rule in [NegativeRule::Random, NegativeRule::Historical, NegativeRule::Inductive] {
                let set = NegativeSet::sampled(Arc::new(log.candidates()), rule, 5, 7);
                let events: Vec<EventId> = (0..log.src.len() as u64).map(EventId).collect();
                let whole = set.of(events.iter().copied()).unwrap();
                let batched = events.chunks(size).flat_map(|batch| set.of(batch.iter().copied()).unwrap().nodes);
                prop_assert!(whole.nodes.iter().copied().eq(batched));
                prop_assert_eq!(whole.offsets, (0..=events.len()).map(|i| 7 * i).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_fixed_set_hands_out_its_table() {
        let table = FixedNegatives::new(EventId(50), vec![NodeId(1), NodeId(2), NodeId(3)], vec![0, 2, 3]).unwrap();
        let batch = NegativeSet::Fixed(table).of([EventId(51), EventId(50)]).unwrap();
        assert_eq!(batch, BatchNegatives { nodes: vec![NodeId(3), NodeId(1), NodeId(2)], offsets: vec![0, 1, 3] });
    }

    #[test]
    fn another_seed_is_another_set() {
        let nodes: Vec<NodeId> = (0..50).map(NodeId).collect();
        let time: Vec<_> = (0..50).map(crate::Timestamp).collect();
        let candidates = Arc::new(Candidates::build(&nodes, &nodes, &time, EventId(40)).unwrap());
        let drawn =
            |seed| NegativeSet::sampled(candidates.clone(), NegativeRule::Random, seed, 10).of([EventId(45)]).unwrap();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
