//! Embeddings kept from one answer to the next, and computed again only where something has changed.

use std::sync::PoisonError;

use rustc_hash::FxHashMap;
use tempograph_framework::{Delta, History, NodeId, Pair, Reach, Sampler, Timestamp};
use tempograph_kernels::cpu::PaddedRows;
use tempograph_models::SliceProgram;

use crate::engine::read::look;
use crate::engine::snapshot_read::LongRead;
use crate::engine::state::State;
use crate::engine::workspace::Sight;
use crate::engine::{Engine, Strategy};
use crate::request::RequestError;

/// What is wanted of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Itself, `[O]`.
    Whole,
    /// What the decoder makes of it as the source of a pair.
    Source,
    /// As the destination.
    Destination,
}

/// Embeddings by node, each good for one moment and until an event reaches it. Nodes share places: the last one embedded has it.
#[derive(Debug)]
pub(super) struct Kept {
    /// Of an embedding, and of what the decoder maps it to.
    widths: [usize; 2],
    /// A power of two of them.
    entries: Vec<Entry>,
    /// `[entries, O + 2 O']`: each embedding and what the decoder makes of it.
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
    pub fn new(count: usize, widths: [usize; 2]) -> Kept {
        let count = count.next_power_of_two();
        let nothing = Entry { node: None, moment: Timestamp(0), holds: 0 };
        Kept { widths, entries: vec![nothing; count], rows: vec![0.0; count * (widths[0] + 2 * widths[1])] }
    }

    fn place(&self, node: NodeId) -> usize {
        node.index() & (self.entries.len() - 1)
    }

    fn row(&self, place: usize) -> std::ops::Range<usize> {
        let width = self.widths[0] + 2 * self.widths[1];
        place * width..(place + 1) * width
    }

    /// A part of the embedding of `node` at `moment`, if it is here and nothing has `changed` it after the version it was known to hold at;
    /// from now on it is known to hold at `version`.
    fn find(
        &mut self,
        (node, part): (NodeId, Part),
        moment: Timestamp,
        version: u64,
        changed: impl FnOnce(u64) -> bool,
    ) -> Option<&[f32]> {
        let place = self.place(node);
        let entry = &mut self.entries[place];
        let known = (entry.node, entry.moment) == (Some(node), moment) && entry.holds <= version;
        if !known || entry.holds < version && changed(entry.holds) {
            return None;
        }
        entry.holds = version;
        let [whole, mapped] = self.widths;
        let row = &self.rows[self.row(place)];
        Some(match part {
            Part::Whole => &row[..whole],
            Part::Source => &row[whole..whole + mapped],
            Part::Destination => &row[whole + mapped..],
        })
    }

    /// Keeps what was computed at `version`, unless something newer is here.
    fn keep(&mut self, node: NodeId, moment: Timestamp, version: u64, parts: [&[f32]; 3]) {
        let place = self.place(node);
        let entry = &mut self.entries[place];
        if entry.node == Some(node) && entry.holds > version {
            return;
        }
        *entry = Entry { node: Some(node), moment, holds: version };
        let at = self.row(place);
        let mut row = &mut self.rows[at];
        for part in parts {
            let (own, rest) = row.split_at_mut(part.len());
            own.copy_from_slice(part);
            row = rest;
        }
    }
}

/// The embeddings one request needs.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// What is asked for, each once.
    asked: Vec<(NodeId, Part)>,
    place: FxHashMap<(NodeId, Part), u32>,
    /// Pairs of places.
    pub pairs: Vec<Pair>,
    /// `[asked]`, each the part that is asked for.
    rows: PaddedRows,
    /// What has to be embedded, by its place.
    missing: Vec<u32>,
    /// When it is asked for, as far as the model can tell.
    moment: Timestamp,
    reach: Reach,
}

impl Gathered {
    /// Asks for nothing any more.
    pub fn clear(&mut self) {
        self.asked.clear();
        self.place.clear();
        self.pairs.clear();
    }

    /// The place of a node's part, which is asked for from now on.
    pub fn ask(&mut self, node: NodeId, part: Part) -> u32 {
        let next = self.asked.len() as u32;
        let place = *self.place.entry((node, part)).or_insert(next);
        if place == next {
            self.asked.push((node, part));
        }
        place
    }

    /// Asks for the neighbours, as seen at `time`, of the first `count` nodes asked for.
    pub fn ask_neighbours(&mut self, history: &History, time: Timestamp, count: usize) {
        let mut reach = std::mem::take(&mut self.reach);
        reach.prepare(history);
        for at in 0..count {
            reach.neighbours(history, self.asked[at].0, time).for_each(|node| {
                self.ask(node, Part::Whole);
            });
        }
        self.reach = reach;
    }

    /// Things asked for.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// How many of them were not kept.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// What was asked for, row by row.
    pub fn rows(&self) -> &PaddedRows {
        &self.rows
    }
}

impl Engine {
    /// Whether embeddings of this model can be kept: they do so only for what a node's newest neighbours tell.
    pub(super) fn keeps_embeddings(model: &SliceProgram, strategy: Strategy) -> Option<[usize; 2]> {
        let program = model.program();
        let recent = program.needs().sampler == Sampler::Recent && program.scores_from_embeddings();
        (recent && strategy != Strategy::Full).then(|| [program.embedding_width(), program.head().width()])
    }

    /// Copies the embeddings that are kept, and of the other nodes what is to be embedded.
    pub(super) fn gather(&self, state: &State, time: Timestamp, sight: &mut Sight) {
        let history = &state.history;
        sight.gathered.moment = moment(history, history.newest(), time);
        self.find_kept(history, time, history.version(), &mut sight.gathered);
        sight.ask_missing(time);
        look(state, None, &None, &mut sight.pass);
    }

    /// The same, as it was when a read in parts began.
    pub(super) fn gather_back(
        &self,
        long: &LongRead<'_>,
        time: Timestamp,
        sight: &mut Sight,
    ) -> Result<(), RequestError> {
        {
            let history = &self.state()?.history;
            sight.gathered.moment = moment(history, long.newest, time);
            // What was known to hold before, and nothing has reached until now, held then.
            self.find_kept(history, time, long.position.version, &mut sight.gathered);
        }
        sight.ask_missing(time);
        long.look(None, &None, &mut sight.pass)
    }

    /// Copies the embeddings that are kept and hold at `version`, and names those that are missing.
    fn find_kept(&self, history: &History, time: Timestamp, version: u64, gathered: &mut Gathered) {
        let Some(kept) = &self.kept else { unreachable!("asked of an engine that keeps no embeddings") };
        let Gathered { asked, rows, missing, moment, reach, .. } = gathered;
        reach.prepare(history);
        missing.clear();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (whole, hops) = (asked.iter().any(|&(_, part)| part == Part::Whole), history.needs().layers);
        rows.resize(asked.len(), kept.widths[usize::from(!whole)]);
        for (place, &(node, part)) in asked.iter().enumerate() {
            match kept.find((node, part), *moment, version, |holds| reach.since(history, node, time, hops, holds)) {
                Some(found) => rows.row_mut(place).copy_from_slice(found),
                None => missing.push(place as u32),
            }
        }
    }

    /// Embeds what was missing, and keeps it.
    pub(super) fn embed_missing(&self, sight: &mut Sight) -> Result<(), RequestError> {
        let Sight { gathered: Gathered { asked, rows, missing, moment, .. }, pass } = sight;
        if missing.is_empty() {
            return Ok(());
        }
        pass.forward(&self.model);
        self.keep_memories(pass)?;
        self.model.map_ends(&mut pass.work);
        let Some(kept) = &self.kept else { unreachable!("asked of an engine that keeps no embeddings") };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (root, &place) in missing.iter().enumerate() {
            let (node, part) = asked[place as usize];
            let parts = pass.parts_of(root, kept.widths[0]);
            rows.row_mut(place as usize).copy_from_slice(parts[part as usize]);
            kept.keep(node, *moment, pass.view.version, parts);
        }
        Ok(())
    }
}

impl Sight {
    /// Asks for what was missing.
    fn ask_missing(&mut self, time: Timestamp) {
        let Sight { gathered: Gathered { asked, missing, .. }, pass } = self;
        pass.queries.clear();
        missing.iter().for_each(|&place| pass.queries.push_node(asked[place as usize].0, time));
    }
}

/// The moment an embedding at `time` is good for, of a history whose newest event is at `newest`: a model that is shown no time since events
/// cannot tell one moment behind all events from another.
fn moment(history: &History, newest: Option<Timestamp>, time: Timestamp) -> Timestamp {
    let needs = history.needs();
    let dated = needs.idle || needs.dates_mail() || needs.dates_window();
    let timeless = !dated && (needs.layers == 0 || needs.delta == Delta::SinceUpdate);
    let behind = newest.is_none_or(|newest| newest < time);
    if timeless && behind { Timestamp(i64::MAX) } else { time }
}
