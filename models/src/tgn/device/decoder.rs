//! The link decoder on a device.

use tempograph_framework::PairFact;
use tempograph_kernels::PairPlan;
use tempograph_kernels::cube::{Block, Decoded, Matrix, PairDecoder, Weights, rectified, rectified_backward, with_one};
use tempograph_kernels::tensor::CubeRuntime;

use super::places::Blocks;
use crate::tgn::decoder::{PAIR_COLUMNS, pair_row};

/// Where the maps of facts about pairs stand: two, with a ReLU between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub first: Block,
    pub second: Block,
}

/// Facts about pairs, and what was made of them: `[P, ..]`.
struct FactsKept<R: CubeRuntime> {
    facts: Matrix<R>,
    rectified: Matrix<R>,
    mapped: Matrix<R>,
}

/// What a forward pass keeps.
pub(super) struct Asked<R: CubeRuntime> {
    decoded: Decoded<R>,
    facts: Option<FactsKept<R>>,
}

impl Facts {
    fn forward<R: CubeRuntime>(self, weights: &Weights<R>, known: &[PairFact]) -> FactsKept<R> {
        let columns = with_one(PAIR_COLUMNS);
        let mut rows = vec![0.0; known.len() * columns];
        for (fact, row) in known.iter().zip(rows.chunks_exact_mut(columns)) {
            pair_row(fact, &mut row[..PAIR_COLUMNS]);
            row[PAIR_COLUMNS] = 1.0;
        }
        let facts = weights.send(&rows, columns);
        let rectified = rectified(&weights.at(self.first).forward(&facts), false);
        let mapped = weights.at(self.second).forward(&rectified);
        FactsKept { facts, rectified, mapped }
    }

    fn backward<R: CubeRuntime>(self, weights: &Weights<R>, kept: &FactsKept<R>, grad: &Matrix<R>) {
        let [first, second] = [self.first, self.second].map(|block| weights.at(block));
        second.backward(&kept.rectified, grad);
        let rectified = rectified_backward(&second.backward_input(grad), &kept.rectified, grad.columns());
        first.backward(&kept.facts, &rectified);
    }
}

/// The pairs asked about, of which the first `positives` happened, from the embeddings of the roots, `[R, O]`, and what is known of the pairs.
pub(super) fn forward<R: CubeRuntime>(
    weights: &Weights<R>,
    blocks: &Blocks,
    embeddings: &Matrix<R>,
    (pairs, positives): (&PairPlan, usize),
    known: &[PairFact],
) -> Asked<R> {
    let facts = blocks.facts.map(|facts| facts.forward(weights, known));
    let mapped = facts.as_ref().map(|facts| &facts.mapped);
    let decoded = PairDecoder::at(weights, blocks.decoder).forward(pairs, embeddings, mapped, positives);
    Asked { decoded, facts }
}

/// Writes the gradients of the weights; gives the loss and the gradient of the embeddings.
pub(super) fn backward<R: CubeRuntime>(
    weights: &Weights<R>,
    blocks: &Blocks,
    asked: &Asked<R>,
    embeddings: &Matrix<R>,
) -> (Matrix<R>, Matrix<R>) {
    let decoder = PairDecoder::at(weights, blocks.decoder);
    if let (Some(facts), Some(kept)) = (blocks.facts, &asked.facts) {
        facts.backward(weights, kept, &decoder.backward_facts(&asked.decoded));
    }
    decoder.backward(&asked.decoded, embeddings)
}
