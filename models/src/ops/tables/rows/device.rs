//! What nodes show, on a device.

use tempograph_framework::{Draw, Purpose};
use tempograph_kernels::cube::{Beside, BesideBlocks, BesideNumbers, BesideWidths, Hidden, Matrix};
use tempograph_kernels::tensor::CubeRuntime;

use crate::executor::{Back, DeviceContext, DeviceStage, Laying, Shares};
use crate::ops::tables::rows::NodeRows;

#[derive(Debug)]
struct BesideStage {
    blocks: BesideBlocks,
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
        laying: &mut Laying<'_>,
        remembers: bool,
    ) -> Box<dyn DeviceStage<R>> {
        let ([features, columns], vectors) = (self.columns(), self.vectors.as_ref());
        let behind = vectors.is_some_and(|part| part.map.is_none());
        let widths = BesideWidths { memory: self.memory, remembers, features, vectors: columns, behind };
        let mut both = |map: Option<_>| map.map_or([0, 0], |map| laying.both(&map));
        let (of_features, of_vectors) = (both(self.features), both(vectors.and_then(|part| part.map)));
        let correction = vectors.and_then(|part| part.correction);
        let correction = correction.map(|(param, nodes)| (laying.begin(param), nodes));
        let from = BesideNumbers { features: of_features, vectors: of_vectors, correction };
        let blocks = BesideBlocks::stand(&mut laying.layout, widths, &from);
        Box::new(BesideStage { blocks, hide: vectors.map_or(0.0, |part| part.spec.hide) })
    }
}

impl<R: CubeRuntime> DeviceStage<R> for BesideStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, Back<'a, R>) {
        let beside = Beside::at(cx.weights, self.blocks, cx.node_rows.clone());
        // those of `Hiding`
        let key = |seed| Draw::new(seed).of(Purpose::Dropout).key();
        let hidden = cx.dropout.filter(|_| self.hide > 0.0).map(|seed| Hidden { share: self.hide, key: key(seed) });
        let (rows, shown) = beside.forward(cx.past, reads.first(), hidden);
        let back = move |grad: &Matrix<R>, _: &mut Shares<R>| {
            beside.backward(cx.past, &shown, grad);
            // its first columns are those of the memory
            reads.iter().map(|_| grad.clone()).collect()
        };
        (rows, Box::new(back))
    }
}
