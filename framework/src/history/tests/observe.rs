//! A batch that cannot be observed changes nothing.
use crate::history::tests::*;
use crate::{EventId, ObserveError};

/// A batch of owned columns, sorted or not.
#[derive(Clone)]
struct Columns {
    first: EventId,
    src: Vec<NodeId>,
    dst: Vec<NodeId>,
    time: Vec<Timestamp>,
    label: Vec<f32>,
}

impl Columns {
    /// Harmless events after everything in `history`.
    fn after(history: &History, events: usize) -> Columns {
        let now = history.newest().map_or(0, |newest| newest.0);
        Columns {
            first: EventId(history.seen()),
            src: (0..events as u32).map(|i| NodeId(i % NODES)).collect(),
            dst: (0..events as u32).map(|i| NodeId((i + 1) % NODES)).collect(),
            time: (0..events as i64).map(|i| Timestamp(now + i)).collect(),
            label: vec![0.0; events],
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { first: self.first, src: &self.src, dst: &self.dst, time: &self.time, label: &self.label }
    }
}

proptest! {
    #[test]
    fn a_refused_batch_changes_nothing(story in stories(), needs in needs(Sampler::Recent), events in 1usize..6, at in 0usize..6) {
        let at = at % events;
        let mut history = replay(&story, &needs, |_, _, _, _| ());
        let before = history.to_store();
        let good = Columns::after(&history, events);
        let id = good.first.0 + at as u64;

        let mut late = good.clone();
        let newest = if at == 0 { history.newest().unwrap() } else { late.time[at - 1] };
        late.time[at] = Timestamp(newest.0 - 1);
        let update = update_for(&late.batch(), 99, &needs);
        let expected = ObserveError::Late { event: id, time: newest.0 - 1, newest: newest.0 };
        prop_assert_eq!(history.observe(&late.batch(), &update), Err(expected));
        prop_assert_eq!(history.to_store(), before.clone());

        for end in 0..2 {
            let mut stranger = good.clone();
            if end == 0 { stranger.src[at] = NodeId(NODES) } else { stranger.dst[at] = NodeId(u32::MAX) }
            let node = if end == 0 { NODES } else { u32::MAX };
            let update = update_for(&stranger.batch(), 99, &needs);
            let expected = ObserveError::UnknownNode { event: id, node, nodes: NODES as usize };
            prop_assert_eq!(history.observe(&stranger.batch(), &update), Err(expected));
            prop_assert_eq!(history.to_store(), before.clone());
        }

        if needs.memory > 0 {
            let mut update = update_for(&good.batch(), 99, &needs);
            let node = update.nodes.pop().unwrap();
            update.memory.truncate(update.nodes.len() * needs.memory);
            prop_assert_eq!(history.observe(&good.batch(), &update), Err(ObserveError::MissingRow { node: node.0 }));
            prop_assert_eq!(history.to_store(), before.clone());

            let mut update = update_for(&good.batch(), 99, &needs);
            update.mail.push(0.0);
            let width = said(0, 0, &needs).len();
            let expected = ObserveError::Mail { events, width, found: 2 * events * width + 1 };
            prop_assert_eq!(history.observe(&good.batch(), &update), Err(expected));
            prop_assert_eq!(history.to_store(), before);
        }
        let update = update_for(&good.batch(), 99, &needs);
        prop_assert_eq!(history.observe(&good.batch(), &update), Ok(()));
    }

    #[test]
    fn a_history_that_forgot_everything_is_a_new_one(story in stories(), needs in any_needs()) {
        let mut history = replay(&story, &needs, |_, _, _, _| ());
        history.reset();
        prop_assert_eq!(history.to_store(), empty(NODES, &needs).to_store());
        prop_assert_eq!(history.newest(), None);
    }
}
