//! Events observed in waves, and updates computed from what a model is shown.
use crate::history::tests::*;
use crate::{ChangeDetector, MailView, View, Waves};

/// A model's update from a view: numbers that depend on all that it shows of each node and of each root, and on
/// nothing else.
fn made_of(needs: &Needs, queries: &Queries, view: &View) -> Update {
    let width = needs.memory;
    let mut memory = view.mail.memory().to_vec();
    for (row, stated) in mail_told(view, said_width(needs)) {
        for (column, number) in memory[row * width..][..width].iter_mut().enumerate() {
            *number = (0.5 * *number + stated + 0.1 * column as f32).sin();
        }
    }
    let said = said(0, 0, needs).len();
    let walked = |root: usize| match needs.walks {
        Some(rule) => view.walks[root * rule.numbers()..][..rule.numbers()].iter().sum::<f32>(),
        None => 0.0,
    };
    let embedded = |root: usize| embedding(view, 0, view.roots[root], &memory, width) + walked(root);
    let mail = queries.ends().flat_map(|root| (0..said).map(move |column| embedded(root) + column as f32)).collect();
    Update { nodes: view.nodes.clone(), memory, mail }
}

/// A number for all the mail of each node that reads any.
fn mail_told(view: &View, said: usize) -> Vec<(usize, f32)> {
    let number = |event: u64, dt: f32, row: &[f32]| event as f32 * 0.01 + dt * 0.3 + row.iter().sum::<f32>() * 0.2;
    match &view.mail {
        MailView::Last(plan) => {
            let stated = |m: usize| number(plan.event[m], plan.dt[m], &plan.other[m * said..][..said]);
            plan.rows
                .iter()
                .enumerate()
                .map(|(m, &row)| (row as usize, if plan.empty[m] { 7.0 } else { stated(m) }))
                .collect()
        }
        MailView::Many(mails) => {
            let stated =
                |i: usize| number(mails.event[i], mails.dt[i], &mails.other[i * said..][..said]) * mails.time[i] as f32;
            let all = |m: usize| (mails.starts[m] as usize..mails.starts[m + 1] as usize).map(stated).sum::<f32>();
            mails.rows.iter().enumerate().map(|(m, &row)| (row as usize, all(m))).collect()
        }
    }
}

/// A number for all that is shown of a row of a layer.
fn embedding(view: &View, layer: usize, row: u32, memory: &[f32], width: usize) -> f32 {
    let row = row as usize;
    let Some(hop) = view.hops.get(layer) else { return memory[row * width..][..width].iter().sum() };
    let found = &hop.neighbours;
    let neighbour = |slot: usize| {
        let slot = row * found.k + slot;
        let number = embedding(view, layer + 1, found.row[slot], memory, width);
        number * 0.4 + found.dt[slot] * 0.1 + found.event[slot] as f32 * 0.01
    };
    let own = embedding(view, layer + 1, hop.centres[row], memory, width) + hop.idle.get(row).copied().unwrap_or(0.0);
    let again = |at: usize| {
        let window = &view.window;
        let number = embedding(view, view.hops.len(), window.row[at], memory, width);
        number * 0.3 + window.dt[at] * 0.2 + window.event[at] as f32 * 0.02
    };
    let window = if layer == 0 && view.window.centres() > 0 { view.window.of(row) } else { 0..0 };
    let seen = (0..found.count[row] as usize).map(neighbour).sum::<f32>() + window.map(again).sum::<f32>();
    own.cos() + seen
}

/// Observes a batch, or a wave, as a server does.
fn happen(history: &mut History, batch: &Batch<'_>) {
    let needs = history.needs().clone();
    let queries = if needs.ends { Queries::of_ends(batch) } else { Queries::none() };
    let mut update = made_of(&needs, &queries, &history.view(&queries, Some(batch), chance()));
    if !needs.ends {
        update.mail =
            batch.events().flat_map(|event| [0, 1].map(|of| said(event.id.0, of, &needs))).flatten().collect();
    }
    history.observe_wave(batch, &update).unwrap();
    if history.has_updated_cache() {
        let mut view = history.view(&Queries::none(), Some(batch), chance());
        history.read_newest_into(&mut view);
        history.cache_updated(&made_of(&needs, &Queries::none(), &view), &view);
    }
}

/// Needs for which the models of [`made_of`] make sense.
fn with_model() -> impl Strategy<Value = Needs> {
    any_needs().prop_map(|mut needs| {
        // Given mail rows are computed from the ends.
        needs.ends |= needs.mail.says != MailContent::Memory;
        needs
    })
}

/// More nodes than meet all the time, so that there are waves.
fn wide_stories() -> impl Strategy<Value = EventLog> {
    prop::collection::vec((0u32..20, 0u32..20, 0i64..3), 1..40).prop_map(|events| {
        let mut now = 0;
        let time = events.iter().map(|&(_, _, gap)| {
            now += gap;
            Timestamp(now)
        });
        let time = time.collect();
        let src = events.iter().map(|&(src, ..)| NodeId(src)).collect();
        let dst = events.iter().map(|&(_, dst, _)| NodeId(dst)).collect();
        EventLog::new(src, dst, time, vec![0.0; events.len()], None).unwrap()
    })
}

proptest! {
    #[test]
    fn waves_leave_what_one_event_after_the_other_leaves(log in wide_stories(), needs in with_model(), most in 2usize..9, ahead: bool) {
        let mut alone = empty(20, &needs);
        let mut together = empty(20, &needs);
        if ahead {
            alone.enable_updated_cache();
            together.enable_updated_cache();
        }
        let (mut waves, mut done) = (Waves::default(), 0);
        while done < log.len() {
            let wave = waves.next(&together, &log.batch(done..log.len()), most);
            prop_assert!(wave >= 1 && wave <= most);
            happen(&mut together, &log.batch(done..done + wave));
            (done..done + wave).for_each(|event| happen(&mut alone, &log.batch(event..event + 1)));
            prop_assert_eq!(together.to_store(), alone.to_store(), "after {} events of a wave of {}", done + wave, wave);
            done += wave;
        }
    }

    #[test]
    fn a_tick_leaves_the_same_event_by_event_in_parts_and_at_once(story in stories(), needs in with_model()) {
        let needs = Needs { lookup: if needs.lookup == Lookup::Ordered { Lookup::Exact } else { needs.lookup }, ..needs };
        let log = &story.log;
        let time = log.time();
        let ends = (1..=log.len()).filter(|&at| at == log.len() || time[at] > time[at - 1]);
        let starts = std::iter::once(0).chain(ends.clone());
        let ticks: Vec<Range<usize>> = starts.zip(ends).map(|(start, end)| start..end).collect();
        let single = |range: &Range<usize>| range.clone().map(|event| event..event + 1).collect::<Vec<_>>();
        let halves = |range: &Range<usize>| {
            let half = range.start + range.len() / 2;
            [range.start..half, half..range.end].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>()
        };
        let mut histories = [empty(NODES, &needs), empty(NODES, &needs), empty(NODES, &needs)];
        for tick in &ticks {
            for (history, parts) in histories.iter_mut().zip([vec![tick.clone()], single(tick), halves(tick)]) {
                for part in parts {
                    let batch = log.batch(part);
                    let queries = if needs.ends { Queries::of_ends(&batch) } else { Queries::none() };
                    let mut update = made_of(&needs, &queries, &history.view(&queries, Some(&batch), chance()));
                    if !needs.ends {
                        let rows = batch.events().flat_map(|event| [0, 1].map(|of| said(event.id.0, of, &needs)));
                        update.mail = rows.flatten().collect();
                    }
                    history.observe(&batch, &update).unwrap();
                }
            }
            let [whole, others @ ..] = &histories;
            let shown = |history: &History| {
                let mut store = history.to_store();
                store.split_off("position");
                store
            };
            for other in others {
                prop_assert_eq!(shown(other), shown(whole), "events {:?}", tick);
            }
        }
    }

    #[test]
    fn nodes_outside_the_reach_of_an_event_are_shown_as_before(story in stories(), needs in needs(Sampler::Recent), hide: bool) {
        let needs = Needs { pairs: false, ..needs };
        let mut history = empty(NODES, &needs);
        if hide {
            history.enable_updated_cache();
        }
        let far = Timestamp(1000);
        let shown = |history: &History| -> Vec<String> {
            (0..NODES).map(|node| {
                let mut view = history.view(&Queries::of_nodes(&[NodeId(node)], far), None, chance());
                (view.version, view.memory_version) = (0, 0);
                format!("{view:?}")
            }).collect()
        };
        let mut before: Vec<(u64, Vec<String>)> = Vec::new();
        for range in &story.batches {
            before.push((history.version(), shown(&history)));
            let batch = story.log.batch(range.clone());
            history.observe(&batch, &update_for(&batch, history.version(), &needs)).unwrap();
            let (now, mut reach) = (shown(&history), ChangeDetector::default());
            reach.prepare(&history);
            for (version, was) in &before {
                for node in (0..NODES).filter(|&node| !reach.since(&history, NodeId(node), far, needs.layers, *version)) {
                    prop_assert_eq!(&now[node as usize], &was[node as usize], "node {} since {}", node, version);
                }
            }
        }
    }
}

/// How many of the events of pairs, all at one time after some have met, make a wave.
fn wave_of(needs: &Needs, met: &[(u32, u32)], events: &[(u32, u32)]) -> usize {
    let all = [met, events].concat();
    let [src, dst] = [0, 1].map(|end| all.iter().map(|&(src, dst)| NodeId([src, dst][end])).collect());
    let time = (0..all.len()).map(|i| Timestamp(if i < met.len() { i as i64 } else { 100 })).collect();
    let log = EventLog::new(src, dst, time, vec![0.0; all.len()], None).unwrap();
    let mut history = empty(20, needs);
    (0..met.len()).for_each(|event| happen(&mut history, &log.batch(event..event + 1)));
    Waves::default().next(&history, &log.batch(met.len()..all.len()), 64)
}

#[test]
fn a_wave_ends_where_an_event_reads_what_an_earlier_one_writes() {
    let plain = Needs { memory: 1, neighbours: 3, layers: 1, ..Needs::nothing() };
    // 2 is a neighbour of 1, 3 of 2.
    let (met, events) = ([(1, 2), (2, 3)], [(1, 11), (3, 13), (2, 12), (4, 14)]);
    assert_eq!(wave_of(&plain, &met, &events), 4, "ends apart");
    assert_eq!(wave_of(&plain, &met, &[(1, 11), (3, 13), (13, 2)]), 2, "an end again");
    let ends = |layers| Needs { ends: true, layers, ..plain.clone() };
    assert_eq!(wave_of(&ends(1), &met, &events), 2, "the view of 2 shows 1");
    assert_eq!(wave_of(&ends(2), &met, &events), 1, "the view of 3 shows 2, and behind it 1");
    assert_eq!(wave_of(&ends(0), &met, &events), 4, "a view without neighbours shows none");
    let to = Receivers::Neighbours { count: 2, decay: None };
    let sent = Needs { mail: MailRule { to, ..MailRule::default() }, ..plain };
    assert_eq!(wave_of(&sent, &met, &events), 2, "2 gets mail of 1");
    let far = [(1, 11), (3, 13), (4, 14), (5, 2)];
    assert_eq!(wave_of(&sent, &met, &far), 3, "2 has got mail of 1 and of 3");
}
