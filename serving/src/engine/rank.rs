//! The best of many candidates.

use std::cmp::Ordering;

use serde_json::Number;
use tempograph_framework::{NodeId, Side, Timestamp};

use super::read::finite;
use super::state::State;
use super::{Engine, position};
use crate::request::{Answered, MOST, Place, Position, RankQuery, Ranked, RequestError, probability};
use crate::workspace::{A_PASS, Workspace};

impl Engine {
    /// The best candidates, best first; of equals the one named first.
    ///
    /// Where all destinations are asked about and these are more than one request may name, they are taken in parts, while events wait:
    /// all of the answer is as of one position.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn rank(&self, query: &RankQuery) -> Result<Answered<Vec<Ranked>>, RequestError> {
        self.rank_in_chunks(query, A_PASS, &mut |_| ())
    }

    /// As [`rank`](Engine::rank), at most so many candidates at a time. In between, `between` may do something else: it is told which share
    /// is done. The answer is as of one position all the same.
    ///
    /// # Errors
    /// As [`rank`](Engine::rank).
    pub(crate) fn rank_in_chunks(
        &self,
        query: &RankQuery,
        chunk: usize,
        between: &mut dyn FnMut(f64),
    ) -> Result<Answered<Vec<Ranked>>, RequestError> {
        if query.k == 0 {
            return Err(RequestError::invalid("k", "is 0; it must be at least 1"));
        }
        self.spaces.with(|space| {
            space.sight.part = chunk.clamp(1, A_PASS);
            let ranked = match self.rank_at_once(space, query, between) {
                Ok(None) => match self.turn.lock() {
                    Ok(_turn) => self.rank_in_parts(space, query),
                    Err(_) => Err(RequestError::Broken),
                },
                Ok(Some(answered)) => Ok(answered),
                Err(error) => Err(error),
            };
            space.sight.part = A_PASS;
            ranked
        })
    }

    /// The `k` best of all destinations so far, best first: [`rank`](Engine::rank) without candidates. `time` left out is just after the
    /// newest event.
    ///
    /// # Errors
    /// As [`rank`](Engine::rank).
    pub fn top_k(&self, src: u64, k: usize, time: Option<&Number>) -> Result<Answered<Vec<Ranked>>, RequestError> {
        self.rank(&RankQuery { src, candidates: None, time: time.cloned(), k })
    }

    /// Ranks candidates that are few enough to be looked at at once.
    fn rank_at_once(
        &self,
        space: &mut Workspace,
        query: &RankQuery,
        between: &mut dyn FnMut(f64),
    ) -> Result<Option<Answered<Vec<Ranked>>>, RequestError> {
        let (ids, position): (Vec<u64>, Position) = {
            let state = &*self.state()?;
            let (src, time) = self.read_rank(state, space, query)?;
            let ids = match query.candidates.as_deref() {
                Some(ids) if ids.len() > MOST => return Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() }),
                None if state.names.destinations().len() > MOST => return Ok(None),
                Some(ids) => {
                    for (i, &id) in ids.iter().enumerate() {
                        space.asked.push((src, state.find(Side::Destination, id, Place::of("candidates", i, ""))?, time));
                    }
                    ids.to_vec()
                }
                None => self.ask_destinations(state, space, 0, src, time),
            };
            self.look_at_pairs(state, &None, true, space);
            (ids, position(&state.history))
        };
        let mut best = Best::of(query.k);
        self.take_scores(space, &ids, &mut best, between)?;
        Ok(Some(Answered { answer: best.told(), position }))
    }

    /// Ranks all destinations, part by part, while nothing happens.
    fn rank_in_parts(&self, space: &mut Workspace, query: &RankQuery) -> Result<Answered<Vec<Ranked>>, RequestError> {
        let mut best = Best::of(query.k);
        let mut done = 0;
        loop {
            let (ids, position) = {
                let state = &*self.state()?;
                let (src, time) = self.read_rank(state, space, query)?;
                let ids = self.ask_destinations(state, space, done, src, time);
                self.look_at_pairs(state, &None, true, space);
                (ids, position(&state.history))
            };
            if ids.is_empty() {
                return Ok(Answered { answer: best.told(), position });
            }
            done += ids.len();
            self.take_scores(space, &ids, &mut best, &mut |_| ())?;
        }
    }

    fn read_rank(&self, state: &State, space: &mut Workspace, query: &RankQuery) -> Result<(NodeId, Timestamp), RequestError> {
        self.show(state, &[], &mut space.told)?;
        space.asked.clear();
        let src = state.find(Side::Source, query.src, Place::field("src"))?;
        Ok((src, state.read_time(&self.manifest, query.time.as_ref(), &space.told, Place::field("time"))?))
    }

    /// Asks about as many destinations as one request may name, from the `first` on. Their own ids come back.
    fn ask_destinations(&self, state: &State, space: &mut Workspace, first: usize, src: NodeId, time: Timestamp) -> Vec<u64> {
        let all = &state.names.destinations()[first..];
        let part = &all[..all.len().min(MOST)];
        space.asked.extend(part.iter().map(|&node| (src, node, time)));
        part.iter().map(|&node| state.names.own(node)).collect()
    }

    fn take_scores(&self, space: &mut Workspace, ids: &[u64], best: &mut Best, between: &mut dyn FnMut(f64)) -> Result<(), RequestError> {
        let mut scores = std::mem::take(&mut space.scores);
        scores.clear();
        self.score_in_parts(space, &mut scores, between)?;
        finite(&scores)?;
        best.take(ids, &scores);
        space.scores = scores;
        Ok(())
    }
}

/// The `k` best so far, found by selection: what is not among them is never sorted.
struct Best {
    k: usize,
    /// Score, place among all candidates, id.
    entries: Vec<(f32, usize, u64)>,
    seen: usize,
}

impl Best {
    fn of(k: usize) -> Best {
        Best { k, entries: Vec::new(), seen: 0 }
    }

    fn take(&mut self, ids: &[u64], scores: &[f32]) {
        let new = ids.iter().zip(scores).enumerate().map(|(i, (&id, &score))| (score, self.seen + i, id));
        self.entries.extend(new);
        self.seen += ids.len();
        if self.entries.len() > self.k {
            self.entries.select_nth_unstable_by(self.k - 1, better);
            self.entries.truncate(self.k);
        }
    }

    fn told(mut self) -> Vec<Ranked> {
        self.entries.sort_unstable_by(better);
        self.entries.into_iter().map(|(score, _, dst)| Ranked { dst, score, probability: probability(score) }).collect()
    }
}

/// The higher score first; of equals the one named first.
fn better(a: &(f32, usize, u64), b: &(f32, usize, u64)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_parts_are_the_best_of_all_sorted() {
        let scores: Vec<f32> = (0..97).map(|i| ((i * 37) % 11) as f32).collect();
        let ids: Vec<u64> = (0..97).map(|i| i * 3).collect();
        let mut all: Vec<usize> = (0..97).collect();
        all.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for (k, part) in [(1, 97), (5, 10), (40, 7), (97, 20), (200, 50)] {
            let mut best = Best::of(k);
            ids.chunks(part).zip(scores.chunks(part)).for_each(|(ids, scores)| best.take(ids, scores));
            let told: Vec<u64> = best.told().iter().map(|ranked| ranked.dst).collect();
            assert_eq!(told, all.iter().take(k).map(|&at| ids[at]).collect::<Vec<_>>(), "the {k} best in parts of {part}");
        }
    }
}
