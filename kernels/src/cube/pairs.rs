//! Scores of pairs, the last step of a link decoder, and their gradients.
use super::matrix::Matrix;
use super::plans::group;
use super::reduce::{COLUMNS, ROWS, down, sum_rows, sum_rows_into};
use super::span::{Device, Parcel, Places, Span, UNITS, cubes, padded, units, zeros};
use super::weights::Weight;
use crate::PairPlan;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Pairs that a cube adds up.
const CHUNK: usize = 64;

/// A [`PairPlan`] on a device, with the pairs of every row of either table.
#[derive(Clone, Debug)]
pub struct DevicePairs<R: CubeRuntime> {
    device: Device<R>,
    i: Span<R>,
    j: Span<R>,
    /// For either table where the pairs of each row begin, and the pairs row by row.
    groups: [[Span<R>; 2]; 2],
}

impl<R: CubeRuntime> DevicePairs<R> {
    /// Sends `plan`, whose tables have `rows` rows, in one transfer.
    fn send(device: &Device<R>, plan: &PairPlan, rows: [usize; 2]) -> Self {
        let pairs = plan.i.len();
        let mut parcel = Parcel::default();
        parcel.integers(plan.i.iter().copied());
        parcel.integers(plan.j.iter().copied());
        for (rows, of) in rows.iter().zip([&plan.i, &plan.j]) {
            let (starts, grouped) = group(*rows, 0..pairs as u32, of);
            parcel.integers(starts);
            parcel.integers(grouped);
        }
        let sent = device.send(parcel);
        let mut places = Places::default();
        let mut next = |len: usize| sent.part(places.next(len), len);
        let (i, j) = (next(pairs), next(pairs));
        let groups = rows.map(|rows| [next(rows + 1), next(pairs)]);
        Self { device: device.clone(), i, j, groups }
    }
}

/// What is fixed when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    width: usize,
    /// Whether anything is added to each pair.
    added: bool,
}

/// What a score is made of.
#[derive(CubeType, CubeLaunch)]
struct Parts {
    i: Array<u32>,
    j: Array<u32>,
    a: Array<f32>,
    b: Array<f32>,
    c: Array<f32>,
    weight: Array<f32>,
    bias: Array<f32>,
}

/// What is rectified: column `column` of a pair.
#[cube]
fn hidden(parts: &Parts, pair: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    let width = comptime!(shape.width);
    let mut sum = parts.a[parts.i[pair] as usize * width + column] + parts.b[parts.j[pair] as usize * width + column];
    if comptime!(shape.added) {
        sum += parts.c[pair * width + column];
    }
    sum
}

/// A row of units adds up a pair.
#[cube(launch)]
fn scores_kernel(parts: &Parts, scores: &mut Array<f32>, #[comptime] shape: Shape) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let pair = CUBE_POS * ROWS as usize + UNIT_POS_Y as usize;
    let first = (UNIT_POS_Y * COLUMNS) as usize;
    let mut sum = 0.0f32;
    if pair < scores.len() {
        for column in range_stepped(UNIT_POS_X as usize, comptime!(shape.width), comptime!(COLUMNS as usize)) {
            sum += f32::max(hidden(parts, pair, column, shape), 0.0f32) * parts.weight[column];
        }
    }
    shared[first + UNIT_POS_X as usize] = sum;
    sync_cube();
    if pair < scores.len() && UNIT_POS_X == 0 {
        let mut score = parts.bias[0];
        for x in 0..comptime!(COLUMNS as usize) {
            score += shared[first + x];
        }
        scores[pair] = score;
    }
}

/// The gradient of a pair's column.
#[cube]
fn slope(parts: &Parts, grad: &Array<f32>, pair: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    select(hidden(parts, pair, column, shape) > 0.0f32, grad[pair] * parts.weight[column], 0.0f32)
}

/// Adds up, for every row of a table, the pairs it is in. A cube takes a row.
#[cube(launch)]
fn table_kernel(
    parts: &Parts,
    grad: &Array<f32>,
    starts: &Array<u32>,
    pairs: &Array<u32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] shape: Shape,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let row = usize::min(CUBE_POS, rows as usize - 1);
    let start = starts[row];
    let end = starts[row + 1];
    let width = comptime!(shape.width);
    for block in 0..comptime!(shape.width.div_ceil(COLUMNS as usize)) {
        let column = block * COLUMNS as usize + UNIT_POS_X as usize;
        let mut sum = 0.0f32;
        if column < width {
            for at in range_stepped(start + UNIT_POS_Y, end, ROWS) {
                sum += slope(parts, grad, pairs[at as usize] as usize, column, shape);
            }
        }
        let sum = down(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < width {
            out[row * width + column] = sum;
        }
    }
}

/// The gradient of what is added.
#[cube(launch)]
fn added_kernel(parts: &Parts, grad: &Array<f32>, out: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(shape.width);
        out[i] = slope(parts, grad, i / width, i % width, shape);
    }
}

/// What every chunk of pairs adds to the gradients of weight and, behind it, bias: `[chunks, padded]`.
#[cube(launch)]
fn weight_kernel(parts: &Parts, grad: &Array<f32>, out: &mut Array<f32>, pairs: u32, #[comptime] shape: Shape, #[comptime] padded: usize) {
    let width = comptime!(shape.width);
    let chunk = ABSOLUTE_POS / (width + 1);
    let column = ABSOLUTE_POS % (width + 1);
    let first = chunk * comptime!(CHUNK);
    let end = usize::min(first + comptime!(CHUNK), pairs as usize);
    let mut sum = 0.0f32;
    for pair in first..end {
        if column == width {
            sum += grad[pair];
        } else {
            sum += grad[pair] * f32::max(hidden(parts, pair, usize::min(column, width - 1), shape), 0.0f32);
        }
    }
    if first < pairs as usize {
        let place = select(column == width, padded, column);
        out[chunk * 2 * padded + place] = sum;
    }
}

/// Inputs of the scores: two tables, what is added if anything is, weight and bias.
struct Inputs<R: CubeRuntime> {
    a: Span<R>,
    b: Span<R>,
    c: Span<R>,
    weight: Span<R>,
    bias: Span<R>,
    shape: Shape,
}

impl<R: CubeRuntime> Inputs<R> {
    fn of(device: &Device<R>, inputs: &[CubeTensor<R>; 5]) -> Self {
        let shape = Shape { width: inputs[3].shape().num_elements(), added: inputs[2].shape()[0] > 0 };
        let [a, b, c, weight, bias] = inputs.each_ref().map(|tensor| device.span(tensor));
        Self { a, b, c, weight, bias, shape }
    }

    fn parts(&self, pairs: &DevicePairs<R>) -> PartsLaunch<R> {
        let Self { a, b, c, weight, bias, .. } = self;
        PartsLaunch::new(pairs.i.arg(), pairs.j.arg(), a.arg(), b.arg(), c.arg(), weight.arg(), bias.arg())
    }

    /// `[P]`
    fn scores(&self, pairs: &DevicePairs<R>) -> Span<R> {
        let count = pairs.i.len();
        let scores = pairs.device.empty(count).part(0, count);
        if count > 0 {
            let (launch, dim) = (cubes(count.div_ceil(ROWS as usize)), CubeDim::new_2d(COLUMNS, ROWS));
            scores_kernel::launch::<R>(&pairs.device.client, launch, dim, self.parts(pairs), scores.arg(), self.shape);
        }
        scores
    }

    /// The gradient of the first or the second table, `[rows, O]`, from those of the scores.
    fn table(&self, pairs: &DevicePairs<R>, which: usize, rows: usize, grad: &Span<R>) -> Matrix<R> {
        let (device, [starts, grouped]) = (&pairs.device, &pairs.groups[which]);
        let out = Matrix::new(device, rows, self.shape.width);
        if rows > 0 {
            let (launch, dim) = (cubes(rows), CubeDim::new_2d(COLUMNS, ROWS));
            let (starts, grouped, out) = (starts.arg(), grouped.arg(), out.span.arg());
            table_kernel::launch::<R>(
                &device.client,
                launch,
                dim,
                self.parts(pairs),
                grad.arg(),
                starts,
                grouped,
                out,
                rows as u32,
                self.shape,
            );
        }
        out
    }

    /// Gradients of weight `[O]` and bias `[1]`.
    fn weights(&self, pairs: &DevicePairs<R>, grad: &Span<R>) -> [Span<R>; 2] {
        let (device, count, width) = (&pairs.device, pairs.i.len(), self.shape.width);
        let (chunks, padded) = (count.div_ceil(CHUNK), padded(width));
        let shares = device.empty(chunks * 2 * padded);
        if count > 0 {
            let (launch, dim) = (units(chunks * (width + 1)), CubeDim::new_1d(UNITS));
            let parts = self.parts(pairs);
            weight_kernel::launch::<R>(&device.client, launch, dim, parts, grad.arg(), shares.arg(), count as u32, self.shape, padded);
        }
        let sums = sum_rows(device, &shares, chunks, 2 * padded);
        [sums.part(0, width), sums.part(padded, 1)]
    }
}

/// Scores `[P]`. Inputs: `a`, `b`, `c`, `weight`, `bias`.
pub(super) fn forward<R: CubeRuntime>(plan: &PairPlan, inputs: &[CubeTensor<R>; 5]) -> CubeTensor<R> {
    let device = Device::of(&inputs[0]);
    let pairs = DevicePairs::send(&device, plan, [0, 1].map(|table| inputs[table].shape()[0]));
    device.tensor(&Inputs::of(&device, inputs).scores(&pairs), [plan.i.len()])
}

/// Gradients of the five inputs.
pub(super) fn backward<R: CubeRuntime>(plan: &PairPlan, inputs: &[CubeTensor<R>; 5], grad: &CubeTensor<R>) -> [CubeTensor<R>; 5] {
    let device = Device::of(grad);
    let rows = [0, 1].map(|table| inputs[table].shape()[0]);
    let pairs = DevicePairs::send(&device, plan, rows);
    let (of, grad) = (Inputs::of(&device, inputs), device.span(grad));
    let [a, b] = [0, 1].map(|which| of.table(&pairs, which, rows[which], &grad).tensor());
    let c = zeros(&inputs[2]);
    if of.shape.added {
        let (span, dim) = (device.span(&c), CubeDim::new_1d(UNITS));
        added_kernel::launch::<R>(&device.client, units(span.len()), dim, of.parts(&pairs), grad.arg(), span.arg(), of.shape);
    }
    let [weight, bias] = of.weights(&pairs, &grad);
    [a, b, c, device.tensor(&weight, inputs[3].shape()), device.tensor(&bias, [1])]
}

/// The last map of a link decoder on a device: `score_p = weight . relu(a[i_p] + b[j_p]) + bias`.
#[derive(Clone, Debug)]
pub struct PairDecoder<R: CubeRuntime> {
    /// `[1, O]`
    pub weight: Weight<R>,
    /// `[1]`
    pub bias: Weight<R>,
}

impl<R: CubeRuntime> PairDecoder<R> {
    fn inputs(&self, [a, b]: [&Matrix<R>; 2]) -> Inputs<R> {
        let shape = Shape { width: a.columns(), added: false };
        let (weight, bias) = (self.weight.value().clone(), self.bias.value().clone());
        Inputs { a: a.span.clone(), b: b.span.clone(), c: a.span.clone(), weight, bias, shape }
    }

    /// Scores `[P, 1]` of pairs of rows of two tables, with the pairs as they were sent.
    ///
    /// # Panics
    /// Where a pair names a row that is not there.
    pub fn forward(&self, plan: &PairPlan, tables: [&Matrix<R>; 2]) -> (Matrix<R>, DevicePairs<R>) {
        let rows = tables.map(Matrix::rows);
        plan.check(rows[0], rows[1]);
        let pairs = DevicePairs::send(&tables[0].device, plan, rows);
        (Matrix::of(&pairs.device, self.inputs(tables).scores(&pairs), pairs.i.len(), 1), pairs)
    }

    /// Writes the gradients of weight and bias; gives those of both tables, from those of the scores.
    pub fn backward(&self, pairs: &DevicePairs<R>, tables: [&Matrix<R>; 2], grad: &Matrix<R>) -> [Matrix<R>; 2] {
        let inputs = self.inputs(tables);
        let [weight, bias] = inputs.weights(pairs, &grad.span);
        pairs.device.copy_to(&weight, 0, self.weight.gradient());
        pairs.device.copy_to(&bias, 0, self.bias.gradient());
        [0, 1].map(|which| inputs.table(pairs, which, tables[which].rows(), &grad.span))
    }
}

/// Loss and slope of every score: `share` is what a positive and what a negative counts.
#[cube(launch)]
fn loss_kernel(scores: &Array<f32>, losses: &mut Array<f32>, slopes: &mut Array<f32>, positives: u32, share: f32, negative_share: f32) {
    let i = ABSOLUTE_POS;
    if i < scores.len() {
        let positive = i < positives as usize;
        let sign = select(positive, -1.0f32, 1.0f32);
        let share = select(positive, share, negative_share);
        let x = sign * scores[i];
        // of the two exponentials the one that cannot overflow
        let small = (-x.abs()).exp();
        let sigmoid = select(x >= 0.0f32, 1.0f32, small) / (1.0f32 + small);
        losses[i] = share * (f32::max(x, 0.0f32) + (1.0f32 + small).ln());
        slopes[i] = sign * share * sigmoid;
    }
}

/// Binary cross-entropy of logits `[P, 1]`, the mean of the first `positives` plus the mean of the others, `[1, 1]`, and its derivative in each
/// score, `[P, 1]`.
pub fn link_loss<R: CubeRuntime>(scores: &Matrix<R>, positives: usize) -> (Matrix<R>, Matrix<R>) {
    let (device, count) = (&scores.device, scores.rows());
    let [losses, slopes, loss] = [count, count, 1].map(|rows| Matrix::new(device, rows, 1));
    let [share, negative] = [positives, count - positives].map(|count| 1.0 / count.max(1) as f32);
    let (launch, dim, all) = (units(count), CubeDim::new_1d(UNITS), scores.span.arg());
    loss_kernel::launch::<R>(&device.client, launch, dim, all, losses.span.arg(), slopes.span.arg(), positives as u32, share, negative);
    sum_rows_into(device, &losses.span, count, 1, &loss.span);
    (loss, slopes)
}
