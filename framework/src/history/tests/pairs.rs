//! Facts about pairs, counted out of the log.
use crate::history::tests::*;
use crate::{PairFact, Recency};

/// A node's recency in a newest-first list.
fn standing(node: NodeId, list: &[Seen]) -> Recency {
    let places: Vec<u32> = (0u32..).zip(list).filter(|(_, seen)| seen.other == node).map(|(place, _)| place).collect();
    Recency { count: places.len() as u32, first: places.first().copied() }
}

fn fact(root: Root, dst: NodeId, needs: &Needs, visible: &Visible<'_>) -> PairFact {
    let (src, time, place) = root;
    let together = visible.together(root, dst);
    // A model without layers is shown no neighbours, so its recent lists are empty.
    let shown = if needs.layers == 0 { 0 } else { needs.neighbours };
    let (of_src, of_dst) = (visible.last(root, shown), visible.last((dst, time, place), shown));
    let in_both =
        |&node: &u32| of_src.iter().any(|seen| seen.other.0 == node) && of_dst.iter().any(|seen| seen.other.0 == node);
    let degree = |node| visible.before((node, time, place)).len() as u64;
    let idle = |node| visible.before((node, time, place)).last().map(|seen| time.since(seen.time));
    PairFact {
        count: together.len() as u32,
        since_last: together.last().map(|&last| time.since(last)),
        in_src: standing(dst, &of_src),
        in_dst: standing(src, &of_dst),
        common: (0..NODES).filter(in_both).count() as u32,
        degrees: [degree(src), degree(dst)],
        idle: [idle(src), idle(dst)],
    }
}

proptest! {
    #[test]
    fn the_facts_of_a_pair_are_those_counted_out_of_the_log(story in stories(), needs in needs(Sampler::Recent)) {
        let needs = Needs { pairs: true, neighbours: needs.neighbours.max(1), ..needs };
        replay(&story, &needs, |history, _, batch, visible| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            assert_eq!(view.pairs.len(), queries.pairs().len());
            for (pair, found) in queries.pairs().iter().zip(&view.pairs) {
                let (root, dst) = (roots(&queries)[pair.src as usize], queries.nodes()[pair.dst as usize]);
                assert_eq!(*found, fact(root, dst, &needs, visible), "{root:?} -> {dst}");
            }
        });
    }

    #[test]
    fn a_model_that_is_shown_no_neighbours_still_learns_counts_and_degrees(story in stories(), needs in needs(Sampler::Recent)) {
        let needs = Needs { pairs: true, neighbours: 0, layers: 1, ..needs };
        replay(&story, &needs, |history, _, batch, visible| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            for (pair, found) in queries.pairs().iter().zip(&view.pairs) {
                let (root, dst) = (roots(&queries)[pair.src as usize], queries.nodes()[pair.dst as usize]);
                let expected = fact(root, dst, &needs, visible);
                assert_eq!((found.count, found.since_last, found.degrees), (expected.count, expected.since_last, expected.degrees));
                assert_eq!(found.idle, expected.idle, "{root:?} -> {dst}");
            }
        });
    }
}
