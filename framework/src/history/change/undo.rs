//! A history as it was at one moment, looked at while it goes on.

use std::mem::swap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::history::graph::adjacency::KeptLinks;
use crate::history::graph::pairs::NEVER;
use crate::history::graph::walks::KeptWalks;
use crate::history::memory::KeptMemory;
use crate::{Batch, Event, EventId, History, Lookup, NodeId, PurposeDraw, Queries, Timestamp, View};

/// What a history was when this was [begun](History::earlier), as far as it has changed since.
///
/// Whoever changes the history says before what is about to change; it is copied then, once. So a look back costs what has happened since,
/// and not what there is.
#[derive(Debug)]
pub struct Earlier {
    frame: Frame,
    /// Number of the first event that had not settled.
    unsettled: EventId,
    nodes: FxHashMap<NodeId, Kept>,
    pairs: FxHashMap<(NodeId, NodeId), (u32, Timestamp)>,
    /// Whether nodes were forgotten since: links to them are not shown any more.
    forgotten: bool,
}

/// What is neither of a node nor of a pair.
#[derive(Debug)]
struct Frame {
    pending: Vec<Event>,
    newest: Option<Timestamp>,
    seen: u64,
    /// Of the graph and of the memories.
    versions: [u64; 2],
}

/// What is of a node.
#[derive(Debug)]
struct Kept {
    links: KeptLinks,
    memory: KeptMemory,
    renewed: Timestamp,
    first: EventId,
    walks: Option<KeptWalks>,
}

impl Earlier {
    /// Batches the history had observed.
    pub fn version(&self) -> u64 {
        self.frame.versions[0]
    }

    /// Whether `view`, which is of `history` as it is now, shows what one of then would: nothing that is in it has changed since.
    pub fn is_shown_by(&self, view: &View, history: &History) -> bool {
        self.nodes.is_empty() || !history.read_by(view, self.forgotten).any(|node| self.nodes.contains_key(&node))
    }

    /// Before a batch, or a wave, of events happens.
    pub fn before_events(&mut self, history: &History, batch: &Batch<'_>) {
        let own = batch.src.iter().copied().zip(batch.dst.iter().copied());
        self.keep_ends(history, history.settled_by(batch).chain(own));
        history.graph.receivers(batch).nodes().for_each(|node| self.keep(history, node));
    }

    /// Before events are taken back, of which the ends are given.
    pub fn before_retracting(&mut self, history: &History, ends: impl Iterator<Item = (NodeId, NodeId)> + Clone) {
        self.keep_ends(history, ends.clone());
        let holders = ends.clone().flat_map(|(src, dst)| history.mail_holders(src, dst));
        holders.for_each(|node| self.keep(history, node));
        for node in ends.flat_map(|(src, dst)| [src, dst]) {
            if let Some(kept) = self.nodes.get_mut(&node) {
                history.graph.adjacency.keep_list(node, self.unsettled, &mut kept.links);
            }
        }
    }

    /// Before nodes are forgotten.
    pub fn before_forgetting(&mut self, history: &History, nodes: &[NodeId]) {
        nodes.iter().for_each(|&node| self.keep(history, node));
        self.forgotten |= !nodes.is_empty();
    }

    fn keep_ends(&mut self, history: &History, ends: impl Iterator<Item = (NodeId, NodeId)>) {
        for (src, dst) in ends {
            [src, dst].into_iter().for_each(|node| self.keep(history, node));
            if history.needs().pairs {
                self.pairs.entry((src, dst)).or_insert_with(|| history.graph.pairs.get(src, dst).unwrap_or(NEVER));
            }
        }
    }

    fn keep(&mut self, history: &History, node: NodeId) {
        let graph = &history.graph;
        self.nodes.entry(node).or_insert_with(|| Kept {
            links: graph.adjacency.keep(node),
            memory: history.memories.keep(node),
            renewed: graph.renewed(node),
            first: graph.first.get(node.index()).copied().unwrap_or_default(),
            walks: graph.walks.as_ref().map(|walks| walks.keep(node)),
        });
    }
}

impl History {
    /// What there is now, to be [looked back at](History::view_earlier_into) while it goes on. From then on it has to be told of every
    /// change before: of [events](Earlier::before_events), [retractions](Earlier::before_retracting) and [nodes that are
    /// forgotten](Earlier::before_forgetting).
    pub fn earlier(&self) -> Earlier {
        let graph = &self.graph;
        let versions = [graph.version, self.memories.version];
        let frame = Frame { pending: graph.pending.clone(), newest: graph.newest, seen: graph.seen, versions };
        Earlier {
            frame,
            unsettled: self.first_unsettled(),
            nodes: FxHashMap::default(),
            pairs: FxHashMap::default(),
            forgotten: false,
        }
    }

    /// As [`view_into`](History::view_into), of what there was when `earlier` was begun. What the view shows is put back for the time of this,
    /// and no more: the history is left as it is.
    ///
    /// # Panics
    /// As [`view`](History::view) does.
    pub fn view_earlier_into(
        &mut self,
        earlier: &mut Earlier,
        queries: &Queries,
        during: Option<&Batch<'_>>,
        chance: PurposeDraw,
        view: &mut View,
    ) {
        let asked =
            queries.pairs().iter().map(|pair| (queries.nodes()[pair.src as usize], queries.nodes()[pair.dst as usize]));
        let pairs: FxHashSet<_> = asked.filter(|pair| earlier.pairs.contains_key(pair)).collect();
        self.swap_frame(&mut earlier.frame);
        self.swap_pairs(earlier, &pairs, false);
        let mut back = FxHashSet::default();
        loop {
            self.view_into(queries, during, chance, view);
            // What is behind a node is known once the node is as it was: this ends after as many turns as there are layers.
            let changed = |node: &NodeId| earlier.nodes.contains_key(node) && !back.contains(node);
            let more: FxHashSet<_> = self.read_by(view, earlier.forgotten).filter(changed).collect();
            if more.is_empty() {
                break;
            }
            self.swap_nodes(earlier, &more, false);
            back.extend(more);
        }
        self.swap_nodes(earlier, &back, true);
        self.swap_pairs(earlier, &pairs, true);
        self.swap_frame(&mut earlier.frame);
    }

    fn swap_frame(&mut self, frame: &mut Frame) {
        let Frame { pending, newest, seen, versions: [of_graph, of_memories] } = frame;
        swap(&mut self.graph.pending, pending);
        swap(&mut self.graph.newest, newest);
        swap(&mut self.graph.seen, seen);
        swap(&mut self.graph.version, of_graph);
        swap(&mut self.memories_mut().version, of_memories);
    }

    /// Exchanges what is with what was, or `again` what was with what is.
    fn swap_nodes(&mut self, earlier: &mut Earlier, nodes: &FxHashSet<NodeId>, again: bool) {
        for &node in nodes {
            let Some(kept) = earlier.nodes.get_mut(&node) else { continue };
            self.memories_mut().swap(node, &mut kept.memory);
            self.graph.adjacency.swap(node, &mut kept.links, earlier.unsettled, again);
            swap(&mut self.graph.renewed[node.index()], &mut kept.renewed);
            if let Some(first) = self.graph.first.get_mut(node.index()) {
                swap(first, &mut kept.first);
            }
            if let (Some(walks), Some(kept)) = (&mut self.graph.walks, &mut kept.walks) {
                walks.swap(node, kept);
            }
        }
    }

    fn swap_pairs(&mut self, earlier: &mut Earlier, pairs: &FxHashSet<(NodeId, NodeId)>, again: bool) {
        for &pair in pairs {
            if let Some(fact) = earlier.pairs.get_mut(&pair) {
                self.graph.pairs.swap(pair, fact);
                // It was taken back since, and stood there only to be looked at.
                if again && self.graph.pairs.get(pair.0, pair.1) == Some(NEVER) {
                    self.graph.pairs.remove(pair);
                }
            }
        }
    }

    /// The nodes that something in `view` was read from, and if it is asked, those that links lead to whether they are shown or not.
    fn read_by<'a>(&'a self, view: &'a View, all_links: bool) -> impl Iterator<Item = NodeId> + 'a {
        let senders = view.nodes.iter().flat_map(|&node| self.memories.senders_read(node));
        let linked = view.nodes.iter().flat_map(|&node| self.graph.adjacency.newest_first(node).map(|link| link.node));
        let shown = |node| view.nodes.binary_search(&node).is_ok();
        // Walks go from a node to the other ends of its unsettled events, and in the order of the log on to the other ends of theirs.
        let needs = self.needs();
        let (walks, in_order) = (needs.walks.is_some(), needs.walks.is_some() && needs.lookup == Lookup::Ordered);
        let unsettled = self
            .unsettled()
            .filter(move |&(src, dst)| in_order || shown(src) || shown(dst))
            .flat_map(|(src, dst)| [src, dst]);
        let links = all_links.then_some(linked).into_iter().flatten();
        let unsettled = (all_links || walks).then_some(unsettled).into_iter().flatten();
        view.nodes.iter().copied().chain(senders).chain(links).chain(unsettled)
    }
}
