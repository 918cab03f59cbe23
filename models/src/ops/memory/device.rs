//! The memory update on a device.

use tempograph_kernels::cube::{CellBlocks, CellOffsets, DeviceCell, Matrix};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::{BackwardFn, DeviceContext, DeviceStage, LayoutBuilder, TimeGradients, TimeSlot};
use crate::ops::memory::MemoryUpdate;

#[derive(Debug)]
struct CellStage {
    blocks: CellBlocks,
    time: TimeSlot,
}

impl MemoryUpdate {
    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        layout_builder: &mut LayoutBuilder<'_>,
    ) -> Box<dyn DeviceStage<R>> {
        let [w_ih, w_hh, b_ih, b_hh] = self.cell.map(|param| layout_builder.offset(param));
        let from = CellOffsets { matrices: [w_ih, w_hh], biases: [b_ih, b_hh] };
        let (memory, time) = (self.settings.width, self.time.width);
        let widths = [memory + self.settings.rule.width(memory) + self.edge + time, time, memory];
        let blocks = CellBlocks::allocate(&mut layout_builder.layout, self.cell(), widths, &from);
        Box::new(CellStage { blocks, time: self.time.device_slot(layout_builder) })
    }
}

impl<R: CubeRuntime> DeviceStage<R> for CellStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, _: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>) {
        let cell = DeviceCell::at(cx.weights, self.blocks, cx.time(self.time));
        let (memory, kept) = cell.forward(cx.past);
        let back = move |grad: &Matrix<R>, shares: &mut TimeGradients<R>| {
            cell.backward(&kept, grad, shares.of(self.time));
            Vec::new()
        };
        (memory, Box::new(back))
    }

    fn time_gradient_rows(&self, cx: &DeviceContext<'_, R>) -> Option<(TimeSlot, usize)> {
        Some((self.time, cx.past.mails()))
    }
}
