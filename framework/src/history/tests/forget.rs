//! Forgetting nodes that have had no events for a while.
use crate::history::tests::*;

proptest! {
    #[test]
    fn idle_nodes_are_those_of_which_the_log_names_none_from_a_time_on(story in stories(), needs in any_needs(), ago in 0i64..6) {
        let mut seen = 0;
        replay(&story, &needs, |history, _, batch, _| {
            seen = batch.first.index();
            let Some(newest) = history.newest() else { return };
            let time = Timestamp(newest.0 - ago);
            let events = || story.log.batch(0..seen).events();
            let last = |node| events().filter(|event| event.src == node || event.dst == node).map(|event| event.time).last();
            // An event of the newest tick is in no list yet.
            let idle = |&node: &NodeId| last(node).is_some_and(|last| last < time && last < newest);
            let expected: Vec<NodeId> = (0..NODES).map(NodeId).filter(idle).collect();
            assert_eq!(history.idle_since(time, 0..NODES), expected);
        });
    }

    #[test]
    fn an_expired_node_has_no_state_and_gets_no_mail(story in stories(), needs in needs(Sampler::Recent), ago in 0i64..3) {
        let mut history = empty(NODES, &needs);
        let mut gone: Vec<NodeId> = Vec::new();
        for range in &story.batches {
            let batch = story.log.batch(range.clone());
            gone.retain(|node| !batch.src.contains(node) && !batch.dst.contains(node));
            let receivers: Vec<NodeId> = history.graph().receivers(&batch).nodes().collect();
            prop_assert!(gone.iter().all(|node| !receivers.contains(node)));
            history.observe(&batch, &update_for(&batch, history.version(), &needs)).unwrap();
            let idle = history.idle_since(Timestamp(history.newest().unwrap().0 - ago), 0..NODES);
            history.forget(&idle);
            gone.extend(idle);
            let extent = history.extent();
            for node in &gone {
                let mut rows = history.nodes_to_store(&extent, node.index()..node.index() + 1);
                let left = rows.take::<u64>("mail.event").unwrap().1.len() + rows.take::<u64>("link.event").unwrap().1.len();
                prop_assert_eq!((left, rows.take::<u64>("degree").unwrap().1[0]), (0, 0));
                prop_assert_eq!(rows.take::<i64>("updated").unwrap().1[0], ORIGIN.0);
            }
        }
    }
}
