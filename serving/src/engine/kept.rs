//! Embeddings kept from one answer to the next, and computed again only where something has changed.

use std::sync::PoisonError;

use rustc_hash::FxHashMap;
use tempograph_framework::{Delta, History, NodeId, Pair, Reach, Sampler, Timestamp};

use super::state::State;
use super::{Engine, Strategy, sampling};
use crate::model::{Pass, Served};
use crate::request::RequestError;
use crate::workspace::Sight;

/// Nodes embedded in one forward pass: bounds the memory a request takes.
const NODES_A_PASS: usize = 4096;

/// Embeddings by node, each good for one moment and until an event reaches it. Nodes share places: the last one embedded has it.
#[derive(Debug)]
pub(super) struct Kept {
    width: usize,
    /// A power of two of them.
    entries: Vec<Entry>,
    /// `[entries, O]`
    rows: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Entry {
    node: Option<NodeId>,
    moment: Timestamp,
    /// A version it is known to hold at.
    holds: u64,
}

impl Kept {
    /// Room for `count` embeddings; memory is taken as they come.
    pub fn new(count: usize, width: usize) -> Kept {
        let count = count.next_power_of_two();
        let nothing = Entry { node: None, moment: Timestamp(0), holds: 0 };
        Kept { width, entries: vec![nothing; count], rows: vec![0.0; count * width] }
    }

    fn place(&self, node: NodeId) -> usize {
        node.index() & (self.entries.len() - 1)
    }

    /// The embedding of `node` at `moment`, if it is here and nothing has `changed` it after the version it was known to hold at; from now
    /// on it is known to hold at `version`.
    fn find(&mut self, node: NodeId, moment: Timestamp, version: u64, changed: impl FnOnce(u64) -> bool) -> Option<&[f32]> {
        let place = self.place(node);
        let entry = &mut self.entries[place];
        if (entry.node, entry.moment) != (Some(node), moment) || entry.holds < version && changed(entry.holds) {
            return None;
        }
        entry.holds = entry.holds.max(version);
        Some(&self.rows[place * self.width..][..self.width])
    }

    /// Keeps what was computed at `version`, unless something newer is here.
    fn keep(&mut self, node: NodeId, moment: Timestamp, version: u64, row: &[f32]) {
        let place = self.place(node);
        let entry = &mut self.entries[place];
        if entry.node == Some(node) && entry.holds > version {
            return;
        }
        *entry = Entry { node: Some(node), moment, holds: version };
        self.rows[place * self.width..][..self.width].copy_from_slice(row);
    }
}

/// The embeddings one request needs.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The distinct nodes asked about.
    nodes: Vec<NodeId>,
    place: FxHashMap<NodeId, u32>,
    /// Pairs of them.
    pub pairs: Vec<Pair>,
    /// `[nodes, O]`
    rows: Vec<f32>,
    width: usize,
    /// Nodes that have to be embedded, by their place.
    missing: Vec<u32>,
    /// When they are asked about, as far as the model can tell.
    moment: Timestamp,
    reach: Reach,
}

impl Gathered {
    /// Asks about nobody any more.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.place.clear();
        self.pairs.clear();
    }

    /// The place of a node, which is asked about from now on.
    pub fn root(&mut self, node: NodeId) -> u32 {
        let next = self.nodes.len() as u32;
        let place = *self.place.entry(node).or_insert(next);
        if place == next {
            self.nodes.push(node);
        }
        place
    }

    /// Asks about the neighbours, as seen at `time`, of the first `count` nodes asked about.
    pub fn ask_neighbours(&mut self, history: &History, time: Timestamp, count: usize) {
        let reach = std::mem::take(&mut self.reach);
        for at in 0..count {
            reach.neighbours(history, self.nodes[at], time).for_each(|node| {
                self.root(node);
            });
        }
        self.reach = reach;
    }

    /// Distinct nodes asked about.
    pub fn asked(&self) -> usize {
        self.nodes.len()
    }

    /// How many of them were not kept.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Makes ready to look at a history as it stands.
    pub fn prepare(&mut self, history: &History) {
        self.reach.prepare(history);
    }

    /// The embeddings, `[nodes, O]`.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

impl Engine {
    /// Whether embeddings of this model can be kept: they do so only for what a node's newest neighbours tell.
    pub(super) fn keeps_embeddings(model: &Served, strategy: Strategy) -> Option<usize> {
        let Served::Slices(model) = model else { return None };
        let recent = model.spec().sampler == Sampler::Recent && !model.spec().pair_features;
        (recent && strategy != Strategy::Full).then(|| model.embedding_width())
    }

    /// The moment an embedding at `time` is good for: a model that is shown no time since events cannot tell one moment behind all events
    /// from another.
    fn moment(&self, state: &State, time: Timestamp) -> Timestamp {
        let needs = state.history.needs();
        let timeless = !needs.idle && (needs.layers == 0 || needs.delta == Delta::SinceUpdate);
        let behind = state.history.newest().is_none_or(|newest| newest < time);
        if timeless && behind { Timestamp(i64::MAX) } else { time }
    }

    /// Copies the embeddings that are kept, and of the other nodes what is to be embedded.
    pub(super) fn gather(&self, state: &State, time: Timestamp, sight: &mut Sight) {
        let Some(kept) = &self.kept else { unreachable!("asked of an engine that keeps no embeddings") };
        let Sight { gathered, pass, more } = sight;
        let Gathered { nodes, rows, width, missing, moment, reach, .. } = gathered;
        let history = &state.history;
        let (version, hops) = (history.version(), history.needs().layers);
        *moment = self.moment(state, time);
        reach.prepare(history);
        missing.clear();
        {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            *width = kept.width;
            rows.resize(nodes.len() * *width, 0.0);
            for ((place, &node), row) in nodes.iter().enumerate().zip(rows.chunks_exact_mut(*width)) {
                match kept.find(node, *moment, version, |holds| reach.since(history, node, time, hops, holds)) {
                    Some(found) => row.copy_from_slice(found),
                    None => missing.push(place as u32),
                }
            }
        }
        more.resize_with(missing.len().div_ceil(NODES_A_PASS).saturating_sub(1), Pass::default);
        for (part, pass) in missing.chunks(NODES_A_PASS).zip(std::iter::once(pass).chain(more)) {
            pass.queries.clear();
            part.iter().for_each(|&place| pass.queries.push_node(nodes[place as usize], time));
            history.view_into(&pass.queries, None, sampling(), &mut pass.view);
        }
    }

    /// Embeds what was missing, and keeps it.
    pub(super) fn embed_missing(&self, sight: &mut Sight) -> Result<(), RequestError> {
        let Sight { gathered, pass, more } = sight;
        let Gathered { nodes, rows, width, missing, moment, .. } = gathered;
        for (part, pass) in missing.chunks(NODES_A_PASS).zip(std::iter::once(pass).chain(more.iter_mut())) {
            self.model.forward(pass);
            self.keep_memories(pass)?;
            let kept = self.kept.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(mut kept) = kept else { unreachable!("asked of an engine that keeps no embeddings") };
            for (root, &place) in part.iter().enumerate() {
                let row = pass.embedding_of(root, *width);
                rows[place as usize * *width..][..*width].copy_from_slice(row);
                kept.keep(nodes[place as usize], *moment, pass.view.version, row);
            }
        }
        // What a rare large request took is not kept.
        more.clear();
        Ok(())
    }
}
