//! A model and its history, asked and told in the user's own ids and times.

use std::path::Path;
use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Batch, Draw, History, Lookup, NodeId, Purpose, Queries, Side, Table, Timestamp};
use tempograph_kernels::Rows;

use crate::features::{EdgeStore, Shown};
use crate::incoming::{Incoming, Rules, not_before};
use crate::manifest::{ArtifactError, Manifest};
use crate::model::{Pass, Served};
use crate::names::Names;
use crate::open::{Opened, open};
use crate::request::{Granularity, MOST, NewEvent, PairQuery, Place, Position, RankQuery, Ranked, RequestError, probability, ticks};
use crate::workspace::{Workspace, Workspaces};

/// Pairs scored in one forward pass: bounds the memory a request takes. A score does not depend on what is scored beside it.
const PAIRS_A_PASS: usize = 4096;

/// A TGN with what it has seen so far.
///
/// Reads and writes go the way training goes, through the same kernels: [`History::view_into`], [`forward`](tempograph_framework::SliceModel::forward) or
/// [`advance`](tempograph_framework::SliceModel::advance), [`History::observe`]. They work in memory that is kept: an event and a score ask for none once the largest
/// request has been seen.
///
/// - A read at time `t` sees neighbours strictly before `t` and the memories of now. Since those hold every event observed, a read
///   before the newest event is refused; a read at its very time sees it in the memories, as a training batch does that cuts a tick.
/// - Events come in order of time; a late one is refused, and with it its whole request.
/// - An id that is new becomes a new node when an event names it. A read that names it before is an error.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    model: Served,
    history: History,
    names: Names,
    edges: Option<Arc<EdgeStore>>,
    spaces: Workspaces,
}

/// Features of the stored events and of those a read brings, where it brings any.
type ShownFeatures = Option<Arc<dyn Rows>>;

impl Engine {
    /// Opens an artifact, checking every byte.
    ///
    /// # Errors
    /// [`ArtifactError`] naming the file and what is wrong with it.
    pub fn open(dir: &Path) -> Result<Engine, ArtifactError> {
        let Opened { manifest, model, history, names, edges } = open(dir)?;
        Ok(Engine { manifest, model: Served::of(model), history, names, edges, spaces: Workspaces::default() })
    }

    /// What the artifact said of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What has happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How much has happened so far.
    pub fn position(&self) -> Position {
        Position { log_seq: self.history.seen(), version: self.history.version() }
    }

    /// A source that can be asked about, if there is any.
    pub fn example(&self) -> Option<u64> {
        self.names.any_source().filter(|_| self.history.newest().is_some())
    }

    /// Lets events happen, in order: all of them, or none if one will not do.
    ///
    /// # Errors
    /// [`RequestError`] naming the first event that will not do, and why.
    pub fn observe(&mut self, events: &[NewEvent], granularity: Granularity) -> Result<(), RequestError> {
        let mut space = self.spaces.take();
        let done = self.observe_in(&mut space, events, granularity);
        self.spaces.give(space);
        done
    }

    fn observe_in(&mut self, space: &mut Workspace, events: &[NewEvent], granularity: Granularity) -> Result<(), RequestError> {
        let Workspace { told, pass, .. } = space;
        told.clear(self.history.seen());
        self.rules().check("events", events, &mut told.time)?;
        if u32::try_from(self.names.len() + 2 * events.len()).is_err() {
            return Err(RequestError::invalid("events", "would need more nodes than can be numbered"));
        }
        // Nothing can be refused from here on.
        self.adopt(events, told);
        match granularity {
            Granularity::Batch if events.is_empty() => {}
            Granularity::Batch => self.apply(&told.whole(), pass),
            Granularity::Event => (0..events.len()).for_each(|i| self.apply(&told.batch(i..i + 1), pass)),
        }
        Ok(())
    }

    /// Makes room for the nodes of checked events and stores their features.
    fn adopt(&mut self, events: &[NewEvent], told: &mut Incoming) {
        for (i, event) in events.iter().enumerate() {
            told.src.push(self.names.find_or_add(Side::Source, event.src));
            let dst = self.names.find_or_add(Side::Destination, event.dst);
            self.names.act_on(dst);
            told.dst.push(dst);
            told.label.push(event.label);
            if let (Some(edges), Some(row)) = (&self.edges, &event.features) {
                edges.append(told.first + i as u64, row);
            }
        }
        self.history.grow(self.names.len());
    }

    fn apply(&mut self, batch: &Batch<'_>, pass: &mut Pass) {
        pass.queries.clear();
        self.history.view_into(&pass.queries, Some(batch), sampling(), &mut pass.view);
        self.model.advance(pass);
        self.history.observe(batch, pass.update()).unwrap_or_else(|error| unreachable!("events are checked before they happen: {error}"));
    }

    /// Logits of pairs. `during` are events that have not been observed, which a model with exact lookups sees as neighbours where
    /// they are strictly before a query's time: what training shows a query of its own batch.
    ///
    /// # Errors
    /// [`RequestError`] naming the first query or event that will not do, and why.
    pub fn score(&self, queries: &[PairQuery], during: &[NewEvent]) -> Result<Vec<f32>, RequestError> {
        let mut scores = Vec::with_capacity(queries.len());
        self.score_into(queries, during, &mut scores)?;
        Ok(scores)
    }

    /// As [`score`](Engine::score), written over `scores`, which holds nothing of use after an error.
    ///
    /// # Errors
    /// As [`score`](Engine::score).
    pub fn score_into(&self, queries: &[PairQuery], during: &[NewEvent], scores: &mut Vec<f32>) -> Result<(), RequestError> {
        scores.clear();
        self.spaces.with(|space| self.score_in(space, queries, during, scores))
    }

    fn score_in(
        &self,
        Workspace { told, asked, pass }: &mut Workspace,
        queries: &[PairQuery],
        during: &[NewEvent],
        scores: &mut Vec<f32>,
    ) -> Result<(), RequestError> {
        if queries.len() > MOST {
            return Err(RequestError::TooMany { place: "queries".into(), count: queries.len() });
        }
        if !during.is_empty() && self.history.needs().lookup == Lookup::Ordered {
            // A query has no place among them, so it would see the very event it asks about.
            return Err(RequestError::invalid("during", "cannot be told to a model with `history = \"ordered\"`"));
        }
        let features = self.show(during, told)?;
        asked.clear();
        for (i, query) in queries.iter().enumerate() {
            let place = |field| Place::of("queries", i, field);
            let src = self.find(Side::Source, query.src, place("src"))?;
            let dst = self.find(Side::Destination, query.dst, place("dst"))?;
            asked.push((src, dst, self.read_time(query.time.as_ref(), told, place("time"))?));
        }
        for part in asked.chunks(PAIRS_A_PASS) {
            pass.queries.clear();
            part.iter().for_each(|&(src, dst, time)| pass.queries.push_pair(src, dst, time));
            self.forward(told, &features, pass);
            scores.extend_from_slice(pass.scores());
        }
        finite(scores)
    }

    /// The best candidates, best first; of equals the one named first.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn rank(&self, query: &RankQuery) -> Result<Vec<Ranked>, RequestError> {
        if query.k == 0 {
            return Err(RequestError::invalid("k", "is 0; it must be at least 1"));
        }
        let (candidates, scores) = self.spaces.with(|Workspace { told, pass, .. }| {
            let features = self.show(&[], told)?;
            let src = self.find(Side::Source, query.src, Place::field("src"))?;
            let time = self.read_time(query.time.as_ref(), told, Place::field("time"))?;
            let candidates = self.candidates(query.candidates.as_deref())?;
            let mut scores = Vec::with_capacity(candidates.len());
            for part in candidates.chunks(PAIRS_A_PASS) {
                pass.queries = Queries::of_candidates(src, part, time);
                self.forward(told, &features, pass);
                scores.extend_from_slice(pass.scores());
            }
            finite(&scores)?;
            Ok((candidates, scores))
        })?;
        let mut ranked: Vec<_> = candidates.iter().zip(scores).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let told = ranked.into_iter().take(query.k);
        Ok(told.map(|(&node, score)| Ranked { dst: self.names.own(node), score, probability: probability(score) }).collect())
    }

    /// The embedding of a node, `[O]`.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn embedding(&self, node: u64, side: Option<Side>, time: Option<&Number>) -> Result<Vec<f32>, RequestError> {
        let side = match (side, self.names.bipartite()) {
            (Some(side), _) => side,
            (None, false) => Side::Source,
            (None, true) => return Err(RequestError::invalid("side", "is missing: say `source` or `destination`")),
        };
        self.spaces.with(|Workspace { told, pass, .. }| {
            let features = self.show(&[], told)?;
            let node = self.find(side, node, Place::field("node"))?;
            let time = self.read_time(time, told, Place::field("time"))?;
            pass.queries = Queries::of_nodes(&[node], time);
            self.forward(told, &features, pass);
            finite(pass.embedding())?;
            Ok(pass.embedding().to_vec())
        })
    }

    /// Answers what `pass` asks, in sight of the events `told`.
    fn forward(&self, told: &Incoming, features: &ShownFeatures, pass: &mut Pass) {
        self.history.view_into(&pass.queries, Some(&told.whole()), sampling(), &mut pass.view);
        if let Some(features) = features {
            pass.view.edge_features = Some(features.clone());
        }
        self.model.forward(pass);
    }

    /// Puts `events`, which have not been observed, where a read sees them.
    fn show(&self, events: &[NewEvent], told: &mut Incoming) -> Result<ShownFeatures, RequestError> {
        let first = self.history.seen();
        told.clear(first);
        self.rules().check("during", events, &mut told.time)?;
        for (i, event) in events.iter().enumerate() {
            told.src.push(self.find(Side::Source, event.src, Place::of("during", i, "src"))?);
            told.dst.push(self.find(Side::Destination, event.dst, Place::of("during", i, "dst"))?);
            told.label.push(event.label);
        }
        let Some(stored) = self.edges.as_ref().filter(|_| !events.is_empty()) else { return Ok(None) };
        let rows = events.iter().flat_map(|event| event.features.as_deref().unwrap_or_default()).copied().collect();
        let brought = Table::new(rows, stored.width()).unwrap_or_else(|error| unreachable!("widths are checked: {error}"));
        Ok(Some(Arc::new(Shown { stored: stored.clone(), first, brought })))
    }

    fn candidates(&self, ids: Option<&[u64]>) -> Result<Vec<NodeId>, RequestError> {
        match ids {
            Some(ids) if ids.len() > MOST => Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() }),
            Some(ids) => ids.iter().enumerate().map(|(i, &id)| self.find(Side::Destination, id, Place::of("candidates", i, ""))).collect(),
            None => Ok(self.names.destinations().to_vec()),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { unit: &self.manifest.time_unit, edge_width: self.manifest.widths.edge, newest: self.history.newest() }
    }

    fn find(&self, side: Side, id: u64, place: Place<'_>) -> Result<NodeId, RequestError> {
        let unknown = || RequestError::UnknownNode { place: place.to_string(), what: self.names.what(side), id };
        self.names.find(side, id).ok_or_else(unknown)
    }

    /// The time a read is for: as asked, or one tick after the newest event.
    fn read_time(&self, asked: Option<&Number>, told: &Incoming, place: Place<'_>) -> Result<Timestamp, RequestError> {
        let newest = self.history.newest();
        if let Some(asked) = asked {
            let time = ticks(&self.manifest.time_unit, asked, place)?;
            not_before(&self.manifest.time_unit, newest, time, place)?;
            return Ok(time);
        }
        let shown = told.time.last().copied().or(newest);
        let shown = shown.ok_or_else(|| RequestError::invalid(place, "is missing, and there is no event yet to be just after"))?;
        Ok(Timestamp(shown.0.saturating_add(1)))
    }
}

/// Uniform neighbours are drawn as evaluation draws them: the same way every time.
fn sampling() -> tempograph_framework::PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}

fn finite(values: &[f32]) -> Result<(), RequestError> {
    if values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RequestError::NotFinite) }
}
