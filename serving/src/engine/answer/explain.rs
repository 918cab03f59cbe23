//! Why a pair has its score: the neighbours of each end and their attention weights.

use serde::Serialize;
use serde_json::Number;
use tempograph_framework::{NodeId, Side};

use crate::engine::read::copy_view;
use crate::engine::state::State;
use crate::engine::state::pass::Pass;
use crate::engine::{Engine, position};
use crate::request::id::ExternalId;
use crate::request::{AtPosition, FieldPath, PairQuery, RequestError, probability, user_time};

/// A score and the neighbours that it depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The logit.
    pub score: f32,
    /// The logit as a probability.
    pub probability: f32,
    /// The source's neighbours, newest first.
    pub src: Vec<Neighbour>,
    /// The destination's neighbours, newest first.
    pub dst: Vec<Neighbour>,
}

/// An earlier event of a node, as the model saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// The other end.
    pub node: ExternalId,
    /// The side of that node, in a bipartite set.
    #[serde(serialize_with = "side_name")]
    pub side: Side,
    /// Number of the event.
    pub seq: u64,
    /// When it happened, in the user's unit; nothing of an event that is not kept any more.
    pub time: Option<Number>,
    /// How the node weighed it, in each layer, the lowest first, by each head; each head's weights of a node's neighbours sum to 1. Nothing of
    /// a model that does not attend, or that only the tensor library computes.
    pub weights: Vec<Vec<f32>>,
}

fn side_name<S: serde::Serializer>(side: &Side, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *side == Side::Source { "source" } else { "destination" })
}

impl Engine {
    /// Scores a pair, with the attention weights of the neighbours of each end.
    ///
    /// # Errors
    /// [`RequestError`] naming the invalid field and the reason.
    pub fn explain(&self, query: &PairQuery) -> Result<AtPosition<Explanation>, RequestError> {
        self.spaces.with(|space| {
            let pass = &mut space.buffers.pass;
            let ([src, dst], position) = {
                let state = &*self.state()?;
                let features = self.stage_during(state, &[], &mut space.incoming)?;
                let src = state.find(Side::Source, &query.src, FieldPath::field("src"))?;
                let dst = state.find(Side::Destination, &query.dst, FieldPath::field("dst"))?;
                let time =
                    state.read_time(&self.manifest, query.time.as_ref(), &space.incoming, FieldPath::field("time"))?;
                pass.queries.clear();
                pass.queries.push_pair(src, dst, time);
                copy_view(state, Some(&space.incoming.whole()), &features, pass);
                let shown = [(0, src), (1, dst)].map(|(root, node)| self.neighbours(state, pass, root, node));
                (shown, position(&state.history))
            };
            pass.forward(&self.model);
            self.keep_memories(pass)?;
            let score = pass.scores()[0];
            self.finite(&[score])?;
            let [src, dst] = [(0, src), (1, dst)].map(|(root, shown)| self.weighed(pass, root, shown));
            Ok(AtPosition { answer: Explanation { score, probability: probability(score), src, dst }, position })
        })
    }

    /// The neighbours of a root, without weights yet.
    fn neighbours(&self, state: &State, pass: &Pass, root: usize, node: NodeId) -> Vec<Neighbour> {
        let Some(hop) = pass.view.hops.first() else { return Vec::new() };
        let centre = pass.view.roots[root] as usize;
        let found = &hop.neighbours;
        let slots = centre * found.k..centre * found.k + found.count[centre] as usize;
        slots
            .map(|slot| {
                let row = found.row[slot];
                let other = pass.view.hops[1..].iter().fold(row, |row, below| below.centres[row as usize]);
                let (other, event) = (pass.view.nodes[other as usize], found.event[slot]);
                let time = state.history.time_of(node, tempograph_framework::EventId(event));
                Neighbour {
                    node: state.names.own(other),
                    side: state.names.side(other),
                    seq: event,
                    time: time.map(|time| user_time(&self.manifest.time_unit, time)),
                    weights: Vec::new(),
                }
            })
            .collect()
    }

    /// Adds the weights to the neighbours. A root is a centre of every hop, always with the same neighbours.
    fn weighed(&self, pass: &Pass, root: usize, mut shown: Vec<Neighbour>) -> Vec<Neighbour> {
        let hops = &pass.view.hops;
        let mut centre = pass.view.roots[root] as usize;
        for (depth, hop) in hops.iter().enumerate() {
            let k = hop.neighbours.k;
            let all = self.model.attention(hops.len() - 1 - depth, &pass.work);
            let heads = if hop.centres.is_empty() || k == 0 { 0 } else { all.len() / (hop.centres.len() * k) };
            for (slot, neighbour) in shown.iter_mut().enumerate().filter(|_| heads > 0) {
                let weights = (0..heads).map(|head| all[(centre * heads + head) * k + slot]).collect();
                neighbour.weights.insert(0, weights);
            }
            centre = hop.centres[centre] as usize;
        }
        shown
    }
}
