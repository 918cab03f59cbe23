//! JODIE's time projection, `z = (1 + dt w) * s`: where a node will be when nothing has happened to it for `dt`.
#[cfg(feature = "cube")]
mod device;

use std::sync::Arc;

use tempograph_kernels::cpu::PaddedRows;
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{TemporalOps, gather_rows, product};

use super::Op;
use super::attention::scatter;
use crate::executor::TensorContext;
use crate::operation::{Context, Into, Operation, Reads, Stage};
use crate::program::{Axis, Builder, Gradients, Param, Products, Shape, StepSizes, Value};

/// Scales the rows of the roots by how long their memories have not been updated.
#[derive(Clone, Debug)]
pub struct TimeProjection {
    /// `[D]`.
    pub(crate) drift: Param,
    /// Ticks that count as one.
    pub(crate) scale: f32,
}

impl Builder {
    /// `(1 + dt w) * s` of the roots' rows, with `dt` in units of `scale` ticks. Its parameter is called `NAME.drift`.
    pub fn time_projection(&mut self, name: &str, table: Value, scale: f64) -> Value {
        let width = self.width(table);
        self.needs.idle = true;
        self.reach(0);
        let bound = 1.0 / (width as f32).sqrt();
        let drift = self.parameters.uniform(&format!("{name}.drift"), &[width], bound);
        let op = TimeProjection { drift, scale: scale as f32 };
        self.push(name, Op::Projection(Arc::new(op)), &[table], Shape { axis: Axis::Centres(0), width })
    }
}

impl TimeProjection {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        let hop = &cx.view.hops[0];
        let centres = gather_rows(table.clone(), hop.centres.clone());
        let idle = cx.from_rows(hop.idle.iter().map(|idle| idle / self.scale).collect(), [hop.centres.len(), 1]);
        centres * (product(idle, cx.vector(self.drift).unsqueeze()) + 1.0)
    }
}

impl Operation for TimeProjection {
    fn describe(&self) -> String {
        format!("time projection, {} ticks count as one", self.scale)
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(ProjectionStage {
            op: self.clone(),
            centres: PaddedRows::default(),
            centres_gradient: PaddedRows::default(),
        })
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct ProjectionStage {
    op: TimeProjection,
    /// `[C, D]`
    centres: PaddedRows,
    centres_gradient: PaddedRows,
}

impl Stage for ProjectionStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Reads<'_>, out: &mut PaddedRows) {
        let (table, hop, drift) = (reads.table(0), &cx.view.hops[0], cx.weights.values(self.op.drift));
        self.centres.gather(&table.values, table.stride(), table.columns(), &hop.centres);
        out.resize(self.centres.rows(), table.columns());
        for row in 0..self.centres.rows() {
            let idle = hop.idle[row] / self.op.scale;
            let numbers = self.centres.row(row).iter().zip(drift);
            out.row_mut(row).iter_mut().zip(numbers).for_each(|(out, (&s, &w))| *out = s * (idle * w + 1.0));
        }
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Reads<'_>,
        grad: &mut PaddedRows,
        into: &mut Into<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let (hop, drift) = (&cx.view.hops[0], cx.weights.values(self.op.drift));
        let of_table = into.table(0, reads.table(0));
        of_table.values.fill(0.0);
        let of_drift = gradients.one(self.op.drift);
        of_drift.fill(0.0);
        self.centres_gradient.resize_like(&self.centres);
        for row in 0..self.centres.rows() {
            let idle = hop.idle[row] / self.op.scale;
            let (grad, centre) = (grad.row(row), self.centres.row(row));
            for (i, (&grad, &w)) in grad.iter().zip(drift).enumerate() {
                of_drift[i] += idle * centre[i] * grad;
                self.centres_gradient.row_mut(row)[i] = grad * (idle * w + 1.0);
            }
        }
        scatter(of_table, hop, &self.centres_gradient);
    }
}
