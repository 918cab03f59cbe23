//! Histories against brute force: random small logs with many ties, repeats and self-loops, in batches of random sizes.
mod earlier;
mod grow;
mod mail;
mod neighbours;
mod observe;
mod pairs;
mod snapshot;
mod stages;
mod together;
mod uniform;

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    Batch, Combine, Delta, Draw, EventId, EventLog, Features, History, Lookup, MailRule, Needs, NodeId, OtherMemory,
    Purpose, PurposeDraw, Queries, Sampler, Table, Timestamp, Update,
};

/// Nodes of a story; few, so that they meet often.
const NODES: u32 = 5;
/// When a story's memories count from.
const ORIGIN: Timestamp = Timestamp(-3);

/// A log and where it is cut into batches.
#[derive(Clone, Debug)]
struct Story {
    log: EventLog,
    batches: Vec<Range<usize>>,
}

/// Up to 30 events, half of them at the time of the one before, in batches of up to 7.
fn stories() -> impl Strategy<Value = Story> {
    let gap = prop_oneof![3 => Just(0i64), 2 => Just(1), 1 => 2i64..5];
    let events = prop::collection::vec((0..NODES, 0..NODES, gap), 1..30);
    (events, prop::collection::vec(1usize..8, 30)).prop_map(|(events, sizes)| {
        let mut now = 0;
        let time = events.iter().map(|&(_, _, gap)| {
            now += gap;
            Timestamp(now)
        });
        let time = time.collect();
        let src = events.iter().map(|&(src, ..)| NodeId(src)).collect();
        let dst = events.iter().map(|&(_, dst, _)| NodeId(dst)).collect();
        let log = EventLog::new(src, dst, time, vec![0.0; events.len()], None).unwrap();
        let mut batches = Vec::new();
        let mut start = 0;
        for size in sizes {
            if start < events.len() {
                let end = (start + size).min(events.len());
                batches.push(start..end);
                start = end;
            }
        }
        Story { log, batches }
    })
}

/// What a model may ask for, neighbours drawn by `sampler`.
fn needs(sampler: Sampler) -> impl Strategy<Value = Needs> {
    let rule = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(mean, read, without)| MailRule {
        combine: if mean { Combine::Mean } else { Combine::Last },
        other: if read { OtherMemory::AtRead } else { OtherMemory::AtEvent },
        update_without_mail: without,
    });
    let lookup = prop_oneof![Just(Lookup::Exact), Just(Lookup::Ordered), Just(Lookup::Batch)];
    let flags = (lookup, any::<bool>(), any::<bool>(), any::<bool>());
    (prop_oneof![Just(0usize), Just(2)], rule, 0usize..4, 0usize..3, flags).prop_map(
        move |(memory, mail, neighbours, layers, (lookup, since_event, idle, pairs))| Needs {
            memory,
            mail,
            neighbours,
            layers,
            sampler,
            lookup,
            delta: if since_event { Delta::SinceEvent } else { Delta::SinceUpdate },
            idle,
            pairs,
        },
    )
}

/// What a model may ask for, neighbours drawn in any way.
fn any_needs() -> impl Strategy<Value = Needs> {
    prop_oneof![needs(Sampler::Recent), drawing()]
}

/// What a model may ask for, neighbours drawn by chance.
fn drawing() -> impl Strategy<Value = Needs> {
    prop_oneof![needs(Sampler::Uniform), (1i64..6).prop_flat_map(|ticks| needs(Sampler::Window(ticks)))]
}

fn empty(nodes: u32, needs: &Needs) -> History {
    History::new(nodes as usize, needs.clone(), ORIGIN, Features::default())
}

fn chance() -> PurposeDraw {
    Draw::new(3).of(Purpose::Sampling)
}

/// Every event of the batch against every node.
fn everyone(batch: &Batch<'_>) -> Queries {
    let all: Vec<NodeId> = (0..NODES).map(NodeId).collect();
    let offsets: Vec<usize> = (0..=batch.len()).map(|i| i * all.len()).collect();
    Queries::of_batch(batch, &all.repeat(batch.len()), &offsets)
}

/// Memories no two of which are alike: a model's update in this test's world.
fn written(node: NodeId, version: u64, width: usize) -> Vec<f32> {
    (0..width).map(|column| (node.0 as usize * 1000 + version as usize * 10 + column) as f32).collect()
}

/// New memories of every node a batch touches.
fn update_for(batch: &Batch<'_>, version: u64, width: usize) -> Update {
    let mut nodes: Vec<NodeId> = batch.src.iter().chain(batch.dst).copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let memory = nodes.iter().flat_map(|&node| written(node, version, width)).collect();
    Update { nodes, memory }
}

/// Replays a story: `look` sees the history and its slow twin before each batch.
fn replay(story: &Story, needs: &Needs, mut look: impl FnMut(&History, &Slow, &Batch<'_>, &Visible<'_>)) -> History {
    let mut history = empty(NODES, needs);
    let mut slow = Slow::new(needs);
    for range in &story.batches {
        let batch = story.log.batch(range.clone());
        let visible = Visible::new(&story.log, needs.lookup, range);
        look(&history, &slow, &batch, &visible);
        let update = update_for(&batch, history.version(), needs.memory);
        history.observe(&batch, &update).unwrap();
        slow.observe(&batch, &update);
    }
    history
}

/// One event from one end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    event: u64,
    other: NodeId,
    time: Timestamp,
}

/// A node at a time, and the event it is asked about at.
type Root = (NodeId, Timestamp, EventId);

/// The roots of `queries`.
fn roots(queries: &Queries) -> Vec<Root> {
    (0..queries.len()).map(|root| (queries.nodes()[root], queries.times()[root], queries.places()[root])).collect()
}

/// The part of a log a query may look into.
struct Visible<'a> {
    log: &'a EventLog,
    until: usize,
    same_time: bool,
}

impl Visible<'_> {
    /// For queries about the events of `batch`.
    fn new<'a>(log: &'a EventLog, lookup: Lookup, batch: &Range<usize>) -> Visible<'a> {
        Visible {
            log,
            until: if lookup == Lookup::Batch { batch.start } else { batch.end },
            same_time: lookup == Lookup::Ordered,
        }
    }

    fn events(&self, time: Timestamp, place: EventId) -> impl Iterator<Item = crate::Event> {
        let same_time = self.same_time;
        self.log
            .batch(0..self.until)
            .events()
            .filter(move |event| event.time < time || same_time && event.time == time && event.id < place)
    }

    /// Every event of the root's node that came before it, oldest first.
    fn before(&self, (node, time, place): Root) -> Vec<Seen> {
        let of_node = self.events(time, place).filter(|event| event.src == node || event.dst == node);
        of_node
            .map(|event| Seen {
                event: event.id.0,
                other: if event.src == node { event.dst } else { event.src },
                time: event.time,
            })
            .collect()
    }

    /// The last `k` of them, newest first.
    fn last(&self, root: Root, k: usize) -> Vec<Seen> {
        self.before(root).into_iter().rev().take(k).collect()
    }

    /// Times at which the root's node turned to `dst` before it.
    fn together(&self, (src, time, place): Root, dst: NodeId) -> Vec<Timestamp> {
        self.events(time, place).filter(|event| (event.src, event.dst) == (src, dst)).map(|event| event.time).collect()
    }
}

/// One mail as the paper describes it.
#[derive(Clone, Debug, PartialEq)]
struct SlowMail {
    event: u64,
    other: NodeId,
    time: Timestamp,
    since: Timestamp,
    row: Vec<f32>,
}

/// Memory and mail kept the obvious way.
struct Slow {
    needs: Needs,
    memory: Vec<Vec<f32>>,
    updated: Vec<Timestamp>,
    mail: Vec<Vec<SlowMail>>,
}

impl Slow {
    fn new(needs: &Needs) -> Slow {
        let nodes = NODES as usize;
        let memory = vec![vec![0.0; needs.memory]; nodes];
        Slow { needs: needs.clone(), memory, updated: vec![ORIGIN; nodes], mail: vec![Vec::new(); nodes] }
    }

    fn observe(&mut self, batch: &Batch<'_>, update: &Update) {
        if self.needs.memory == 0 {
            return;
        }
        for (&node, row) in update.nodes.iter().zip(update.memory.chunks(self.needs.memory)) {
            self.memory[node.index()] = row.to_vec();
            self.updated[node.index()] = self.updated_with_mail(node);
            self.mail[node.index()].clear();
        }
        for event in batch.events() {
            let mut ends = vec![(event.src, event.dst), (event.dst, event.src)];
            ends.dedup();
            for (node, other) in ends {
                let since = self.updated[node.index()];
                let mail = SlowMail {
                    event: event.id.0,
                    other,
                    time: event.time,
                    since,
                    row: self.memory[other.index()].clone(),
                };
                self.mail[node.index()].push(mail);
            }
        }
    }

    /// The mail `node` reads next.
    fn waiting(&self, node: NodeId) -> Vec<SlowMail> {
        let mut mails = self.mail[node.index()].clone();
        if self.needs.mail.combine == Combine::Last {
            mails.drain(..mails.len().saturating_sub(1));
        }
        if self.needs.mail.other == OtherMemory::AtRead {
            mails.iter_mut().for_each(|mail| mail.row = self.memory[mail.other.index()].clone());
        }
        mails
    }

    fn updated_with_mail(&self, node: NodeId) -> Timestamp {
        self.mail[node.index()].last().map_or(self.updated[node.index()], |mail| mail.time)
    }
}

/// `Arc`s of a table with one row for each event, so that two tables can be told apart.
fn features(events: usize, of: f32) -> Features {
    Features { edges: Some(Arc::new(Table::new(vec![of; events], 1).unwrap())), ..Features::default() }
}
