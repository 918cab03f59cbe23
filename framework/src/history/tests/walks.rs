//! Rows of temporal walks against all walks of the log, one by one.
use super::*;
use crate::View;

/// Every walk of `steps` events from `node` back in time before `place`, as the node where it ends and its weight at
/// `now`.
fn walks(
    visible: &Visible<'_>,
    steps: usize,
    (node, time, place): Root,
    decay: f64,
    now: Timestamp,
) -> Vec<(NodeId, f64)> {
    if steps == 0 {
        return vec![(node, 1.0)];
    }
    let each = |seen: Seen| {
        let weight = (-decay * (now.0 - seen.time.0) as f64).exp();
        let rest = walks(visible, steps - 1, (seen.other, seen.time, EventId(seen.event)), decay, now);
        rest.into_iter().map(move |(end, rest)| (end, weight * rest))
    };
    visible.before((node, time, place)).into_iter().flat_map(each).collect()
}

/// The rows that `view` shows of a root.
fn shown<'a>(view: &'a View, root: usize, rule: &WalkRule) -> &'a [f32] {
    &view.walks[root * rule.numbers()..][..rule.numbers()]
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|number| number.to_bits()).collect()
}

/// Needs of a model that reads walks.
fn walking() -> impl Strategy<Value = (Needs, WalkRule)> {
    (any_needs(), rules_of_walks()).prop_map(|(needs, rule)| (Needs { walks: Some(rule), ..needs }, rule))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_sums_over_all_walks_back_in_time(story in stories(), (needs, rule) in walking()) {
        // Row 0 is constant, so any view has it.
        let all: Vec<NodeId> = (0..NODES).map(NodeId).collect();
        let start = empty(NODES, &needs).view(&Queries::of_nodes(&all, ORIGIN), None, chance());
        let fixed = |node: NodeId| &shown(&start, node.index(), &rule)[..rule.width];
        replay(&story, &needs, |history, _, batch, visible| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            assert_eq!(view.walks.len(), queries.len() * rule.numbers());
            for (root, queried) in roots(&queries).into_iter().enumerate() {
                for (steps, row) in shown(&view, root, &rule).chunks(rule.width).enumerate() {
                    let mut expected = vec![0.0; rule.width];
                    let mut size = 1.0;
                    for (end, weight) in walks(visible, steps, queried, rule.decay, queried.1) {
                        size += weight;
                        expected.iter_mut().zip(fixed(end)).for_each(|(sum, number)| *sum += weight * f64::from(*number));
                    }
                    for (found, expected) in row.iter().zip(&expected) {
                        assert!((f64::from(*found) - expected).abs() < 1e-5 * size, "{queried:?}, {steps} steps: {row:?}, {expected}");
                    }
                }
            }
        });
    }

    #[test]
    fn rows_have_the_same_bits_however_events_are_batched(story in stories(), (needs, rule) in walking(), ordered: bool) {
        let lookup = if ordered { Lookup::Ordered } else { Lookup::Exact };
        let needs = Needs { lookup, ..needs };
        let mut alone = empty(NODES, &needs);
        let together = replay(&story, &needs, |history, _, batch, _| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            for event in 0..batch.len() {
                let at = batch.first.index() + event;
                let one = story.log.batch(at..at + 1);
                let single = alone.view(&everyone(&one), Some(&one), chance());
                let ours = [2 * event, 2 * event + 1].into_iter().chain((0..NODES as usize).map(|node| 2 * batch.len() + event * NODES as usize + node));
                for (root, ours) in ours.enumerate() {
                    assert_eq!(bits(shown(&view, ours, &rule)), bits(shown(&single, root, &rule)), "event {at}, root {root}");
                }
                alone.observe(&one, &update_for(&one, alone.version(), &needs)).unwrap();
            }
        });
        let rows = |history: &History| bits(history.to_store().get::<f32>("walks.rows").unwrap());
        prop_assert_eq!(rows(&together), rows(&alone));
    }

    #[test]
    fn a_root_in_the_settled_past_sees_nothing_that_came_later(story in stories(), (needs, rule) in walking(), back in 0i64..6) {
        let history = replay(&story, &needs, |_, _, _, _| ());
        let all: Vec<NodeId> = (0..NODES).map(NodeId).collect();
        let time = Timestamp(history.newest().unwrap().0 - back);
        let view = history.view(&Queries::of_nodes(&all, time), None, chance());
        let events = || story.log.batch(0..story.log.len()).events();
        for node in all {
            let settled = |event: &crate::Event| event.time < history.newest().unwrap();
            let later = events().any(|event| settled(&event) && event.time > time && [event.src, event.dst].contains(&node));
            let none = shown(&view, node.index(), &rule)[rule.width..].iter().all(|&number| number == 0.0);
            prop_assert!(!later || none, "{node:?} at {time:?}");
        }
    }

    #[test]
    fn an_event_taken_back_before_it_settled_leaves_nothing_and_one_that_has_settled_all_it_was(
        story in stories(), (needs, _) in walking(), which: prop::sample::Index,
    ) {
        let mut history = replay(&story, &needs, |_, _, _, _| ());
        let events: Vec<crate::Event> = story.log.batch(0..story.log.len()).events().collect();
        let taken = events[which.index(events.len())];
        let newest = events[events.len() - 1].time;
        let rows = |history: &History| {
            let all: Vec<NodeId> = (0..NODES).map(NodeId).collect();
            bits(&history.view(&Queries::of_nodes(&all, Timestamp(newest.0 + 2)), None, chance()).walks)
        };
        let mut without = empty(NODES, &needs);
        for event in events.iter().filter(|event| taken.time < newest || event.id != taken.id) {
            let one = story.log.batch(event.id.index()..event.id.index() + 1);
            without.observe(&one, &update_for(&one, without.version(), &needs)).unwrap();
        }
        history.retract(&[(taken.id, taken.src, taken.dst)]);
        prop_assert_eq!(rows(&history), rows(&without));
        prop_assert!(needs.kept_after_retract().contains(&"walks"));
    }
}

#[test]
fn a_number_that_is_given_on_has_a_row_of_its_own_and_a_snapshot_knows_it() {
    let rule = WalkRule { layers: 2, width: 3, decay: 0.1, seed: 0 };
    let needs = Needs { neighbours: 2, layers: 1, walks: Some(rule), ..Needs::nothing() };
    let ends = |nodes: [u32; 4]| nodes.map(NodeId).to_vec();
    let time = [0, 1, 2, 3].map(Timestamp).to_vec();
    let log = EventLog::new(ends([0, 1, 2, 2]), ends([1, 2, 3, 3]), time, vec![0.0; 4], None).unwrap();
    let mut history = empty(NODES, &needs);
    (0..4).for_each(|event| history.observe(&log.batch(event..event + 1), &Update::none()).unwrap());
    let rows = |history: &History, node: u32| {
        history.view(&Queries::of_nodes(&[NodeId(node)], Timestamp(9)), None, chance()).walks
    };
    let (before, other) = (rows(&history, 0), rows(&history, 1));
    history.forget(&[NodeId(0)]);
    let after = rows(&history, 0);
    assert_ne!(before[..3], after[..3], "walks that ended at the old node do not end at the new one");
    assert!(before[3..6] != [0.0; 3] && after[3..] == [0.0; 6], "nothing has happened to the new one");
    assert_eq!(rows(&history, 1), other, "other nodes keep their walks");
    let again = History::from_store(history.to_store(), needs.clone(), Features::default()).unwrap();
    assert_eq!(rows(&again, 0), after);
    history.reset();
    assert_eq!(rows(&history, 0)[..3], before[..3], "a history that begins again gives its numbers again");
}

#[test]
fn rows_have_the_same_bits_for_any_number_of_threads_and_nodes_that_come_later() {
    let rule = WalkRule { layers: 3, width: 16, decay: 1e-3, seed: 5 };
    let needs = Needs { walks: Some(rule), ..Needs::nothing() };
    let set = crate::Dataset::from_spec("synthetic:events=900,users=1500,items=1200").unwrap();
    let all: Vec<NodeId> = (0..set.nodes as u32).map(NodeId).collect();
    let with = |threads: usize, room: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut history = History::new(room, needs.clone(), set.log.time()[0], Features::default());
            if room < set.nodes {
                history.grow_in_place();
            }
            (room..=set.nodes).step_by(500).for_each(|nodes| history.grow(nodes));
            history.grow(set.nodes);
            let none = History::new(set.nodes, Needs::nothing(), set.log.time()[0], Features::default());
            assert_eq!(history.bytes() - none.bytes(), set.nodes * (4 * rule.numbers() + 8));
            history.observe(&set.log.batch(0..500), &Update::none()).unwrap();
            let (batch, queries) = (set.log.batch(500..900), Queries::of_nodes(&all, set.log.time()[899]));
            bits(&history.view(&queries, Some(&batch), chance()).walks)
        })
    };
    let expected = with(1, set.nodes);
    assert!(with(2, set.nodes) == expected && with(3, 10) == expected);
}

#[test]
fn needs_that_say_nothing_of_walks_are_read_and_written_as_before() {
    let needs = Needs { memory: 3, ..Needs::nothing() };
    let written = serde_json::to_string(&needs).unwrap();
    assert!(!written.contains("walks"), "{written}");
    assert_eq!(serde_json::from_str::<Needs>(&written).unwrap(), needs);
}
