//! Rows of nodes, on a device.

use tempograph_framework::{Draw, Purpose};
use tempograph_kernels::cube::{Matrix, NodeInputBlocks, NodeInputOffsets, NodeInputWidths, NodeInputs, VectorDropout};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::{BackwardFn, DeviceContext, DeviceStage, LayoutBuilder, TimeGradients};
use crate::ops::tables::rows::NodeRows;

#[derive(Debug)]
struct NodeInputStage {
    blocks: NodeInputBlocks,
    /// Share of the nodes whose static memory a step hides.
    hide: f32,
}

impl NodeRows {
    /// Columns of the features and of the static memory.
    pub(crate) fn columns(&self) -> [usize; 2] {
        let vectors = self.vectors.as_ref();
        [self.features.map_or(0, |map| map.inputs), vectors.map_or(0, |part| part.spec.width)]
    }

    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        layout_builder: &mut LayoutBuilder<'_>,
        remembers: bool,
    ) -> Box<dyn DeviceStage<R>> {
        let ([features, columns], vectors) = (self.columns(), self.vectors.as_ref());
        let concat = vectors.is_some_and(|part| part.map.is_none());
        let widths = NodeInputWidths { memory: self.memory, remembers, features, vectors: columns, concat };
        let mut both = |map: Option<_>| map.map_or([0, 0], |map| layout_builder.weight_and_bias(&map));
        let (of_features, of_vectors) = (both(self.features), both(vectors.and_then(|part| part.map)));
        let correction = vectors.and_then(|part| part.correction);
        let correction = correction.map(|(param, nodes)| (layout_builder.offset(param), nodes));
        let from = NodeInputOffsets { features: of_features, vectors: of_vectors, correction };
        let blocks = NodeInputBlocks::allocate(&mut layout_builder.layout, widths, &from);
        Box::new(NodeInputStage { blocks, hide: vectors.map_or(0.0, |part| part.spec.hide) })
    }
}

impl<R: CubeRuntime> DeviceStage<R> for NodeInputStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>) {
        let node_inputs = NodeInputs::at(cx.weights, self.blocks, cx.node_rows.clone());
        // the same draws as in `StaticMemoryMask`
        let key = |seed| Draw::new(seed).of(Purpose::Dropout).key();
        let hidden =
            cx.dropout.filter(|_| self.hide > 0.0).map(|seed| VectorDropout { share: self.hide, key: key(seed) });
        let (rows, shown) = node_inputs.forward(cx.past, reads.first(), hidden);
        let back = move |grad: &Matrix<R>, _: &mut TimeGradients<R>| {
            node_inputs.backward(cx.past, &shown, grad);
            // its first columns are those of the memory
            reads.iter().map(|_| grad.clone()).collect()
        };
        (rows, Box::new(back))
    }
}
