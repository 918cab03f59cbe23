//! Histories against brute force: random small logs with many ties, repeats and self-loops, in batches of random sizes.
mod earlier;
mod forget;
mod grow;
mod mail;
mod neighbour_mail;
mod neighbours;
mod observe;
mod pairs;
mod snapshot;
mod stages;
mod together;
mod uniform;
mod walks;
mod waves;
mod window;

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    Batch, Combine, Delta, Draw, EventId, EventLog, Features, History, Lookup, MailContent, MailRule, Needs, NodeId,
    OtherMemory, Purpose, PurposeDraw, Queries, Receivers, Sampler, Table, Timestamp, Update, WalkRule, WindowSpec,
};

/// Nodes of a story; few, so that they meet often.
const NODES: u32 = 5;
/// The time that a story's memories start from.
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

/// Needs a model may have, neighbours drawn by `sampler`.
fn needs(sampler: Sampler) -> impl Strategy<Value = Needs> {
    let combine = prop_oneof![
        Just(Combine::Last),
        Just(Combine::Mean),
        (1usize..4).prop_map(Combine::Slots),
        (1usize..4).prop_map(Combine::MeanSlots)
    ];
    let says = prop_oneof![2 => Just(MailContent::Memory), 1 => (1usize..4).prop_map(MailContent::Given)];
    let decay = prop_oneof![Just(None), (1i64..5).prop_map(|ticks| Some(ticks as f64 / 2.0))];
    let some = (1usize..4, decay).prop_map(|(count, decay)| Receivers::Neighbours { count, decay });
    let to = prop_oneof![Just(Receivers::Ends), some];
    let rule =
        (combine, says, to, any::<bool>(), any::<bool>()).prop_map(|(combine, says, to, read, without)| MailRule {
            combine,
            other: if read { OtherMemory::AtRead } else { OtherMemory::AtEvent },
            update_without_mail: without,
            says,
            to,
        });
    let lookup = prop_oneof![Just(Lookup::Exact), Just(Lookup::Ordered), Just(Lookup::Batch)];
    let flags = (lookup, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let walks = prop_oneof![1 => Just(None), 2 => rules_of_walks().prop_map(Some)];
    let ticks = prop_oneof![Just(None), (0i64..5).prop_map(Some)];
    let look = (0usize..7, ticks).prop_map(|(neighbours, ticks)| Some(WindowSpec { neighbours, ticks }));
    let window = prop_oneof![2 => Just(None), 1 => look];
    (prop_oneof![Just(0usize), Just(2)], rule, 0usize..4, 0usize..3, flags, window, walks).prop_map(
        move |(memory, mail, neighbours, layers, (lookup, since_event, idle, pairs, ends), window, walks)| Needs {
            memory,
            mail,
            neighbours,
            layers,
            sampler,
            lookup,
            delta: if since_event { Delta::SinceEvent } else { Delta::SinceUpdate },
            idle,
            pairs,
            ends,
            age: idle,
            before_events: false,
            window,
            walks,
        },
    )
}

/// Rows of walks that a model may need.
fn rules_of_walks() -> impl Strategy<Value = WalkRule> {
    let decay = prop_oneof![Just(0.0), Just(0.25)];
    (1usize..4, 1usize..4, decay, 0u64..3).prop_map(|(layers, width, decay, seed)| WalkRule {
        layers,
        width,
        decay,
        seed,
    })
}

/// Needs with the newest neighbours, each as of the root's time or of the event it is shown for.
fn of_newest() -> impl Strategy<Value = Needs> {
    (needs(Sampler::Recent), any::<bool>()).prop_map(|(needs, before_events)| Needs { before_events, ..needs })
}

/// Needs with neighbours drawn in any way.
fn any_needs() -> impl Strategy<Value = Needs> {
    prop_oneof![of_newest(), drawing()]
}

/// Needs with neighbours drawn at random.
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

/// Memories that are all different: the model's update in these tests.
fn written(node: NodeId, version: u64, width: usize) -> Vec<f32> {
    (0..width).map(|column| (node.0 as usize * 1000 + version as usize * 10 + column) as f32).collect()
}

/// New memories of every node a batch touches, and its mail rows where the model gives them.
fn update_for(batch: &Batch<'_>, version: u64, needs: &Needs) -> Update {
    let mut nodes: Vec<NodeId> = batch.src.iter().chain(batch.dst).copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let memory = nodes.iter().flat_map(|&node| written(node, version, needs.memory)).collect();
    let said = |event: crate::Event| [0, 1].map(|of| said(event.id.0, of, needs)).concat();
    let mail = batch.events().flat_map(said).collect();
    Update { nodes, memory, mail }
}

/// The mail row of the source (0) or the destination (1) of an event where the model gives it; all are different.
fn said(event: u64, of: usize, needs: &Needs) -> Vec<f32> {
    let width = if let (MailContent::Given(width), true) = (needs.mail.says, needs.memory > 0) { width } else { 0 };
    (0..width).map(|column| -((event as usize * 100 + of * 10 + column) as f32)).collect()
}

/// Width of what a mail shows of the other end.
fn said_width(needs: &Needs) -> usize {
    if needs.memory > 0 { needs.mail.width(needs.memory) } else { 0 }
}

/// Replays a story: `look` sees the history and its slow twin before each batch.
fn replay(story: &Story, needs: &Needs, mut look: impl FnMut(&History, &Slow, &Batch<'_>, &Visible<'_>)) -> History {
    let mut history = empty(NODES, needs);
    let mut slow = Slow::new(needs);
    for range in &story.batches {
        let batch = story.log.batch(range.clone());
        let visible = Visible::new(&story.log, needs.lookup, range);
        look(&history, &slow, &batch, &visible);
        let update = update_for(&batch, history.version(), needs);
        history.observe(&batch, &update).unwrap();
        slow.observe(&batch, &update, &visible);
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

/// A node, the time of its query, and the query's event.
type Root = (NodeId, Timestamp, EventId);

/// The roots of `queries`.
fn roots(queries: &Queries) -> Vec<Root> {
    (0..queries.len())
        .map(|root| (queries.nodes()[root], queries.times()[root], queries.log_positions()[root]))
        .collect()
}

/// The part of a log that a query may see.
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

    /// The newest of them that the event window shows, newest first.
    fn window(&self, root: Root, look: WindowSpec) -> Vec<Seen> {
        let mut seen = self.last(root, look.neighbours);
        seen.retain(|seen| look.ticks.is_none_or(|ticks| root.1.0 - seen.time.0 <= ticks));
        seen
    }

    /// Times before the root of events from its node to `dst`.
    fn together(&self, (src, time, place): Root, dst: NodeId) -> Vec<Timestamp> {
        self.events(time, place).filter(|event| (event.src, event.dst) == (src, dst)).map(|event| event.time).collect()
    }
}

/// One mail as the papers describe it.
#[derive(Clone, Debug, PartialEq)]
struct SlowMail {
    event: u64,
    other: NodeId,
    time: Timestamp,
    since: Timestamp,
    row: Vec<f32>,
    weight: f32,
    /// Number of the batch.
    batch: usize,
}

/// Memory and mail kept the simple way.
#[derive(Clone)]
struct Slow {
    needs: Needs,
    memory: Vec<Vec<f32>>,
    updated: Vec<Timestamp>,
    mail: Vec<Vec<SlowMail>>,
    batches: usize,
    tick: Option<SlowTick>,
}

/// The newest tick, and the nodes that it has changed.
#[derive(Clone)]
struct SlowTick {
    time: Timestamp,
    nodes: Vec<NodeId>,
    /// All as it was before the tick.
    before: Box<Slow>,
}

impl Slow {
    fn new(needs: &Needs) -> Slow {
        let nodes = NODES as usize;
        let memory = vec![vec![0.0; needs.memory]; nodes];
        let (updated, mail) = (vec![ORIGIN; nodes], vec![Vec::new(); nodes]);
        Slow { needs: needs.clone(), memory, updated, mail, batches: 0, tick: None }
    }

    /// What views at `time` show: nothing that an event of the newest tick has changed, unless they are after it.
    fn at(&self, time: Timestamp) -> Slow {
        let mut shown = self.clone();
        if let Some(SlowTick { nodes, before, .. }) = self.tick.as_ref().filter(|tick| time <= tick.time) {
            nodes.iter().for_each(|&node| shown.take_from(before, node));
        }
        shown
    }

    fn take_from(&mut self, other: &Slow, node: NodeId) {
        let n = node.index();
        self.memory[n].clone_from(&other.memory[n]);
        self.updated[n] = other.updated[n];
        self.mail[n].clone_from(&other.mail[n]);
    }

    fn observe(&mut self, batch: &Batch<'_>, update: &Update, visible: &Visible<'_>) {
        if self.needs.memory == 0 {
            return;
        }
        let (first, newest) = (batch.time[0], batch.time[batch.len() - 1]);
        let strict = self.needs.lookup != Lookup::Ordered;
        let goes_on = self.tick.clone().filter(|tick| strict && tick.time == first);
        let (of_tick, earlier): (Vec<_>, Vec<_>) = batch.events().partition(|event| event.time == newest);
        let mut part = self.clone();
        part.observe_events(&earlier, update, visible, goes_on.as_ref());
        let was = self.clone();
        self.observe_events(&batch.events().collect::<Vec<_>>(), update, visible, goes_on.as_ref());
        let changed = of_tick.iter().flat_map(|event| self.touched(event, visible)).collect::<Vec<_>>();
        match &mut self.tick {
            Some(tick) if tick.time == newest => {
                for node in changed {
                    if !tick.nodes.contains(&node) {
                        tick.nodes.push(node);
                        tick.before.take_from(&was, node);
                    }
                }
            }
            tick => {
                part.tick = None;
                *tick = strict.then(|| SlowTick { time: newest, nodes: changed, before: Box::new(part) });
            }
        }
        self.batches += 1;
    }

    /// The nodes whose state an event changes.
    fn touched(&self, event: &crate::Event, visible: &Visible<'_>) -> Vec<NodeId> {
        let ends = [event.src, event.dst];
        let to = ends.into_iter().flat_map(|end| receivers(event, end, &self.needs, visible)).map(|(node, _)| node);
        ends.into_iter().chain(to).collect()
    }

    /// Observes events of one batch. `goes_on` is the tick that the batch begins in, where an earlier one began it.
    fn observe_events(
        &mut self,
        events: &[crate::Event],
        update: &Update,
        visible: &Visible<'_>,
        goes_on: Option<&SlowTick>,
    ) {
        let before = |node: NodeId| goes_on.filter(|tick| tick.nodes.contains(&node));
        let rows: Vec<&[f32]> = update.memory.chunks(self.needs.memory).collect();
        for (row, &node) in update.nodes.iter().enumerate() {
            if !events.iter().any(|event| event.src == node || event.dst == node) {
                continue;
            }
            self.memory[node.index()] = rows[row].to_vec();
            self.updated[node.index()] = match before(node) {
                Some(tick) => tick.before.updated_with_mail(node),
                None => self.updated_with_mail(node),
            };
            let since = self.updated[node.index()];
            let mails = &mut self.mail[node.index()];
            if let Some(tick) = before(node) {
                mails.iter_mut().filter(|mail| mail.time == tick.time).for_each(|mail| mail.since = since);
            }
            match before(node) {
                _ if self.needs.mail.combine.slots().is_some() => {}
                Some(tick) => {
                    let read =
                        |mail: &SlowMail| tick.before.mail[node.index()].iter().any(|read| read.event == mail.event);
                    mails.retain(|mail| !read(mail));
                }
                None => mails.clear(),
            }
        }
        for event in events {
            let mut ends = vec![(event.src, event.dst), (event.dst, event.src)];
            ends.dedup();
            let to_ends: Vec<(NodeId, NodeId, f32)> = ends.iter().map(|&(node, other)| (node, other, 1.0)).collect();
            let to_others = ends.iter().flat_map(|&(end, _)| {
                let to = receivers(event, end, &self.needs, visible).into_iter();
                to.map(move |(node, weight)| (node, end, weight))
            });
            for (node, other, weight) in to_ends.into_iter().chain(to_others.collect::<Vec<_>>()) {
                let since = self.updated[node.index()];
                let row = match self.needs.mail.says {
                    MailContent::Memory => self.memory[other.index()].clone(),
                    // The source of a self-loop gets the destination's row.
                    MailContent::Given(_) => {
                        let of_src = other == event.src && (event.src != event.dst || node != event.src);
                        said(event.id.0, usize::from(!of_src), &self.needs)
                    }
                };
                // Its last mail is of the tick that goes on.
                let last = before(node).and_then(|_| self.mail[node.index()].last());
                let batch = last.map_or(self.batches, |mail| mail.batch);
                let (event, time) = (event.id.0, event.time);
                self.mail[node.index()].push(SlowMail { event, other, time, since, row, weight, batch });
            }
        }
    }

    /// The mail `node` reads next, as it is shown.
    fn waiting(&self, node: NodeId) -> Vec<SlowMail> {
        let mut mails = self.mail[node.index()].clone();
        if let Combine::MeanSlots(_) = self.needs.mail.combine {
            let batches = mails.chunk_by(|a, b| a.batch == b.batch);
            mails = batches.map(|mails| mean(mails, self.needs.mail.reads_other())).collect();
        }
        let most = match self.needs.mail.combine {
            Combine::Last => 1,
            Combine::Slots(size) | Combine::MeanSlots(size) => size,
            Combine::Mean => usize::MAX,
        };
        mails.drain(..mails.len().saturating_sub(most));
        if self.needs.mail.reads_other() {
            mails.iter_mut().for_each(|mail| mail.row = self.memory[mail.other.index()].clone());
        }
        mails.iter_mut().for_each(|mail| mail.row.iter_mut().for_each(|number| *number *= mail.weight));
        mails
    }

    fn updated_with_mail(&self, node: NodeId) -> Timestamp {
        self.mail[node.index()].last().map_or(self.updated[node.index()], |mail| mail.time)
    }
}

/// One mail for several: their mean with what else the last one has, or the last one where it `reads` the other end's
/// memory.
fn mean(mails: &[SlowMail], reads: bool) -> SlowMail {
    let mut mean = mails[mails.len() - 1].clone();
    if !reads {
        mean.row.fill(0.0);
        for mail in mails {
            mean.row.iter_mut().zip(&mail.row).for_each(|(sum, x)| *sum += mail.weight * x);
        }
        mean.weight = 1.0 / mails.len() as f32;
    }
    mean
}

/// The neighbours of `end` that get mail of `event`, and its weight.
fn receivers(event: &crate::Event, end: NodeId, needs: &Needs, visible: &Visible<'_>) -> Vec<(NodeId, f32)> {
    let Receivers::Neighbours { count, decay } = needs.mail.to else { return Vec::new() };
    let list = needs.neighbours.max(needs.window_size()).max(count).max(usize::from(needs.pairs));
    let mut found: Vec<(NodeId, f32)> = Vec::new();
    for seen in visible.last((end, event.time, event.id), list) {
        let known = found.iter().any(|&(node, _)| node == seen.other);
        if known || seen.other == event.src || seen.other == event.dst {
            continue;
        }
        let dt = (event.time.0 - seen.time.0) as f64;
        let weight = decay.map_or(1.0, |decay| (1.0 / (std::f64::consts::E + dt / decay).ln()) as f32);
        found.push((seen.other, weight));
    }
    found.truncate(count);
    found
}

/// `Arc`s of a table with one row for each event, so that two tables differ.
fn features(events: usize, of: f32) -> Features {
    Features { edges: Some(Arc::new(Table::new(vec![of; events], 1).unwrap())), ..Features::default() }
}
