//! What a server asks beside a forward pass.

use tempograph_framework::Pair;
use tempograph_kernels::cpu::PaddedRows;

use super::{SliceTgn, SliceWork};

impl SliceTgn {
    /// Maps what the last forward pass embedded, row by row, as the decoder maps sources and as it maps destinations: see
    /// [`SliceWork::ends`].
    pub fn map_ends(&self, work: &mut SliceWork) {
        let SliceWork { embeddings, decoder, .. } = work;
        decoder.map_ends(self.decoder(), embeddings);
    }

    /// Logits of pairs of rows of `ends`, of which the first was [mapped](Self::map_ends) as a source and the second as a destination: the
    /// very numbers of a forward pass in which they were embedded.
    ///
    /// # Panics
    /// If a pair names a row that is not there, or the model reads facts about pairs, which embeddings do not tell.
    pub fn score_ends(&self, ends: &PaddedRows, pairs: &[Pair], work: &mut SliceWork) {
        assert!(!self.spec.pair_features, "embeddings do not tell what has happened between two nodes");
        let SliceWork { answer, decoder, .. } = work;
        answer.scores.resize(pairs.len(), 0.0);
        decoder.score_ends(self.decoder(), ends, pairs.iter().map(|pair| [pair.src, pair.dst]), &mut answer.scores);
    }

    /// Width `O` of an embedding.
    pub fn embedding_width(&self) -> usize {
        self.spec.embedding_width()
    }

    /// How the centres of an embedding layer, the lowest first, weighed their neighbours in the last forward pass: `[C, H, K]`, slots as the
    /// hop has them. Nothing of a layer that does not attend.
    pub fn attention<'w>(&self, layer: usize, work: &'w SliceWork) -> &'w [f32] {
        work.layers.get(layer).map_or(&[], |layer| layer.attention_weights())
    }
}

impl SliceWork {
    /// Rows of the last pass's top table as sources and as destinations, once they are [mapped](SliceTgn::map_ends).
    pub fn ends(&self) -> [&PaddedRows; 2] {
        self.decoder.ends()
    }
}
