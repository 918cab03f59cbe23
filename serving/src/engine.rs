//! A model and its history, asked and told in the user's own ids and times.

use std::path::Path;
use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Batch, Draw, Forward, History, Lookup, Model, NodeId, Purpose, Queries, Side, Table, Timestamp, values};
use tempograph_kernels::Rows;
use tempograph_kernels::tensor::Cpu;
use tempograph_models::Tgn;

use crate::features::{EdgeStore, Shown};
use crate::incoming::{Incoming, Rules, not_before};
use crate::manifest::{ArtifactError, Manifest};
use crate::names::Names;
use crate::open::{Opened, open};
use crate::request::{Granularity, MOST, NewEvent, PairQuery, Position, RankQuery, Ranked, RequestError, probability, ticks};

/// Pairs scored in one forward pass: bounds the memory a request takes. A score does not depend on what is scored beside it.
const PAIRS_A_PASS: usize = 4096;

/// A TGN with what it has seen so far.
///
/// Reads and writes go the way training goes: [`History::view`], [`Model::forward`] or [`Model::advance`], [`History::observe`].
///
/// - A read at time `t` sees neighbours strictly before `t` and the memories of now. Since those hold every event observed, a read
///   before the newest event is refused; a read at its very time sees it in the memories, as a training batch does that cuts a tick.
/// - Events come in order of time; a late one is refused, and with it its whole request.
/// - An id that is new becomes a new node when an event names it. A read that names it before is an error.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    model: Tgn<Cpu>,
    history: History,
    names: Names,
    edges: Option<Arc<EdgeStore>>,
}

/// Events that a read may see though they have not been observed.
struct During {
    events: Incoming,
    features: Option<Arc<dyn Rows>>,
}

impl Engine {
    /// Opens an artifact, checking every byte.
    ///
    /// # Errors
    /// [`ArtifactError`] naming the file and what is wrong with it.
    pub fn open(dir: &Path) -> Result<Engine, ArtifactError> {
        let Opened { manifest, model, history, names, edges } = open(dir)?;
        Ok(Engine { manifest, model, history, names, edges })
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
        let times = self.rules().check("events", events)?;
        if u32::try_from(self.names.len() + 2 * events.len()).is_err() {
            return Err(RequestError::invalid("events", "would need more nodes than can be numbered"));
        }
        // Nothing can be refused from here on.
        let incoming = self.adopt(events, times);
        match granularity {
            Granularity::Batch if events.is_empty() => {}
            Granularity::Batch => self.apply(&incoming.whole()),
            Granularity::Event => (0..events.len()).for_each(|i| self.apply(&incoming.batch(i..i + 1))),
        }
        Ok(())
    }

    /// Makes room for the nodes of checked events and stores their features.
    fn adopt(&mut self, events: &[NewEvent], time: Vec<Timestamp>) -> Incoming {
        let first = self.history.seen();
        let mut incoming = Incoming { first, time, ..Incoming::default() };
        for (i, event) in events.iter().enumerate() {
            incoming.src.push(self.names.find_or_add(Side::Source, event.src));
            let dst = self.names.find_or_add(Side::Destination, event.dst);
            self.names.act_on(dst);
            incoming.dst.push(dst);
            incoming.label.push(event.label);
            if let (Some(edges), Some(row)) = (&self.edges, &event.features) {
                edges.append(first + i as u64, row);
            }
        }
        self.history.grow(self.names.len());
        incoming
    }

    fn apply(&mut self, batch: &Batch<'_>) {
        let view = self.history.view(&Queries::none(), Some(batch), sampling());
        let update = self.model.advance(&view);
        self.history.observe(batch, &update).unwrap_or_else(|error| unreachable!("events are checked before they happen: {error}"));
    }

    /// Logits of pairs. `during` are events that have not been observed, which a model with exact lookups sees as neighbours where
    /// they are strictly before a query's time: what training shows a query of its own batch.
    ///
    /// # Errors
    /// [`RequestError`] naming the first query or event that will not do, and why.
    pub fn score(&self, queries: &[PairQuery], during: &[NewEvent]) -> Result<Vec<f32>, RequestError> {
        if queries.len() > MOST {
            return Err(RequestError::TooMany { place: "queries".into(), count: queries.len() });
        }
        if !during.is_empty() && self.history.needs().lookup == Lookup::Ordered {
            // A query has no place among them, so it would see the very event it asks about.
            return Err(RequestError::invalid("during", "cannot be told to a model with `history = \"ordered\"`"));
        }
        let during = self.during(during)?;
        let asked = queries.iter().enumerate().map(|(i, query)| {
            let place = |field: &str| format!("queries[{i}].{field}");
            let src = self.find(Side::Source, query.src, &place("src"))?;
            let dst = self.find(Side::Destination, query.dst, &place("dst"))?;
            Ok((src, dst, self.read_time(query.time.as_ref(), &during, &place("time"))?))
        });
        let asked: Vec<_> = asked.collect::<Result<_, _>>()?;
        let mut scores = Vec::with_capacity(asked.len());
        for part in asked.chunks(PAIRS_A_PASS) {
            let mut queries = Queries::none();
            part.iter().for_each(|&(src, dst, time)| queries.push_pair(src, dst, time));
            scores.extend(values(self.forward(&queries, &during).scores));
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
        let none = self.during(&[])?;
        let src = self.find(Side::Source, query.src, "src")?;
        let time = self.read_time(query.time.as_ref(), &none, "time")?;
        let candidates = self.candidates(query.candidates.as_deref())?;
        let mut scores = Vec::with_capacity(candidates.len());
        for part in candidates.chunks(PAIRS_A_PASS) {
            scores.extend(values(self.forward(&Queries::of_candidates(src, part, time), &none).scores));
        }
        let mut ranked: Vec<_> = candidates.iter().zip(finite(scores)?).collect();
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
        let none = self.during(&[])?;
        let node = self.find(side, node, "node")?;
        let time = self.read_time(time, &none, "time")?;
        let forward = self.forward(&Queries::of_nodes(&[node], time), &none);
        finite(forward.embeddings.map(values).unwrap_or_default())
    }

    fn forward(&self, queries: &Queries, during: &During) -> Forward<Cpu> {
        let batch = during.events.whole();
        let mut view = self.history.view(queries, Some(&batch), sampling());
        if let Some(features) = &during.features {
            view.edge_features = Some(features.clone());
        }
        self.model.forward(queries, &view, None)
    }

    fn during(&self, events: &[NewEvent]) -> Result<During, RequestError> {
        let first = self.history.seen();
        let mut incoming = Incoming { first, time: self.rules().check("during", events)?, ..Incoming::default() };
        let mut rows = Vec::new();
        for (i, event) in events.iter().enumerate() {
            incoming.src.push(self.find(Side::Source, event.src, &format!("during[{i}].src"))?);
            incoming.dst.push(self.find(Side::Destination, event.dst, &format!("during[{i}].dst"))?);
            incoming.label.push(event.label);
            rows.extend_from_slice(event.features.as_deref().unwrap_or_default());
        }
        let features = match &self.edges {
            Some(stored) if !events.is_empty() => {
                let brought = Table::new(rows, stored.width()).unwrap_or_else(|error| unreachable!("widths are checked: {error}"));
                Some(Arc::new(Shown { stored: stored.clone(), first, brought }) as Arc<dyn Rows>)
            }
            _ => None,
        };
        Ok(During { events: incoming, features })
    }

    fn candidates(&self, ids: Option<&[u64]>) -> Result<Vec<NodeId>, RequestError> {
        match ids {
            Some(ids) if ids.len() > MOST => Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() }),
            Some(ids) => ids.iter().enumerate().map(|(i, &id)| self.find(Side::Destination, id, &format!("candidates[{i}]"))).collect(),
            None => Ok(self.names.destinations().to_vec()),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { unit: &self.manifest.time_unit, edge_width: self.manifest.widths.edge, newest: self.history.newest() }
    }

    fn find(&self, side: Side, id: u64, place: &str) -> Result<NodeId, RequestError> {
        let unknown = || RequestError::UnknownNode { place: place.into(), what: self.names.what(side), id };
        self.names.find(side, id).ok_or_else(unknown)
    }

    /// The time a read is for: as told, or one tick after the newest event.
    fn read_time(&self, told: Option<&Number>, during: &During, place: &str) -> Result<Timestamp, RequestError> {
        let newest = self.history.newest();
        if let Some(told) = told {
            let time = ticks(&self.manifest.time_unit, told, place)?;
            not_before(&self.manifest.time_unit, newest, time, place)?;
            return Ok(time);
        }
        let shown = during.events.time.last().copied().or(newest);
        let shown = shown.ok_or_else(|| RequestError::invalid(place, "is missing, and there is no event yet to be just after"))?;
        Ok(Timestamp(shown.0.saturating_add(1)))
    }
}

/// Uniform neighbours are drawn as evaluation draws them: the same way every time.
fn sampling() -> tempograph_framework::PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}

fn finite(values: Vec<f32>) -> Result<Vec<f32>, RequestError> {
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(RequestError::NotFinite) }
}
