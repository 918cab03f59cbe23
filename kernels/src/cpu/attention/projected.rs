//! Attention from projected queries to projected values: key weights are moved to the query and value weights after the
//! sum.
use crate::cpu::attention::backward::{
    AttentionGradientBuffers, ChunkGradient, attend_chunk_backward, group_slots, hidden_gradient,
};
use crate::cpu::attention::{AttentionBuffers, NeighbourTable, attend_chunk};
use crate::cpu::product::bf16::Precision;
use crate::cpu::product::gemm::{Matrix, Packed, WriteMode, gradient_here, multiply, padded};
use crate::cpu::product::version::Version;
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::time::sum_rows;
use crate::plan::neighbours::AttentionPlanRef;

/// Roots per task.
const TILE: usize = 12;

/// `out_h = (sum over k of a_hk x_k) V_hᵀ` with `a_h = softmax(act(q_h K_h x))`, for every root and head, where a
/// neighbour is `x_k = [hidden[row_k] | edge features | cos(dt_k * freq + phase) | 1]`, `X` numbers.
///
/// `q_h . (K_h x) = (K_hᵀ q_h) . x` and `sum a (V_h x) = V_h (sum a x)`: keys and values are never computed for each
/// neighbour. The forward pass saves the inputs of the backward pass, and both reuse their working memory.
#[derive(Clone, Debug, Default)]
pub struct ProjectedAttention {
    heads: usize,
    /// Columns of a neighbour, `X`.
    columns: usize,
    /// `[O / H]`
    per_head: usize,
    /// For each head: `K_h` `[p, X]` and `V_hᵀ` `[X, p]`; for the backward pass `V_h` `[p, X]` and `K_hᵀ` `[X, p]`.
    packed: Vec<[Packed; 4]>,
    /// Version of the packed weights.
    version: Option<(Version, Precision)>,
    kept: AttentionBuffers,
    gradient: AttentionGradientBuffers,
    /// `[tasks, 2T]`
    partial: Vec<f32>,
}

/// Weights of a [`ProjectedAttention`]: `key` and `value` `[O, X]`, biases in the last column.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionWeights<'a> {
    /// `[O, X]`
    pub key: &'a [f32],
    /// `[O, X]`
    pub value: &'a [f32],
    /// `H`, which divides `O`.
    pub heads: usize,
    /// Version of key and value.
    pub version: Version,
    /// Precision of the products.
    pub precision: Precision,
}

/// Gradients of a [`ProjectedAttention`].
#[derive(Debug)]
pub struct ProjectionGradients<'a> {
    /// `[O, X]`, overwritten.
    pub key: &'a mut [f32],
    /// `[O, X]`, overwritten.
    pub value: &'a mut [f32],
    /// `[C, O]` padded, overwritten.
    pub query: &'a mut [f32],
    /// `[N, W]` with the stride of the table, overwritten.
    pub hidden: &'a mut [f32],
    /// `[T]` each, added.
    pub time: [&'a mut [f32]; 2],
}

/// Numbers from one row of `[C, O]` to the next. It has padding because the products of each head write whole vectors.
pub fn head_stride(width: usize, heads: usize) -> usize {
    let per_head = width / heads;
    padded((heads - 1) * per_head + padded(per_head))
}

impl ProjectedAttention {
    /// Writes `out` `[C, O]` from `query` `[C, O]`, both with rows [`head_stride`] apart, and the rows of `table`.
    pub fn forward(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        weights: ProjectionWeights<'_>,
        table: NeighbourTable<'_>,
        query: &[f32],
        out: &mut [f32],
    ) {
        table.check(attending);
        let (roots, k, heads) = (attending.neighbours.roots, attending.neighbours.k, weights.heads);
        let columns = table.columns(attending);
        if (self.version, self.columns) != (Some((weights.version, weights.precision)), columns) {
            self.pack(weights, columns);
            self.version = Some((weights.version, weights.precision));
        }
        let (stride, row, per_head) = (padded(columns), head_stride(weights.key.len() / columns, heads), self.per_head);
        assert_eq!([query.len(), out.len()], [roots * row; 2], "query or output is not [{roots}, {row}]");
        self.kept.resize(roots * heads, stride, k);
        let AttentionBuffers { query: looked, seen, weights, slopes } = &mut self.kept;
        let (looked, seen) = (DisjointRows::new(looked, heads * stride), DisjointRows::new(seen, heads * stride));
        let (weights, slopes) = (DisjointRows::new(weights, heads * k), DisjointRows::new(slopes, heads * k));
        let (out, packed) = (DisjointRows::new(out, row), &self.packed);
        in_chunks(roots, TILE, |tile| {
            let (first, rows, query) = (tile.start, tile.len(), &query[tile.start * row..tile.end * row]);
            // SAFETY: tiles do not overlap.
            let (looked, seen) = unsafe { (looked.rows(tile.clone()), seen.rows(tile.clone())) };
            // SAFETY: as above.
            let (weights, slopes, out) =
                unsafe { (weights.rows(tile.clone()), slopes.rows(tile.clone()), out.rows(tile)) };
            for (head, [key, ..]) in packed.iter().enumerate() {
                let query = Matrix::new(&query[head * per_head..], rows, per_head, row);
                multiply(&mut looked[head * stride..], heads * stride, WriteMode::Replace, query, key);
            }
            attend_chunk(attending, table, [first, heads], looked, seen, weights, slopes);
            for (head, [_, value, ..]) in packed.iter().enumerate() {
                let seen = Matrix::new(&seen[head * stride..], rows, columns, heads * stride);
                multiply(&mut out[head * per_head..], row, WriteMode::Replace, seen, value);
            }
        });
    }

    fn pack(&mut self, weights: ProjectionWeights<'_>, columns: usize) {
        let precision = weights.precision;
        let outputs = weights.key.len() / columns;
        assert_eq!(
            [weights.key.len(), weights.value.len()],
            [outputs * columns; 2],
            "key or value is not [{outputs}, {columns}]"
        );
        assert_eq!(outputs % weights.heads, 0, "{} heads do not divide {outputs} columns", weights.heads);
        (self.heads, self.columns, self.per_head) = (weights.heads, columns, outputs / weights.heads);
        self.packed.resize_with(weights.heads, Default::default);
        let (per_head, size) = (self.per_head, self.per_head * columns);
        for (head, [key, value_t, value, key_t]) in self.packed.iter_mut().enumerate() {
            let part = head * size..(head + 1) * size;
            let k = Matrix::new(&weights.key[part.clone()], per_head, columns, columns);
            let v = Matrix::new(&weights.value[part], per_head, columns, columns);
            rayon::join(
                || {
                    key.rows(k, precision);
                    key_t.transpose(k, precision);
                },
                || {
                    value_t.transpose(v, precision);
                    value.rows(v, precision);
                },
            );
        }
    }

    /// Attention weights of each root before dropout, `[C, H, K]`.
    pub fn weights(&self) -> &[f32] {
        &self.kept.weights
    }

    /// Gradients, given that of the output, `[C, O]` with rows [`head_stride`] apart. The other arguments are those of
    /// [`forward`](Self::forward).
    pub fn backward(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        table: NeighbourTable<'_>,
        query: &[f32],
        out: &[f32],
        gradients: ProjectionGradients<'_>,
    ) {
        let ProjectionGradients { key, value, query: of_query, hidden, time } = gradients;
        let (roots, heads) = (attending.neighbours.roots, self.heads);
        let row = head_stride(heads * self.per_head, heads);
        let mut groups = std::mem::take(&mut self.gradient.groups);
        rayon::join(
            || self.root_gradients(attending, table, out, of_query),
            || group_slots(&mut groups, attending, hidden.len() / table.stride.max(1)),
        );
        self.gradient.groups = groups;
        let (stride, per_head, columns) = (padded(self.columns), self.per_head, self.columns);
        if roots == 0 {
            [key, value].into_iter().for_each(|gradient| gradient.fill(0.0));
        } else {
            let size = per_head * columns;
            let (key, value) = (DisjointRows::new(key, size), DisjointRows::new(value, size));
            let (kept, gradient) = (&self.kept, &self.gradient);
            // one loop over the weight gradients of all heads: that of one head is too small to share among threads
            in_chunks(2 * heads, 1, |task| {
                let (head, is_key) = (task.start / 2, task.start % 2 == 0);
                let (out, left, right) = if is_key {
                    // SAFETY: each task has a head's key or value of its own.
                    (unsafe { key.rows(head..head + 1) }, query, &gradient.query)
                } else {
                    // SAFETY: as above.
                    (unsafe { value.rows(head..head + 1) }, out, &kept.seen)
                };
                let left = Matrix::new(&left[head * per_head..], roots, per_head, row);
                let right = Matrix::new(&right[head * stride..], roots, columns, heads * stride);
                gradient_here(out, columns, WriteMode::Replace, left, right);
            });
        }
        hidden_gradient(attending, table, &self.kept, &self.gradient, hidden);
        sum_rows(&self.partial, time);
    }

    /// Gradients of the arrays by root: sums, multiplied queries, queries. Those of the time encoding go to `partial`,
    /// one row per task.
    fn root_gradients(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        table: NeighbourTable<'_>,
        out: &[f32],
        query: &mut [f32],
    ) {
        let (roots, k, heads, per_head) =
            (attending.neighbours.roots, attending.neighbours.k, self.heads, self.per_head);
        let (columns, stride, row) = (self.columns, padded(self.columns), head_stride(heads * per_head, heads));
        assert_eq!([query.len(), out.len()], [roots * row; 2], "gradients of query or output are not [{roots}, {row}]");
        self.gradient.resize(roots * heads, stride, k);
        let width = 2 * table.time.freq.len();
        self.partial.clear();
        self.partial.resize(roots.div_ceil(TILE) * width, 0.0);
        let AttentionGradientBuffers { seen, query: looked, dropped, score, .. } = &mut self.gradient;
        let (seen, looked) = (DisjointRows::new(seen, heads * stride), DisjointRows::new(looked, heads * stride));
        let (dropped, score) = (DisjointRows::new(dropped, heads * k), DisjointRows::new(score, heads * k));
        let (query, partial) = (DisjointRows::new(query, row), DisjointRows::new(&mut self.partial, width));
        let (kept, packed) = (&self.kept, &self.packed);
        in_chunks(roots, TILE, |tile| {
            let (first, rows, task) = (tile.start, tile.len(), tile.start / TILE);
            let out = &out[tile.start * row..tile.end * row];
            // SAFETY: tiles do not overlap.
            let (seen, looked) = unsafe { (seen.rows(tile.clone()), looked.rows(tile.clone())) };
            // SAFETY: as above.
            let (dropped, score, query) =
                unsafe { (dropped.rows(tile.clone()), score.rows(tile.clone()), query.rows(tile)) };
            // SAFETY: each task has its own row.
            let time = unsafe { partial.rows(task..task + 1) };
            for (head, [_, _, value, _]) in packed.iter().enumerate() {
                let out = Matrix::new(&out[head * per_head..], rows, per_head, row);
                multiply(&mut seen[head * stride..], heads * stride, WriteMode::Replace, out, value);
            }
            let chunk = ChunkGradient { seen, query: looked, dropped, score, time };
            attend_chunk_backward(attending, table, [first, heads], kept, chunk);
            for (head, [.., key_t]) in packed.iter().enumerate() {
                let looked = Matrix::new(&looked[head * stride..], rows, columns, heads * stride);
                multiply(&mut query[head * per_head..], row, WriteMode::Replace, looked, key_t);
            }
        });
    }
}
