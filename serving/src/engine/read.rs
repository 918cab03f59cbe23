//! Answering from the past: everything is copied at one position, and computed from the copy.

use std::sync::Arc;

use serde_json::Number;
use tempograph_framework::{Batch, Lookup, Pair, Side, Table, Timestamp};
use tempograph_kernels::Rows;

use crate::artifact::features::Shown;
use crate::engine::snapshot_read::LongRead;
use crate::engine::state::State;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::{A_PASS, Sight, Workspace};
use crate::engine::{Engine, Part, position, sampling};
use crate::request::incoming::Incoming;
use crate::request::{Answered, MOST, NewEvent, PairQuery, Place, Position, RequestError};

/// Features of the stored events and of those a read brings, where it brings any.
pub(super) type ShownFeatures = Option<Arc<dyn Rows>>;

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
    pub fn score_into(
        &self,
        queries: &[PairQuery],
        during: &[NewEvent],
        scores: &mut Vec<f32>,
    ) -> Result<Position, RequestError> {
        scores.clear();
        self.spaces.with(|space| {
            let (features, long, position) = {
                let state = &*self.state()?;
                let features = self.read_pairs(state, space, queries, during)?;
                let long = (queries.len() > A_PASS).then(|| self.read_in_parts(state));
                if long.is_none() {
                    self.look_at_pairs(state, &features, during.is_empty(), space);
                }
                (features, long, position(&state.history))
            };
            match long {
                None => self.score_shown(space, scores)?,
                Some(long) => self.score_in_parts(&long, &features, during.is_empty(), space, scores)?,
            }
            finite(scores)?;
            Ok(position)
        })
    }

    /// Scores the pairs asked about, part by part.
    fn score_in_parts(
        &self,
        long: &LongRead<'_>,
        features: &ShownFeatures,
        may_be_kept: bool,
        space: &mut Workspace,
        scores: &mut Vec<f32>,
    ) -> Result<(), RequestError> {
        let all = std::mem::take(&mut space.asked);
        for part in all.chunks(A_PASS) {
            space.asked.clear();
            space.asked.extend_from_slice(part);
            self.look_back_at_pairs(long, features, may_be_kept, space)?;
            self.score_shown(space, scores)?;
        }
        Ok(())
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
    pub(super) fn look_at_pairs(
        &self,
        state: &State,
        features: &ShownFeatures,
        may_be_kept: bool,
        space: &mut Workspace,
    ) {
        let time = self.ask_for_pairs(may_be_kept, space);
        let Workspace { told, sight, .. } = space;
        match time {
            Some(time) => self.gather(state, time, sight),
            None => look(state, Some(&told.whole()), features, &mut sight.pass),
        }
        self.counts.shown(sight.pass.queries.len());
    }

    /// The same, as it was when a read in parts began.
    pub(super) fn look_back_at_pairs(
        &self,
        long: &LongRead<'_>,
        features: &ShownFeatures,
        may_be_kept: bool,
        space: &mut Workspace,
    ) -> Result<(), RequestError> {
        let time = self.ask_for_pairs(may_be_kept, space);
        let Workspace { told, sight, .. } = space;
        match time {
            Some(time) => self.gather_back(long, time, sight),
            None => long.look(Some(&told.whole()), features, &mut sight.pass),
        }
    }

    /// Puts the pairs asked about where they are answered: among the embeddings that are gathered, whose time is returned, or in a pass.
    fn ask_for_pairs(
        &self,
        may_be_kept: bool,
        Workspace { asked, sight, embedded, .. }: &mut Workspace,
    ) -> Option<Timestamp> {
        let moment =
            asked.first().map(|&(_, _, time)| time).filter(|&first| asked.iter().all(|&(_, _, time)| time == first));
        let time = moment.filter(|_| may_be_kept && self.kept.is_some());
        *embedded = time.is_some();
        let Sight { gathered, pass } = sight;
        gathered.clear();
        pass.queries.clear();
        for &(src, dst, time) in &*asked {
            if *embedded {
                let pair = Pair { src: gathered.ask(src, Part::Source), dst: gathered.ask(dst, Part::Destination) };
                gathered.pairs.push(pair);
            } else {
                pass.queries.push_pair(src, dst, time);
            }
        }
        time
    }

    /// Adds the scores of what was looked at to `scores`.
    pub(super) fn score_shown(&self, space: &mut Workspace, scores: &mut Vec<f32>) -> Result<(), RequestError> {
        let Workspace { sight, embedded, asked, .. } = space;
        if asked.is_empty() {
            return Ok(());
        }
        if *embedded {
            self.counts.embeddings(sight.gathered.asked(), sight.gathered.missing());
            self.embed_missing(sight)?;
            let Sight { gathered, pass } = sight;
            self.model.score_ends(gathered.rows(), &gathered.pairs, &mut pass.work);
        } else {
            sight.pass.forward(&self.model);
            self.keep_memories(&sight.pass)?;
        }
        scores.extend_from_slice(sight.pass.scores());
        Ok(())
    }

    /// The embedding of a node, `[O]`.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn embedding(
        &self,
        node: u64,
        side: Option<Side>,
        time: Option<&Number>,
    ) -> Result<Answered<Vec<f32>>, RequestError> {
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
                } else {
                    sight.pass.queries.clear();
                    sight.pass.queries.push_node(node, time);
                    look(state, Some(&told.whole()), &features, &mut sight.pass);
                }
                position(&state.history)
            };
            let answer = if self.kept.is_some() {
                self.counts.embeddings(1, sight.gathered.missing());
                self.embed_missing(sight)?;
                sight.gathered.rows().row(0).to_vec()
            } else {
                sight.pass.forward(&self.model);
                self.keep_memories(&sight.pass)?;
                sight.pass.embedding().to_vec()
            };
            finite(&answer)?;
            Ok(Answered { answer, position })
        })
    }

    /// Puts `events`, which have not been observed, where a read sees them.
    pub(super) fn show(
        &self,
        state: &State,
        events: &[NewEvent],
        told: &mut Incoming,
    ) -> Result<ShownFeatures, RequestError> {
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
        let brought =
            Table::new(rows, stored.width()).unwrap_or_else(|error| unreachable!("widths are checked: {error}"));
        Ok(Some(Arc::new(Shown { stored: stored.clone(), first, brought })))
    }
}

/// Copies what `pass` asks about, in sight of the events of `during`.
pub(super) fn look(state: &State, during: Option<&Batch<'_>>, features: &ShownFeatures, pass: &mut Pass) {
    state.history.view_into(&pass.queries, during, sampling(), &mut pass.view);
    if let Some(features) = features {
        pass.view.edge_features = Some(features.clone());
    }
}

pub(super) fn finite(values: &[f32]) -> Result<(), RequestError> {
    if values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RequestError::NotFinite) }
}
