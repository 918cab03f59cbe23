//! The rows of the roots as they are: an embedding that is the memory itself.
#[cfg(feature = "cube")]
mod device;

use std::sync::Arc;

use tempograph_kernels::cpu::{PaddedRows, add};
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{TemporalOps, gather_rows};

use super::Op;
use crate::executor::TensorContext;
use crate::operation::{Context, Into, Operation, Reads, Stage};
use crate::program::{Axis, Builder, Gradients, Products, Shape, StepSizes, Value};

/// Takes the rows of the roots. Where a program shows roots no neighbours, all rows are the roots'.
#[derive(Clone, Debug)]
pub struct Centres;

impl Builder {
    /// The rows of the roots.
    pub fn centres(&mut self, table: Value) -> Value {
        let width = self.width(table);
        self.push("centres", Op::Centres(Arc::new(Centres)), &[table], Shape { axis: Axis::Centres(0), width })
    }
}

impl Centres {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        match cx.view.hops.first() {
            Some(hop) => gather_rows(table.clone(), hop.centres.clone()),
            None => table.clone(),
        }
    }
}

impl Operation for Centres {
    fn describe(&self) -> String {
        "rows of the roots".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(CentresStage)
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct CentresStage;

impl Stage for CentresStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Reads<'_>, out: &mut PaddedRows) {
        let table = reads.table(0);
        match cx.view.hops.first() {
            Some(hop) => out.gather(&table.values, table.stride(), table.columns(), &hop.centres),
            None => {
                out.zeros(table.rows(), table.columns());
                (0..table.rows()).for_each(|row| out.row_mut(row).copy_from_slice(table.row(row)));
            }
        }
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Reads<'_>,
        grad: &mut PaddedRows,
        into: &mut Into<'_>,
        _: &mut Gradients<'_>,
    ) {
        let of_table = into.table(0, reads.table(0));
        of_table.values.fill(0.0);
        let centres = cx.view.hops.first().map(|hop| &hop.centres);
        for row in 0..grad.rows() {
            let own = centres.map_or(row, |centres| centres[row] as usize);
            add(of_table.row_mut(own), grad.row(row));
        }
    }
}
