//! A history as named arrays, for checkpoints and artifacts.

use std::ops::Range;

use tempograph_kernels::cpu::first_not_finite;

use crate::history::graph::TickTimes;
use crate::history::memory::mailbox::{Mail, Mailbox};
use crate::history::memory::tick::TickLog;
use crate::history::persist::extent::{ListCursor, SnapshotExtent};
use crate::log::link::Link;
use crate::{Event, EventId, Features, Graph, History, Memories, Needs, NodeId, Store, StoreError, Timestamp};

/// Version of the arrays' format; a reader refuses another.
const FORMAT: u64 = 1;

/// The prefix of the arrays that hold nodes as they were before the newest tick.
const TICK: &str = "tick.";

impl History {
    /// The arrays of [`to_store`](History::to_store) that hold numbers of events, whose features views may show.
    pub const ARRAYS_OF_EVENTS: [&str; 4] = ["mail.event", "link.event", "pending.id", "tick.mail.event"];

    /// Everything the history holds, waiting mail included, as arrays. Features are not part of it.
    ///
    /// `N` nodes, `M` mails, `L` kept links, `P` pairs, `Q` pending events: `memory [N, D]`, `updated [N]`, `degree
    /// [N]`, `mail.node|event|other|time|since [M]`, `mail.rows [M, D]` or as wide as the rows that the model gives,
    /// `link.owner|event|node|outgoing|time [L]`, `pair.src|dst|count|last [P]`, `pending.id|src|dst|time|label [Q]`
    /// and `position [format, seen, version, origin]`. Some arrays are there only if needed: `mail.weight [M]` where
    /// mail to neighbours decays with time; `newest [1]`, the newest event's time, where that event was retracted;
    /// `first [N]`, the first event of each node since, where nodes were forgotten; `walks.rows [N, L d]` and
    /// `walks.time [N]`, the time of the rows, where walks are kept; `tick.time|first [1]`, `tick.node|updated [S]`,
    /// `tick.memory [S, D]` and `tick.mail.*`: the nodes that events of the newest tick have changed, as they were.
    pub fn to_store(&self) -> Store {
        let extent = self.extent();
        let mut store = self.header_to_store();
        store.merge("", self.nodes_to_store(&extent, 0..extent.nodes()));
        store.merge("", self.pairs_to_store(0..extent.pairs()));
        if extent.lists() {
            store.merge("", self.lists_to_store(&extent, ListCursor::default(), extent.nodes(), usize::MAX).0);
        }
        store
    }

    /// SHA-256 of the history: of all arrays of [`to_store`](History::to_store) but those of `tick`, which say of the
    /// same events how they were reached.
    pub fn sha256(&self) -> String {
        let mut store = self.to_store();
        store.split_off(TICK);
        store.sha256()
    }

    /// The part of [`to_store`](History::to_store) that is neither by node nor by pair nor in lists: `position`,
    /// `pending`, `newest`.
    pub fn header_to_store(&self) -> Store {
        let mut store = Store::default();
        let position = [FORMAT, self.graph.seen, self.graph.version, self.graph.origin.0 as u64];
        store.put("position", [4], position.to_vec());
        self.graph.store_pending(&mut store);
        store.merge(TICK, self.memories.tick.to_store(self.memories.width));
        store
    }

    /// The part of [`to_store`](History::to_store) that is kept by node, for `nodes`; with links where not all events
    /// of a node are kept. The parts of consecutive ranges, concatenated, equal the part of the whole range.
    ///
    /// # Panics
    /// If `nodes` goes beyond the extent.
    pub fn nodes_to_store(&self, extent: &SnapshotExtent, nodes: Range<usize>) -> Store {
        assert!(nodes.end <= extent.nodes(), "nodes {nodes:?} of {}", extent.nodes());
        let (mut store, graph) = (Store::default(), &self.graph);
        self.memories.store(&mut store, nodes.clone());
        store.put("degree", [nodes.len()], graph.adjacency.degrees()[nodes.clone()].to_vec());
        if !extent.lists() {
            store_links(&mut store, &graph.adjacency.links(nodes.clone()).collect::<Vec<_>>());
        }
        if extent.forgets() {
            store.put("first", [nodes.len()], graph.valid_from[nodes.clone()].iter().map(|event| event.0).collect());
        }
        if let Some(walks) = &graph.walks {
            let (rows, at) = walks.store(nodes.clone());
            store.put("walks.rows", [nodes.len(), walks.stored()], rows);
            store.put("walks.time", [nodes.len()], times(at.iter().copied()));
        }
        store
    }

    /// The part of [`to_store`](History::to_store) with the facts about the pairs at these positions.
    ///
    /// # Panics
    /// If `pairs` goes beyond the existing ones.
    pub fn pairs_to_store(&self, pairs: Range<usize>) -> Store {
        let (mut store, met) = (Store::default(), &self.graph.pairs.all()[pairs]);
        store.put("pair.src", [met.len()], met.iter().map(|((src, _), _)| src.0).collect());
        store.put("pair.dst", [met.len()], met.iter().map(|((_, dst), _)| dst.0).collect());
        store.put("pair.count", [met.len()], met.iter().map(|(_, (count, _))| *count).collect());
        store.put("pair.last", [met.len()], times(met.iter().map(|(_, (_, last))| *last)));
        store
    }

    /// The part of [`to_store`](History::to_store) with links that had settled, where all events of a node are kept:
    /// from a position on, of nodes before `to`, and about `most` of them. Returns the position after the last.
    pub fn lists_to_store(
        &self,
        extent: &SnapshotExtent,
        from: ListCursor,
        to: usize,
        most: usize,
    ) -> (Store, ListCursor) {
        let (mut links, mut at, mut work) = (Vec::new(), from, 0);
        while at.node < to && work < most {
            let node = NodeId(at.node as u32);
            let list = extent.settled(self.graph.adjacency.list(node));
            let part = &list[at.link..list.len().min(at.link.saturating_add(most - work))];
            links.extend(part.iter().map(|&link| (node, link)));
            // A node without links counts, too, since it takes time.
            work += part.len().max(1);
            at.link += part.len();
            if at.link == list.len() {
                at = ListCursor { node: at.node + 1, link: 0 };
            }
        }
        let mut store = Store::default();
        store_links(&mut store, &links);
        (store, at)
    }

    /// Says which memory, or which waiting mail, is not finite, if there is one.
    pub fn not_finite(&self) -> Option<String> {
        let Memories { rows, mailbox, width, .. } = &*self.memories;
        if let Some(at) = first_not_finite(rows) {
            return Some(format!("the memory of node {} has {} in column {}", at / width, rows[at], at % width));
        }
        mailbox.not_finite().map(|node| format!("mail that waits at node {node} is not finite"))
    }

    /// The history that [`to_store`](History::to_store) stored, for a model with the same needs.
    ///
    /// # Errors
    /// [`StoreError::Array`] naming the array that is missing, of the wrong kind, or names a node that is not there.
    pub fn from_store(mut store: Store, needs: Needs, features: Features) -> Result<History, StoreError> {
        let position = store.take_len::<u64>("position", 4)?;
        if position[0] != FORMAT {
            return Err(wrong("position", format!("says format {}, this program reads format {FORMAT}", position[0])));
        }
        let (_, updated) = store.take::<i64>("updated")?;
        let (nodes, origin) = (updated.len(), Timestamp(position[3] as i64));
        let mut memories = Memories::new(nodes, &needs, origin);
        memories.version = position[2];
        memories.updated = updated.into_iter().map(Timestamp).collect::<Vec<_>>().into();
        memories.restore(&mut store)?;
        memories.tick.restore(store.split_off(TICK), nodes, memories.width).map_err(|error| error.under(TICK))?;
        let mut graph = Graph::new(nodes, needs, origin);
        (graph.seen, graph.version) = (position[1], position[2]);
        graph.memory_time =
            (0..nodes as u32).map(|node| memories.memory_time_from_mail(NodeId(node))).collect::<Vec<_>>().into();
        graph.tick = memories.tick.times();
        graph.restore(&mut store)?;
        Ok(History::of(graph, memories, features))
    }
}

impl Memories {
    fn store(&self, store: &mut Store, nodes: Range<usize>) {
        let rows = &self.rows[nodes.start * self.width..nodes.end * self.width];
        store.put("memory", [nodes.len(), self.width], rows.to_vec());
        store.put("updated", [nodes.len()], times(self.updated[nodes.clone()].iter().copied()));
        self.mailbox.store(store, nodes);
    }

    fn restore(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.rows = store.take_len::<f32>("memory", self.nodes() * self.width)?.into();
        let nodes = self.nodes();
        self.mailbox.restore(store, nodes, nodes)
    }

    /// The time of the memory of `node` once its waiting mail is read.
    pub(crate) fn memory_time_from_mail(&self, node: NodeId) -> Timestamp {
        self.mailbox.newest(node).map_or(self.updated[node.index()], |mail| mail.time)
    }
}

impl TickLog {
    /// The tick and its saved nodes: `time`, `first`, `node [S]`, `memory [S, D]`, `updated [S]` and mail by position
    /// in `node`; nothing where no tick has begun.
    fn to_store(&self, width: usize) -> Store {
        let mut store = Store::default();
        let Some(time) = self.time else { return store };
        let mut slots: Vec<(NodeId, usize)> = self.slots.iter().map(|(&node, &slot)| (node, slot as usize)).collect();
        slots.sort_unstable();
        store.put("time", [1], vec![time.0]);
        store.put("first", [1], vec![self.first.0]);
        store.put("node", [slots.len()], slots.iter().map(|(node, _)| node.0).collect());
        let rows = slots.iter().flat_map(|&(_, slot)| &self.rows[slot * width..][..width]).copied().collect();
        store.put("memory", [slots.len(), width], rows);
        store.put("updated", [slots.len()], times(slots.iter().map(|&(_, slot)| self.updated[slot])));
        let mut mailbox = Mailbox::new(slots.len(), *self.mailbox.rule(), width);
        for (i, &(_, slot)) in slots.iter().enumerate() {
            mailbox.copy_from(NodeId(i as u32), &self.mailbox, NodeId(slot as u32));
        }
        mailbox.store(&mut store, 0..slots.len());
        store
    }

    /// Reads what [`to_store`](TickLog::to_store) wrote, for a history of `nodes` nodes.
    fn restore(&mut self, mut store: Store, nodes: usize, width: usize) -> Result<(), StoreError> {
        if store.names().next().is_none() {
            return Ok(());
        }
        self.time = Some(Timestamp(store.take_len::<i64>("time", 1)?[0]));
        self.first = EventId(store.take_len::<u64>("first", 1)?[0]);
        let saved = nodes_in("node", nodes, &mut store)?;
        self.rows = store.take_len::<f32>("memory", saved.len() * width)?;
        self.updated = store.take_len::<i64>("updated", saved.len())?.into_iter().map(Timestamp).collect();
        self.mailbox.grow(saved.len());
        self.mailbox.restore(&mut store, saved.len(), nodes)?;
        self.slots = saved.iter().enumerate().map(|(slot, &node)| (node, slot as u32)).collect();
        Ok(())
    }

    /// The times of the saved memories once their mail is read.
    fn times(&self) -> TickTimes {
        let time = |&slot: &u32| self.updated_with_mail(NodeId(slot));
        TickTimes { time: self.time, nodes: self.slots.iter().map(|(&node, slot)| (node, time(slot))).collect() }
    }
}

impl Mailbox {
    fn store(&self, store: &mut Store, nodes: Range<usize>) {
        let mut rows = Vec::new();
        let mut mails = Vec::new();
        for node in (nodes.start as u32..nodes.end as u32).map(NodeId) {
            for (run, carried) in self.runs(node) {
                mails.extend(run.iter().map(|mail| (node, *mail)));
                rows.extend_from_slice(carried);
            }
        }
        let count = mails.len();
        let width = self.carried();
        store.put("mail.node", [count], mails.iter().map(|(node, _)| node.0).collect());
        store.put("mail.event", [count], mails.iter().map(|(_, mail)| mail.event.0).collect());
        store.put("mail.other", [count], mails.iter().map(|(_, mail)| mail.other.0).collect());
        store.put("mail.time", [count], times(mails.iter().map(|(_, mail)| mail.time)));
        store.put("mail.since", [count], times(mails.iter().map(|(_, mail)| mail.since)));
        store.put("mail.rows", [count, width], rows);
        if self.has_weights() {
            store.put("mail.weight", [count], mails.iter().map(|(_, mail)| mail.weight).collect());
        }
    }

    /// Reads mail of `owners` nodes with ends below `nodes`.
    fn restore(&mut self, store: &mut Store, owners: usize, nodes: usize) -> Result<(), StoreError> {
        let owners = nodes_in("mail.node", owners, store)?;
        let count = owners.len();
        let others = nodes_of("mail.other", [count, nodes], store)?;
        let event = store.take_len::<u64>("mail.event", count)?;
        let time = store.take_len::<i64>("mail.time", count)?;
        let since = store.take_len::<i64>("mail.since", count)?;
        let width = self.carried();
        let rows = store.take_len::<f32>("mail.rows", count * width)?;
        let has_weights = self.has_weights();
        let weight = if has_weights { store.take_len::<f32>("mail.weight", count)? } else { vec![1.0; count] };
        for i in 0..count {
            let mail = Mail::new(EventId(event[i]), others[i], Timestamp(time[i]), Timestamp(since[i]));
            let mail = mail.with_weight(weight[i]);
            self.put(owners[i], mail, &rows[i * width..(i + 1) * width]);
        }
        Ok(())
    }
}

impl Graph {
    fn store_pending(&self, store: &mut Store) {
        let pending = &self.pending;
        store.put("pending.id", [pending.len()], pending.iter().map(|event| event.id.0).collect());
        store.put("pending.src", [pending.len()], pending.iter().map(|event| event.src.0).collect());
        store.put("pending.dst", [pending.len()], pending.iter().map(|event| event.dst.0).collect());
        store.put("pending.time", [pending.len()], times(pending.iter().map(|event| event.time)));
        if let Some(newest) = self.newest.filter(|&newest| pending.last().is_none_or(|last| last.time != newest)) {
            store.put("newest", [1], vec![newest.0]);
        }
        store.put("pending.label", [pending.len()], pending.iter().map(|event| event.label).collect());
    }

    fn restore(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.restore_links(store)?;
        self.restore_pairs(store)?;
        self.restore_pending(store)?;
        self.restore_walks(store)
    }

    fn restore_walks(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let (nodes, Some(walks)) = (self.nodes(), &mut self.walks) else { return Ok(()) };
        let rows = store.take_len::<f32>("walks.rows", nodes * walks.stored())?;
        let at = store.take_len::<i64>("walks.time", nodes)?;
        walks.restore(&rows, at.into_iter().map(Timestamp));
        let recycled = self.valid_from.iter().enumerate().filter(|(_, first)| first.0 > 0);
        recycled.for_each(|(node, &first)| walks.redraw_row(NodeId(node as u32), first));
        Ok(())
    }

    fn restore_links(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let degrees = store.take_len::<u64>("degree", self.nodes())?;
        let owners = nodes_in("link.owner", self.nodes(), store)?;
        let count = owners.len();
        let ends = nodes_of("link.node", [count, self.nodes()], store)?;
        let event = store.take_len::<u64>("link.event", count)?;
        let outgoing = store.take_len::<u32>("link.outgoing", count)?;
        let time = store.take_len::<i64>("link.time", count)?;
        let direction = |i: usize| if outgoing[i] == 1 { Link::OUTGOING } else { Link::INCOMING };
        let link = |i: usize| Link {
            time: Timestamp(time[i]),
            event: EventId(event[i]),
            node: ends[i],
            direction: direction(i),
        };
        let links: Vec<(NodeId, Link)> = (0..count).map(|i| (owners[i], link(i))).collect();
        self.adjacency
            .restore(&degrees, &links)
            .map_err(|node| wrong("degree", format!("of node {node} is below the number of its links")))
    }

    fn restore_pairs(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let src = nodes_in("pair.src", self.nodes(), store)?;
        let dst = nodes_of("pair.dst", [src.len(), self.nodes()], store)?;
        let count = store.take_len::<u32>("pair.count", src.len())?;
        let last = store.take_len::<i64>("pair.last", src.len())?;
        let met = src.into_iter().zip(dst).zip(count.into_iter().zip(last.into_iter().map(Timestamp)));
        self.pairs
            .restore(met)
            .map_err(|(src, dst)| wrong("pair.src", format!("names the pair of nodes {} and {} twice", src.0, dst.0)))
    }

    fn restore_pending(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let src = nodes_in("pending.src", self.nodes(), store)?;
        let dst = nodes_of("pending.dst", [src.len(), self.nodes()], store)?;
        let id = store.take_len::<u64>("pending.id", src.len())?;
        let time = store.take_len::<i64>("pending.time", src.len())?;
        let label = store.take_len::<f32>("pending.label", src.len())?;
        let event = |i: usize| Event {
            id: EventId(id[i]),
            src: src[i],
            dst: dst[i],
            time: Timestamp(time[i]),
            label: label[i],
        };
        self.pending = (0..src.len()).map(event).collect();
        self.newest = self.pending.last().map(|event| event.time);
        if store.get::<u64>("first").is_some() {
            self.valid_from = store.take_len::<u64>("first", self.nodes())?.into_iter().map(EventId).collect();
        }
        if store.get::<i64>("newest").is_some() {
            self.newest = Some(Timestamp(store.take_len::<i64>("newest", 1)?[0]));
        }
        Ok(())
    }
}

fn store_links(store: &mut Store, links: &[(NodeId, Link)]) {
    let count = links.len();
    store.put("link.owner", [count], links.iter().map(|(owner, _)| owner.0).collect());
    store.put("link.event", [count], links.iter().map(|(_, link)| link.event.0).collect());
    store.put("link.node", [count], links.iter().map(|(_, link)| link.node.0).collect());
    store.put(
        "link.outgoing",
        [count],
        links.iter().map(|(_, link)| u32::from(link.direction == Link::OUTGOING)).collect(),
    );
    store.put("link.time", [count], times(links.iter().map(|(_, link)| link.time)));
}

/// An array of node numbers, each of which must be below `held`.
fn nodes_in(name: &str, held: usize, store: &mut Store) -> Result<Vec<NodeId>, StoreError> {
    let (_, numbers) = store.take::<u32>(name)?;
    match numbers.iter().find(|&&number| number as usize >= held) {
        Some(number) => Err(wrong(name, format!("names node {number}, but there are {held} nodes"))),
        None => Ok(numbers.into_iter().map(NodeId).collect()),
    }
}

/// As `nodes_in`, of length `len`.
fn nodes_of(name: &str, [len, held]: [usize; 2], store: &mut Store) -> Result<Vec<NodeId>, StoreError> {
    let nodes = nodes_in(name, held, store)?;
    match nodes.len() == len {
        true => Ok(nodes),
        false => Err(wrong(name, format!("has {} values where {len} are expected", nodes.len()))),
    }
}

fn times(times: impl Iterator<Item = Timestamp>) -> Vec<i64> {
    times.map(|time| time.0).collect()
}

fn wrong(name: &str, problem: String) -> StoreError {
    StoreError::Array { name: name.into(), problem }
}
