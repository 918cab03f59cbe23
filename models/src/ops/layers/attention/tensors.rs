//! Attention layers on tensors.

use std::sync::Arc;

use tempograph_kernels::tensor::{Backend, Tensor};
use tempograph_kernels::{AttentionPlan, TemporalOps, gather_rows, product, rectify, temporal_attention};

use crate::operation::TensorContext;
use crate::ops::layers::attention::{AttentionLayer, Maps};
use crate::ops::tables::centres::centre_nodes;
use crate::ops::tables::dropout::drop_on_tensors;
use crate::ops::tables::norm::norm_on_tensors;

/// `[C, O] -> [H, C, O/H]`.
pub(crate) fn split_heads<B: Backend>(x: Tensor<B, 2>, heads: usize) -> Tensor<B, 3> {
    let [rows, width] = x.dims();
    x.reshape([rows, heads, width / heads]).swap_dims(0, 1)
}

/// `[H, C, O/H] -> [C, O]`.
pub(crate) fn join_heads<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [heads, rows, width] = x.dims();
    x.swap_dims(0, 1).reshape([rows, heads * width])
}

impl AttentionLayer {
    /// Embeddings of the hop's centres, `[C, O]`, from the rows of `table`.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let table = &reads[0];
        let hop = &cx.view.hops[self.hop];
        let centres = gather_rows(table.clone(), hop.centres.clone());
        match &self.maps {
            Maps::Paper { query, key, value, out, fc1, fc2 } => {
                let now = self.time.encode(cx, &[0.0]).repeat_dim(0, hop.centres.len());
                let query = cx.linear(query, Tensor::cat(vec![centres.clone(), now], 1));
                let attended = self.attend(cx, table, query, [cx.augmented(key), cx.augmented(value)]);
                let found = hop.neighbours.count.iter().map(|&count| f32::from(u8::from(count > 0))).collect();
                let attended = cx.linear(out, attended) * cx.from_rows(found, [hop.centres.len(), 1]);
                cx.linear(fc2, rectify(cx.linear(fc1, Tensor::cat(vec![attended, centres], 1))))
            }
            Maps::Conv { query, key, value, edge, skip } => {
                let with_edge = |map: &crate::operation::Map| {
                    let bias = map.bias.map(|bias| cx.vector(bias).unsqueeze_dim(1));
                    let parts = [Some(cx.matrix(map.weight)), Some(cx.matrix(edge.weight)), bias];
                    Tensor::cat(parts.into_iter().flatten().collect(), 1)
                };
                let query = cx.linear(query, centres.clone());
                self.attend(cx, table, query, [with_edge(key), with_edge(value)]) + cx.linear(skip, centres)
            }
            Maps::Residual { .. } => self.residual(cx, reads, centres),
        }
    }

    fn residual<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        reads: &[Tensor<B, 2>],
        mut centres: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let Maps::Residual { query, key, value, out, norm, fc1, fc2 } = &self.maps else { return centres };
        let (table, hop) = (&reads[0], &cx.view.hops[self.hop]);
        let shown = hop.centres.len();
        let zeros = |rows: usize, columns: usize| Tensor::<B, 2>::zeros([rows, columns], cx.device());
        // Appends the row of a centre of zeros, if the layer above needs one.
        let padded = |rows_of: Tensor<B, 2>| match self.appends_padding_row() {
            true => {
                let columns = rows_of.dims()[1];
                Tensor::cat(vec![rows_of, zeros(1, columns)], 0)
            }
            false => rows_of,
        };
        let padding = match self.padding_row(cx.view, table.dims()[0]) {
            Some(row) => table.clone().narrow(0, row, 1),
            None => zeros(1, self.input),
        };
        let mut ages = hop.age.clone();
        ages.resize(shown, 0.0);
        let mut alone: Vec<f32> = hop.neighbours.count.iter().map(|&n| f32::from(u8::from(n == 0))).collect();
        if self.appends_padding_row() {
            centres = Tensor::cat(vec![centres, padding.clone()], 0);
            ages.push(0.0);
            alone.push(1.0);
        }
        let rows = alone.len();
        let now = self.time.encode(cx, &[0.0]).repeat_dim(0, rows);
        let own = Tensor::cat(vec![centres.clone(), now], 1);
        let asked = cx.linear(query, own.clone()).narrow(0, 0, shown);
        let attended = self.attend(cx, table, asked, [cx.augmented(key), cx.augmented(value)]);
        let met = alone.iter().map(|alone| 1.0 - alone).collect();
        let mut seen = padded(attended) * cx.from_rows(met, [rows, 1]);
        if self.attends_to_padding() {
            let edge = (self.edge > 0).then(|| zeros(rows, self.edge));
            let parts = [Some(padding.repeat_dim(0, rows)), edge, Some(self.time.encode(cx, &ages))];
            let parts = parts.into_iter().flatten().collect();
            seen = seen + cx.linear(value, Tensor::cat(parts, 1)) * cx.from_rows(alone, [rows, 1]);
        }
        let behind = drop_on_tensors(cx, cx.linear(out, seen), self.output_dropout(cx.dropout));
        let merge_rows = match reads.get(1) {
            None => centres,
            Some(merge_rows) => {
                let nodes = centre_nodes(cx.view, self.hop);
                padded(gather_rows(merge_rows.clone(), nodes))
            }
        };
        let merged = Tensor::cat(vec![norm_on_tensors(cx, *norm, behind + own), merge_rows], 1);
        cx.linear(fc2, rectify(cx.linear(fc1, merged)))
    }

    /// Attention with the key weights moved to the query and the value weights after the sum. `key` and `value` are
    /// `[O, X]`, with biases in the last column.
    fn attend<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        table: &Tensor<B, 2>,
        query: Tensor<B, 2>,
        [key, value]: [Tensor<B, 2>; 2],
    ) -> Tensor<B, 2> {
        let ([width, columns], heads) = (key.dims(), self.settings.heads);
        let plan = AttentionPlan {
            neighbours: cx.view.hops[self.hop].neighbours.clone(),
            features: cx.view.edge_features.clone(),
            activation: self.activation(),
            dropout: self.dropout(cx.dropout),
        };
        let query = product(split_heads(query, heads), key.reshape([heads, width / heads, columns]));
        let [freq, phase] = [self.time.freq, self.time.phase].map(|param| cx.vector(param));
        let seen = temporal_attention(Arc::new(plan), table.clone(), query, freq, phase);
        join_heads(product(seen, value.reshape([heads, width / heads, columns]).swap_dims(1, 2)))
    }
}
