//! Scores of pairs, the last step of a link decoder, and their gradients.
use crate::PairPlan;
use crate::cube::array::math::rectify;
use crate::cube::array::matrix::Matrix;
use crate::cube::launch::buffer::{
    Device, DeviceBuffer, OffsetAllocator, UNITS, UploadBuffer, cubes, padded, units, zeros,
};
use crate::cube::launch::plans::group;
use crate::cube::launch::reduce::{COLUMNS, ROWS, sum_rows, sum_unit_rows};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Pairs that a cube sums.
pub(crate) const CHUNK: usize = 64;

/// A [`PairPlan`] on a device, with the pairs of every row of its tables.
#[derive(Clone, Debug)]
pub(crate) struct DevicePairs<R: CubeRuntime> {
    pub(crate) device: Device<R>,
    pub(crate) i: DeviceBuffer<R>,
    pub(crate) j: DeviceBuffer<R>,
    /// For every table the start of each row's pairs, and the pairs row by row.
    groups: Vec<Group<R>>,
}

/// The start of each row's pairs, and the pairs row by row: of one table, or of two with the same rows, the second's
/// after the first's.
#[derive(Clone, Debug)]
struct Group<R: CubeRuntime> {
    starts: DeviceBuffer<R>,
    pairs: DeviceBuffer<R>,
}

impl<R: CubeRuntime> DevicePairs<R> {
    /// Sends pairs of rows of two tables, in one transfer.
    fn send(device: &Device<R>, plan: &PairPlan, rows: [usize; 2]) -> Self {
        let of = |rows: usize, names: &[u32]| group(rows, 0..names.len() as u32, names);
        Self::grouped(device, plan, &[of(rows[0], &plan.i), of(rows[1], &plan.j)])
    }

    /// Uploads pairs whose ends are rows of one table.
    ///
    /// # Panics
    /// If an end is not below `rows`.
    pub(crate) fn send_joint(device: &Device<R>, plan: &PairPlan, rows: usize) -> Self {
        plan.check(rows, rows);
        let names: Vec<u32> = plan.i.iter().copied().chain(plan.j.iter().map(|&end| end + rows as u32)).collect();
        Self::grouped(device, plan, &[group(2 * rows, 0..names.len() as u32, &names)])
    }

    fn grouped(device: &Device<R>, plan: &PairPlan, groups: &[(Vec<u32>, Vec<u32>)]) -> Self {
        let mut upload = UploadBuffer::default();
        upload.integers(plan.i.iter().copied());
        upload.integers(plan.j.iter().copied());
        for (starts, pairs) in groups {
            upload.integers(starts.iter().copied());
            upload.integers(pairs.iter().copied());
        }
        let sent = device.send(upload);
        let mut offsets = OffsetAllocator::default();
        let mut next = |len: usize| sent.part(offsets.next(len), len);
        let (i, j) = (next(plan.i.len()), next(plan.j.len()));
        let groups = groups
            .iter()
            .map(|(starts, pairs)| Group { starts: next(starts.len()), pairs: next(pairs.len()) })
            .collect();
        Self { device: device.clone(), i, j, groups }
    }
}

/// Constants at the compilation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    /// Whether both tables are one. Its rows are mapped for the first end, then for the second. Weights and biases are
    /// then also one array: weight, biases of both ends, bias.
    pub(crate) joint: bool,
    /// Whether anything is added to each pair.
    pub(crate) added: bool,
}

impl Shape {
    /// Numbers of a row of a table.
    fn stride(&self) -> usize {
        if self.joint { 2 * self.width } else { self.width }
    }
}

/// The arrays of a score.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Parts {
    i: Array<u32>,
    j: Array<u32>,
    a: Array<f32>,
    b: Array<f32>,
    c: Array<f32>,
    pub(crate) weight: Array<f32>,
    bias: Array<f32>,
}

/// The input of the ReLU: column `column` of a pair.
#[cube]
pub(crate) fn hidden(parts: &Parts, pair: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    let width = comptime!(shape.width);
    let stride = comptime!(shape.stride());
    let behind = comptime!(if shape.joint { shape.width } else { 0 });
    let mut sum =
        parts.a[parts.i[pair] as usize * stride + column] + parts.b[parts.j[pair] as usize * stride + behind + column];
    if comptime!(shape.joint) {
        sum += parts.weight[width + column] + parts.weight[2 * width + column];
    }
    if comptime!(shape.added) {
        sum += parts.c[pair * width + column];
    }
    sum
}

/// The score of the pair of a row of units, of which there are `count`; only the first unit of the row has it. Every
/// unit of the cube must reach this call.
#[cube]
pub(crate) fn score(parts: &Parts, pair: usize, count: usize, #[comptime] shape: Shape) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let first = (UNIT_POS_Y * COLUMNS) as usize;
    let mut sum = 0.0f32;
    if pair < count {
        for column in range_stepped(UNIT_POS_X as usize, comptime!(shape.width), comptime!(COLUMNS as usize)) {
            sum += rectify(hidden(parts, pair, column, shape)) * parts.weight[column];
        }
    }
    shared[first + UNIT_POS_X as usize] = sum;
    sync_cube();
    let mut score = parts.bias[0];
    if comptime!(shape.joint) {
        score = parts.weight[comptime!(3 * shape.width)];
    }
    if UNIT_POS_X == 0 {
        for x in 0..comptime!(COLUMNS as usize) {
            score += shared[first + x];
        }
    }
    score
}

#[cube(launch)]
fn scores_kernel(parts: &Parts, scores: &mut Array<f32>, #[comptime] shape: Shape) {
    let pair = CUBE_POS * ROWS as usize + UNIT_POS_Y as usize;
    let score = score(parts, pair, scores.len(), shape);
    if pair < scores.len() && UNIT_POS_X == 0 {
        scores[pair] = score;
    }
}

/// The gradient of a pair's column.
#[cube]
pub(crate) fn hidden_gradient(
    parts: &Parts,
    grad: &Array<f32>,
    pair: usize,
    column: usize,
    #[comptime] shape: Shape,
) -> f32 {
    select(hidden(parts, pair, column, shape) > 0.0f32, grad[pair] * parts.weight[column], 0.0f32)
}

/// Sums the gradients of the pairs of every row of a table. A cube handles one row; for a joint table first those of
/// the first ends, then those of the second.
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
    let group = usize::min(CUBE_POS, starts.len() - 2);
    let (end, row) = (group / rows as usize, group % rows as usize);
    let first = starts[group];
    let last = starts[group + 1];
    let width = comptime!(shape.width);
    for block in 0..comptime!(shape.width.div_ceil(COLUMNS as usize)) {
        let column = block * COLUMNS as usize + UNIT_POS_X as usize;
        let mut sum = 0.0f32;
        if column < width {
            for at in range_stepped(first + UNIT_POS_Y, last, ROWS) {
                sum += hidden_gradient(parts, grad, pairs[at as usize] as usize - end * grad.len(), column, shape);
            }
        }
        let sum = sum_unit_rows(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < width {
            out[row * comptime!(shape.stride()) + end * width + column] = sum;
        }
    }
}

/// The gradient of what is added.
#[cube(launch)]
fn added_kernel(parts: &Parts, grad: &Array<f32>, out: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(shape.width);
        out[i] = hidden_gradient(parts, grad, i / width, i % width, shape);
    }
}

/// Contribution of every chunk of pairs to the gradients of weight, then bias: `[chunks, padded]`.
#[cube(launch)]
fn weight_kernel(
    parts: &Parts,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    pairs: u32,
    #[comptime] shape: Shape,
    #[comptime] padded: usize,
) {
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

/// Inputs of the scores: two tables, what is added (if anything), weight and bias.
pub(crate) struct Inputs<R: CubeRuntime> {
    pub(crate) a: DeviceBuffer<R>,
    pub(crate) b: DeviceBuffer<R>,
    pub(crate) c: DeviceBuffer<R>,
    pub(crate) weight: DeviceBuffer<R>,
    pub(crate) bias: DeviceBuffer<R>,
    pub(crate) shape: Shape,
}

impl<R: CubeRuntime> Inputs<R> {
    fn of(device: &Device<R>, inputs: &[CubeTensor<R>; 5]) -> Self {
        let shape = Shape { width: inputs[3].shape().num_elements(), joint: false, added: inputs[2].shape()[0] > 0 };
        let [a, b, c, weight, bias] = inputs.each_ref().map(|tensor| device.buffer(tensor));
        Self { a, b, c, weight, bias, shape }
    }

    pub(crate) fn parts(&self, pairs: &DevicePairs<R>) -> PartsLaunch<R> {
        let Self { a, b, c, weight, bias, .. } = self;
        PartsLaunch::new(pairs.i.arg(), pairs.j.arg(), a.arg(), b.arg(), c.arg(), weight.arg(), bias.arg())
    }

    /// `[P]`
    fn scores(&self, pairs: &DevicePairs<R>) -> DeviceBuffer<R> {
        let count = pairs.i.len();
        let scores = pairs.device.empty(count).part(0, count);
        if count > 0 {
            let (launch, dim) = (cubes(count.div_ceil(ROWS as usize)), CubeDim::new_2d(COLUMNS, ROWS));
            scores_kernel::launch::<R>(&pairs.device.client, launch, dim, self.parts(pairs), scores.arg(), self.shape);
        }
        scores
    }

    /// The gradient of the first or the second table, `[rows, O]`, or of the joint one, `[rows, 2 O]`, from those of
    /// the scores.
    pub(crate) fn table(&self, pairs: &DevicePairs<R>, which: usize, rows: usize, grad: &DeviceBuffer<R>) -> Matrix<R> {
        let (device, Group { starts, pairs: grouped }) = (&pairs.device, &pairs.groups[which]);
        let out = Matrix::new(device, rows, self.shape.stride());
        if rows > 0 {
            let (launch, dim) = (cubes(starts.len() - 1), CubeDim::new_2d(COLUMNS, ROWS));
            let (parts, out, rows) = (self.parts(pairs), out.buffer.arg(), rows as u32);
            table_kernel::launch::<R>(
                &device.client,
                launch,
                dim,
                parts,
                grad.arg(),
                starts.arg(),
                grouped.arg(),
                out,
                rows,
                self.shape,
            );
        }
        out
    }

    /// The gradient of what is added, `[P, O]`, written to `out`.
    pub(crate) fn added(&self, pairs: &DevicePairs<R>, grad: &DeviceBuffer<R>, out: &DeviceBuffer<R>) {
        if out.len() > 0 {
            let (launch, dim) = (units(out.len()), CubeDim::new_1d(UNITS));
            added_kernel::launch::<R>(
                &pairs.device.client,
                launch,
                dim,
                self.parts(pairs),
                grad.arg(),
                out.arg(),
                self.shape,
            );
        }
    }

    /// Gradients of weight `[O]` and bias `[1]`.
    fn weights(&self, pairs: &DevicePairs<R>, grad: &DeviceBuffer<R>) -> [DeviceBuffer<R>; 2] {
        let (device, count, width) = (&pairs.device, pairs.i.len(), self.shape.width);
        let (chunks, padded) = (count.div_ceil(CHUNK), padded(width));
        let shares = device.empty(chunks * 2 * padded);
        if count > 0 {
            let (launch, dim) = (units(chunks * (width + 1)), CubeDim::new_1d(UNITS));
            let parts = self.parts(pairs);
            weight_kernel::launch::<R>(
                &device.client,
                launch,
                dim,
                parts,
                grad.arg(),
                shares.arg(),
                count as u32,
                self.shape,
                padded,
            );
        }
        let sums = sum_rows(device, &shares, chunks, 2 * padded);
        [sums.part(0, width), sums.part(padded, 1)]
    }
}

/// Scores `[P]`. Inputs: `a`, `b`, `c`, `weight`, `bias`.
pub(crate) fn forward<R: CubeRuntime>(plan: &PairPlan, inputs: &[CubeTensor<R>; 5]) -> CubeTensor<R> {
    let device = Device::of(&inputs[0]);
    let pairs = DevicePairs::send(&device, plan, [0, 1].map(|table| inputs[table].shape()[0]));
    device.tensor(&Inputs::of(&device, inputs).scores(&pairs), [plan.i.len()])
}

/// Gradients of the five inputs.
pub(crate) fn backward<R: CubeRuntime>(
    plan: &PairPlan,
    inputs: &[CubeTensor<R>; 5],
    grad: &CubeTensor<R>,
) -> [CubeTensor<R>; 5] {
    let device = Device::of(grad);
    let rows = [0, 1].map(|table| inputs[table].shape()[0]);
    let pairs = DevicePairs::send(&device, plan, rows);
    let (of, grad) = (Inputs::of(&device, inputs), device.buffer(grad));
    let [a, b] = [0, 1].map(|which| of.table(&pairs, which, rows[which], &grad).tensor());
    let c = zeros(&inputs[2]);
    if of.shape.added {
        of.added(&pairs, &grad, &device.buffer(&c));
    }
    let [weight, bias] = of.weights(&pairs, &grad);
    [a, b, c, device.tensor(&weight, inputs[3].shape()), device.tensor(&bias, [1])]
}
