//! Nodes that are not in the training events, and the events that touch them.
use std::collections::BTreeSet;

use crate::draw::RandomNumbers;
use crate::{EventId, NodeId};

/// The nodes that no training event touches. Metrics over the later events that touch one of them are called
/// inductive, or new-node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNodes {
    /// For each node, whether a training event touches it.
    seen: Vec<bool>,
}

impl NewNodes {
    /// The nodes not touched before `train_end`, the first event that is not for training.
    pub fn after_training(src: &[NodeId], dst: &[NodeId], train_end: EventId) -> Self {
        Self::unseen_by(src, dst, |event| event < train_end)
    }

    /// The nodes touched by no event for which `trained_on` holds.
    fn unseen_by(src: &[NodeId], dst: &[NodeId], trained_on: impl Fn(EventId) -> bool) -> Self {
        let mut seen = Vec::new();
        let pairs = (0..).map(EventId).zip(src.iter().zip(dst));
        for (_, (src, dst)) in pairs.filter(|(event, _)| trained_on(*event)) {
            let needed = src.index().max(dst.index()) + 1;
            seen.resize(needed.max(seen.len()), false);
            seen[src.index()] = true;
            seen[dst.index()] = true;
        }
        Self { seen }
    }

    /// Whether `node` is new.
    pub fn contains(&self, node: NodeId) -> bool {
        !self.seen.get(node.index()).copied().unwrap_or(false)
    }

    /// Whether an event between `src` and `dst` touches a new node.
    pub fn touched_by(&self, src: NodeId, dst: NodeId) -> bool {
        self.contains(src) || self.contains(dst)
    }

    /// For each event, whether it comes after training and touches a new node.
    pub fn mask(&self, src: &[NodeId], dst: &[NodeId], train_end: EventId) -> Vec<bool> {
        let touched = src.iter().zip(dst).map(|(&src, &dst)| self.touched_by(src, dst));
        (0..).map(EventId).zip(touched).map(|(event, touched)| event >= train_end && touched).collect()
    }
}

/// TGN's inductive protocol: some nodes are hidden from training with all their events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOut {
    /// The hidden nodes, ascending.
    pub nodes: Vec<NodeId>,
    /// For each event, whether it may be trained on: before the end of training, and touching no hidden node.
    pub train: Vec<bool>,
    /// The nodes that the remaining training events do not touch: the hidden ones, and those that came later anyway.
    pub new_nodes: NewNodes,
}

/// Hides nodes from training as the code of Rossi et al. ("Temporal Graph Networks for Deep Learning on Dynamic
/// Graphs", 2020) does: `fraction` of *all* nodes touched anywhere are drawn from the nodes that are touched after
/// training, or all of these if there are fewer. The hidden events stay part of the history at validation and test.
///
/// `fraction` is taken as 0 where it is below or NaN.
pub fn hold_out_nodes(
    src: &[NodeId],
    dst: &[NodeId],
    train_end: EventId,
    fraction: f64,
    numbers: &mut RandomNumbers,
) -> HeldOut {
    let later = train_end.index().min(src.len()).min(dst.len());
    let distinct = |start: usize| -> BTreeSet<NodeId> { src[start..].iter().chain(&dst[start..]).copied().collect() };
    let wanted = (fraction * distinct(0).len() as f64) as usize;

    let mut nodes: Vec<NodeId> = distinct(later).into_iter().collect();
    numbers.shuffle(&mut nodes);
    nodes.truncate(wanted);
    nodes.sort_unstable();

    let hidden = |node: &NodeId| nodes.binary_search(node).is_ok();
    let pairs = (0..).map(EventId).zip(src.iter().zip(dst));
    let train: Vec<bool> = pairs.map(|(event, (src, dst))| event < train_end && !hidden(src) && !hidden(dst)).collect();
    let new_nodes = NewNodes::unseen_by(src, dst, |event| train[event.index()]);
    HeldOut { nodes, train, new_nodes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draw, Purpose};
    use proptest::prelude::*;

    fn logs() -> impl Strategy<Value = (Vec<NodeId>, Vec<NodeId>, EventId)> {
        (prop::collection::vec((0u32..20, 0u32..20), 0..60), 0u64..70).prop_map(|(pairs, train_end)| {
            let (src, dst) = pairs.into_iter().map(|(src, dst)| (NodeId(src), NodeId(dst))).unzip();
            (src, dst, EventId(train_end))
        })
    }

    proptest! {
        #[test]
        fn a_node_is_new_exactly_when_no_training_event_touches_it((src, dst, train_end) in logs(), node in 0u32..25) {
            let trained = src.iter().zip(&dst).take(train_end.index()).any(|(s, d)| s.0 == node || d.0 == node);
            prop_assert_eq!(NewNodes::after_training(&src, &dst, train_end).contains(NodeId(node)), !trained);
        }

        #[test]
        fn training_never_touches_a_held_out_node((src, dst, train_end) in logs(), fraction in 0.0..1.0f64, seed: u64) {
            let held = hold_out_nodes(&src, &dst, train_end, fraction, &mut Draw::new(seed).of(Purpose::Sampling).at(0, 0));
            let all: BTreeSet<_> = src.iter().chain(&dst).collect();
            let later: BTreeSet<_> = src.iter().skip(train_end.index()).chain(dst.iter().skip(train_end.index())).collect();
            prop_assert_eq!(held.nodes.len(), later.len().min((fraction * all.len() as f64) as usize));
            prop_assert!(held.nodes.iter().all(|node| later.contains(node) && held.new_nodes.contains(*node)));
            for event in 0..src.len() {
                let touched = held.nodes.contains(&src[event]) || held.nodes.contains(&dst[event]);
                prop_assert_eq!(held.train[event], event < train_end.index() && !touched);
                let new = |node: NodeId| !(0..src.len()).any(|e| held.train[e] && (src[e] == node || dst[e] == node));
                let expected = event >= train_end.index() && (new(src[event]) || new(dst[event]));
                prop_assert_eq!(held.new_nodes.mask(&src, &dst, train_end)[event], expected);
            }
        }
    }

    #[test]
    fn another_seed_holds_out_other_nodes_and_the_same_seed_the_same() {
        let src: Vec<NodeId> = (0..100).map(NodeId).collect();
        let dst: Vec<NodeId> = (100..200).map(NodeId).collect();
        let held = |seed| {
            hold_out_nodes(&src, &dst, EventId(50), 0.1, &mut Draw::new(seed).of(Purpose::Sampling).at(0, 0)).nodes
        };
        assert_eq!(held(1).len(), 20);
        assert_eq!(held(1), held(1));
        assert_ne!(held(1), held(2));
    }
}
