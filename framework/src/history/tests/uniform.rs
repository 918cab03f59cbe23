//! Uniform neighbours.
use crate::View;
use crate::history::tests::*;

/// The (event, time difference) drawn for root `root`.
fn drawn(view: &View, root: usize) -> Vec<(u64, f32)> {
    let (found, root) = (&view.hops[0].neighbours, view.roots[root] as usize);
    (root * found.k..root * found.k + found.count[root] as usize)
        .map(|slot| (found.event[slot], found.dt[slot]))
        .collect()
}

fn uniform(needs: Needs) -> Needs {
    Needs { neighbours: needs.neighbours.max(1), layers: needs.layers.max(1), delta: Delta::SinceEvent, ..needs }
}

proptest! {
    #[test]
    fn draws_are_events_before_the_query_and_in_the_window_newest_first(story in stories(), needs in drawing()) {
        let needs = uniform(needs);
        replay(&story, &needs, |history, _, batch, visible| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            for (i, root) in roots(&queries).into_iter().enumerate() {
                let (mut past, found) = (visible.before(root), drawn(&view, i));
                if let Sampler::Window(ticks) = needs.sampler {
                    past.retain(|seen| root.1.0 - seen.time.0 <= ticks);
                }
                assert_eq!(found.len(), if past.is_empty() { 0 } else { needs.neighbours });
                assert!(found.is_sorted_by(|a, b| a.0 >= b.0), "newest first: {found:?}");
                for (event, dt) in found {
                    assert!(past.iter().any(|seen| seen.event == event && root.1.since(seen.time) == dt), "event {event} for {root:?}");
                }
            }
        });
    }

    #[test]
    fn a_roots_draw_does_not_depend_on_the_other_queries(story in stories(), needs in drawing()) {
        let needs = uniform(needs);
        replay(&story, &needs, |history, _, batch, _| {
            let queries = everyone(batch);
            let view = history.view(&queries, Some(batch), chance());
            for i in 0..batch.len() {
                let alone = Queries::of_batch(&story.log.batch(batch.first.index() + i..batch.first.index() + i + 1), &[], &[0, 0]);
                let alone = history.view(&alone, Some(batch), chance());
                assert_eq!([drawn(&alone, 0), drawn(&alone, 1)], [drawn(&view, 2 * i), drawn(&view, 2 * i + 1)]);
            }
        });
    }

    #[test]
    fn a_window_wider_than_the_log_is_none(story in stories(), needs in needs(Sampler::Uniform), wide in prop_oneof![Just(1000), Just(i64::MAX)]) {
        let mut wide = empty(NODES, &Needs { sampler: Sampler::Window(wide), ..needs.clone() });
        replay(&story, &needs, |history, _, batch, _| {
            let [ours, theirs] = [&wide, history].map(|history| history.view(&everyone(batch), Some(batch), chance()));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            wide.observe(batch, &update_for(batch, history.version(), &needs)).unwrap();
        });
    }

    #[test]
    fn a_history_that_follows_a_log_is_as_one_that_does_not_whichever_log_it_is(
        (story, other, same) in (stories(), stories(), any::<bool>()), needs in any_needs(), start in 0u64..4
    ) {
        let mut following: Option<History> = None;
        let end = replay(&story, &needs, |history, _, batch, _| {
            if history.version() == start {
                following = Some(history.clone());
                following.as_mut().unwrap().attach_log(if same { &story.log } else { &other.log }, 1 << 40);
            }
            let Some(following) = &mut following else { return };
            let [ours, theirs] = [&*following, history].map(|history| history.view(&everyone(batch), Some(batch), chance()));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            following.observe(batch, &update_for(batch, history.version(), &needs)).unwrap();
        });
        if let Some(mut following) = following {
            prop_assert_eq!(following.to_store(), end.to_store());
            let kept = needs.keeps_all() || needs.recent() > 0;
            let settled = kept && story.log.time().first() < story.log.time().last();
            prop_assert!(!same || (following.bytes() < end.bytes()) == settled, "what the log has is not kept a second time");
            following.reset();
            prop_assert_eq!(following.to_store(), empty(NODES, &needs).to_store());
        }
    }
}

#[test]
fn every_past_event_is_drawn_equally_often_wherever_it_is_kept() {
    // Ten events of node 0: six settled, two of the newest tick, two of the current batch; one more at the query's own
    // time.
    let time = [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8].map(Timestamp).to_vec();
    let dst = (0..11).map(|i| NodeId(1 + i % 4)).collect();
    let log = EventLog::new(vec![NodeId(0); 11], dst, time, vec![0.0; 11], None).unwrap();
    let needs = Needs { neighbours: 3, layers: 1, sampler: Sampler::Uniform, ..Needs::nothing() };
    let mut history = empty(NODES, &needs);
    history.observe(&log.batch(0..8), &Update::none()).unwrap();
    let queries = Queries::of_nodes(&[NodeId(0)], Timestamp(8));
    let batch = log.batch(8..11);
    let mut counts = [0u32; 11];
    for seed in 0..3000 {
        let view = history.view(&queries, Some(&batch), Draw::new(seed).of(Purpose::Sampling));
        drawn(&view, 0).iter().for_each(|&(event, _)| counts[event as usize] += 1);
    }
    assert_eq!(counts[10], 0, "the event at the query's own time");
    // 9000 draws over ten events: 900 each, give or take six standard deviations.
    assert!(counts[..10].iter().all(|&count| count.abs_diff(900) < 6 * 29), "{counts:?}");
}
