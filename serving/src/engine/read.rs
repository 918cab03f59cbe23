//! Answering from the past: everything is copied at one position, and computed from the copy.

use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Lookup, Pair, Side, Table};
use tempograph_kernels::Rows;

use super::state::State;
use super::{Engine, Part, position, sampling};
use crate::features::Shown;
use crate::incoming::Incoming;
use crate::model::Pass;
use crate::request::{Answered, MOST, NewEvent, PairQuery, Place, Position, RequestError};
use crate::workspace::{Sight, Workspace};

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
            let position = {
                let state = &*self.state()?;
                let features = self.read_pairs(state, space, queries, during)?;
                self.look_at_pairs(state, &features, during.is_empty(), space);
                position(&state.history)
            };
            self.score_shown(space, scores)?;
            finite(scores)?;
            Ok(position)
        })
    }

    /// Finds what pairs of nodes are asked about.
    fn read_pairs(
        &self,
        state: &State,
        Workspace { told, asked, .. }: &mut Workspace,
        queries: &[PairQuery],
        during: &[NewEvent],
    ) -> Result<ShownFeatures, RequestError> {
        if queries.len() > MOST {
            return Err(RequestError::TooMany { place: "queries".into(), count: queries.len() });
        }
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
        Ok(features)
    }

    /// Copies what the pairs asked about are shown of the past: embeddings, where these are kept and all is asked of one moment.
    pub(super) fn look_at_pairs(&self, state: &State, features: &ShownFeatures, may_be_kept: bool, space: &mut Workspace) {
        let Workspace { told, asked, sight, embedded, .. } = space;
        let moment = asked.first().map(|&(_, _, time)| time).filter(|&first| asked.iter().all(|&(_, _, time)| time == first));
        *embedded = may_be_kept && self.kept.is_some() && moment.is_some();
        if let (true, Some(time)) = (*embedded, moment) {
            let gathered = &mut sight.gathered;
            gathered.clear();
            for &(src, dst, _) in &*asked {
                let pair = Pair { src: gathered.ask(src, Part::Source), dst: gathered.ask(dst, Part::Destination) };
                gathered.pairs.push(pair);
            }
            self.gather(state, time, sight);
            return self.counts.embeddings(sight.gathered.asked(), sight.gathered.missing());
        }
        let parts = asked.chunks(sight.part);
        for (pass, part) in sight.passes(parts.len()).zip(parts) {
            pass.queries.clear();
            part.iter().for_each(|&(src, dst, time)| pass.queries.push_pair(src, dst, time));
            look(state, told, features, pass);
        }
    }

    /// Adds the scores of what was looked at to `scores`.
    pub(super) fn score_shown(&self, space: &mut Workspace, scores: &mut Vec<f32>) -> Result<(), RequestError> {
        self.score_in_parts(space, scores, &mut |_| ())
    }

    /// As [`score_shown`](Engine::score_shown). Between two passes, `between` is told which share of them is done.
    pub(super) fn score_in_parts(
        &self,
        space: &mut Workspace,
        scores: &mut Vec<f32>,
        between: &mut dyn FnMut(f64),
    ) -> Result<(), RequestError> {
        let Workspace { asked, sight, embedded, .. } = space;
        if *embedded {
            self.embed_in_parts(sight, between)?;
            let Sight { gathered, pass, .. } = sight;
            self.model.score_ends(gathered.rows(), &gathered.pairs, pass);
            scores.extend_from_slice(pass.scores());
            return Ok(());
        }
        for (_, pass) in asked.chunks(sight.part).zip(std::iter::once(&mut sight.pass).chain(&mut sight.more)) {
            self.model.forward(pass);
            self.keep_memories(pass)?;
            scores.extend_from_slice(pass.scores());
            if scores.len() < asked.len() {
                between(scores.len() as f64 / asked.len() as f64);
            }
        }
        // What a rare large request took is not kept.
        sight.more.clear();
        Ok(())
    }

    /// The embedding of a node, `[O]`.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn embedding(&self, node: u64, side: Option<Side>, time: Option<&Number>) -> Result<Answered<Vec<f32>>, RequestError> {
        self.spaces.with(|Workspace { told, sight, .. }| {
            let position = {
                let state = &*self.state()?;
                let side = state.side_of(side)?;
                let features = self.show(state, &[], told)?;
                let node = state.find(side, node, Place::field("node"))?;
                let time = state.read_time(&self.manifest, time, told, Place::field("time"))?;
                if self.kept.is_some() {
                    sight.gathered.clear();
                    sight.gathered.ask(node, Part::Whole);
                    self.gather(state, time, sight);
                    self.counts.embeddings(1, sight.gathered.missing());
                } else {
                    sight.pass.queries.clear();
                    sight.pass.queries.push_node(node, time);
                    look(state, told, &features, &mut sight.pass);
                }
                position(&state.history)
            };
            let answer = if self.kept.is_some() {
                self.embed_missing(sight)?;
                sight.gathered.rows().row(0).to_vec()
            } else {
                self.model.forward(&mut sight.pass);
                self.keep_memories(&sight.pass)?;
                sight.pass.embedding().to_vec()
            };
            finite(&answer)?;
            Ok(Answered { answer, position })
        })
    }

    /// Puts `events`, which have not been observed, where a read sees them.
    pub(super) fn show(&self, state: &State, events: &[NewEvent], told: &mut Incoming) -> Result<ShownFeatures, RequestError> {
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
pub(super) fn look(state: &State, told: &Incoming, features: &ShownFeatures, pass: &mut Pass) {
    state.history.view_into(&pass.queries, Some(&told.whole()), sampling(), &mut pass.view);
    if let Some(features) = features {
        pass.view.edge_features = Some(features.clone());
    }
}

pub(super) fn finite(values: &[f32]) -> Result<(), RequestError> {
    if values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RequestError::NotFinite) }
}
