//! What a server asks beside a forward pass.

use tempograph_framework::{Answer, Pair};

use super::{SliceTgn, SliceWork};

impl SliceTgn {
    /// Logits of pairs of nodes that were embedded before, `[R, O]`: the very numbers of a forward pass in which they were embedded.
    ///
    /// # Panics
    /// If a pair names a row that is not there, or the model reads facts about pairs, which embeddings do not tell.
    pub fn score_embedded(&self, embeddings: &[f32], pairs: &[Pair], work: &mut SliceWork) {
        assert!(!self.spec.pair_features, "embeddings do not tell what has happened between two nodes");
        let width = self.spec.embedding_width();
        work.embeddings.resize(embeddings.len() / width, width);
        for (row, numbers) in embeddings.chunks_exact(width).enumerate() {
            work.embeddings.row_mut(row).copy_from_slice(numbers);
        }
        let SliceWork { answer: Answer { scores, .. }, embeddings, decoder, .. } = work;
        scores.resize(pairs.len(), 0.0);
        decoder.score(self.decoder(), pairs.iter().map(|pair| [pair.src, pair.dst]), &[], embeddings, scores);
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
