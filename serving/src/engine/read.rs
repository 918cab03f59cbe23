//! Answering from the past: everything is copied at one position, and computed from the copy.

use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Lookup, NodeId, Queries, Side, Table};
use tempograph_kernels::Rows;

use super::state::State;
use super::{Engine, position, sampling};
use crate::features::Shown;
use crate::incoming::Incoming;
use crate::model::Pass;
use crate::request::{Answered, MOST, NewEvent, PairQuery, Place, Position, RankQuery, Ranked, RequestError, probability};
use crate::workspace::Workspace;

/// Pairs scored in one forward pass: bounds the memory a request takes. A score does not depend on what is scored beside it.
const PAIRS_A_PASS: usize = 4096;

/// Features of the stored events and of those a read brings, where it brings any.
type ShownFeatures = Option<Arc<dyn Rows>>;

impl Engine {
    /// Logits of pairs. `during` are events that have not been observed, which a model with exact lookups sees as neighbours where
    /// they are strictly before a query's time: what training shows a query of its own batch.
    ///
    /// # Errors
    /// [`RequestError`] naming the first query or event that will not do, and why.
    pub fn score(&self, queries: &[PairQuery], during: &[NewEvent]) -> Result<Answered<Vec<f32>>, RequestError> {
        let mut answer = Vec::with_capacity(queries.len());
        let position = self.score_into(queries, during, &mut answer)?;
        Ok(Answered { answer, position })
    }

    /// As [`score`](Engine::score), written over `scores`, which holds nothing of use after an error.
    ///
    /// # Errors
    /// As [`score`](Engine::score).
    pub fn score_into(&self, queries: &[PairQuery], during: &[NewEvent], scores: &mut Vec<f32>) -> Result<Position, RequestError> {
        scores.clear();
        self.spaces.with(|space| {
            let position = self.look_at_pairs(space, queries, during)?;
            self.score_shown(space, PAIRS_A_PASS, scores, &mut |_| ())?;
            Ok(position)
        })
    }

    /// Copies what pairs are shown of the past.
    fn look_at_pairs(&self, space: &mut Workspace, queries: &[PairQuery], during: &[NewEvent]) -> Result<Position, RequestError> {
        let Workspace { told, asked, .. } = space;
        if queries.len() > MOST {
            return Err(RequestError::TooMany { place: "queries".into(), count: queries.len() });
        }
        let state = &*self.state()?;
        if !during.is_empty() && state.history.needs().lookup == Lookup::Ordered {
            // A query has no place among them, so it would see the very event it asks about.
            return Err(RequestError::invalid("during", "cannot be told to a model with `history = \"ordered\"`"));
        }
        let features = self.show(state, during, told)?;
        asked.clear();
        for (i, query) in queries.iter().enumerate() {
            let place = |field| Place::of("queries", i, field);
            let src = state.find(Side::Source, query.src, place("src"))?;
            let dst = state.find(Side::Destination, query.dst, place("dst"))?;
            asked.push((src, dst, state.read_time(&self.manifest, query.time.as_ref(), told, place("time"))?));
        }
        let Workspace { told, asked, pass, more, .. } = space;
        more.resize_with(asked.len().div_ceil(PAIRS_A_PASS).saturating_sub(1), Pass::default);
        for (part, pass) in asked.chunks(PAIRS_A_PASS).zip(std::iter::once(pass).chain(more)) {
            pass.queries.clear();
            part.iter().for_each(|&(src, dst, time)| pass.queries.push_pair(src, dst, time));
            look(state, told, &features, pass);
        }
        Ok(position(&state.history))
    }

    /// Scores the pairs of all parts; `after` each but the last it is said how many pairs were in it.
    fn score_shown(
        &self,
        Workspace { asked, pass, more, .. }: &mut Workspace,
        part: usize,
        scores: &mut Vec<f32>,
        after: &mut dyn FnMut(usize),
    ) -> Result<(), RequestError> {
        for (pairs, pass) in asked.chunks(part).zip(std::iter::once(pass).chain(more.iter_mut())) {
            self.model.forward(pass);
            scores.extend_from_slice(pass.scores());
            if scores.len() < asked.len() {
                after(pairs.len());
            }
        }
        // What a rare large request took is not kept.
        more.clear();
        finite(scores)
    }

    /// The best candidates, best first; of equals the one named first.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn rank(&self, query: &RankQuery) -> Result<Answered<Vec<Ranked>>, RequestError> {
        self.rank_in_parts(query, PAIRS_A_PASS, &mut |_| ())
    }

    /// As [`rank`](Engine::rank), so many candidates at a time. Between two parts `after` may do something else: it is told the size of
    /// the part before. The answer is of one position all the same.
    pub(crate) fn rank_in_parts(
        &self,
        query: &RankQuery,
        part: usize,
        after: &mut dyn FnMut(usize),
    ) -> Result<Answered<Vec<Ranked>>, RequestError> {
        let part = part.clamp(1, PAIRS_A_PASS);
        if query.k == 0 {
            return Err(RequestError::invalid("k", "is 0; it must be at least 1"));
        }
        self.spaces.with(|space| {
            let (candidates, position) = self.look_at_candidates(space, query, part)?;
            let mut scores = Vec::with_capacity(candidates.len());
            self.score_shown(space, part, &mut scores, after)?;
            let mut ranked: Vec<_> = candidates.into_iter().zip(scores).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            let told = ranked.into_iter().take(query.k);
            let answer = told.map(|(dst, score)| Ranked { dst, score, probability: probability(score) }).collect();
            Ok(Answered { answer, position })
        })
    }

    /// Copies what a source and its candidates are shown of the past. The candidates' own ids come back.
    fn look_at_candidates(&self, space: &mut Workspace, query: &RankQuery, part: usize) -> Result<(Vec<u64>, Position), RequestError> {
        let Workspace { told, asked, pass, more, .. } = space;
        let state = &*self.state()?;
        let features = self.show(state, &[], told)?;
        let src = state.find(Side::Source, query.src, Place::field("src"))?;
        let time = state.read_time(&self.manifest, query.time.as_ref(), told, Place::field("time"))?;
        asked.clear();
        let ids = match query.candidates.as_deref() {
            Some(ids) if ids.len() > MOST => return Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() }),
            Some(ids) => {
                for (i, &id) in ids.iter().enumerate() {
                    asked.push((src, state.find(Side::Destination, id, Place::of("candidates", i, ""))?, time));
                }
                ids.to_vec()
            }
            None => {
                asked.extend(state.names.destinations().iter().map(|&node| (src, node, time)));
                state.names.destinations().iter().map(|&node| state.names.own(node)).collect()
            }
        };
        more.resize_with(asked.len().div_ceil(part).saturating_sub(1), Pass::default);
        for (part, pass) in asked.chunks(part).zip(std::iter::once(pass).chain(more)) {
            let part: Vec<NodeId> = part.iter().map(|&(_, node, _)| node).collect();
            pass.queries = Queries::of_candidates(src, &part, time);
            look(state, told, &features, pass);
        }
        Ok((ids, position(&state.history)))
    }

    /// The embedding of a node, `[O]`.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn embedding(&self, node: u64, side: Option<Side>, time: Option<&Number>) -> Result<Answered<Vec<f32>>, RequestError> {
        self.spaces.with(|Workspace { told, pass, .. }| {
            let position = {
                let state = &*self.state()?;
                let side = side_of(state, side)?;
                let features = self.show(state, &[], told)?;
                let node = state.find(side, node, Place::field("node"))?;
                let time = state.read_time(&self.manifest, time, told, Place::field("time"))?;
                pass.queries = Queries::of_nodes(&[node], time);
                look(state, told, &features, pass);
                position(&state.history)
            };
            self.model.forward(pass);
            finite(pass.embedding())?;
            Ok(Answered { answer: pass.embedding().to_vec(), position })
        })
    }

    /// Puts `events`, which have not been observed, where a read sees them.
    fn show(&self, state: &State, events: &[NewEvent], told: &mut Incoming) -> Result<ShownFeatures, RequestError> {
        let first = state.history.seen();
        told.clear(first);
        state.rules(&self.manifest).check("during", events, &mut told.time)?;
        for (i, event) in events.iter().enumerate() {
            told.src.push(state.find(Side::Source, event.src, Place::of("during", i, "src"))?);
            told.dst.push(state.find(Side::Destination, event.dst, Place::of("during", i, "dst"))?);
            told.label.push(event.label);
        }
        let Some(stored) = self.edges.as_ref().filter(|_| !events.is_empty()) else { return Ok(None) };
        let rows = events.iter().flat_map(|event| event.features.as_deref().unwrap_or_default()).copied().collect();
        let brought = Table::new(rows, stored.width()).unwrap_or_else(|error| unreachable!("widths are checked: {error}"));
        Ok(Some(Arc::new(Shown { stored: stored.clone(), first, brought })))
    }
}

/// Copies what `pass` asks about, in sight of the events `told`.
fn look(state: &State, told: &Incoming, features: &ShownFeatures, pass: &mut Pass) {
    state.history.view_into(&pass.queries, Some(&told.whole()), sampling(), &mut pass.view);
    if let Some(features) = features {
        pass.view.edge_features = Some(features.clone());
    }
}

/// The side a node is looked for on.
fn side_of(state: &State, asked: Option<Side>) -> Result<Side, RequestError> {
    match (asked, state.names.bipartite()) {
        (Some(side), _) => Ok(side),
        (None, false) => Ok(Side::Source),
        (None, true) => Err(RequestError::invalid("side", "is missing: say `source` or `destination`")),
    }
}

fn finite(values: &[f32]) -> Result<(), RequestError> {
    if values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RequestError::NotFinite) }
}
