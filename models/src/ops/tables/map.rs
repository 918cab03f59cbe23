//! A linear map of concatenated tables: `y = W [x_1 | x_2 | …] + b`, row by row.

use tempograph_kernels::TemporalOps;
use tempograph_kernels::cpu::{Activation, InputGradient, Linear, PaddedRows};
use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{
    Axis, Builder, Context, Gradients, Map, Operation, Products, Shape, Stage, StepSizes, TableGradients, Tables,
    TensorContext, Value,
};

/// Maps rows.
#[derive(Clone, Debug)]
pub struct RowMap {
    pub(crate) map: Map,
    axis: Axis,
}

impl Builder {
    /// Rows of `width` columns, mapped from the concatenated rows of all `tables`. Parameters are called `NAME.weight`
    /// and `NAME.bias`.
    pub fn linear_map(&mut self, name: &str, tables: &[Value], width: usize) -> Value {
        let axis = tables.first().map_or(Axis::Nodes, |&table| self.axis(table));
        let apart = tables.iter().map(|&table| self.axis(table)).find(|other| *other != axis);
        if let Some(other) = apart {
            self.fail(format!("a linear map reads tables of the same rows, not of {axis} and of {other}"));
        }
        let inputs = tables.iter().map(|&table| self.width(table)).sum();
        let op = RowMap { map: self.parameters.linear(name, inputs, width, true), axis };
        self.push(name, op, tables, Shape { axis, width })
    }
}

impl RowMap {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        cx.linear(&self.map, Tensor::cat(reads.to_vec(), 1))
    }
}

impl Operation for RowMap {
    fn describe(&self) -> String {
        "linear map".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        let [joined, of_joined] = [PaddedRows::default(), PaddedRows::default()];
        Box::new(MapStage { op: self.clone(), map: Linear::default(), joined, of_joined })
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let rows = match self.axis {
            Axis::Nodes => sizes.nodes,
            Axis::Centres(hop) => sizes.hop(hop).centres,
            Axis::Pairs => sizes.pairs,
        };
        products.map(rows, self.map.inputs, self.map.outputs, self.map.inputs);
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, reads)
    }
}

#[derive(Debug)]
struct MapStage {
    op: RowMap,
    map: Linear,
    /// `[n, inputs]` the concatenated tables.
    joined: PaddedRows,
    of_joined: PaddedRows,
}

impl Stage for MapStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let MapStage { op, map, joined, .. } = self;
        joined.zeros(if reads.is_empty() { 0 } else { reads.table(0).rows() }, op.map.inputs);
        for row in 0..joined.rows() {
            let mut rest = joined.row_mut(row);
            for table in (0..reads.len()).map(|i| reads.table(i)) {
                let (own, behind) = rest.split_at_mut(table.columns());
                own.copy_from_slice(table.row(row));
                rest = behind;
            }
        }
        map.forward(joined, cx.weights.linear(&op.map), Activation::None, out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let MapStage { op, map, joined, of_joined } = self;
        let weight = cx.weights.values(op.map.weight);
        map.backward(joined, weight, grad, gradients.map(&op.map), InputGradient::Replace(of_joined));
        let mut first = 0;
        for i in 0..reads.len() {
            let table = reads.table(i);
            let of_table = into.table(i, table);
            // Products read the padding, so an earlier gradient must not remain there.
            of_table.values.fill(0.0);
            for row in 0..table.rows() {
                of_table.row_mut(row).copy_from_slice(&of_joined.row(row)[first..first + table.columns()]);
            }
            first += table.columns();
        }
    }
}
