//! The time projection on a device.

use tempograph_kernels::cube::{IdleUnits, Matrix, Projection, ProjectionBlock};
use tempograph_kernels::tensor::CubeRuntime;

use crate::executor::{Back, DeviceContext, DeviceStage, Laying, Shares};
use crate::ops::layers::projection::TimeProjection;

#[derive(Debug)]
struct ProjectionStage {
    op: TimeProjection,
    block: ProjectionBlock,
}

impl TimeProjection {
    pub(crate) fn device_stage<R: CubeRuntime>(&self, laying: &mut Laying<'_>) -> Box<dyn DeviceStage<R>> {
        let width = laying.len(self.drift);
        let from = (laying.begin(self.drift), self.bias.map(|bias| laying.begin(bias)));
        let block = ProjectionBlock::stand(&mut laying.layout, width, from);
        Box::new(ProjectionStage { op: self.clone(), block })
    }
}

impl<R: CubeRuntime> DeviceStage<R> for ProjectionStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, Back<'a, R>) {
        let units = IdleUnits { first: self.op.units[0], second: self.op.units.get(1).copied() };
        let projection = Projection::at(cx.weights, self.block, units, self.op.dropped(cx.dropout));
        let hop = cx.hop(0).unwrap_or_else(|| unreachable!("a past has the roots that rows are projected of"));
        let projected = projection.forward(hop, &reads[0]);
        let back = move |grad: &Matrix<R>, _: &mut Shares<R>| vec![projection.backward(hop, &reads[0], grad)];
        (projected, Box::new(back))
    }
}
