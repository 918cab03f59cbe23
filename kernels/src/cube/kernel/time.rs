//! The time encoding `cos(dt * freq + phase)` and its gradients.
use crate::cube::array::layout::{Block, WeightLayout};
use crate::cube::array::math::{cos, sin, time_argument};
use crate::cube::array::weights::{Weight, Weights};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, UploadBuffer, padded, units};
use crate::cube::launch::plans::EMPTY;
use crate::cube::launch::reduce::{sum_rows, sum_rows_into};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn encode_kernel(dt: &Array<f32>, freq: &Array<f32>, phase: &Array<f32>, out: &mut Array<f32>) {
    let i = ABSOLUTE_POS;
    let width = freq.len();
    if i < out.len() {
        out[i] = cos(time_argument(dt[i / width], freq, phase, i % width));
    }
}

/// Contribution of each row to both gradients, `[n, 2, padded]` with zeros as padding, given the gradient of its
/// encoding, `[n, T]`. Rows marked [`EMPTY`] have no encoding.
#[cube(launch)]
fn shares_kernel(
    dt: &Array<f32>,
    freq: &Array<f32>,
    phase: &Array<f32>,
    grad: &Array<f32>,
    marks: &Array<u32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] padded: usize,
    #[comptime] marked: bool,
) {
    let width = freq.len();
    let row = ABSOLUTE_POS / padded;
    let column = ABSOLUTE_POS % padded;
    if row < rows as usize {
        let mut share = 0.0f32;
        if column < width {
            share = -grad[row * width + column] * sin(time_argument(dt[row], freq, phase, column));
        }
        if comptime!(marked) {
            share = select(marks[row] & EMPTY != 0, 0.0f32, share);
        }
        out[row * 2 * padded + column] = share * dt[row];
        out[(row * 2 + 1) * padded + column] = share;
    }
}

/// The time encoding, `[n, T]`.
pub(crate) fn encode<R: CubeRuntime>(dt: &[f32], [freq, phase]: &[CubeTensor<R>; 2]) -> CubeTensor<R> {
    let device = Device::of(freq);
    let [freq, phase] = [freq, phase].map(|tensor| device.buffer(tensor));
    let (tensor, out) = device.matrix(dt.len(), freq.len());
    if out.len() > 0 {
        let mut upload = UploadBuffer::default();
        upload.floats(dt.iter().copied());
        let dt = device.send(upload);
        let (count, dim) = (units(out.len()), CubeDim::new_1d(UNITS));
        encode_kernel::launch::<R>(&device.client, count, dim, dt.arg(), freq.arg(), phase.arg(), out.arg());
    }
    tensor
}

/// Gradients of `freq` and `phase`, given the gradient of the encoding.
pub(crate) fn encode_backward<R: CubeRuntime>(
    dt: &[f32],
    [freq, phase]: &[CubeTensor<R>; 2],
    grad: &CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let device = Device::of(freq);
    let mut upload = UploadBuffer::default();
    upload.floats(dt.iter().copied());
    let rows = dt.len();
    let dt = device.send(upload);
    let [freq, phase, grad] = [freq, phase, grad].map(|tensor| device.buffer(tensor));
    let shares = device.empty(rows * 2 * padded(freq.len()));
    write_time_partials(&device, rows, &dt, [&freq, &phase], (&grad, None), &shares);
    sum_time_partials(&device, &shares, rows, freq.len()).map(|buffer| device.tensor(&buffer, [freq.len()]))
}

/// Writes the contributions of `rows` times to the gradients of `freq` and `phase`, `[rows, 2, padded]`, given the
/// gradients of their encodings. If there are marks, rows marked [`EMPTY`] contribute nothing.
pub(crate) fn write_time_partials<R: CubeRuntime>(
    device: &Device<R>,
    rows: usize,
    dt: &DeviceBuffer<R>,
    [freq, phase]: [&DeviceBuffer<R>; 2],
    (grad, marks): (&DeviceBuffer<R>, Option<&DeviceBuffer<R>>),
    out: &DeviceBuffer<R>,
) {
    let padded = padded(freq.len());
    if rows * freq.len() > 0 {
        let (count, dim, marked) = (units(rows * padded), CubeDim::new_1d(UNITS), marks.is_some());
        let (freq, phase, marks) = (freq.arg(), phase.arg(), marks.unwrap_or(dt).arg());
        shares_kernel::launch::<R>(
            &device.client,
            count,
            dim,
            dt.arg(),
            freq,
            phase,
            grad.arg(),
            marks,
            out.arg(),
            rows as u32,
            padded,
            marked,
        );
    }
}

/// Sums the contributions of rows to both gradients, `[rows, 2, padded]`.
pub(crate) fn sum_time_partials<R: CubeRuntime>(
    device: &Device<R>,
    shares: &DeviceBuffer<R>,
    rows: usize,
    width: usize,
) -> [DeviceBuffer<R>; 2] {
    let padded = padded(width);
    let sum = sum_rows(device, shares, rows, 2 * padded);
    [0, padded].map(|start| sum.part(start, width))
}

/// The positions of a time encoding's frequencies and phases, `[T]` each.
#[derive(Clone, Copy, Debug)]
pub struct TimeBlock {
    all: Block,
    width: usize,
}

impl TimeBlock {
    /// Allocates `width` numbers each, at the offsets `from` among the weights' numbers.
    pub fn allocate(layout: &mut WeightLayout, width: usize, from: [usize; 2]) -> Self {
        let all = layout.block(2, padded(width));
        from.into_iter().enumerate().for_each(|(row, from)| layout.assign(all, [row, 0], [1, width], from));
        Self { all, width }
    }
}

/// Frequencies and phases of a time encoding, `[T]` each.
#[derive(Clone, Debug)]
pub struct TimeEncoding<R: CubeRuntime> {
    all: Weight<R>,
    width: usize,
}

impl<R: CubeRuntime> TimeEncoding<R> {
    /// The time encoding at `block`.
    pub fn at(weights: &Weights<R>, block: TimeBlock) -> Self {
        Self { all: weights.at(block.all), width: block.width }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn freq(&self) -> DeviceBuffer<R> {
        self.all.value.part(0, self.width)
    }

    pub(crate) fn phase(&self) -> DeviceBuffer<R> {
        self.all.value.part(self.all.columns, self.width)
    }

    pub(crate) fn tensors(&self) -> [CubeTensor<R>; 2] {
        [self.freq(), self.phase()].map(|buffer| self.all.device.tensor(&buffer, [self.width]))
    }
}

/// Partial gradients of one time encoding from all rows of a pass, summed once at its end.
pub struct TimeGradientPartials<R: CubeRuntime> {
    time: TimeEncoding<R>,
    /// `[rows, 2, padded]`
    shares: DeviceBuffer<R>,
    rows: usize,
    taken: usize,
}

impl<R: CubeRuntime> TimeGradientPartials<R> {
    /// Allocates `rows` rows.
    pub fn new(time: &TimeEncoding<R>, rows: usize) -> Self {
        let shares = time.all.device.empty(rows * 2 * padded(time.width));
        Self { time: time.clone(), shares, rows, taken: 0 }
    }

    /// The next rows, which must be written.
    ///
    /// # Panics
    /// If there are not enough rows left.
    pub(crate) fn take(&mut self, rows: usize) -> DeviceBuffer<R> {
        assert!(self.taken + rows <= self.rows, "{rows} rows behind {} of {}", self.taken, self.rows);
        let row = 2 * padded(self.time.width);
        let taken = self.shares.part(self.taken * row, rows * row);
        self.taken += rows;
        taken
    }

    /// Writes the gradients.
    pub fn sum(self) {
        let Self { time: TimeEncoding { all, .. }, shares, taken, .. } = self;
        sum_rows_into(&all.device, &shares, taken, 2 * all.columns, &all.gradient);
    }
}
