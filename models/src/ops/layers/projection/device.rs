//! The time projection on a device.

use tempograph_kernels::cube::{IdleUnits, Matrix, Projection, ProjectionBlock};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::{BackwardFn, DeviceContext, DeviceStage, LayoutBuilder, TimeGradients};
use crate::ops::layers::projection::TimeProjection;

#[derive(Debug)]
struct ProjectionStage {
    op: TimeProjection,
    block: ProjectionBlock,
}

impl TimeProjection {
    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        layout_builder: &mut LayoutBuilder<'_>,
    ) -> Box<dyn DeviceStage<R>> {
        let width = layout_builder.len(self.drift);
        let from = (layout_builder.offset(self.drift), self.bias.map(|bias| layout_builder.offset(bias)));
        let block = ProjectionBlock::allocate(&mut layout_builder.layout, width, from);
        Box::new(ProjectionStage { op: self.clone(), block })
    }
}

impl<R: CubeRuntime> DeviceStage<R> for ProjectionStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>) {
        let units = IdleUnits { first: self.op.units[0], second: self.op.units.get(1).copied() };
        let projection = Projection::at(cx.weights, self.block, units, self.op.dropped(cx.dropout));
        let hop = cx.hop(0).unwrap_or_else(|| unreachable!("a past has the roots that rows are projected of"));
        let projected = projection.forward(hop, &reads[0]);
        let back = move |grad: &Matrix<R>, _: &mut TimeGradients<R>| vec![projection.backward(hop, &reads[0], grad)];
        (projected, Box::new(back))
    }
}
