//! Layer norm: rows of mean 0 and variance 1, then scaled and shifted by column.

use tempograph_kernels::TemporalOps;
use tempograph_kernels::cpu::{LayerNorm, PaddedRows};
use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{
    Builder, Context, Gradients, Operation, Param, Products, Shape, Stage, StepSizes, TableGradients, Tables,
    TensorContext, Value,
};

/// Applies a layer norm to rows.
#[derive(Clone, Debug)]
pub struct RowNorm {
    pub(crate) parameters: [Param; 2],
}

impl Builder {
    /// The layer norm of the rows of `table`. Parameters are called `NAME.weight` and `NAME.bias`.
    pub fn norm(&mut self, name: &str, table: Value) -> Value {
        let shape = Shape { axis: self.axis(table), width: self.width(table) };
        let op = RowNorm { parameters: self.parameters.norm(name, shape.width) };
        self.push(name, op, &[table], shape)
    }
}

/// The layer norm of rows with this weight and bias.
pub(crate) fn norm_on_tensors<B: TemporalOps>(
    cx: &TensorContext<'_, B>,
    [weight, bias]: [Param; 2],
    rows: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let off = rows.clone() - rows.mean_dim(1);
    let variance = (off.clone() * off.clone()).mean_dim(1);
    off / (variance + LayerNorm::EPSILON).sqrt() * cx.vector(weight).unsqueeze() + cx.vector(bias).unsqueeze()
}

impl RowNorm {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        norm_on_tensors(cx, self.parameters, table.clone())
    }
}

impl Operation for RowNorm {
    fn describe(&self) -> String {
        "layer norm".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(NormStage { op: self.clone(), norm: LayerNorm::default() })
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct NormStage {
    op: RowNorm,
    norm: LayerNorm,
}

impl Stage for NormStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        self.norm.forward(reads.table(0), self.op.parameters.map(|param| cx.weights.values(param)), out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let of_table = into.table(0, reads.table(0));
        let weight = cx.weights.values(self.op.parameters[0]);
        self.norm.backward(grad, weight, gradients.params_mut(self.op.parameters), of_table);
    }
}
