//! A cache of embeddings. An embedding is computed again only after an event has changed it.

use std::sync::PoisonError;

use rustc_hash::FxHashMap;
use tempograph_framework::{ChangeDetector, Delta, History, NodeId, Pair, Sampler, Timestamp};
use tempograph_kernels::cpu::PaddedRows;
use tempograph_models::SliceProgram;

use crate::engine::read::copy_view;
use crate::engine::snapshot_read::SnapshotRead;
use crate::engine::state::State;
use crate::engine::workspace::ViewBuffers;
use crate::engine::{Engine, Strategy};
use crate::request::RequestError;

/// Which form of an embedding is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The embedding, `[O]`.
    Whole,
    /// The embedding as the decoder maps it for the source of a pair.
    Source,
    /// The same for the destination.
    Destination,
}

/// Embeddings by node. Each is valid for one time and until an event reaches its node. Nodes share slots: a slot holds
/// the node that was inserted last.
#[derive(Debug)]
pub(super) struct EmbeddingCache {
    /// Widths of an embedding, and of the rows to which the decoder maps it.
    widths: [usize; 2],
    /// Their number is a power of two.
    entries: Vec<Entry>,
    /// `[entries, O + 2 O']`: each embedding with its mapped forms as source and as destination.
    rows: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Entry {
    node: Option<NodeId>,
    moment: Timestamp,
    /// A version at which the embedding is known to be valid.
    holds: u64,
}

impl EmbeddingCache {
    /// A cache for `count` embeddings. Memory is allocated when embeddings are inserted.
    pub fn new(count: usize, widths: [usize; 2]) -> EmbeddingCache {
        let count = count.next_power_of_two();
        let nothing = Entry { node: None, moment: Timestamp(0), holds: 0 };
        EmbeddingCache { widths, entries: vec![nothing; count], rows: vec![0.0; count * (widths[0] + 2 * widths[1])] }
    }

    fn slot(&self, node: NodeId) -> usize {
        node.index() & (self.entries.len() - 1)
    }

    fn row(&self, slot: usize) -> std::ops::Range<usize> {
        let width = self.widths[0] + 2 * self.widths[1];
        slot * width..(slot + 1) * width
    }

    /// A part of the embedding of `node` at `moment`, if it is cached and `changed` is false for the version at which
    /// it was last known to be valid. It is then known to be valid at `version`.
    fn get(
        &mut self,
        (node, part): (NodeId, Part),
        moment: Timestamp,
        version: u64,
        changed: impl FnOnce(u64) -> bool,
    ) -> Option<&[f32]> {
        let slot = self.slot(node);
        let entry = &mut self.entries[slot];
        let known = (entry.node, entry.moment) == (Some(node), moment) && entry.holds <= version;
        if !known || entry.holds < version && changed(entry.holds) {
            return None;
        }
        entry.holds = version;
        let [whole, mapped] = self.widths;
        let row = &self.rows[self.row(slot)];
        Some(match part {
            Part::Whole => &row[..whole],
            Part::Source => &row[whole..whole + mapped],
            Part::Destination => &row[whole + mapped..],
        })
    }

    /// Inserts an embedding that was computed at `version`, unless the slot has a newer one of the same node.
    fn insert(&mut self, node: NodeId, moment: Timestamp, version: u64, parts: [&[f32]; 3]) {
        let slot = self.slot(node);
        let entry = &mut self.entries[slot];
        if entry.node == Some(node) && entry.holds > version {
            return;
        }
        *entry = Entry { node: Some(node), moment, holds: version };
        let at = self.row(slot);
        let mut row = &mut self.rows[at];
        for part in parts {
            let (own, rest) = row.split_at_mut(part.len());
            own.copy_from_slice(part);
            row = rest;
        }
    }
}

/// The embeddings that one request needs.
#[derive(Debug, Default)]
pub(crate) struct EmbeddingBatch {
    /// The requested parts, each once.
    requested: Vec<(NodeId, Part)>,
    slot: FxHashMap<(NodeId, Part), u32>,
    /// Pairs of slots.
    pub pairs: Vec<Pair>,
    /// `[requested]`, the row of each requested part.
    rows: PaddedRows,
    /// Slots of the embeddings that are not cached.
    missing: Vec<u32>,
    /// The requested time, or a constant where the model cannot tell times apart.
    moment: Timestamp,
    reach: ChangeDetector,
}

impl EmbeddingBatch {
    /// Removes all requested parts.
    pub fn clear(&mut self) {
        self.requested.clear();
        self.slot.clear();
        self.pairs.clear();
    }

    /// The slot of a node's part. Adds the part if it is not requested yet.
    pub fn request(&mut self, node: NodeId, part: Part) -> u32 {
        let next = self.requested.len() as u32;
        let slot = *self.slot.entry((node, part)).or_insert(next);
        if slot == next {
            self.requested.push((node, part));
        }
        slot
    }

    /// Requests the neighbours, as seen at `time`, of the first `count` requested nodes.
    pub fn request_neighbours(&mut self, history: &History, time: Timestamp, count: usize) {
        let mut reach = std::mem::take(&mut self.reach);
        reach.prepare(history);
        for at in 0..count {
            reach.neighbours(history, self.requested[at].0, time).for_each(|node| {
                self.request(node, Part::Whole);
            });
        }
        self.reach = reach;
    }

    /// Number of requested parts.
    pub fn requested(&self) -> usize {
        self.requested.len()
    }

    /// Number of requested parts that are not cached.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// The requested parts, one in a row.
    pub fn rows(&self) -> &PaddedRows {
        &self.rows
    }
}

impl Engine {
    /// Widths of the cache's rows, or `None` where embeddings of this model cannot be cached: they can if they depend
    /// only on the newest neighbours of a node.
    pub(super) fn can_cache_embeddings(model: &SliceProgram, strategy: Strategy) -> Option<[usize; 2]> {
        let program = model.program();
        let recent = program.needs().sampler == Sampler::Recent && program.scores_from_embeddings();
        (recent && strategy != Strategy::Full).then(|| [program.embedding_width(), program.head().width()])
    }

    /// Copies the cached embeddings, and the view of the nodes whose embeddings are missing.
    pub(super) fn gather(&self, state: &State, time: Timestamp, buffers: &mut ViewBuffers) {
        let history = &state.history;
        buffers.gathered.moment = moment(history, history.newest(), time);
        self.look_up_cached(history, time, history.version(), &mut buffers.gathered);
        buffers.query_missing(time);
        copy_view(state, None, &None, &mut buffers.pass);
    }

    /// The same, as of the beginning of a read in parts.
    pub(super) fn gather_snapshot(
        &self,
        long: &SnapshotRead<'_>,
        time: Timestamp,
        buffers: &mut ViewBuffers,
    ) -> Result<(), RequestError> {
        {
            let history = &self.state()?.history;
            buffers.gathered.moment = moment(history, long.newest, time);
            // An embedding that was valid before the read began, and that no event has changed until now, was valid
            // when it began.
            self.look_up_cached(history, time, long.position.version, &mut buffers.gathered);
        }
        buffers.query_missing(time);
        long.copy_view(None, &None, &mut buffers.pass)
    }

    /// Copies the cached embeddings that are valid at `version`, and lists those that are missing.
    fn look_up_cached(&self, history: &History, time: Timestamp, version: u64, gathered: &mut EmbeddingBatch) {
        let Some(cache) = &self.cache else { unreachable!("asked of an engine that keeps no embeddings") };
        let EmbeddingBatch { requested, rows, missing, moment, reach, .. } = gathered;
        reach.prepare(history);
        missing.clear();
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (whole, hops) = (requested.iter().any(|&(_, part)| part == Part::Whole), history.needs().layers);
        rows.resize(requested.len(), cache.widths[usize::from(!whole)]);
        for (slot, &(node, part)) in requested.iter().enumerate() {
            match cache.get((node, part), *moment, version, |holds| reach.since(history, node, time, hops, holds)) {
                Some(found) => rows.row_mut(slot).copy_from_slice(found),
                None => missing.push(slot as u32),
            }
        }
    }

    /// Computes the missing embeddings and caches them.
    pub(super) fn embed_missing(&self, buffers: &mut ViewBuffers) -> Result<(), RequestError> {
        let ViewBuffers { gathered: EmbeddingBatch { requested, rows, missing, moment, .. }, pass } = buffers;
        if missing.is_empty() {
            return Ok(());
        }
        pass.forward(&self.model);
        self.keep_memories(pass)?;
        self.model.map_ends(&mut pass.work);
        let Some(cache) = &self.cache else { unreachable!("asked of an engine that keeps no embeddings") };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        for (root, &slot) in missing.iter().enumerate() {
            let (node, part) = requested[slot as usize];
            let parts = pass.parts_of(root, cache.widths[0]);
            rows.row_mut(slot as usize).copy_from_slice(parts[part as usize]);
            cache.insert(node, *moment, pass.view.version, parts);
        }
        Ok(())
    }
}

impl ViewBuffers {
    /// Adds the missing nodes to the queries of the pass.
    fn query_missing(&mut self, time: Timestamp) {
        let ViewBuffers { gathered: EmbeddingBatch { requested, missing, .. }, pass } = self;
        pass.queries.clear();
        missing.iter().for_each(|&slot| pass.queries.push_node(requested[slot as usize].0, time));
    }
}

/// The time for which a cached embedding is valid, for a read at `time` of a history whose newest event is at `newest`.
/// A model that sees no time since events cannot tell times after the newest event apart, so these share one value.
fn moment(history: &History, newest: Option<Timestamp>, time: Timestamp) -> Timestamp {
    let needs = history.needs();
    let dated = needs.idle || needs.shows_mail_times() || needs.window_is_timed();
    let timeless = !dated && (needs.layers == 0 || needs.delta == Delta::SinceUpdate);
    let behind = newest.is_none_or(|newest| newest < time);
    if timeless && behind { Timestamp(i64::MAX) } else { time }
}
