//! A second pass over a log allocates nothing.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/counting.rs"]
mod counting;

use std::sync::Barrier;

use tempograph_framework::{
    Combine, Dataset, Delta, Draw, Features, History, Lookup, MailContent, MailRule, Needs, NodeId, OtherMemory,
    Purpose, Queries, Receivers, Update, View, WalkRule, WindowSpec,
};

const BATCH: usize = 150;

/// The buffers that a pass over a log keeps from batch to batch.
struct Walk {
    history: History,
    queries: Queries,
    view: View,
    update: Update,
}

impl Walk {
    /// From the first event to the last, with three negatives an event.
    fn over(&mut self, set: &Dataset, negatives: &[NodeId], offsets: &[usize]) {
        let chance = Draw::new(0).of(Purpose::Sampling);
        for start in (0..set.log.len() / BATCH * BATCH).step_by(BATCH) {
            let batch = set.log.batch(start..start + BATCH);
            self.queries.set_batch(&batch, &negatives[3 * start..3 * (start + BATCH)], offsets);
            self.history.view_into(&self.queries, Some(&batch), chance, &mut self.view);
            self.update.nodes.clone_from(&self.view.nodes);
            self.update.memory.clear();
            self.update.memory.extend_from_slice(self.view.mail.memory());
            let needs = self.history.needs();
            let said =
                if let (MailContent::Given(width), true) = (needs.mail.says, needs.memory > 0) { width } else { 0 };
            self.update.mail.resize(self.queries.ends().len() * said, 0.5);
            self.history.observe(&batch, &self.update).unwrap();
        }
    }
}

fn variants() -> Vec<Needs> {
    let mut variants = Vec::new();
    for other in [OtherMemory::AtEvent, OtherMemory::AtRead] {
        for (lookup, delta) in [
            (Lookup::Exact, Delta::SinceEvent),
            (Lookup::Ordered, Delta::SinceEvent),
            (Lookup::Batch, Delta::SinceUpdate),
        ] {
            for layers in [0, 1, 2] {
                let mail = MailRule { other, update_without_mail: other == OtherMemory::AtRead, ..MailRule::default() };
                let idle = layers == 1;
                variants.push(Needs {
                    memory: 32,
                    mail,
                    neighbours: 10,
                    layers,
                    lookup,
                    delta,
                    idle,
                    pairs: true,
                    ..Needs::nothing()
                });
            }
        }
    }
    let plain = Needs { memory: 32, neighbours: 10, layers: 1, ..Needs::nothing() };
    let to = Receivers::Neighbours { count: 5, decay: Some(100.0) };
    for combine in [Combine::Last, Combine::Mean, Combine::Slots(4)] {
        for other in [OtherMemory::AtEvent, OtherMemory::AtRead] {
            variants.push(Needs { mail: MailRule { combine, other, ..MailRule::default() }, ..plain.clone() });
        }
        let mail = MailRule { combine, says: MailContent::Given(16), to, ..MailRule::default() };
        variants.push(Needs { mail, ends: true, ..plain.clone() });
    }
    for ticks in [None, Some(2000)] {
        variants.push(Needs { window: Some(WindowSpec { neighbours: 25, ticks }), ..plain.clone() });
    }
    for lookup in [Lookup::Exact, Lookup::Ordered, Lookup::Batch] {
        let walks = Some(WalkRule { layers: 2, width: 8, decay: 1e-4, seed: 0 });
        variants.push(Needs { lookup, walks, ..plain.clone() });
    }
    variants.push(Needs { memory: 0, layers: 2, ..plain });
    variants
}

// One test only, so that no other test's memory is counted.
#[test]
fn a_second_walk_over_a_log_asks_for_no_memory() {
    let set = Dataset::from_spec("synthetic:events=6000,users=500,items=300").unwrap();
    let mut draw = Draw::new(1).of(Purpose::Negatives).at(0, 0);
    let negatives: Vec<NodeId> = (0..3 * set.log.len()).map(|_| NodeId(draw.below(set.nodes as u32))).collect();
    let offsets: Vec<usize> = (0..=BATCH).map(|event| 3 * event).collect();
    // Inside the pool, as training is: submitting work from outside sometimes allocates.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // A thread allocates when it first takes work: each takes one of these.
    let barrier = Barrier::new(2);
    pool.install(|| rayon::join(|| barrier.wait(), || barrier.wait()));
    for needs in variants() {
        let history = History::new(set.nodes, needs.clone(), set.log.time()[0], Features::default());
        let mut walk = Walk { history, queries: Queries::none(), view: View::default(), update: Update::none() };
        let mut asked = || {
            let before = counting::asked();
            walk.over(&set, &negatives, &offsets);
            walk.history.reset();
            counting::asked() - before
        };
        let (first, second) = pool.install(|| (asked(), asked()));
        assert!(first > 0 && second == 0, "{first}, then {second} times for {needs:?}");
        assert!(
            walk.view.nodes.len() > 400 && walk.view.pairs.len() == if needs.pairs { 4 * BATCH } else { 0 },
            "the walk was worth counting"
        );
    }
}
