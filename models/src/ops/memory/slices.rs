//! The memory update on slices with one unmapped mail per node: one fused kernel.

use tempograph_framework::{MailView, View};
use tempograph_kernels::MailPlan;
use tempograph_kernels::cpu::{self, CellGradients, CellWeights, PaddedRows};

use crate::operation::{Context, Gradients, Stage, TableGradients, Tables, Weights};
use crate::ops::memory::MemoryUpdate;

#[derive(Debug)]
pub(super) struct FusedStage {
    op: MemoryUpdate,
    kernel: cpu::MemoryUpdate,
}

impl FusedStage {
    pub fn new(op: MemoryUpdate) -> FusedStage {
        FusedStage { op, kernel: cpu::MemoryUpdate::default() }
    }
}

impl MemoryUpdate {
    /// The cell's weights.
    pub(super) fn cell_weights<'a>(&self, weights: Weights<'a>) -> CellWeights<'a> {
        let [w_ih, w_hh, b_ih, b_hh] = self.cell.map(|param| weights.values(param));
        let (version, precision) = (weights.parameters.version(), weights.precision);
        CellWeights { w_ih, w_hh, b_ih, b_hh, version, precision }
    }
}

fn plan(view: &View) -> &MailPlan {
    match &view.mail {
        MailView::Last(plan) => plan,
        MailView::Many(_) => unreachable!("a history keeps what the program needs: the last mail"),
    }
}

impl Stage for FusedStage {
    fn forward(&mut self, cx: &Context<'_>, _: Tables<'_>, out: &mut PaddedRows) {
        let (FusedStage { op, kernel }, plan) = (self, plan(cx.view));
        out.resize_dense(plan.unique, op.settings.width);
        kernel.forward(plan, op.cell(), op.cell_weights(cx.weights), op.time.weights(cx.weights), &mut out.values);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        _: Tables<'_>,
        grad: &mut PaddedRows,
        _: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let FusedStage { op, kernel } = self;
        let [w_ih, w_hh, b_ih, b_hh] = op.cell;
        let [w_ih, w_hh, b_ih, b_hh, freq, phase] =
            gradients.params_mut([w_ih, w_hh, b_ih, b_hh, op.time.freq, op.time.phase]);
        let cell = CellGradients { w_ih, w_hh, b_ih, b_hh };
        let time = op.time.weights(cx.weights);
        kernel.backward(plan(cx.view), op.cell(), time, &grad.values, cell, [freq, phase]);
    }
}
