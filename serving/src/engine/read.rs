//! Reads: the view is copied at one position, and the answer is computed from the copy.

use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Batch, Lookup, NodeId, Pair, Side, Table, Timestamp};
use tempograph_kernels::Rows;

use crate::artifact::features::FeaturesWithDuring;
use crate::engine::snapshot_read::SnapshotRead;
use crate::engine::state::State;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::{A_PASS, ViewBuffers, Workspace};
use crate::engine::{Engine, Pace, Part, position, sampling};
use crate::request::id::ExternalId;
use crate::request::incoming::Incoming;
use crate::request::{AtPosition, FieldPath, MAX_ITEMS, NewEvent, PairQuery, Position, RequestError};

/// Features of the observed events and of the events in `during`, where there are any.
pub(super) type DuringFeatures = Option<Arc<dyn Rows>>;

/// Pairs that are scored in parts.
struct ScoreInParts<'a> {
    long: &'a SnapshotRead<'a>,
    features: &'a DuringFeatures,
    cacheable: bool,
    /// Most pairs of the first part.
    chunk: usize,
}

impl Engine {
    /// Logits of pairs. `during` are events that have not been observed. A model with exact lookups sees those that are
    /// strictly before a query's time as neighbours. Training shows a query its own batch in the same way.
    ///
    /// # Errors
    /// [`RequestError`] naming the first invalid query or event, and the reason.
    pub fn score(&self, queries: &[PairQuery], during: &[NewEvent]) -> Result<AtPosition<Vec<f32>>, RequestError> {
        let mut answer = Vec::with_capacity(queries.len());
        let position = self.score_into(queries, during, &mut answer)?;
        Ok(AtPosition { answer, position })
    }

    /// As [`score`](Engine::score), written over `scores`. Their content is undefined after an error.
    ///
    /// # Errors
    /// As [`score`](Engine::score).
    pub fn score_into(
        &self,
        queries: &[PairQuery],
        during: &[NewEvent],
        scores: &mut Vec<f32>,
    ) -> Result<Position, RequestError> {
        self.score_in_chunks(queries, during, scores, &mut |_| Ok(A_PASS))
    }

    /// As [`score_into`](Engine::score_into), in chunks. Before each of them `pace` says how many pairs it may have.
    ///
    /// # Errors
    /// As [`score`](Engine::score), and the error with which `pace` ends the work.
    pub(crate) fn score_in_chunks(
        &self,
        queries: &[PairQuery],
        during: &[NewEvent],
        scores: &mut Vec<f32>,
        pace: Pace<'_>,
    ) -> Result<Position, RequestError> {
        scores.clear();
        let chunk = pace(0.0)?.clamp(1, A_PASS);
        self.spaces.with(|space| {
            let (features, long, position) = {
                let state = &*self.state()?;
                let features = self.read_pairs(state, space, queries, during)?;
                let first = first_pass(&space.pairs, state.history.newest(), chunk);
                let long = (first < space.pairs.len()).then(|| self.begin_snapshot_read(state));
                if long.is_none() {
                    self.view_pairs(state, &features, during.is_empty(), space);
                }
                (features, long, position(&state.history))
            };
            match long {
                None => self.score_viewed(space, scores)?,
                Some(long) => {
                    let parts = ScoreInParts { long: &long, features: &features, cacheable: during.is_empty(), chunk };
                    self.score_in_parts(&parts, space, scores, pace)?
                }
            }
            self.finite(scores)?;
            Ok(position)
        })
    }

    /// Scores the queried pairs, part by part.
    fn score_in_parts(
        &self,
        parts: &ScoreInParts<'_>,
        space: &mut Workspace,
        scores: &mut Vec<f32>,
        pace: Pace<'_>,
    ) -> Result<(), RequestError> {
        let &ScoreInParts { long, features, cacheable, mut chunk } = parts;
        let all = std::mem::take(&mut space.pairs);
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (part, later) = rest.split_at(first_pass(rest, long.newest, chunk));
            space.pairs.clear();
            space.pairs.extend_from_slice(part);
            self.view_pairs_snapshot(long, features, cacheable, space)?;
            self.score_viewed(space, scores)?;
            rest = later;
            if !rest.is_empty() {
                chunk = pace(1.0 - rest.len() as f64 / all.len() as f64)?.clamp(1, A_PASS);
            }
        }
        Ok(())
    }

    /// Finds the nodes of the queried pairs.
    fn read_pairs(
        &self,
        state: &State,
        Workspace { incoming, pairs, .. }: &mut Workspace,
        queries: &[PairQuery],
        during: &[NewEvent],
    ) -> Result<DuringFeatures, RequestError> {
        if queries.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: "queries".into(), count: queries.len() });
        }
        if !during.is_empty() && state.history.needs().lookup == Lookup::Ordered {
            // A query has no event id to order it among `during`, so it would see the very event that it is about.
            return Err(RequestError::invalid("during", "cannot be told to a model with `history = \"ordered\"`"));
        }
        let features = self.stage_during(state, during, incoming)?;
        pairs.clear();
        for (i, query) in queries.iter().enumerate() {
            let place = |field| FieldPath::of("queries", i, field);
            let src = state.find(Side::Source, &query.src, place("src"))?;
            let dst = state.find(Side::Destination, &query.dst, place("dst"))?;
            pairs.push((src, dst, state.read_time(&self.manifest, query.time.as_ref(), incoming, place("time"))?));
        }
        Ok(features)
    }

    /// Copies the view of the queried pairs: embeddings, where they can be cached and all pairs have one time.
    pub(super) fn view_pairs(&self, state: &State, features: &DuringFeatures, cacheable: bool, space: &mut Workspace) {
        let time = self.query_pairs(cacheable, space);
        let Workspace { incoming, buffers, .. } = space;
        match time {
            Some(time) => self.gather(state, time, buffers),
            None => copy_view(state, Some(&incoming.whole()), features, &mut buffers.pass),
        }
        self.counts.shown(buffers.pass.queries.len());
    }

    /// The same, as of the beginning of a read in parts.
    pub(super) fn view_pairs_snapshot(
        &self,
        long: &SnapshotRead<'_>,
        features: &DuringFeatures,
        cacheable: bool,
        space: &mut Workspace,
    ) -> Result<(), RequestError> {
        let time = self.query_pairs(cacheable, space);
        let Workspace { incoming, buffers, .. } = space;
        match time {
            Some(time) => self.gather_snapshot(long, time, buffers),
            None => long.copy_view(Some(&incoming.whole()), features, &mut buffers.pass),
        }
    }

    /// Adds the queried pairs to the batch of embeddings and returns its time, or adds them to a pass.
    fn query_pairs(
        &self,
        cacheable: bool,
        Workspace { pairs, buffers, embedded, .. }: &mut Workspace,
    ) -> Option<Timestamp> {
        let moment =
            pairs.first().map(|&(_, _, time)| time).filter(|&first| pairs.iter().all(|&(_, _, time)| time == first));
        let time = moment.filter(|_| cacheable && self.cache.is_some());
        *embedded = time.is_some();
        let ViewBuffers { gathered, pass } = buffers;
        gathered.clear();
        pass.queries.clear();
        for &(src, dst, time) in &*pairs {
            if *embedded {
                let pair =
                    Pair { src: gathered.request(src, Part::Source), dst: gathered.request(dst, Part::Destination) };
                gathered.pairs.push(pair);
            } else {
                pass.queries.push_pair(src, dst, time);
            }
        }
        time
    }

    /// Adds the scores of the viewed pairs to `scores`.
    pub(super) fn score_viewed(&self, space: &mut Workspace, scores: &mut Vec<f32>) -> Result<(), RequestError> {
        let Workspace { buffers, embedded, pairs, .. } = space;
        if pairs.is_empty() {
            return Ok(());
        }
        if *embedded {
            self.counts.embeddings(buffers.gathered.requested(), buffers.gathered.missing());
            self.embed_missing(buffers)?;
            let ViewBuffers { gathered, pass } = buffers;
            self.model.score_ends(gathered.rows(), &gathered.pairs, &mut pass.work);
        } else {
            buffers.pass.forward(&self.model);
            self.keep_memories(&buffers.pass)?;
        }
        scores.extend_from_slice(buffers.pass.scores());
        Ok(())
    }

    /// The embedding of a node, `[O]`.
    ///
    /// # Errors
    /// [`RequestError`] naming the invalid field and the reason.
    pub fn embedding(
        &self,
        node: &ExternalId,
        side: Option<Side>,
        time: Option<&Number>,
    ) -> Result<AtPosition<Vec<f32>>, RequestError> {
        self.spaces.with(|Workspace { incoming, buffers, .. }| {
            let position = {
                let state = &*self.state()?;
                let side = state.side_of(side)?;
                let features = self.stage_during(state, &[], incoming)?;
                let node = state.find(side, node, FieldPath::field("node"))?;
                let time = state.read_time(&self.manifest, time, incoming, FieldPath::field("time"))?;
                if self.cache.is_some() {
                    buffers.gathered.clear();
                    buffers.gathered.request(node, Part::Whole);
                    self.gather(state, time, buffers);
                } else {
                    buffers.pass.queries.clear();
                    buffers.pass.queries.push_node(node, time);
                    copy_view(state, Some(&incoming.whole()), &features, &mut buffers.pass);
                }
                position(&state.history)
            };
            let answer = if self.cache.is_some() {
                self.counts.embeddings(1, buffers.gathered.missing());
                self.embed_missing(buffers)?;
                buffers.gathered.rows().row(0).to_vec()
            } else {
                buffers.pass.forward(&self.model);
                self.keep_memories(&buffers.pass)?;
                buffers.pass.embedding().to_vec()
            };
            self.finite(&answer)?;
            Ok(AtPosition { answer, position })
        })
    }

    /// Stages `events`, which have not been observed, so that a read sees them.
    pub(super) fn stage_during(
        &self,
        state: &State,
        events: &[NewEvent],
        incoming: &mut Incoming,
    ) -> Result<DuringFeatures, RequestError> {
        let first = state.history.seen();
        incoming.clear(first);
        state.rules(&self.manifest, true).validate("during", events, &mut incoming.time)?;
        for (i, event) in events.iter().enumerate() {
            incoming.src.push(state.find(Side::Source, &event.src, FieldPath::of("during", i, "src"))?);
            incoming.dst.push(state.find(Side::Destination, &event.dst, FieldPath::of("during", i, "dst"))?);
            incoming.label.push(event.label);
        }
        let Some(stored) = self.edge_store().filter(|_| !events.is_empty()) else { return Ok(None) };
        let rows = events.iter().flat_map(|event| event.features.as_deref().unwrap_or_default()).copied().collect();
        let brought =
            Table::new(rows, stored.width()).unwrap_or_else(|error| unreachable!("widths are checked: {error}"));
        Ok(Some(Arc::new(FeaturesWithDuring { stored, first, brought })))
    }
}

/// Copies the view of `pass`, with the events of `during`.
pub(super) fn copy_view(state: &State, during: Option<&Batch<'_>>, features: &DuringFeatures, pass: &mut Pass) {
    state.history.view_into(&pass.queries, during, sampling(), &mut pass.view);
    if let Some(features) = features {
        pass.view.edge_features = Some(features.clone());
    }
}

/// Number of the first pairs that one pass answers: at most `most`, and all at the time of the `newest` event or all after
/// it, since a pass shows each memory once.
fn first_pass(pairs: &[(NodeId, NodeId, Timestamp)], newest: Option<Timestamp>, most: usize) -> usize {
    let is_after = |time: Timestamp| newest.is_none_or(|newest| time > newest);
    let Some(first) = pairs.first().map(|first| is_after(first.2)) else { return 0 };
    pairs.iter().take(most).take_while(|pair| is_after(pair.2) == first).count()
}

impl Engine {
    /// Refuses and counts an answer that is not finite.
    pub(super) fn finite(&self, values: &[f32]) -> Result<(), RequestError> {
        if values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        self.counts.not_finite();
        Err(RequestError::NotFinite)
    }
}
