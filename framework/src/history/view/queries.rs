//! Queries: pairs of nodes to score, or nodes to embed, at given times.

use std::ops::Range;

use tempograph_kernels::PairPlan;

use crate::{Batch, EventId, NodeId, Timestamp};

/// The position of a query after every event of the log.
const NOW: EventId = EventId(u64::MAX);

/// Pairs to score, and the roots, (node, time), whose past is needed for that.
///
/// A pair names its two ends by position in the roots, so a source queried with many candidates is one root.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queries {
    nodes: Vec<NodeId>,
    times: Vec<Timestamp>,
    places: Vec<EventId>,
    pairs: Vec<Pair>,
    positives: usize,
    /// Start and number of the ends among the roots.
    ends: [usize; 2],
}

/// "Will `src` interact with `dst`?", both as positions in the roots, which share one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Root of the source.
    pub src: u32,
    /// Root of the candidate destination.
    pub dst: u32,
}

impl Queries {
    /// No queries.
    pub fn none() -> Queries {
        Queries::default()
    }

    /// Every event of `batch` as a positive, then its negatives, event by event, all at the event's own time.
    ///
    /// `offsets`, `[B + 1]`, splits `negatives` into a group for each event. The first `B` pairs are the positives;
    /// pair `B + n` is `negatives[n]`. The first `2 B` roots are the [ends](Queries::ends).
    ///
    /// # Panics
    /// If `offsets` does not have `B + 1` entries that end at `negatives.len()`.
    pub fn of_batch(batch: &Batch<'_>, negatives: &[NodeId], offsets: &[usize]) -> Queries {
        let mut queries = Queries::none();
        queries.set_batch(batch, negatives, offsets);
        queries
    }

    /// Like [`of_batch`](Queries::of_batch), but overwrites these queries and reuses their memory.
    ///
    /// # Panics
    /// As [`of_batch`](Queries::of_batch) does.
    pub fn set_batch(&mut self, batch: &Batch<'_>, negatives: &[NodeId], offsets: &[usize]) {
        let events = batch.len();
        let ends = (offsets.len(), offsets.last().copied());
        assert_eq!(ends, (events + 1, Some(negatives.len())), "offsets of {events} events' negatives");
        self.clear();
        self.reserve(2 * events + negatives.len(), events + negatives.len());
        for i in 0..events {
            let [src, dst] = [batch.src[i], batch.dst[i]].map(|node| self.root(node, batch.time[i], batch.id(i)));
            self.pairs.push(Pair { src, dst });
        }
        self.ends = [0, 2 * events];
        for i in 0..events {
            for &node in &negatives[offsets[i]..offsets[i + 1]] {
                let dst = self.root(node, batch.time[i], batch.id(i));
                self.pairs.push(Pair { src: 2 * i as u32, dst });
            }
        }
        self.positives = events;
    }

    /// Both ends of each event of `batch` at the event's own time, `[2 B]`, without pairing them: what an update may
    /// [need](crate::Needs::ends) where no pair is queried.
    pub fn of_ends(batch: &Batch<'_>) -> Queries {
        let mut queries = Queries::none();
        queries.set_ends(batch);
        queries
    }

    /// Like [`of_ends`](Queries::of_ends), but overwrites these queries and reuses their memory.
    pub fn set_ends(&mut self, batch: &Batch<'_>) {
        self.clear();
        self.append_ends(batch);
    }

    /// Appends both ends of each event of `batch` to the existing queries. They are the [ends](Queries::ends) from
    /// here on: a lane that queries a part of a batch still computes the update of the whole batch.
    pub fn append_ends(&mut self, batch: &Batch<'_>) {
        self.ends = [self.len(), 2 * batch.len()];
        self.reserve(2 * batch.len(), 0);
        for i in 0..batch.len() {
            for node in [batch.src[i], batch.dst[i]] {
                self.root(node, batch.time[i], batch.id(i));
            }
        }
    }

    /// Removes the [ends](Queries::ends) range, because no event will be observed. The roots stay.
    pub fn clear_ends(&mut self) {
        self.ends = [0, 0];
    }

    /// One source against `candidates` at one time: a ranking request.
    pub fn of_candidates(src: NodeId, candidates: &[NodeId], time: Timestamp) -> Queries {
        let mut queries = Queries::none();
        queries.reserve(1 + candidates.len(), candidates.len());
        let src = queries.root(src, time, NOW);
        for &node in candidates {
            let dst = queries.root(node, time, NOW);
            queries.pairs.push(Pair { src, dst });
        }
        queries
    }

    /// Nodes without pairs: an embedding request.
    pub fn of_nodes(nodes: &[NodeId], time: Timestamp) -> Queries {
        Queries {
            nodes: nodes.to_vec(),
            times: vec![time; nodes.len()],
            places: vec![NOW; nodes.len()],
            ..Queries::default()
        }
    }

    /// Appends the pair (src, dst) at `time`.
    pub fn push_pair(&mut self, src: NodeId, dst: NodeId, time: Timestamp) {
        let (src, dst) = (self.root(src, time, NOW), self.root(dst, time, NOW));
        self.pairs.push(Pair { src, dst });
    }

    /// Appends a node at `time`, without pairing it.
    pub fn push_node(&mut self, node: NodeId, time: Timestamp) {
        self.root(node, time, NOW);
    }

    /// The roots' nodes, `[R]`.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The roots' times, `[R]`.
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// The event position of each root's query, `[R]`; after all events where it is none of the log's.
    pub fn log_positions(&self) -> &[EventId] {
        &self.places
    }

    /// The pairs to score, `[P]`.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The pairs as rows of a table that has root `r` at `row(r)`.
    pub fn pair_plan(&self, row: impl Fn(u32) -> u32) -> PairPlan {
        let (i, j) = self.pairs.iter().map(|pair| (row(pair.src), row(pair.dst))).unzip();
        PairPlan { i, j }
    }

    /// Number of positives; these are the first pairs.
    pub fn positives(&self) -> usize {
        self.positives
    }

    /// The ends of the batch that will be observed, as a range of the roots, `[2 B]`: source and destination of each
    /// event alternate, at the event's time. Empty if the ends are not queried.
    pub fn ends(&self) -> Range<usize> {
        self.ends[0]..self.ends[0] + self.ends[1]
    }

    /// Number of roots `R`.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Removes all queries; the memory stays allocated.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.times.clear();
        self.places.clear();
        self.pairs.clear();
        self.positives = 0;
        self.clear_ends();
    }

    fn reserve(&mut self, roots: usize, pairs: usize) {
        self.nodes.reserve(roots);
        self.times.reserve(roots);
        self.places.reserve(roots);
        self.pairs.reserve(pairs);
    }

    fn root(&mut self, node: NodeId, time: Timestamp, place: EventId) -> u32 {
        self.nodes.push(node);
        self.times.push(time);
        self.places.push(place);
        self.nodes.len() as u32 - 1
    }
}
