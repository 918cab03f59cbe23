//! The stages of a view and of an observe, run separately.
use crate::history::tests::*;
use std::collections::VecDeque;

use crate::{Graph, Memories, View};

proptest! {
    #[test]
    fn a_graph_that_runs_ahead_samples_what_the_history_will_show(story in stories(), needs in any_needs(), ahead in 0usize..4) {
        let mut graph = Graph::new(NODES as usize, needs.clone(), ORIGIN);
        let mut sampled: VecDeque<View> = VecDeque::new();
        let mut coming = story.batches.iter();
        replay(&story, &needs, |history, _, batch, _| {
            for range in coming.by_ref().take(if sampled.is_empty() { ahead + 1 } else { 1 }) {
                let batch = story.log.batch(range.clone());
                let mut view = View::default();
                graph.sample_into(&everyone(&batch), Some(&batch), chance(), &mut view);
                graph.observe(&batch).unwrap();
                sampled.push_back(view);
            }
            let mut view = sampled.pop_front().unwrap();
            history.features().show_in(&mut view);
            history.memories().read_into(&mut view);
            assert_eq!(format!("{view:?}"), format!("{:?}", history.view(&everyone(batch), Some(batch), chance())));
        });
    }

    #[test]
    fn memories_read_before_a_batch_happened_and_completed_afterwards_are_those_of_now(story in stories(), needs in any_needs()) {
        let mut before: Option<(Arc<Memories>, Batch<'_>, Vec<NodeId>)> = None;
        let mut view = View::default();
        let mut batches = story.batches.iter().map(|range| story.log.batch(range.clone()));
        replay(&story, &needs, |history, _, batch, _| {
            let now = history.view(&everyone(batch), Some(batch), chance());
            history.graph().sample_into(&everyone(batch), Some(batch), chance(), &mut view);
            history.features().show_in(&mut view);
            if let Some((memories, pending, receivers)) = &before {
                memories.prefetch_into(pending, receivers, &mut view);
                history.memories().complete_prefetch(&mut view);
                assert_eq!(format!("{view:?}"), format!("{now:?}"));
            }
            before = batches.next().map(|batch| {
                let receivers = history.graph().receivers(&batch).nodes().collect();
                (history.memories().clone(), batch, receivers)
            });
        });
    }

    #[test]
    fn a_view_says_how_many_batches_its_memories_are_behind(story in stories(), needs in any_needs(), behind in 0usize..4) {
        let mut earlier: Vec<Arc<Memories>> = Vec::new();
        replay(&story, &needs, |history, _, batch, _| {
            earlier.push(history.memories().clone());
            let mut view = history.view(&everyone(batch), Some(batch), chance());
            assert_eq!(view.staleness(), 0);
            let behind = behind.min(earlier.len() - 1);
            earlier[earlier.len() - 1 - behind].read_into(&mut view);
            assert_eq!(view.staleness(), behind as u64);
        });
    }
}
