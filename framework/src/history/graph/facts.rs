//! Facts about queried pairs, computed as a view is filled.

use rayon::prelude::*;

use crate::history::view::Hop;
use crate::history::view::pair_fact::{PairFact, Recency};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::{Graph, NodeId, Pair, Queries, Timestamp};

/// Pairs whose facts one task computes.
const PAIRS_A_TASK: usize = 64;

impl Graph {
    /// Overwrites `facts` with the facts of each pair, if the model needs them. `first` is the first hop with nodes
    /// for rows, `roots` the centre of each root in it.
    pub(crate) fn fill_pair_facts(
        &self,
        queries: &Queries,
        first: Option<&Hop>,
        roots: &[u32],
        present: &PendingIndex,
        facts: &mut Vec<PairFact>,
    ) {
        facts.clear();
        if !self.needs.pairs {
            return;
        }
        facts.resize(queries.pairs().len(), PairFact::default());
        facts.par_chunks_mut(PAIRS_A_TASK).zip(queries.pairs().par_chunks(PAIRS_A_TASK)).for_each(|(facts, pairs)| {
            for (fact, pair) in facts.iter_mut().zip(pairs) {
                let shown =
                    [pair.src, pair.dst].map(|root| first.map_or(&[][..], |hop| hop.shown(roots[root as usize])));
                *fact = self.fact(queries, pair, shown, present);
            }
        });
    }

    fn fact(&self, queries: &Queries, pair: &Pair, [of_src, of_dst]: [&[u32]; 2], present: &PendingIndex) -> PairFact {
        let [src, dst] = [pair.src, pair.dst].map(|root| queries.nodes()[root as usize]);
        let moment = self.moment(queries, pair.src as usize);
        let time = moment.time();
        let (count, last) = self.pair_history(src, dst, moment, present);
        PairFact {
            count,
            since_last: last.map(|last| time.since(last)),
            in_src: Recency::of(dst, of_src),
            in_dst: Recency::of(src, of_dst),
            common: common(of_src, of_dst),
            degrees: [src, dst].map(|node| self.adjacency.degree(node) + present.before(node, moment).len() as u64),
            idle: [src, dst].map(|node| self.newest_before(node, moment, present).map(|newest| time.since(newest))),
        }
    }

    /// Number of events from `src` to `dst` before `moment`, and the time of the last.
    fn pair_history(
        &self,
        src: NodeId,
        dst: NodeId,
        moment: Moment,
        present: &PendingIndex,
    ) -> (u32, Option<Timestamp>) {
        let settled = self.pairs.get(src, dst).filter(|&(_, last)| last < moment.time());
        let fresh = present.before(src, moment).iter().filter(|link| link.leads_to(dst));
        let (mut count, mut last) = settled.map_or((0, None), |(count, last)| (count, Some(last)));
        for link in fresh {
            count += 1;
            last = Some(link.time);
        }
        (count, last)
    }

    fn newest_before(&self, node: NodeId, moment: Moment, present: &PendingIndex) -> Option<Timestamp> {
        let newest = present.before(node, moment).last().or_else(|| self.adjacency.newest_before(node, moment));
        newest.map(|link| link.time)
    }
}

/// Distinct nodes that are in both lists.
fn common(a: &[u32], b: &[u32]) -> u32 {
    let first = |i: usize| !a[..i].contains(&a[i]);
    (0..a.len()).filter(|&i| b.contains(&a[i]) && first(i)).count() as u32
}
