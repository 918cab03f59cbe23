//! The best of many candidates.

use std::cmp::Ordering;
use std::ops::Range;

use serde_json::Number;
use tempograph_framework::{NodeId, Side, Timestamp};

use crate::engine::read::finite;
use crate::engine::snapshot_read::LongRead;
use crate::engine::state::State;
use crate::engine::workspace::{A_PASS, Workspace};
use crate::engine::{Engine, position};
use crate::request::{Answered, MOST, Place, Position, RankQuery, Ranked, RequestError, probability};

impl Engine {
    /// The best candidates, best first; of equals the one named first.
    ///
    /// More than fit in a pass are taken in parts, and events happen in between: all of the answer is as of the position it began at, which
    /// comes with it.
    ///
    /// # Errors
    /// [`RequestError`] naming the field that will not do, and why.
    pub fn rank(&self, query: &RankQuery) -> Result<Answered<Vec<Ranked>>, RequestError> {
        self.rank_in_chunks(query, A_PASS, &mut |_| ())
    }

    /// As [`rank`](Engine::rank), at most so many candidates at a time. In between, `between` may do something else: it is told which share
    /// is done.
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
        if let Some(ids) = query.candidates.as_ref().filter(|ids| ids.len() > MOST) {
            return Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() });
        }
        self.spaces.with(|space| self.rank_in(space, query, chunk.clamp(1, A_PASS), between))
    }

    /// The `k` best of all destinations so far, best first: [`rank`](Engine::rank) without candidates. `time` left out is just after the
    /// newest event.
    ///
    /// # Errors
    /// As [`rank`](Engine::rank).
    pub fn top_k(&self, src: u64, k: usize, time: Option<&Number>) -> Result<Answered<Vec<Ranked>>, RequestError> {
        self.rank(&RankQuery { src, candidates: None, time: time.cloned(), k })
    }

    fn rank_in(
        &self,
        space: &mut Workspace,
        query: &RankQuery,
        chunk: usize,
        between: &mut dyn FnMut(f64),
    ) -> Result<Answered<Vec<Ranked>>, RequestError> {
        let (asked, shown) = {
            let state = &*self.state()?;
            let asked = self.find_ranked(state, space, query)?;
            let shown = if asked.count <= chunk {
                let all = asked.part(0..asked.count, |places| Ok(state.names.destinations_at(places)))?;
                asked.ask(&all, space);
                self.look_at_pairs(state, &None, true, space);
                Shown::Whole(all, position(&state.history))
            } else {
                Shown::InParts(self.read_in_parts(state))
            };
            (asked, shown)
        };
        let mut best = Best::of(query.k);
        let position = match shown {
            Shown::Whole(all, position) => self.take_scores(space, &all, &mut best).map(|()| position),
            Shown::InParts(long) => self.rank_parts(space, &asked, &long, chunk, &mut best, between),
        }?;
        Ok(Answered { answer: best.told(), position })
    }

    fn rank_parts(
        &self,
        space: &mut Workspace,
        asked: &Asked,
        long: &LongRead<'_>,
        chunk: usize,
        best: &mut Best,
        between: &mut dyn FnMut(f64),
    ) -> Result<Position, RequestError> {
        for start in (0..asked.count).step_by(chunk) {
            let end = asked.count.min(start + chunk);
            let part = asked.part(start..end, |places| long.destinations(places))?;
            asked.ask(&part, space);
            self.look_back_at_pairs(long, &None, true, space)?;
            self.take_scores(space, &part, best)?;
            if end < asked.count {
                between(end as f64 / asked.count as f64);
            }
        }
        Ok(long.position)
    }

    fn find_ranked(&self, state: &State, space: &mut Workspace, query: &RankQuery) -> Result<Asked, RequestError> {
        self.show(state, &[], &mut space.told)?;
        let src = state.find(Side::Source, query.src, Place::field("src"))?;
        let time = state.read_time(&self.manifest, query.time.as_ref(), &space.told, Place::field("time"))?;
        let find = |(i, &id)| Ok((state.find(Side::Destination, id, Place::of("candidates", i, ""))?, id));
        let named = query
            .candidates
            .as_ref()
            .map(|ids| ids.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>())
            .transpose()?;
        let count = named.as_ref().map_or(state.names.destinations().len(), Vec::len);
        Ok(Asked { src, time, named, count })
    }

    fn take_scores(&self, space: &mut Workspace, part: &[(NodeId, u64)], best: &mut Best) -> Result<(), RequestError> {
        let mut scores = std::mem::take(&mut space.scores);
        scores.clear();
        self.score_shown(space, &mut scores)?;
        finite(&scores)?;
        best.take(part, &scores);
        space.scores = scores;
        Ok(())
    }
}

/// What is ranked, and for whom.
struct Asked {
    src: NodeId,
    time: Timestamp,
    /// Candidates with their own ids; all destinations where none are named.
    named: Option<Vec<(NodeId, u64)>>,
    count: usize,
}

/// What is ranked is shown already, or will be part by part.
enum Shown<'a> {
    Whole(Vec<(NodeId, u64)>, Position),
    InParts(LongRead<'a>),
}

impl Asked {
    /// Some of the candidates, with their own ids.
    fn part(
        &self,
        places: Range<usize>,
        destinations: impl FnOnce(Range<usize>) -> Result<Vec<(NodeId, u64)>, RequestError>,
    ) -> Result<Vec<(NodeId, u64)>, RequestError> {
        match &self.named {
            Some(named) => Ok(named[places].to_vec()),
            None => destinations(places),
        }
    }

    fn ask(&self, part: &[(NodeId, u64)], space: &mut Workspace) {
        space.asked.clear();
        space.asked.extend(part.iter().map(|&(node, _)| (self.src, node, self.time)));
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

    fn take(&mut self, part: &[(NodeId, u64)], scores: &[f32]) {
        let new = part.iter().zip(scores).enumerate().map(|(i, (&(_, id), &score))| (score, self.seen + i, id));
        self.entries.extend(new);
        self.seen += part.len();
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
        let ids: Vec<(NodeId, u64)> = (0..97).map(|i| (NodeId(i as u32), i * 3)).collect();
        let mut all: Vec<usize> = (0..97).collect();
        all.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for (k, part) in [(1, 97), (5, 10), (40, 7), (97, 20), (200, 50)] {
            let mut best = Best::of(k);
            ids.chunks(part).zip(scores.chunks(part)).for_each(|(ids, scores)| best.take(ids, scores));
            let told: Vec<u64> = best.told().iter().map(|ranked| ranked.dst).collect();
            assert_eq!(
                told,
                all.iter().take(k).map(|&at| ids[at].1).collect::<Vec<_>>(),
                "the {k} best in parts of {part}"
            );
        }
    }
}
