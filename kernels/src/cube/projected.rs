//! Attention from projected queries to projected values: key and value weights are moved to the query and behind the sum.
use super::attention::{self, Constants, Shape};
use super::attention_backward::{SlotGradients, hidden_gradient, slot_gradients};
use super::linear::Map;
use super::math::{cos, sin};
use super::matrix::{Matrix, Part, join};
use super::past::Hop;
use super::products::product;
use super::span::{Device, Span, UNITS, units};
use super::weights::Weight;
use crate::{Dropout, ScoreActivation};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// `[C, O]` from `[H, C, O / H]`.
#[cube(launch)]
fn join_heads_kernel(heads: &Array<f32>, out: &mut Array<f32>, rows: u32, #[comptime] width: usize, #[comptime] per_head: usize) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let (row, column) = (i / width, i % width);
        out[i] = heads[(column / per_head * rows as usize + row) * per_head + column % per_head];
    }
}

/// `phase.cos()`, the encoding of no time.
#[cube(launch)]
fn now_kernel(phase: &Array<f32>, out: &mut Array<f32>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = cos(phase[ABSOLUTE_POS]);
    }
}

/// Takes `phase.sin()` times the gradient of the encoding of no time from the gradient of the phases.
#[cube(launch)]
fn now_backward_kernel(phase: &Array<f32>, grad: &Array<f32>, out: &mut Array<f32>, #[comptime] first: usize) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] -= sin(phase[ABSOLUTE_POS]) * grad[first + ABSOLUTE_POS];
    }
}

/// `[rows | cos(phase)]`: what stands behind rows that are asked about now.
pub fn with_now<R: CubeRuntime>(rows: &Matrix<R>, phase: &Weight<R>) -> Matrix<R> {
    let device = &rows.device;
    let now = device.empty(phase.len()).part(0, phase.len());
    now_kernel::launch::<R>(&device.client, units(phase.len()), CubeDim::new_1d(UNITS), phase.value().arg(), now.arg());
    let out = Matrix::new(device, rows.rows(), rows.columns() + phase.len());
    join(device, &[Part::of(rows, 0, rows.columns()), Part::repeated(&now)], &out.span, false);
    out
}

/// Adds to the gradient of the phases what [`with_now`] brings, from the gradient of its result.
pub fn with_now_backward<R: CubeRuntime>(grad: &Matrix<R>, phase: &Weight<R>) {
    let (device, first) = (&grad.device, grad.columns() - phase.len());
    let sums = super::reduce::sum_rows(device, &grad.span, grad.rows(), grad.columns());
    let (count, dim) = (units(phase.len()), CubeDim::new_1d(UNITS));
    now_backward_kernel::launch::<R>(&device.client, count, dim, phase.value().arg(), sums.arg(), phase.gradient().arg(), first);
}

/// `[weight | edge | bias]`, `[O, X]`: key or value weights as a neighbour meets them.
pub fn projection<R: CubeRuntime>(hop: &Hop<R>, map: &Map<R>, edge: Option<&Weight<R>>, outputs: usize) -> Matrix<R> {
    let device = &hop.device;
    let mut parts = vec![Part::rows(map.weight.value(), map.weight.len() / outputs)];
    parts.extend(edge.map(|edge| Part::rows(edge.value(), edge.len() / outputs)));
    parts.extend(map.bias.as_ref().map(|bias| Part::rows(bias.value(), 1)));
    let zeros = map.bias.is_none().then(|| device.filled(1, 0));
    parts.extend(zeros.as_ref().map(Part::repeated));
    let columns = parts.iter().map(|part| part.columns()).sum();
    let out = Matrix::new(device, outputs, columns);
    join(device, &parts, &out.span, false);
    out
}

/// Hands the gradient of a [`projection`] to what it was put together from; that of `edge` is added to what is there.
pub fn projection_backward<R: CubeRuntime>(grad: &Matrix<R>, map: &Map<R>, edge: Option<&Weight<R>>) {
    let (device, outputs) = (&grad.device, grad.rows());
    let own = map.weight.len() / outputs;
    join(device, &[Part::of(grad, 0, own)], map.weight.gradient(), false);
    if let Some(edge) = edge {
        join(device, &[Part::of(grad, own, edge.len() / outputs)], edge.gradient(), true);
    }
    if let Some(bias) = &map.bias {
        join(device, &[Part::of(grad, grad.columns() - 1, 1)], bias.gradient(), false);
    }
}

/// What neighbours are attended to by.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a, R: CubeRuntime> {
    /// `[rows, W]` the table below the hop.
    pub table: &'a Matrix<R>,
    /// `[C, O]`
    pub query: &'a Matrix<R>,
    /// `[O, X]`, see [`projection`].
    pub key: &'a Matrix<R>,
    /// `[O, X]`
    pub value: &'a Matrix<R>,
    /// Frequencies and phases of the time encoding.
    pub time: &'a [Weight<R>; 2],
    /// `H`, which divides `O`.
    pub heads: usize,
    /// Of the attention weights.
    pub dropout: Option<Dropout>,
}

/// What [`attend`] keeps for its backward pass.
pub struct AttendedKept<R: CubeRuntime> {
    shape: Shape,
    constants: Constants,
    /// `hidden`, `query`, `freq`, `phase`.
    inputs: [CubeTensor<R>; 4],
    /// `[H, C, X]`
    seen: CubeTensor<R>,
    /// `[H, C, K]`
    weights: CubeTensor<R>,
}

/// Gradients of what neighbours were attended to by; those of the time encoding are added where they belong.
pub struct AttendedGradients<R: CubeRuntime> {
    /// `[C, O]`
    pub query: Matrix<R>,
    /// `[O, X]`
    pub key: Matrix<R>,
    /// `[O, X]`
    pub value: Matrix<R>,
    shared: SlotGradients<R>,
}

/// `[H, C, O / H]`, the heads of `rows` `[C, O]`, where they lie.
fn heads_of<R: CubeRuntime>(rows: &Matrix<R>, heads: usize) -> CubeTensor<R> {
    let (count, width) = (rows.rows(), rows.columns());
    let mut tensor = rows.device.tensor(&rows.span, [count, heads, width / heads]);
    tensor.meta.swap(0, 1);
    tensor
}

/// `[H, O / H, X]`, the heads of a projection.
fn heads_of_weights<R: CubeRuntime>(weights: &Matrix<R>, heads: usize) -> CubeTensor<R> {
    weights.device.tensor(&weights.span, [heads, weights.rows() / heads, weights.columns()])
}

/// The last two axes exchanged.
fn turned<R: CubeRuntime>(tensor: &CubeTensor<R>) -> CubeTensor<R> {
    let mut turned = tensor.clone();
    turned.meta.swap(1, 2);
    turned
}

fn join_heads<R: CubeRuntime>(device: &Device<R>, heads: &Span<R>, rows: usize, [width, count]: [usize; 2]) -> Matrix<R> {
    let out = Matrix::new(device, rows, width);
    let (launch, dim) = (units(rows * width), CubeDim::new_1d(UNITS));
    join_heads_kernel::launch::<R>(&device.client, launch, dim, heads.arg(), out.span.arg(), rows as u32, width, width / count);
    out
}

/// `out_h = (sum over k of a_hk x_k) V_hᵀ` with `a_h = softmax(q_h K_h x / sqrt(O / H))`, `[C, O]`, where a neighbour of a centre is
/// `x_k = [table[row_k] | edge features | cos(dt_k * freq + phase) | 1]`.
///
/// # Panics
/// Where shapes do not fit together, or there are no centres.
pub fn attend<R: CubeRuntime>(hop: &Hop<R>, by: Attended<'_, R>) -> (Matrix<R>, AttendedKept<R>) {
    let Attended { table, query, key, value, time, heads, dropout } = by;
    let (device, centres, width, x) = (&hop.device, hop.len(), query.columns(), key.columns());
    assert_eq!([table.rows(), query.rows()], [hop.below, centres], "rows of table and query");
    let per_head = width / heads;
    let constants = Constants { activation: ScoreActivation::Scaled(1.0 / (per_head as f32).sqrt()), dropout };
    let moved = device.tensor(&device.empty(heads * centres * x), [heads, centres, x]);
    product(heads_of(query, heads), heads_of_weights(key, heads), moved.clone());
    let [freq, phase] = time.each_ref().map(|weight| device.tensor(weight.value(), [weight.len()]));
    let inputs = [table.tensor(), moved, freq, phase];
    let shape = Shape::of(hop.neighbours, hop.features, &constants, &inputs);
    let [seen, weights] = attention::attend(device, &constants, &shape, &hop.attention, &inputs);
    let out = device.empty(heads * centres * per_head);
    product(seen.clone(), turned(&heads_of_weights(value, heads)), device.tensor(&out, [heads, centres, per_head]));
    let out = join_heads(device, &out, centres, [width, heads]);
    (out, AttendedKept { shape, constants, inputs, seen, weights })
}

/// Gradients from that of the result, `[C, O]`, but for the table's: that is [`table_backward`]'s.
pub fn attend_backward<R: CubeRuntime>(
    hop: &Hop<R>,
    by: Attended<'_, R>,
    kept: &AttendedKept<R>,
    grad: &Matrix<R>,
) -> AttendedGradients<R> {
    let Attended { query, key, value, time, heads, .. } = by;
    let AttendedKept { shape, constants, inputs, seen, weights } = kept;
    let (device, centres, width, x) = (&hop.device, hop.len(), query.columns(), key.columns());
    let per_head = width / heads;
    let projection = || Matrix::new(device, width, x);
    let (of_seen, of_value, of_key) = (device.empty(heads * centres * x), projection(), projection());
    let of_seen = device.tensor(&of_seen, [heads, centres, x]);
    let grad = heads_of(grad, heads);
    product(grad.clone(), heads_of_weights(value, heads), of_seen.clone());
    product(turned(&grad), seen.clone(), heads_of_weights(&of_value, heads));

    let (shared, [freq, phase]) = slot_gradients(device, constants, shape, &hop.attention, inputs, weights, &of_seen);
    time[0].add_gradient(device, &freq);
    time[1].add_gradient(device, &phase);
    let of_moved = device.tensor(&shared.query, [heads, centres, x]);
    product(turned(&heads_of(query, heads)), of_moved.clone(), heads_of_weights(&of_key, heads));
    let of_query = device.empty(heads * centres * per_head);
    product(of_moved, turned(&heads_of_weights(key, heads)), device.tensor(&of_query, [heads, centres, per_head]));
    let query = join_heads(device, &of_query, centres, [width, heads]);
    AttendedGradients { query, key: of_key, value: of_value, shared }
}

/// The gradient of the table, `[rows, W]`: of its rows as neighbours and, as that of `centres` `[C, W]` says, as the centres themselves.
pub fn table_backward<R: CubeRuntime>(
    hop: &Hop<R>,
    kept: &AttendedKept<R>,
    gradients: &AttendedGradients<R>,
    centres: &Matrix<R>,
) -> Matrix<R> {
    let tensor = hidden_gradient(&hop.device, &kept.shape, &hop.attention, &kept.inputs, &gradients.shared, Some(&centres.span));
    Matrix::from_tensor(&tensor, hop.below, centres.columns())
}
