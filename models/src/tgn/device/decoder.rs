//! The link decoder on a device.

use tempograph_framework::{Pair, Queries};
use tempograph_kernels::PairPlan;
use tempograph_kernels::cpu::Activation;
use tempograph_kernels::cube::{DevicePairs, Map, Matrix, PairDecoder, PairEnds};
use tempograph_kernels::tensor::CubeRuntime;

use crate::tgn::decoder::repeats;

/// `p(u, v) = last relu(src z_u + dst z_v)`.
pub(super) struct Decoder<R: CubeRuntime> {
    /// Of source and destination.
    pub ends: [Map<R>; 2],
    pub last: PairDecoder<R>,
}

/// What a forward pass keeps: who was asked about, the ends' embeddings, and these mapped.
pub(super) struct Asked<R: CubeRuntime> {
    ends: PairEnds<R>,
    embedded: [Matrix<R>; 2],
    mapped: [Matrix<R>; 2],
    pairs: DevicePairs<R>,
}

impl<R: CubeRuntime> Decoder<R> {
    /// Logits of the asked pairs, `[P, 1]`, from the embeddings of the roots, `[R, O]`.
    pub fn forward(&self, embeddings: &Matrix<R>, queries: &Queries) -> (Matrix<R>, Asked<R>) {
        let end = |root: fn(&Pair) -> u32| repeats(queries.pairs().iter().map(root));
        let ((src, i), (dst, j)) = (end(|pair| pair.src), end(|pair| pair.dst));
        let ends = PairEnds::send(embeddings, [&src, &dst]);
        let embedded = [0, 1].map(|end| ends.gather(embeddings, end));
        let mapped = [0, 1].map(|end| self.ends[end].forward(&embedded[end], Activation::None));
        let (scores, pairs) = self.last.forward(&PairPlan { i, j }, mapped.each_ref());
        (scores, Asked { ends, embedded, mapped, pairs })
    }

    /// Writes the gradients of the weights; gives that of the embeddings, from those of the scores.
    pub fn backward(&self, asked: &Asked<R>, grad: &Matrix<R>) -> Matrix<R> {
        let mapped = self.last.backward(&asked.pairs, asked.mapped.each_ref(), grad);
        let embedded = [0, 1].map(|end| self.ends[end].backward(&asked.embedded[end], &mapped[end]));
        asked.ends.backward(embedded.each_ref())
    }
}
