//! Temporal graph sum, TGN eq. 9-10: `h = relu(sum_v W1 [s_v | e | phi(dt)])`, `z = W2 [h | s | phi(0)]`.

use std::sync::Arc;

use tempograph_kernels::cpu::{
    Activation, AttentionPlanRef, InputGradient, Linear, PaddedRows, ProjectedAttention, ProjectionGradients,
    ProjectionWeights, head_stride,
};
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{
    AttentionPlan, ScoreActivation, TemporalOps, gather_rows, product, rectify, temporal_attention,
};

use crate::operation::{
    Axis, Builder, Context, Gradients, HopSizes, MIN_PARALLEL_ROWS, Map, Operation, Products, Shape, Stage, StepSizes,
    TableGradients, Tables, TensorContext, Value,
};
use crate::ops::layers::attention::{
    Parts, Projections, attended_table, gather_with_zero_time, scatter, zero_time_backward,
};
use crate::ops::tables::time::TimeEncoding;

/// A layer that sums over the neighbours of a hop's centres.
#[derive(Clone, Debug)]
pub struct NeighbourSum {
    pub(crate) neighbour: Map,
    pub(crate) merge: Map,
    pub(crate) time: TimeEncoding,
    pub(crate) hop: usize,
    pub(crate) input: usize,
}

impl Builder {
    /// Embeddings of the centres of `hop`, `width` columns wide, from the rows of `table`. Parameters are called
    /// `NAME.neighbour…` and `NAME.merge…`.
    pub fn neighbour_sum(&mut self, name: &str, table: Value, hop: usize, time: TimeEncoding, width: usize) -> Value {
        let (input, edge) = (self.width(table), self.edge_width());
        self.require_neighbours(hop);
        let neighbour = self.parameters.linear(&format!("{name}.neighbour"), input + edge + time.width, width, true);
        let merge = self.parameters.linear(&format!("{name}.merge"), width + input + time.width, width, true);
        let op = NeighbourSum { neighbour, merge, time, hop, input };
        self.push(name, op, &[table], Shape { axis: Axis::Centres(hop), width })
    }
}

impl NeighbourSum {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        let hop = &cx.view.hops[self.hop];
        let centres = gather_rows(table.clone(), hop.centres.clone());
        let map = cx.augmented(&self.neighbour);
        let (rows, columns) = (hop.centres.len(), map.dims()[1]);
        let plan = AttentionPlan {
            neighbours: hop.neighbours.clone(),
            features: cx.view.edge_features.clone(),
            activation: ScoreActivation::Scaled(1.0),
            dropout: None,
        };
        // A query of zero attends evenly: the kernel gives the mean, and the number of neighbours turns it into the
        // sum.
        let query = Tensor::zeros([1, rows, columns], cx.device());
        let [freq, phase] = [self.time.freq, self.time.phase].map(|param| cx.vector(param));
        let mean = temporal_attention(Arc::new(plan), table.clone(), query, freq, phase);
        let counts = hop.neighbours.count.iter().map(|&count| count as f32).collect();
        let sum = mean.squeeze_dim::<2>(0) * cx.from_rows(counts, [rows, 1]);
        let seen = rectify(product(sum, map.transpose()));
        let now = self.time.encode(cx, &[0.0]).repeat_dim(0, rows);
        cx.linear(&self.merge, Tensor::cat(vec![seen, centres, now], 1))
    }

    fn attending<'a>(&self, cx: &Context<'a>) -> AttentionPlanRef<'a> {
        AttentionPlanRef {
            neighbours: &cx.view.hops[self.hop].neighbours,
            features: cx.view.edge_features.as_deref(),
            activation: ScoreActivation::Scaled(1.0),
            dropout: None,
        }
    }
}

impl Operation for NeighbourSum {
    fn describe(&self) -> String {
        "sum of neighbours".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(SumStage { op: self.clone(), work: Work::default() })
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let HopSizes { centres, neighbours } = sizes.hop(self.hop);
        let (input, time, width, x) = (self.input, self.time.width, self.merge.outputs, self.neighbour.inputs);
        products.forward += neighbours * x as f64;
        products.backward += neighbours * (input + time) as f64;
        products.map(centres, x, width, input + time);
        products.map(centres, width + input, width, width + input);
        products.map(1.0, time, width, time);
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct SumStage {
    op: NeighbourSum,
    work: Work,
}

#[derive(Debug, Default)]
struct Work {
    /// `[C, W + T]` centres, each followed by phi(0).
    centres: PaddedRows,
    centres_gradient: PaddedRows,
    /// `[C, O]`: zeros, so that all neighbours have the same weight.
    query: PaddedRows,
    query_gradient: PaddedRows,
    projections: Projections,
    attention: ProjectedAttention,
    /// `[C, O]`: means of mapped neighbours, then sums; in the backward pass their gradient.
    seen: PaddedRows,
    /// `[C, O + W + T]`
    concat: PaddedRows,
    concat_gradient: PaddedRows,
    merge: Linear,
    sine: Vec<f32>,
}

impl NeighbourSum {
    fn parts(&self) -> Parts {
        [Some(self.neighbour.weight), self.neighbour.bias, None]
    }
}

impl Stage for SumStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let (SumStage { op, work }, table) = (self, reads.table(0));
        let (hop, width, weights) = (&cx.view.hops[op.hop], op.merge.outputs, cx.weights);
        let (rows, stride) = (hop.centres.len(), head_stride(width, 1));
        gather_with_zero_time(&mut work.centres, table, hop, &op.time, weights);
        // the value's map is also passed as the key's: with a query of zero the key has no effect
        let columns = op.neighbour.inputs + 1;
        work.projections.concat(weights, [width, columns], [op.parts(), op.parts()], rows >= MIN_PARALLEL_ROWS);
        work.query.resize_with_stride(rows, width, stride);
        work.query.values.fill(0.0);
        work.seen.resize_with_stride(rows, width, stride);
        let (version, precision) = (weights.parameters.version(), weights.precision);
        let Projections { key, value, .. } = &work.projections;
        let projections = ProjectionWeights { key, value, heads: 1, version, precision };
        let from = attended_table(table, &op.time, weights);
        work.attention.forward(&op.attending(cx), projections, from, &work.query.values, &mut work.seen.values);
        work.concat.zeros(rows, width + work.centres.columns());
        for (row, &count) in hop.neighbours.count.iter().enumerate() {
            let (left, right) = work.concat.row_mut(row).split_at_mut(width);
            left.iter_mut()
                .zip(work.seen.row(row))
                .for_each(|(h, &mean)| *h = tempograph_kernels::cpu::rectify(mean * count as f32));
            right.copy_from_slice(work.centres.row(row));
        }
        work.merge.forward(&work.concat, weights.linear(&op.merge), Activation::None, out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let (SumStage { op, work }, table) = (self, reads.table(0));
        let (hop, width, weights) = (&cx.view.hops[op.hop], op.merge.outputs, cx.weights);
        let of_table = into.table(0, table);
        gradients.zero(op.neighbour.params());
        let Work { merge, concat, concat_gradient, centres, centres_gradient, .. } = work;
        let replace = InputGradient::Replace(concat_gradient);
        merge.backward(concat, weights.values(op.merge.weight), grad, gradients.map(&op.merge), replace);
        centres_gradient.resize_like(centres);
        for (row, &count) in hop.neighbours.count.iter().enumerate() {
            let (of_sum, of_centre) = concat_gradient.row(row).split_at(width);
            centres_gradient.row_mut(row).copy_from_slice(of_centre);
            let sum = &concat.row(row)[..width];
            let seen = work.seen.row_mut(row).iter_mut().zip(of_sum).zip(sum);
            seen.for_each(|((seen, &grad), &h)| *seen = if h > 0.0 { grad * count as f32 } else { 0.0 });
        }
        let Work { projections, attention, query, query_gradient, seen, .. } = work;
        let Projections { key, value, key_gradient, value_gradient, .. } = projections;
        key_gradient.resize(key.len(), 0.0);
        value_gradient.resize(value.len(), 0.0);
        query_gradient.resize_like(query);
        let [freq, phase] = gradients.params_mut([op.time.freq, op.time.phase]);
        let found = ProjectionGradients {
            key: key_gradient,
            value: value_gradient,
            query: &mut query_gradient.values,
            hidden: &mut of_table.values,
            time: [freq, phase],
        };
        let from = attended_table(table, &op.time, weights);
        attention.backward(&op.attending(cx), from, &query.values, &seen.values, found);
        work.projections.split_gradients(gradients, width, [[None; 3], op.parts()]);
        zero_time_backward(&work.centres_gradient, table.columns(), &mut work.sine, &op.time, weights, gradients);
        scatter(of_table, hop, &work.centres_gradient);
    }
}
