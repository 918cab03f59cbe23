//! The rows of the roots, unchanged: an embedding that is the memory itself.
#[cfg(feature = "cube")]
mod device;

#[cfg(feature = "cube")]
pub(crate) use device::{gather_centre_rows, gather_centre_rows_backward};

use tempograph_framework::View;
use tempograph_kernels::cpu::{PaddedRows, add};
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{TemporalOps, gather_rows};

use crate::operation::{
    Axis, Builder, Context, Gradients, Operation, Products, Shape, Stage, StepSizes, TableGradients, Tables,
    TensorContext, Value,
};

/// Gathers the rows of the roots. If a program shows roots no neighbours, all rows are the roots'.
#[derive(Clone, Debug)]
pub struct Centres;

impl Builder {
    /// The rows of the roots.
    pub fn centres(&mut self, table: Value) -> Value {
        let width = self.width(table);
        self.push("centres", Centres, &[table], Shape { axis: Axis::Centres(0), width })
    }
}

/// The view's nodes of the centres of `hop`, for operations that read a table of nodes at any hop.
pub(crate) fn centre_nodes_into(view: &View, hop: usize, nodes: &mut Vec<u32>) {
    nodes.clear();
    let Some(first) = view.hops.get(hop) else { return nodes.extend(0..view.nodes.len() as u32) };
    nodes.extend_from_slice(&first.centres);
    for hop in &view.hops[hop + 1..] {
        nodes.iter_mut().for_each(|row| *row = hop.centres[*row as usize]);
    }
}

/// The same in a new vector.
pub(crate) fn centre_nodes(view: &View, hop: usize) -> Vec<u32> {
    let mut nodes = Vec::new();
    centre_nodes_into(view, hop, &mut nodes);
    nodes
}

impl Centres {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        match cx.view.hops.is_empty() {
            false => gather_rows(table.clone(), centre_nodes(cx.view, 0)),
            true => table.clone(),
        }
    }
}

impl Operation for Centres {
    fn describe(&self) -> String {
        "rows of the roots".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(CentresStage { nodes: Vec::new() })
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct CentresStage {
    /// Rows of the roots in the table.
    nodes: Vec<u32>,
}

impl Stage for CentresStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let table = reads.table(0);
        centre_nodes_into(cx.view, 0, &mut self.nodes);
        match cx.view.hops.is_empty() {
            false => out.gather(&table.values, table.stride(), table.columns(), &self.nodes),
            true => {
                out.zeros(table.rows(), table.columns());
                (0..table.rows()).for_each(|row| out.row_mut(row).copy_from_slice(table.row(row)));
            }
        }
    }

    fn backward(
        &mut self,
        _: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        _: &mut Gradients<'_>,
    ) {
        let of_table = into.table(0, reads.table(0));
        of_table.values.fill(0.0);
        for (row, &node) in self.nodes.iter().enumerate() {
            add(of_table.row_mut(node as usize), grad.row(row));
        }
    }
}
