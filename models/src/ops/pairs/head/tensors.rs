//! The row head on tensors.

use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{TemporalOps, gather_rows, rectify};

use crate::operation::TensorContext;
use crate::ops::pairs::head::RowHead;

impl RowHead {
    /// The outputs of the roots, `[R, K]`, from the embeddings of the roots' table, `[C, O]`.
    pub(crate) fn on_tensors<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        embeddings: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let [first, last] = &self.maps;
        let given = cx.linear(last, rectify(cx.linear(first, embeddings)));
        gather_rows(given, cx.view.roots.clone())
    }
}
