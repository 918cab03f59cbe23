//! Mail to neighbours, mail rows that the model gives, and slots.
use crate::history::tests::*;
use crate::{Graph, ObserveError};

/// Mail rules of which some goes to neighbours, with all events known as they happen, or in batches.
fn to_neighbours() -> impl Strategy<Value = Needs> {
    (any_needs(), 1usize..4, any::<bool>()).prop_map(|(mut needs, count, decays)| {
        needs.memory = 2;
        needs.mail.to = Receivers::Neighbours { count, decay: decays.then_some(2.0) };
        needs
    })
}

/// Rows of what a history stores of each node.
fn rows(history: &History) -> Vec<crate::Store> {
    let extent = history.extent();
    (0..history.nodes()).map(|node| history.nodes_to_store(&extent, node..node + 1)).collect()
}

/// Nodes whose stored values changed.
fn changed(before: &[crate::Store], after: &[crate::Store]) -> Vec<NodeId> {
    (0..NODES).map(NodeId).filter(|node| before[node.index()] != after[node.index()]).collect()
}

proptest! {
    #[test]
    fn mail_goes_to_the_newest_neighbours_that_are_no_ends_each_once(story in stories(), needs in to_neighbours()) {
        replay(&story, &needs, |history, _, batch, visible| {
            let mail = history.graph().receivers(batch);
            let mut all = Vec::new();
            for (e, event) in batch.events().enumerate() {
                let mut ends = vec![event.src, event.dst];
                ends.dedup();
                let found: Vec<(NodeId, f32)> = mail.of_event(e).iter().map(|sent| (sent.to, sent.weight)).collect();
                let expected: Vec<(NodeId, f32)> = ends.iter().flat_map(|&end| receivers(&event, end, &needs, visible)).collect();
                assert_eq!(found, expected, "mail of event {}", event.id);
                all.extend(found.into_iter().map(|(node, _)| node));
            }
            assert_eq!(mail.nodes().collect::<Vec<_>>(), all);
        });
    }

    #[test]
    fn receivers_of_mail_do_not_depend_on_where_batches_are_cut(story in stories(), needs in to_neighbours()) {
        prop_assume!(needs.mail.to != Receivers::Ends && needs.lookup != Lookup::Batch);
        let of = |batches: &[Range<usize>]| {
            let mut graph = Graph::new(NODES as usize, needs.clone(), ORIGIN);
            let mut all = Vec::new();
            for range in batches {
                let batch = story.log.batch(range.clone());
                let mail = graph.receivers(&batch);
                all.extend((0..batch.len()).map(|e| mail.of_event(e).to_vec()));
                graph.observe(&batch).unwrap();
            }
            all
        };
        let alone: Vec<Range<usize>> = (0..story.log.len()).map(|event| event..event + 1).collect();
        prop_assert_eq!(of(&story.batches), of(&alone));
    }

    #[test]
    fn a_batch_changes_what_it_says_it_does_and_a_receiver_keeps_its_memory(story in stories(), needs in any_needs()) {
        let mut history = empty(NODES, &needs);
        for range in &story.batches {
            let batch = story.log.batch(range.clone());
            let (before, memory) = (rows(&history), history.memory().to_vec());
            let named = history.flushed_by(&batch).flat_map(|(src, dst)| [src, dst]);
            let ends: Vec<NodeId> = batch.src.iter().chain(batch.dst).copied().collect();
            let receivers = history.graph().receivers(&batch);
            let named: Vec<NodeId> = named.chain(ends.iter().copied()).chain(receivers.nodes()).collect();
            history.observe(&batch, &update_for(&batch, history.version(), &needs)).unwrap();
            for node in changed(&before, &rows(&history)) {
                prop_assert!(named.contains(&node), "node {} is not named", node);
            }
            for node in (0..NODES).map(NodeId).filter(|node| !ends.contains(node)) {
                let row = |rows: &[f32]| rows[node.index() * needs.memory..][..needs.memory].to_vec();
                prop_assert_eq!(row(history.memory()), row(&memory), "memory of node {}", node);
            }
        }
    }

    #[test]
    fn an_event_taken_back_at_once_leaves_no_mail_and_changes_what_it_says(story in stories(), needs in any_needs(), several in 1usize..4) {
        let mut history = empty(NODES, &needs);
        for range in &story.batches {
            let batch = story.log.batch(range.clone());
            history.observe(&batch, &update_for(&batch, history.version(), &needs)).unwrap();
            let back: Vec<_> = batch.events().take(several).map(|event| (event.id, event.src, event.dst)).collect();
            let named: Vec<NodeId> = back.iter().flat_map(|&(_, src, dst)| history.mail_holders(src, dst)).collect();
            let before = rows(&history);
            // One at a time where lists are longer than their kept part: the first retraction would hide the receivers of
            // the next event's mail.
            history.retract(&back);
            for node in changed(&before, &rows(&history)) {
                prop_assert!(named.contains(&node), "node {} is not named", node);
            }
            let left = history.to_store().take::<u64>("mail.event").unwrap().1;
            // A mean of several mails keeps retracted mail.
            let one = batch.len() == 1 && !matches!(needs.mail.combine, Combine::MeanSlots(_));
            for (event, ..) in back.iter().filter(|_| one) {
                prop_assert!(!left.contains(&event.0), "mail of {} is left", event);
            }
            for node in (0..NODES).map(NodeId) {
                let memory_time = history.graph().memory_time(node);
                let expected = if needs.memory > 0 { history.memories().memory_time_from_mail(node) } else { ORIGIN };
                prop_assert_eq!(memory_time, expected, "node {}", node);
            }
        }
    }
}

/// Two columns of the mail of a history.
fn mail(history: &History, needs: &Needs) -> Vec<(u32, u64, Vec<f32>)> {
    let mut store = history.to_store();
    let (nodes, events) = (store.take::<u32>("mail.node").unwrap().1, store.take::<u64>("mail.event").unwrap().1);
    let rows = store.take::<f32>("mail.rows").unwrap().1;
    let width = said_width(needs);
    nodes
        .iter()
        .zip(events)
        .enumerate()
        .map(|(i, (&node, event))| (node, event, rows[i * width..][..width].to_vec()))
        .collect()
}

#[test]
fn an_end_hears_the_other_and_a_neighbour_hears_the_end_it_knows() {
    let to = Receivers::Neighbours { count: 5, decay: None };
    let rule = MailRule { combine: Combine::Slots(4), says: MailContent::Given(1), to, ..MailRule::default() };
    let needs = Needs { memory: 1, mail: rule, ..Needs::nothing() };
    let mut history = empty(4, &needs);
    let at = |node: u32| NodeId(node);
    let log = EventLog::new(
        vec![at(0), at(1), at(0)],
        vec![at(1), at(2), at(3)],
        vec![Timestamp(0), Timestamp(1), Timestamp(2)],
        vec![0.0; 3],
        None,
    )
    .unwrap();
    let said = [[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]];
    for (event, said) in said.iter().enumerate() {
        let batch = log.batch(event..event + 1);
        let mut nodes = vec![batch.src[0], batch.dst[0]];
        nodes.sort_unstable();
        let update = Update { memory: vec![0.0; nodes.len()], nodes, mail: said.to_vec() };
        history.observe(&batch, &update).unwrap();
    }
    let expected = [
        (0, 0, 11.0), // the source gets the destination's row
        (0, 1, 20.0), // 0 knows 1, the source of event 1
        (0, 2, 31.0),
        (1, 0, 10.0),
        (1, 1, 21.0),
        (1, 2, 30.0), // 1 knows 0, the source of event 2; 2 does not
        (2, 1, 20.0),
        (3, 2, 30.0),
    ];
    assert_eq!(mail(&history, &needs), expected.map(|(node, event, said)| (node, event, vec![said])));
    let wrong =
        history.observe(&log.batch(2..3), &Update { nodes: vec![at(0), at(3)], memory: vec![0.0; 2], mail: vec![1.0] });
    assert_eq!(wrong, Err(ObserveError::Mail { events: 1, width: 1, found: 1 }));
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "the update says 1 numbers in mail; the ends of 1 events say 1 each: 2 in all"
    );
}

#[test]
fn mail_to_a_neighbour_counts_less_the_longer_ago_it_met_the_end() {
    let to = Receivers::Neighbours { count: 5, decay: Some(10.0) };
    let needs = Needs { memory: 1, mail: MailRule { to, ..MailRule::default() }, ..Needs::nothing() };
    let mut graph = Graph::new(4, needs, ORIGIN);
    let log = EventLog::new(
        [0, 1, 0].map(NodeId).to_vec(),
        [1, 2, 3].map(NodeId).to_vec(),
        [0, 5, 100].map(Timestamp).to_vec(),
        vec![0.0; 3],
        None,
    )
    .unwrap();
    graph.observe(&log.batch(0..2)).unwrap();
    let mail = graph.receivers(&log.batch(2..3));
    let stated: Vec<(u32, f32)> = mail.of_event(0).iter().map(|sent| (sent.to.0, sent.weight)).collect();
    assert_eq!(stated, [(1, (1.0 / (std::f64::consts::E + 10.0).ln()) as f32)]);
    assert!((stated[0].1 - 0.393).abs() < 1e-3);
}

#[test]
fn ends_stand_where_the_queries_say() {
    let log = EventLog::new(
        [0, 1, 0].map(NodeId).to_vec(),
        [3, 4, 2].map(NodeId).to_vec(),
        [0, 5, 9].map(Timestamp).to_vec(),
        vec![0.0; 3],
        None,
    )
    .unwrap();
    let (whole, part) = (log.batch(0..3), log.batch(1..2));
    let ends = |queries: &Queries| -> Vec<(u32, i64, u64)> {
        queries
            .ends()
            .map(|root| (queries.nodes()[root].0, queries.times()[root].0, queries.log_positions()[root].0))
            .collect()
    };
    let all = [(0, 0, 0), (3, 0, 0), (1, 5, 1), (4, 5, 1), (0, 9, 2), (2, 9, 2)];
    let mut queries = Queries::of_ends(&whole);
    assert_eq!((ends(&queries), queries.pairs().len(), queries.len()), (all.to_vec(), 0, 6));
    queries.set_batch(&part, &[NodeId(2)], &[0, 1]);
    assert_eq!((ends(&queries), queries.ends()), (all[2..4].to_vec(), 0..2));
    let asked = queries.clone();
    queries.append_ends(&whole);
    assert_eq!((ends(&queries), queries.ends()), (all.to_vec(), 3..9));
    assert_eq!(queries.pairs(), asked.pairs());
    queries.clear_ends();
    assert_eq!((queries.ends().len(), queries.len()), (0, 9));
    queries.set_ends(&part);
    assert_eq!((ends(&queries), queries.len(), queries.positives()), (all[2..4].to_vec(), 2, 0));
    assert!(Queries::of_candidates(NodeId(0), &[NodeId(1)], Timestamp(4)).ends().is_empty());
}

#[test]
fn needs_written_down_before_there_were_these_rules_are_read_as_they_were() {
    let needs = Needs { memory: 3, ..Needs::nothing() };
    let mut stated = serde_json::to_value(&needs).unwrap();
    stated.as_object_mut().unwrap().remove("ends");
    for key in ["says", "to"] {
        stated["mail"].as_object_mut().unwrap().remove(key);
    }
    assert_eq!(serde_json::from_value::<Needs>(stated).unwrap(), needs);
    let rule = MailRule {
        combine: Combine::Slots(10),
        says: MailContent::Given(7),
        to: Receivers::Neighbours { count: 3, decay: Some(2.5) },
        ..MailRule::default()
    };
    let stated = serde_json::to_value(rule).unwrap();
    assert_eq!(stated["combine"], serde_json::json!({ "slots": 10 }));
    assert_eq!(stated["says"], serde_json::json!({ "given": 7 }));
    assert_eq!(stated["to"], serde_json::json!({ "neighbours": { "count": 3, "decay": 2.5 } }));
    assert_eq!(serde_json::from_value::<MailRule>(stated).unwrap(), rule);
}
