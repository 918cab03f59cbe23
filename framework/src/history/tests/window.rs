//! What a view shows in event windows.
use super::*;
use crate::{View, Window};

/// Needs of a model with an event window, neighbours chosen in any way.
fn looking_twice(most: impl Strategy<Value = usize>) -> impl Strategy<Value = Needs> {
    let ticks = prop_oneof![2 => Just(None), 1 => (0i64..6).prop_map(Some)];
    let look = (most, ticks).prop_map(|(neighbours, ticks)| WindowSpec { neighbours, ticks });
    (any_needs(), look).prop_map(|(needs, look)| Needs { window: Some(look), layers: needs.layers.max(1), ..needs })
}

/// The window of the `row`-th centre: events, the other ends and time differences.
fn shown(view: &View, row: u32) -> Vec<(u64, NodeId, f32)> {
    let Window { row: rows, event, dt, .. } = &view.window;
    view.window.of(row as usize).map(|at| (event[at], view.nodes[rows[at] as usize], dt[at])).collect()
}

/// The same for events found by brute force.
fn expected(seen: &[Seen], root: Root, needs: &Needs, slow: &Slow) -> Vec<(u64, NodeId, f32)> {
    let delta = |seen: &Seen| match needs.delta {
        Delta::SinceEvent => root.1.since(seen.time),
        Delta::SinceUpdate => slow.updated_with_mail(seen.other).since(seen.time),
    };
    seen.iter().map(|seen| (seen.event, seen.other, delta(seen))).collect()
}

proptest! {
    #[test]
    fn a_second_look_shows_the_newest_events_before_the_query_that_are_young_enough(story in stories(), needs in looking_twice(0usize..9)) {
        let look = needs.window.unwrap();
        replay(&story, &needs, |history, slow, batch, visible| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            let slow = &slow.at(view.before);
            assert_eq!(view.window.centres(), view.hops[0].centres.len());
            for (i, root) in roots(&queries).into_iter().enumerate() {
                let seen = visible.window(root, look);
                assert_eq!(shown(&view, view.roots[i]), expected(&seen, root, &needs, slow), "{root:?}");
            }
        });
    }

    #[test]
    fn without_a_batch_in_hand_a_second_look_shows_what_was_observed(story in stories(), needs in looking_twice(0usize..9), ahead in 0i64..3) {
        replay(&story, &needs, |history, slow, batch, _| {
            let start = batch.first.index();
            let observed = Visible::new(&story.log, needs.lookup, &(start..start));
            let now = history.newest().map_or(0, |newest| newest.0);
            let nodes: Vec<NodeId> = (0..NODES).map(NodeId).collect();
            let queries = Queries::of_nodes(&nodes, Timestamp(now + ahead));
            let view = history.view(&queries, None, chance());
            let slow = &slow.at(view.before);
            for (i, root) in roots(&queries).into_iter().enumerate() {
                let seen = observed.window(root, needs.window.unwrap());
                assert_eq!(shown(&view, view.roots[i]), expected(&seen, root, &needs, slow), "{root:?}");
            }
        });
    }

    #[test]
    fn a_second_look_does_not_change_what_the_first_shows(story in stories(), needs in looking_twice(0usize..9)) {
        let once = Needs { window: None, ..needs.clone() };
        // Receivers of mail are found among the kept events, and an event window may keep more of them.
        prop_assume!(needs.mail.to == Receivers::Ends || once.recent() == needs.recent());
        let mut first = empty(NODES, &once);
        replay(&story, &needs, |history, _, batch, _| {
            let queries = everyone(batch);
            let (twice, once) = (history.view(&queries, Some(batch), chance()), first.view(&queries, Some(batch), chance()));
            assert_eq!(once.window, Window::default());
            let events = |view: &View, i: usize| {
                let (found, row) = (&view.hops[0].neighbours, view.roots[i] as usize);
                let slots = row * found.k..row * found.k + found.count[row] as usize;
                (found.event[slots.clone()].to_vec(), found.dt[slots].to_vec())
            };
            for i in 0..queries.len() {
                assert_eq!(events(&twice, i), events(&once, i));
            }
            first.observe(batch, &update_for(batch, first.version(), &Needs { window: None, ..needs.clone() })).unwrap();
        });
    }

    #[test]
    fn a_second_look_shows_no_forgotten_node_and_no_event_that_was_taken_back(
        story in stories(), needs in looking_twice(Just(40)), ago in 0i64..3, which in prop::collection::vec(any::<prop::sample::Index>(), 30)
    ) {
        let needs = Needs { sampler: Sampler::Recent, before_events: false, ..needs };
        let mut history = empty(NODES, &needs);
        let (mut first, mut gone) = (vec![0u64; NODES as usize], Vec::new());
        for (i, range) in story.batches.iter().enumerate() {
            let batch = story.log.batch(range.clone());
            history.observe(&batch, &update_for(&batch, history.version(), &needs)).unwrap();
            let idle = history.idle_since(Timestamp(history.newest().unwrap().0 - ago), 0..NODES);
            history.forget(&idle);
            idle.iter().for_each(|node| first[node.index()] = history.seen());
            let event = story.log.batch(0..range.end).event(which[i].index(range.end));
            history.retract(&[(event.id, event.src, event.dst)]);
            gone.push(event.id.0);
            let nodes: Vec<NodeId> = (0..NODES).map(NodeId).collect();
            let queries = Queries::of_nodes(&nodes, Timestamp(batch.time[batch.len() - 1].0 + 1));
            let view = history.view(&queries, None, chance());
            let observed = Visible::new(&story.log, needs.lookup, &(range.end..range.end));
            for (i, root) in roots(&queries).into_iter().enumerate() {
                let known = |seen: &Seen| [root.0, seen.other].iter().all(|node| seen.event >= first[node.index()]);
                let mut seen = observed.window(root, needs.window.unwrap());
                seen.retain(|seen| known(seen) && !gone.contains(&seen.event));
                let events: Vec<u64> = shown(&view, view.roots[i]).into_iter().map(|(event, ..)| event).collect();
                prop_assert_eq!(events, seen.iter().map(|seen| seen.event).collect::<Vec<_>>(), "{:?}", root);
            }
        }
    }

    #[test]
    fn a_stored_view_has_its_second_look(story in stories(), needs in looking_twice(0usize..9), once: bool) {
        let needs = if once { Needs { window: None, ..needs } } else { needs };
        replay(&story, &needs, |history, _, batch, _| {
            let view = history.view(&everyone(batch), Some(batch), chance());
            let stored = View::from_store(view.to_store(), &Features::default()).unwrap();
            assert_eq!((stored.window, stored.nodes), (view.window, view.nodes));
        });
    }
}

#[test]
fn histories_and_artifacts_written_before_there_was_a_second_look_are_read() {
    let needs = Needs { neighbours: 3, layers: 1, ..Needs::nothing() };
    let mut table = toml::Table::try_from(&needs).unwrap();
    table.remove("window");
    assert_eq!(table.try_into::<Needs>().unwrap(), needs);
}

#[test]
fn a_history_keeps_as_many_events_as_the_larger_look_shows() {
    let look = Some(WindowSpec { neighbours: 9, ticks: None });
    let needs = Needs { neighbours: 3, layers: 1, window: look, ..Needs::nothing() };
    assert_eq!(needs.recent(), 9);
    assert_eq!(Needs { neighbours: 12, ..needs.clone() }.recent(), 12);
    assert_eq!(Needs { layers: 0, ..needs }.recent(), 3, "without layers there is no second look");
}
