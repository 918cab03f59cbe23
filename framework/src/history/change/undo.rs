//! Reads of a history as it was at one moment, while it goes on.

use std::mem::swap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::history::graph::TickTimes;
use crate::history::graph::adjacency::SavedLinks;
use crate::history::graph::pairs::NEVER;
use crate::history::graph::walks::SavedWalks;
use crate::history::memory::SavedMemory;
use crate::history::memory::tick::TickLog;
use crate::{Batch, Event, EventId, History, Lookup, NodeId, PurposeDraw, Queries, Timestamp, View};

/// The old values of all that has changed in a history since this was [begun](History::begin_undo_log).
///
/// Each writer calls a `save_before_..` method before it changes the history; the old value is copied then, once. The
/// cost depends on what has changed since, not on the size of the history.
#[derive(Debug)]
pub struct UndoLog {
    header: HistoryHeader,
    /// Number of the first event that had not settled.
    first_pending: EventId,
    nodes: FxHashMap<NodeId, SavedNode>,
    pairs: FxHashMap<(NodeId, NodeId), (u32, Timestamp)>,
    /// Whether nodes were forgotten since: links to them are not shown any more.
    forgotten: bool,
}

/// State that belongs to no node and to no pair.
#[derive(Debug)]
struct HistoryHeader {
    pending: Vec<Event>,
    newest: Option<Timestamp>,
    seen: u64,
    /// Versions of the graph and of the memories.
    versions: [u64; 2],
    /// What the newest tick had changed, in memories and in their times.
    tick: (TickLog, TickTimes),
}

/// State of a node.
#[derive(Debug)]
struct SavedNode {
    links: SavedLinks,
    memory: SavedMemory,
    memory_time: Timestamp,
    first: EventId,
    walks: Option<SavedWalks>,
}

impl UndoLog {
    /// Batches the history had observed.
    pub fn version(&self) -> u64 {
        self.header.versions[0]
    }

    /// Whether `view`, a view of the current `history`, equals a view of the saved moment: nothing in it has changed
    /// since.
    pub fn is_unchanged_in(&self, view: &View, history: &History) -> bool {
        // A view of the saved tick shows what that tick had changed, which the history forgets with the next tick.
        let (tick, now) = (self.header.tick.0.time, history.memories.tick.time);
        let is_known = tick == now || tick.is_none_or(|tick| view.before > tick);
        let is_changed = || history.nodes_read_by(view, self.forgotten).any(|node| self.nodes.contains_key(&node));
        self.nodes.is_empty() || is_known && !is_changed()
    }

    /// Call before a batch, or a wave, of events is observed.
    pub fn save_before_batch(&mut self, history: &History, batch: &Batch<'_>) {
        let own = batch.src.iter().copied().zip(batch.dst.iter().copied());
        self.save_ends(history, history.flushed_by(batch).chain(own));
        history.graph.receivers(batch).nodes().for_each(|node| self.save(history, node));
    }

    /// Call before events with these ends are retracted.
    pub fn save_before_retract(&mut self, history: &History, ends: impl Iterator<Item = (NodeId, NodeId)> + Clone) {
        self.save_ends(history, ends.clone());
        let holders = ends.clone().flat_map(|(src, dst)| history.mail_holders(src, dst));
        holders.for_each(|node| self.save(history, node));
        for node in ends.flat_map(|(src, dst)| [src, dst]) {
            if let Some(kept) = self.nodes.get_mut(&node) {
                history.graph.adjacency.save_list(node, self.first_pending, &mut kept.links);
            }
        }
    }

    /// Call before nodes are forgotten.
    pub fn save_before_forget(&mut self, history: &History, nodes: &[NodeId]) {
        nodes.iter().for_each(|&node| self.save(history, node));
        self.forgotten |= !nodes.is_empty();
    }

    fn save_ends(&mut self, history: &History, ends: impl Iterator<Item = (NodeId, NodeId)>) {
        for (src, dst) in ends {
            [src, dst].into_iter().for_each(|node| self.save(history, node));
            if history.needs().pairs {
                self.pairs.entry((src, dst)).or_insert_with(|| history.graph.pairs.get(src, dst).unwrap_or(NEVER));
            }
        }
    }

    fn save(&mut self, history: &History, node: NodeId) {
        let graph = &history.graph;
        self.nodes.entry(node).or_insert_with(|| SavedNode {
            links: graph.adjacency.save(node),
            memory: history.memories.save(node),
            memory_time: graph.memory_time(node),
            first: graph.valid_from.get(node.index()).copied().unwrap_or_default(),
            walks: graph.walks.as_ref().map(|walks| walks.save(node)),
        });
    }
}

impl History {
    /// Begins an undo log of the current state, for [reads of it](History::view_snapshot_into) while the history goes
    /// on. From then on every change has to be saved before it is made: [events](UndoLog::save_before_batch),
    /// [retractions](UndoLog::save_before_retract) and [forgotten nodes](UndoLog::save_before_forget).
    pub fn begin_undo_log(&self) -> UndoLog {
        let graph = &self.graph;
        let versions = [graph.version, self.memories.version];
        let tick = (self.memories.tick.clone(), graph.tick.clone());
        let header =
            HistoryHeader { pending: graph.pending.clone(), newest: graph.newest, seen: graph.seen, versions, tick };
        UndoLog {
            header,
            first_pending: self.first_pending(),
            nodes: FxHashMap::default(),
            pairs: FxHashMap::default(),
            forgotten: false,
        }
    }

    /// Like [`view_into`](History::view_into), but of the state when `earlier` was begun. The old values of what the
    /// view shows are swapped in for the duration of the call and swapped out again: the history itself does not
    /// change.
    ///
    /// # Panics
    /// As [`view`](History::view) does.
    pub fn view_snapshot_into(
        &mut self,
        earlier: &mut UndoLog,
        queries: &Queries,
        during: Option<&Batch<'_>>,
        chance: PurposeDraw,
        view: &mut View,
    ) {
        let asked =
            queries.pairs().iter().map(|pair| (queries.nodes()[pair.src as usize], queries.nodes()[pair.dst as usize]));
        let pairs: FxHashSet<_> = asked.filter(|pair| earlier.pairs.contains_key(pair)).collect();
        self.swap_header(&mut earlier.header);
        self.swap_pairs(earlier, &pairs, false);
        let mut back = FxHashSet::default();
        loop {
            self.view_into(queries, during, chance, view);
            // The neighbours of a node are known once the node has its old value: this ends after as many rounds as
            // there are layers.
            let changed = |node: &NodeId| earlier.nodes.contains_key(node) && !back.contains(node);
            let more: FxHashSet<_> = self.nodes_read_by(view, earlier.forgotten).filter(changed).collect();
            if more.is_empty() {
                break;
            }
            self.swap_nodes(earlier, &more, false);
            back.extend(more);
        }
        self.swap_nodes(earlier, &back, true);
        self.swap_pairs(earlier, &pairs, true);
        self.swap_header(&mut earlier.header);
    }

    fn swap_header(&mut self, header: &mut HistoryHeader) {
        let HistoryHeader { pending, newest, seen, versions: [of_graph, of_memories], tick: (memories, times) } =
            header;
        swap(&mut self.graph.pending, pending);
        swap(&mut self.graph.newest, newest);
        swap(&mut self.graph.seen, seen);
        swap(&mut self.graph.version, of_graph);
        swap(&mut self.memories_mut().version, of_memories);
        swap(&mut self.memories_mut().tick, memories);
        swap(&mut self.graph.tick, times);
    }

    /// Swaps current and old values; `again` swaps them back.
    fn swap_nodes(&mut self, earlier: &mut UndoLog, nodes: &FxHashSet<NodeId>, again: bool) {
        for &node in nodes {
            let Some(kept) = earlier.nodes.get_mut(&node) else { continue };
            self.memories_mut().swap(node, &mut kept.memory);
            self.graph.adjacency.swap(node, &mut kept.links, earlier.first_pending, again);
            swap(&mut self.graph.memory_time[node.index()], &mut kept.memory_time);
            if let Some(first) = self.graph.valid_from.get_mut(node.index()) {
                swap(first, &mut kept.first);
            }
            if let (Some(walks), Some(kept)) = (&mut self.graph.walks, &mut kept.walks) {
                walks.swap(node, kept);
            }
        }
    }

    fn swap_pairs(&mut self, earlier: &mut UndoLog, pairs: &FxHashSet<(NodeId, NodeId)>, again: bool) {
        for &pair in pairs {
            if let Some(fact) = earlier.pairs.get_mut(&pair) {
                self.graph.pairs.swap(pair, fact);
                // The pair was retracted since, and was only put back for the read.
                if again && self.graph.pairs.get(pair.0, pair.1) == Some(NEVER) {
                    self.graph.pairs.remove(pair);
                }
            }
        }
    }

    /// The nodes that `view` was read from, and with `all_links` also those that links lead to, shown or not.
    fn nodes_read_by<'a>(&'a self, view: &'a View, all_links: bool) -> impl Iterator<Item = NodeId> + 'a {
        let senders = view.nodes.iter().flat_map(|&node| self.memories.senders_read_at(node, view.before));
        let linked = view.nodes.iter().flat_map(|&node| self.graph.adjacency.newest_first(node).map(|link| link.node));
        let shown = |node| view.nodes.binary_search(&node).is_ok();
        // Walks go from a node to the other ends of its pending events, and with an ordered lookup on to the other
        // ends of theirs.
        let needs = self.needs();
        let (walks, in_order) = (needs.walks.is_some(), needs.walks.is_some() && needs.lookup == Lookup::Ordered);
        let unsettled = self
            .pending_ends()
            .filter(move |&(src, dst)| in_order || shown(src) || shown(dst))
            .flat_map(|(src, dst)| [src, dst]);
        let links = all_links.then_some(linked).into_iter().flatten();
        let unsettled = (all_links || walks).then_some(unsettled).into_iter().flatten();
        view.nodes.iter().copied().chain(senders).chain(links).chain(unsettled)
    }
}
