//! The stages of a view and of an observe, taken apart.
use super::*;
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
    fn memories_read_early_and_refreshed_are_those_of_now(story in stories(), needs in any_needs(), early in 0usize..4) {
        let mut earlier: Vec<Arc<Memories>> = Vec::new();
        replay(&story, &needs, |history, _, batch, _| {
            earlier.push(history.memories().clone());
            let now = history.view(&everyone(batch), Some(batch), chance());
            let mut view = history.view(&everyone(batch), Some(batch), chance());
            let then = &earlier[earlier.len() - 1 - early.min(earlier.len() - 1)];
            then.read_into(&mut view);
            assert_eq!(view.memory_version, then.version());
            assert_eq!(view.staleness(), history.version() - then.version());
            history.memories().refresh_into(&mut view);
            assert_eq!(format!("{view:?}"), format!("{now:?}"));
        });
    }
}
