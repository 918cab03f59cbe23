//! What a view shows of the neighbourhood.
use crate::history::tests::*;
use crate::{MailView, View};

/// Asserts that row `row` of layer `layer` is `node` at `time` and shows exactly its last neighbours, all the way
/// down.
fn assert_sees(view: &View, layer: usize, row: u32, root: Root, needs: &Needs, visible: &Visible<'_>, slow: &Slow) {
    let (row, (node, time, place)) = (row as usize, root);
    let Some(hop) = view.hops.get(layer) else {
        assert_eq!(view.nodes[row], node);
        return;
    };
    assert_sees(view, layer + 1, hop.centres[row], root, needs, visible, slow);
    let idle = needs.idle.then(|| time.since(slow.updated_with_mail(node)));
    assert_eq!(hop.idle.get(row).copied(), idle, "idle of node {node}");
    assert_eq!(hop.age.get(row).copied(), needs.age.then(|| time.since(ORIGIN)), "age of node {node} at {time}");
    let expected = visible.last(root, needs.neighbours);
    let found = &hop.neighbours;
    assert_eq!(
        (found.k, found.count[row] as usize),
        (needs.neighbours, expected.len()),
        "neighbours of {node} before {time}"
    );
    for (j, seen) in expected.iter().enumerate() {
        let slot = row * found.k + j;
        let delta = match needs.delta {
            Delta::SinceEvent => time.since(seen.time),
            Delta::SinceUpdate => slow.updated_with_mail(seen.other).since(seen.time),
        };
        assert_eq!((found.event[slot], found.dt[slot]), (seen.event, delta), "slot {j} of node {node} at {time}");
        let at = if needs.before_events { (seen.time, EventId(seen.event)) } else { (time, place) };
        assert_sees(view, layer + 1, found.row[slot], (seen.other, at.0, at.1), needs, visible, slow);
    }
}

fn assert_shows(view: &View, queries: &Queries, needs: &Needs, visible: &Visible<'_>, slow: &Slow) {
    assert_eq!(view.hops.len(), needs.layers);
    let slow = &slow.at(view.before);
    for (i, root) in roots(queries).into_iter().enumerate() {
        assert_sees(view, 0, view.roots[i], root, needs, visible, slow);
    }
}

proptest! {
    #[test]
    fn every_layer_shows_the_last_neighbours_strictly_before_the_query_newest_first(story in stories(), needs in of_newest()) {
        replay(&story, &needs, |history, slow, batch, visible| {
            let queries = everyone(batch);
            assert_shows(&history.view(&queries, Some(batch), chance()), &queries, &needs, visible, slow);
        });
    }

    #[test]
    fn without_a_batch_in_hand_a_query_sees_what_was_observed(story in stories(), needs in of_newest(), ahead in 0i64..3) {
        replay(&story, &needs, |history, slow, batch, _| {
            let start = batch.first.index();
            let observed = Visible::new(&story.log, needs.lookup, &(start..start));
            let candidates: Vec<NodeId> = (0..NODES).map(NodeId).collect();
            let now = history.newest().map_or(0, |newest| newest.0);
            let queries = Queries::of_candidates(NodeId(0), &candidates, Timestamp(now + ahead));
            assert_shows(&history.view(&queries, None, chance()), &queries, &needs, &observed, slow);
        });
    }

    #[test]
    fn a_view_names_each_node_once_and_none_it_has_no_use_for(story in stories(), needs in needs(Sampler::Recent)) {
        replay(&story, &needs, |history, _, batch, visible| {
            let first = story.log.batch(batch.first.index()..batch.first.index() + 1);
            let queries = Queries::of_batch(&first, &[], &[0, 0]);
            let view = history.view(&queries, Some(batch), chance());
            let mut expected: Vec<NodeId> = batch.src.iter().chain(batch.dst).copied().collect();
            let mut reached = queries.nodes().to_vec();
            for _ in 0..needs.layers {
                let beyond: Vec<NodeId> =
                    reached.iter().flat_map(|&node| visible.last((node, batch.time[0], batch.first), needs.neighbours)).map(|seen| seen.other).collect();
                reached.extend(beyond);
            }
            if let Some(look) = needs.window_spec() {
                let seen = queries.nodes().iter().flat_map(|&node| visible.window((node, batch.time[0], batch.first), look));
                expected.extend(seen.map(|seen| seen.other));
            }
            expected.extend(reached);
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(view.nodes, expected);
        });
    }

    #[test]
    fn looking_changes_nothing(story in stories(), needs in of_newest()) {
        replay(&story, &needs, |history, _, batch, _| {
            let before = history.to_store();
            let first = history.view(&everyone(batch), Some(batch), chance());
            assert_eq!(history.to_store(), before);
            assert_eq!(format!("{first:?}"), format!("{:?}", history.view(&everyone(batch), Some(batch), chance())));
            assert_eq!(first.version, history.version());
        });
    }

    #[test]
    fn roots_share_a_centre_exactly_where_nothing_shown_can_tell_them_apart(story in stories(), needs in of_newest()) {
        let needs = Needs { layers: needs.layers.max(1), ..needs };
        let dated = needs.idle || needs.age || needs.shows_mail_times() || needs.window_is_timed();
        let still = needs.lookup == Lookup::Batch && needs.delta == Delta::SinceUpdate && !dated;
        replay(&story, &needs, |history, _, batch, _| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            let past = |time: Timestamp| history.newest().is_none_or(|newest| newest < time);
            let alike = |(a, at, place): Root, (b, then, other): Root| {
                let same_moment = at == then && (needs.lookup != Lookup::Ordered || place == other);
                a == b && (same_moment || still && past(at) && past(then))
            };
            let roots = roots(&queries);
            for (i, &a) in roots.iter().enumerate() {
                for (j, &b) in roots.iter().enumerate() {
                    assert_eq!(view.roots[i] == view.roots[j], alike(a, b), "{a:?} and {b:?}");
                }
            }
            let centres: std::collections::BTreeSet<u32> = view.roots.iter().copied().collect();
            assert!(centres.into_iter().eq(0..view.hops[0].neighbours.roots as u32), "no centre is without a root");
        });
    }

    #[test]
    fn a_view_filled_again_shows_what_a_new_one_shows(story in stories(), needs in any_needs(), hold in any::<bool>()) {
        let mut kept = View::default();
        let mut held: Option<(MailView, String)> = None;
        replay(&story, &needs, |history, _, batch, _| {
            // For every other batch a different query comes first.
            for queries in [Queries::of_nodes(&[NodeId(1)], batch.time[0]), everyone(batch)].iter().skip(history.version() as usize % 2) {
                history.view_into(queries, Some(batch), chance(), &mut kept);
                assert_eq!(format!("{kept:?}"), format!("{:?}", history.view(queries, Some(batch), chance())));
                if let Some((mail, stated)) = &held {
                    assert_eq!(format!("{mail:?}"), *stated, "mail that is held elsewhere is left alone");
                }
                held = hold.then(|| (share(&kept.mail), format!("{:?}", kept.mail)));
            }
        });
    }
}

/// The same mail, held a second time.
fn share(mail: &MailView) -> MailView {
    match mail {
        MailView::Last(plan) => MailView::Last(plan.clone()),
        MailView::Many(mails) => MailView::Many(mails.clone()),
    }
}
