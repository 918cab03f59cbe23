//! Ranks many candidates and returns the best.

use std::cmp::Ordering;
use std::ops::Range;

use serde_json::Number;
use tempograph_framework::{NodeId, Side, Timestamp};

use crate::engine::snapshot_read::SnapshotRead;
use crate::engine::state::State;
use crate::engine::workspace::{A_PASS, Workspace};
use crate::engine::{Engine, Pace, position};
use crate::request::id::ExternalId;
use crate::request::{AtPosition, FieldPath, MAX_ITEMS, Position, RankQuery, Ranked, RequestError, probability};

impl Engine {
    /// The best candidates, best first. Of equal scores, the candidate that comes first in the query is first.
    ///
    /// More candidates than fit in one pass are ranked in parts, and events may be applied between parts. The whole
    /// answer is of the position at which the read began; the answer contains it.
    ///
    /// # Errors
    /// [`RequestError`] naming the invalid field and the reason.
    pub fn rank(&self, query: &RankQuery) -> Result<AtPosition<Vec<Ranked>>, RequestError> {
        self.rank_in_chunks(query, &mut |_| Ok(A_PASS))
    }

    /// As [`rank`](Engine::rank), in chunks. Before each of them `pace` says how many candidates it may have.
    ///
    /// # Errors
    /// As [`rank`](Engine::rank), and the error with which `pace` ends the work.
    pub(crate) fn rank_in_chunks(
        &self,
        query: &RankQuery,
        pace: Pace<'_>,
    ) -> Result<AtPosition<Vec<Ranked>>, RequestError> {
        if query.k == 0 {
            return Err(RequestError::invalid("k", "is 0; it must be at least 1"));
        }
        if let Some(ids) = query.candidates.as_ref().filter(|ids| ids.len() > MAX_ITEMS) {
            return Err(RequestError::TooMany { place: "candidates".into(), count: ids.len() });
        }
        self.spaces.with(|space| self.rank_in(space, query, pace))
    }

    /// The `k` best of all destinations so far, best first: [`rank`](Engine::rank) without candidates. Without `time`,
    /// the read is just after the newest event.
    ///
    /// # Errors
    /// As [`rank`](Engine::rank).
    pub fn top_k(
        &self,
        src: &ExternalId,
        k: usize,
        time: Option<&Number>,
    ) -> Result<AtPosition<Vec<Ranked>>, RequestError> {
        self.rank(&RankQuery { src: src.clone(), candidates: None, time: time.cloned(), k })
    }

    fn rank_in(
        &self,
        space: &mut Workspace,
        query: &RankQuery,
        pace: Pace<'_>,
    ) -> Result<AtPosition<Vec<Ranked>>, RequestError> {
        let chunk = pace(0.0)?.clamp(1, A_PASS);
        let (ranking, shown) = {
            let state = &*self.state()?;
            let ranking = self.find_ranked(state, space, query)?;
            let shown = if ranking.count <= chunk {
                let all = ranking.part(0..ranking.count, |places| Ok(state.names.destinations_at(places)))?;
                ranking.push_pairs(&all, space);
                self.view_pairs(state, &None, true, space);
                RankInput::Whole(all, position(&state.history))
            } else {
                RankInput::InParts(self.begin_snapshot_read(state))
            };
            (ranking, shown)
        };
        let mut best = Best::of(query.k);
        let position = match shown {
            RankInput::Whole(all, position) => self.take_scores(space, &all, &mut best).map(|()| position),
            RankInput::InParts(long) => self.rank_parts(space, &ranking, &long, chunk, &mut best, pace),
        }?;
        Ok(AtPosition { answer: best.into_sorted(), position })
    }

    fn rank_parts(
        &self,
        space: &mut Workspace,
        ranking: &Ranking,
        long: &SnapshotRead<'_>,
        mut chunk: usize,
        best: &mut Best,
        pace: Pace<'_>,
    ) -> Result<Position, RequestError> {
        let mut start = 0;
        while start < ranking.count {
            let end = ranking.count.min(start + chunk);
            let part = ranking.part(start..end, |places| long.destinations(places))?;
            ranking.push_pairs(&part, space);
            self.view_pairs_snapshot(long, &None, true, space)?;
            self.take_scores(space, &part, best)?;
            if end < ranking.count {
                chunk = pace(end as f64 / ranking.count as f64)?.clamp(1, A_PASS);
            }
            start = end;
        }
        Ok(long.position)
    }

    fn find_ranked(&self, state: &State, space: &mut Workspace, query: &RankQuery) -> Result<Ranking, RequestError> {
        self.stage_during(state, &[], &mut space.incoming)?;
        let src = state.find(Side::Source, &query.src, FieldPath::field("src"))?;
        let time = state.read_time(&self.manifest, query.time.as_ref(), &space.incoming, FieldPath::field("time"))?;
        let find = |(i, id): (usize, &ExternalId)| {
            let node = state.find(Side::Destination, id, FieldPath::of("candidates", i, ""))?;
            Ok((node, state.names.own(node)))
        };
        let named = query
            .candidates
            .as_ref()
            .map(|ids| ids.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>())
            .transpose()?;
        let count = named.as_ref().map_or(state.names.destinations().len(), Vec::len);
        Ok(Ranking { src, time, named, count })
    }

    fn take_scores(
        &self,
        space: &mut Workspace,
        part: &[(NodeId, ExternalId)],
        best: &mut Best,
    ) -> Result<(), RequestError> {
        let mut scores = std::mem::take(&mut space.scores);
        scores.clear();
        self.score_viewed(space, &mut scores)?;
        self.finite(&scores)?;
        best.take(part, &scores);
        space.scores = scores;
        Ok(())
    }
}

/// A ranking: the source and its candidates.
struct Ranking {
    src: NodeId,
    time: Timestamp,
    /// Candidates with the users' ids; `None` for all destinations.
    named: Option<Vec<(NodeId, ExternalId)>>,
    count: usize,
}

/// The input of a ranking: already viewed, or viewed part by part.
enum RankInput<'a> {
    Whole(Vec<(NodeId, ExternalId)>, Position),
    InParts(SnapshotRead<'a>),
}

impl Ranking {
    /// Some of the candidates, with the users' ids.
    fn part(
        &self,
        places: Range<usize>,
        destinations: impl FnOnce(Range<usize>) -> Result<Vec<(NodeId, ExternalId)>, RequestError>,
    ) -> Result<Vec<(NodeId, ExternalId)>, RequestError> {
        match &self.named {
            Some(named) => Ok(named[places].to_vec()),
            None => destinations(places),
        }
    }

    fn push_pairs(&self, part: &[(NodeId, ExternalId)], space: &mut Workspace) {
        space.pairs.clear();
        space.pairs.extend(part.iter().map(|(node, _)| (self.src, *node, self.time)));
    }
}

/// The `k` best so far, by selection: the other candidates are never sorted.
struct Best {
    k: usize,
    /// Score, index among all candidates, id.
    entries: Vec<(f32, usize, ExternalId)>,
    seen: usize,
}

impl Best {
    fn of(k: usize) -> Best {
        Best { k, entries: Vec::new(), seen: 0 }
    }

    fn take(&mut self, part: &[(NodeId, ExternalId)], scores: &[f32]) {
        let new = part.iter().zip(scores).enumerate().map(|(i, ((_, id), &score))| (score, self.seen + i, id.clone()));
        self.entries.extend(new);
        self.seen += part.len();
        if self.entries.len() > self.k {
            self.entries.select_nth_unstable_by(self.k - 1, better);
            self.entries.truncate(self.k);
        }
    }

    fn into_sorted(mut self) -> Vec<Ranked> {
        self.entries.sort_unstable_by(better);
        self.entries.into_iter().map(|(score, _, dst)| Ranked { dst, score, probability: probability(score) }).collect()
    }
}

/// The higher score first; of equal scores, the lower index first.
fn better(a: &(f32, usize, ExternalId), b: &(f32, usize, ExternalId)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_parts_are_the_best_of_all_sorted() {
        let scores: Vec<f32> = (0..97).map(|i| ((i * 37) % 11) as f32).collect();
        let ids: Vec<(NodeId, ExternalId)> = (0..97u64).map(|i| (NodeId(i as u32), (i * 3).into())).collect();
        let mut all: Vec<usize> = (0..97).collect();
        all.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for (k, part) in [(1, 97), (5, 10), (40, 7), (97, 20), (200, 50)] {
            let mut best = Best::of(k);
            ids.chunks(part).zip(scores.chunks(part)).for_each(|(ids, scores)| best.take(ids, scores));
            let ranked: Vec<ExternalId> = best.into_sorted().into_iter().map(|ranked| ranked.dst).collect();
            assert_eq!(
                ranked,
                all.iter().take(k).map(|&at| ids[at].1.clone()).collect::<Vec<_>>(),
                "the {k} best in parts of {part}"
            );
        }
    }
}
