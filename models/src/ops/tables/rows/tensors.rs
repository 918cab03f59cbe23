//! Rows of nodes, on tensors.

use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{TemporalOps, gather_rows};

use crate::operation::{Param, TensorContext};
use crate::ops::tables::rows::mask::StaticMemoryMask;
use crate::ops::tables::rows::{NodeRows, StaticRows};

impl NodeRows {
    /// The rows of the view's nodes, `[U, W]`.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let nodes = &cx.view.nodes;
        let mut rows = match reads.first() {
            Some(memory) => memory.clone(),
            None => Tensor::zeros([nodes.len(), self.memory], cx.device()),
        };
        if let (Some(map), Some(features)) = (&self.features, &cx.view.node_features) {
            rows =
                rows + cx.linear(map, cx.constant_rows(features.as_ref(), nodes.iter().map(|node| u64::from(node.0))));
        }
        let Some(part) = &self.vectors else { return rows };
        let hiding = StaticMemoryMask::new(&part.spec, cx.dropout);
        let shown: Vec<bool> = nodes.iter().map(|&node| !hiding.masks(node)).collect();
        let mut vectors = part.frozen(cx, &shown);
        if let Some((correction, known)) = part.correction {
            vectors = vectors + corrections(cx, correction, known, &shown);
        }
        match &part.map {
            Some(map) => rows + cx.linear(map, vectors),
            None => Tensor::cat(vec![rows, vectors], 1),
        }
    }
}

impl StaticRows {
    fn frozen<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, shown: &[bool]) -> Tensor<B, 2> {
        let (width, nodes) = (self.spec.width, &cx.view.nodes);
        let mut values = vec![0.0; nodes.len() * width];
        if let Some(rows) = &cx.view.static_memory {
            let known = values.chunks_exact_mut(width).zip(nodes).zip(shown).filter(|(_, shown)| **shown);
            known.for_each(|((row, node), _)| row.copy_from_slice(rows.row(u64::from(node.0))));
        }
        cx.from_rows(values, [nodes.len(), width])
    }
}

/// Rows of the learned differences, zero for hidden nodes and for nodes without one.
fn corrections<B: TemporalOps>(
    cx: &TensorContext<'_, B>,
    correction: Param,
    known: usize,
    shown: &[bool],
) -> Tensor<B, 2> {
    let (rows, mask): (Vec<u32>, Vec<f32>) = (cx.view.nodes.iter().zip(shown))
        .map(|(node, &shown)| if shown && node.index() < known { (node.0, 1.0) } else { (0, 0.0) })
        .unzip();
    let mask = cx.from_rows(mask, [rows.len(), 1]);
    gather_rows(cx.matrix(correction), rows) * mask
}
