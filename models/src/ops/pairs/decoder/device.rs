//! The link decoder on a device.

use tempograph_framework::PairFact;
use tempograph_kernels::PairPlan;
use tempograph_kernels::cube::{
    Block, DecoderBlocks, DecoderOffsets, Matrix, PairDecoder, Weights, relu, relu_backward, with_one,
};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::LayoutBuilder;
use crate::ops::pairs::decoder::LinkDecoder;
use crate::ops::pairs::decoder::facts::{PAIR_COLUMNS, pair_row};

/// The positions of a decoder's weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceDecoder {
    ends: DecoderBlocks,
    facts: Option<Facts>,
}

/// The positions of the maps of facts about pairs: two, with a ReLU between.
#[derive(Clone, Copy, Debug)]
struct Facts {
    first: Block,
    second: Block,
}

/// Facts about pairs, and the activations made of them: `[P, ..]`.
struct FactActivations<R: CubeRuntime> {
    facts: Matrix<R>,
    rectified: Matrix<R>,
    mapped: Matrix<R>,
}

impl DeviceDecoder {
    /// Allocates the weights of `decoder`.
    ///
    /// # Panics
    /// If it [cannot run on a device](LinkDecoder::check_device_support).
    pub fn allocate(decoder: &LinkDecoder, layout_builder: &mut LayoutBuilder<'_>) -> DeviceDecoder {
        let Some([as_src, as_dst]) = &decoder.ends else {
            unreachable!("an executor on a device checks first that the decoder has a form there")
        };
        let [src, dst, last] = [as_src, as_dst, &decoder.last].map(|map| layout_builder.weight_and_bias(map));
        let from = DecoderOffsets { ends: [src[0], dst[0]], biases: [src[1], dst[1]], last };
        let ends = DecoderBlocks::allocate(
            &mut layout_builder.layout,
            (as_src.inputs, decoder.split_by_role),
            decoder.width(),
            &from,
        );
        let facts = decoder.facts.as_ref().map(|maps| {
            let [first, second] = maps.each_ref().map(|map| layout_builder.map(map));
            Facts { first, second }
        });
        DeviceDecoder { ends, facts }
    }

    /// Scores pairs of rows of `embeddings` `[R, O]`, of which the first `positives` are true events, and runs the
    /// backward pass. Writes the gradients of the weights. Returns the loss, `[1, 1]`, and the gradient of the
    /// embeddings. `known` has the facts about the pairs, if the decoder reads any.
    pub fn loss<R: CubeRuntime>(
        &self,
        weights: &Weights<R>,
        embeddings: &Matrix<R>,
        (pairs, positives): (&PairPlan, usize),
        known: &[PairFact],
    ) -> (Matrix<R>, Matrix<R>) {
        let (decoder, facts) = (PairDecoder::at(weights, self.ends), self.facts);
        let facts = facts.map(|facts| (facts, facts.forward(weights, known)));
        let mapped = facts.as_ref().map(|(_, kept)| &kept.mapped);
        let decoded = decoder.forward(pairs, embeddings, mapped, positives);
        if let Some((facts, kept)) = &facts {
            facts.backward(weights, kept, &decoder.backward_facts(&decoded));
        }
        decoder.backward(&decoded, embeddings)
    }
}

impl Facts {
    fn forward<R: CubeRuntime>(self, weights: &Weights<R>, known: &[PairFact]) -> FactActivations<R> {
        let columns = with_one(PAIR_COLUMNS);
        let mut rows = vec![0.0; known.len() * columns];
        for (fact, row) in known.iter().zip(rows.chunks_exact_mut(columns)) {
            pair_row(fact, &mut row[..PAIR_COLUMNS]);
            row[PAIR_COLUMNS] = 1.0;
        }
        let facts = weights.send(&rows, columns);
        let rectified = relu(&weights.at(self.first).forward(&facts), false);
        let mapped = weights.at(self.second).forward(&rectified);
        FactActivations { facts, rectified, mapped }
    }

    fn backward<R: CubeRuntime>(self, weights: &Weights<R>, kept: &FactActivations<R>, grad: &Matrix<R>) {
        let [first, second] = [self.first, self.second].map(|block| weights.at(block));
        second.backward(&kept.rectified, grad);
        let rectified = relu_backward(&second.backward_input(grad), &kept.rectified, grad.columns());
        first.backward(&kept.facts, &rectified);
    }
}
