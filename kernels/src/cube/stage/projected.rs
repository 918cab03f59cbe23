//! Attention from projected queries to projected values: key weights are moved to the query and value weights after the
//! sum.
use crate::cube::array::layout::with_one;
use crate::cube::array::matrix::Matrix;
use crate::cube::array::products::product;
use crate::cube::array::weights::Weight;
use crate::cube::history::past::Hop;
use crate::cube::kernel::attention;
use crate::cube::kernel::attention::{Constants, Shape};
use crate::cube::kernel::attention_backward::{
    Now, Own, SlotGradients, hidden_gradient, slot_gradients, time_gradient_partials,
};
use crate::cube::kernel::time::{TimeEncoding, TimeGradientPartials};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, transposed, units};
use crate::{Dropout, ScoreActivation};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// How heads are concatenated, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Joint {
    width: usize,
    per_head: usize,
    /// Columns of the result.
    columns: usize,
    beside: JoinedColumns,
}

/// The columns next to joined heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum JoinedColumns {
    /// A 1, and zeros.
    One,
    /// Other columns, in rows of `stride`, after `start` others.
    Concat { stride: usize, start: usize },
    /// The same, added.
    Added { stride: usize, start: usize },
}

/// `[C, columns]` from `[H, C, O / H]`.
#[cube(launch)]
fn join_heads_kernel(
    heads: &Array<f32>,
    other: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] joint: Joint,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(joint.width);
        let per_head = comptime!(joint.per_head);
        let row = i / comptime!(joint.columns);
        let column = i % comptime!(joint.columns);
        let mut value = 0.0f32;
        if column < width {
            value = heads[(column / per_head * rows as usize + row) * per_head + column % per_head];
        }
        match comptime!(joint.beside) {
            JoinedColumns::One => {
                if column == width {
                    value = 1.0f32;
                }
            }
            JoinedColumns::Concat { stride, start } => {
                if column >= width {
                    value = other[row * comptime!(stride) + comptime!(start) + column - width];
                }
            }
            JoinedColumns::Added { stride, start } => {
                value += other[row * comptime!(stride) + comptime!(start) + column];
            }
        }
        out[i] = value;
    }
}

/// `[H, C, O / H]` from the first columns of rows of `stride`.
#[cube(launch)]
fn split_heads_kernel(
    joint: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] stride: usize,
    #[comptime] per_head: usize,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let column = i % per_head;
        let row = i / per_head % rows as usize;
        let head = i / per_head / rows as usize;
        out[i] = joint[row * stride + head * per_head + column];
    }
}

/// The inputs of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a, R: CubeRuntime> {
    /// `[rows, W]` the table below the hop.
    pub table: &'a Matrix<R>,
    /// `[C, O]`
    pub query: &'a ByHead<R>,
    /// `[O, X]`: its columns meet row, edge features and time encoding of a neighbour, and a 1.
    pub key: &'a Weight<R>,
    /// `[O, X]`
    pub value: &'a Weight<R>,
    /// The time encoding.
    pub time: &'a TimeEncoding<R>,
    /// Applied to scores before the softmax.
    pub activation: ScoreActivation,
    /// Dropout on the attention weights.
    pub dropout: Option<Dropout>,
}

/// Saved arrays of [`attend`] for its backward pass.
pub struct SavedAttention<R: CubeRuntime> {
    shape: Shape,
    constants: Constants,
    /// `hidden`, `query`, `freq`, `phase`.
    inputs: [CubeTensor<R>; 4],
    /// `[H, C, X]`
    seen: CubeTensor<R>,
    /// `[H, C, K]`
    weights: CubeTensor<R>,
}

/// `[C, O]` as attention works on it: by head, `[H, C, O / H]`.
#[derive(Clone, Debug)]
pub struct ByHead<R: CubeRuntime> {
    device: Device<R>,
    buffer: DeviceBuffer<R>,
    heads: usize,
    rows: usize,
    width: usize,
}

impl<R: CubeRuntime> ByHead<R> {
    /// `x Wᵀ`, of `x` `[C, ..]`. `heads` divide the rows of the weight.
    pub fn mapped(weight: &Weight<R>, x: &Matrix<R>, heads: usize) -> Self {
        let out = Self::new(&x.device, heads, x.rows(), weight.rows);
        weight.forward_by_head(x, heads, &out.tensor());
        out
    }

    /// The first `width` columns of `x` `[C, ..]`. `heads` divide them.
    pub fn split(x: &Matrix<R>, heads: usize, width: usize) -> Self {
        let (out, device, rows) = (Self::new(&x.device, heads, x.rows(), width), &x.device, x.rows());
        if out.buffer.len() > 0 {
            let (count, dim, per_head) = (units(out.buffer.len()), CubeDim::new_1d(UNITS), width / heads);
            let (from, to) = (x.buffer.arg(), out.buffer.arg());
            split_heads_kernel::launch::<R>(&device.client, count, dim, from, to, rows as u32, x.columns(), per_head);
        }
        out
    }

    /// With arbitrary numbers.
    fn new(device: &Device<R>, heads: usize, rows: usize, width: usize) -> Self {
        let buffer = device.empty(rows * width).part(0, rows * width);
        Self { device: device.clone(), buffer, heads, rows, width }
    }

    fn tensor(&self) -> CubeTensor<R> {
        self.device.blocks(&self.buffer, [self.heads, self.rows, self.width / self.heads])
    }

    fn join(&self, columns: usize, beside: JoinedColumns, other: &DeviceBuffer<R>) -> Matrix<R> {
        let (device, rows, out) = (&self.device, self.rows as u32, Matrix::new(&self.device, self.rows, columns));
        if out.buffer.len() > 0 {
            let joint = Joint { width: self.width, per_head: self.width / self.heads, columns, beside };
            let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
            join_heads_kernel::launch::<R>(
                &device.client,
                count,
                dim,
                self.buffer.arg(),
                other.arg(),
                out.buffer.arg(),
                rows,
                joint,
            );
        }
        out
    }

    /// `[C, ..]`, as a linear map reads it.
    pub fn joined(&self) -> Matrix<R> {
        self.join(with_one(self.width), JoinedColumns::One, &self.buffer)
    }

    /// `[C, O]`, with the columns of `other` from `start` on added.
    pub fn joined_plus(&self, other: &Matrix<R>, start: usize) -> Matrix<R> {
        self.join(self.width, JoinedColumns::Added { stride: other.columns(), start }, &other.buffer)
    }

    /// `[C, O + columns]`, followed by the columns of `other`.
    pub fn joined_concat(&self, other: &Matrix<R>) -> Matrix<R> {
        self.join(
            self.width + other.columns(),
            JoinedColumns::Concat { stride: other.columns(), start: 0 },
            &other.buffer,
        )
    }

    /// `[C, O]`
    pub fn joined_alone(&self) -> Matrix<R> {
        self.join(self.width, JoinedColumns::One, &self.buffer)
    }
}

/// Attends to every centre's neighbours. Each is `[row of the table | edge features | time encoding | 1]`.
///
/// # Panics
/// If the weights do not fit.
pub fn attend<R: CubeRuntime>(hop: &Hop<R>, by: AttentionInputs<'_, R>) -> (ByHead<R>, SavedAttention<R>) {
    let AttentionInputs { table, query, key, value, time, activation, dropout } = by;
    let (device, heads, centres, width, x) = (&hop.device, query.heads, hop.len(), key.rows, key.columns);
    let per_head = width / heads;
    let constants = Constants { activation, dropout };
    let of_weight = |buffer: &DeviceBuffer<R>| device.blocks(buffer, [heads, per_head, x]);
    let moved = device.blocks(&device.empty(heads * centres * x), [heads, centres, x]);
    product(query.tensor(), of_weight(&key.value), moved.clone());
    let [freq, phase] = time.tensors();
    let inputs = [table.tensor(), moved, freq, phase];
    let shape = Shape { pads: hop.pads, ..Shape::of(hop.neighbours, hop.features, &constants, &inputs) };
    let [seen, weights] = attention::attend(device, &constants, &shape, &hop.attention, &inputs);
    let out = ByHead::new(device, heads, centres, width);
    product(seen.clone(), transposed(&of_weight(&value.value)), out.tensor());
    (out, SavedAttention { shape, constants, inputs, seen, weights })
}

/// The arrays from which the gradients of table and time encoding are computed.
pub struct AttentionGradients<R: CubeRuntime>(SlotGradients<R>);

/// Writes the gradients of key and value. Returns that of the queries, given that of the result, the first columns of
/// `grad` `[C, ..]`.
pub fn attend_backward<R: CubeRuntime>(
    hop: &Hop<R>,
    by: AttentionInputs<'_, R>,
    kept: &SavedAttention<R>,
    grad: &Matrix<R>,
) -> (ByHead<R>, AttentionGradients<R>) {
    let AttentionInputs { query, key, value, .. } = by;
    let SavedAttention { shape, constants, inputs, seen, weights } = kept;
    let (device, heads, centres, width, x) = (&hop.device, query.heads, hop.len(), key.rows, key.columns);
    let of_weight = |buffer: &DeviceBuffer<R>| device.blocks(buffer, [heads, width / heads, x]);
    let grad = ByHead::split(grad, heads, width);
    let of_seen = device.blocks(&device.empty(heads * centres * x), [heads, centres, x]);
    product(grad.tensor(), of_weight(&value.value), of_seen.clone());
    product(transposed(&grad.tensor()), seen.clone(), of_weight(&value.gradient));

    let shared = slot_gradients(device, constants, shape, &hop.attention, inputs, weights, &of_seen);
    let of_moved = device.blocks(&shared.query, [heads, centres, x]);
    product(transposed(&query.tensor()), of_moved.clone(), of_weight(&key.gradient));
    let of_query = ByHead::new(device, heads, centres, width);
    product(of_moved, transposed(&of_weight(&key.value)), of_query.tensor());
    (of_query, AttentionGradients(shared))
}

/// The gradient of the table, `[rows, W]`: of its rows as neighbours, and as the centres themselves. Those of the
/// centres are the first columns of `query_rows`, and the columns of `merged` after the given number of others. Passes
/// `time` its partial gradients of the time encoding; `now` says whether the queries contain the encoding of time 0.
pub fn table_backward<R: CubeRuntime>(
    hop: &Hop<R>,
    kept: &SavedAttention<R>,
    AttentionGradients(shared): &AttentionGradients<R>,
    (query_rows, now): (&Matrix<R>, bool),
    merged: Option<(&Matrix<R>, usize)>,
    time: &mut TimeGradientPartials<R>,
) -> Matrix<R> {
    let (device, shape) = (&hop.device, &kept.shape);
    let now = now.then_some((&query_rows.buffer, Now { stride: query_rows.columns(), start: shape.w }));
    time_gradient_partials(device, shape, &hop.attention, &kept.inputs, shared, now, &time.take(hop.len()));
    let (second, start) = merged.unwrap_or((query_rows, 0));
    let own = Own { first: query_rows.columns(), second: merged.map_or(0, |(merged, _)| merged.columns()), start };
    let tensor = hidden_gradient(
        device,
        shape,
        &hop.attention,
        &kept.inputs,
        shared,
        Some(([&query_rows.buffer, &second.buffer], own)),
    );
    Matrix::from_tensor(&tensor, hop.below, shape.w)
}

/// The columns of a block that another block has as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shared {
    columns: usize,
    stride: usize,
    start: usize,
}

#[cube(launch)]
fn share_kernel(edge: &Array<f32>, key: &mut Array<f32>, value: &mut Array<f32>, #[comptime] of: Shared) {
    let i = ABSOLUTE_POS;
    if i < edge.len() {
        let at = i / comptime!(of.columns) * comptime!(of.stride) + comptime!(of.start) + i % comptime!(of.columns);
        key[at] = edge[i];
        value[at] = edge[i];
    }
}

#[cube(launch)]
fn share_backward_kernel(edge: &mut Array<f32>, key: &mut Array<f32>, value: &mut Array<f32>, #[comptime] of: Shared) {
    let i = ABSOLUTE_POS;
    if i < edge.len() {
        let at = i / comptime!(of.columns) * comptime!(of.stride) + comptime!(of.start) + i % comptime!(of.columns);
        edge[i] = key[at] + value[at];
        key[at] = 0.0f32;
        value[at] = 0.0f32;
    }
}

/// Copies `edge` `[O, E + T]` over the columns from `start` on of both `key` and `value` `[O, X]`, which have no
/// weights of their own there.
pub fn share_edge<R: CubeRuntime>(edge: &Weight<R>, [key, value]: [&Weight<R>; 2], start: usize) {
    let of = Shared { columns: edge.columns, stride: key.columns, start };
    let (count, dim) = (units(edge.value.len()), CubeDim::new_1d(UNITS));
    share_kernel::launch::<R>(
        &edge.device.client,
        count,
        dim,
        edge.value.arg(),
        key.value.arg(),
        value.value.arg(),
        of,
    );
}

/// Moves the gradients of the copies to that of `edge`, which is overwritten.
pub fn share_edge_backward<R: CubeRuntime>(edge: &Weight<R>, [key, value]: [&Weight<R>; 2], start: usize) {
    let of = Shared { columns: edge.columns, stride: key.columns, start };
    let (count, dim) = (units(edge.gradient.len()), CubeDim::new_1d(UNITS));
    share_backward_kernel::launch::<R>(
        &edge.device.client,
        count,
        dim,
        edge.gradient.arg(),
        key.gradient.arg(),
        value.gradient.arg(),
        of,
    );
}
