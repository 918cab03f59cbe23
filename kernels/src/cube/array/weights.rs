//! All weights of a model on a device, with their gradients and moments. An optimiser step is two kernels, however many
//! weights there are.
use crate::AdamStep;
use crate::cube::array::adam::{Constants, ConstantsLaunch, adam_update};
use crate::cube::array::layout::{Block, WeightLayout};
use crate::cube::array::matrix::Matrix;
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, UploadBuffer, cubes, units};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;
use std::ops::Range;

/// Steps whose losses fit on the device before they must be read.
pub const MAX_UNREAD_STEPS: usize = 64;
/// Cubes that sum squares.
const PARTIAL: usize = 256;

/// Weights, their gradients and their moments: four arrays, in which each weight has the same offset.
#[derive(Clone)]
pub struct Weights<R: CubeRuntime> {
    device: Device<R>,
    layout: WeightLayout,
    values: DeviceBuffer<R>,
    gradients: DeviceBuffer<R>,
    moments: [DeviceBuffer<R>; 2],
    steps: u64,
    /// `[MAX_UNREAD_STEPS, 2]` loss and squared norm of all gradients.
    records: DeviceBuffer<R>,
    recorded: usize,
}

/// A block of [`Weights`], `[rows, columns]`: the positions of its numbers and their gradients.
#[derive(Clone, Debug)]
pub struct Weight<R: CubeRuntime> {
    pub(crate) device: Device<R>,
    pub(crate) value: DeviceBuffer<R>,
    pub(crate) gradient: DeviceBuffer<R>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// The record of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Its loss, before the step. If it is not finite, the step changed no weight.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f32,
}

/// The sum of the values of a cube's units, in a fixed order. Every unit must reach this call.
#[cube]
pub(crate) fn cube_sum(value: f32) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    #[unroll]
    for halving in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!((UNITS >> (halving + 1)) as usize);
        sync_cube();
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
    }
    sync_cube();
    shared[0]
}

/// The sum of squares of each cube.
#[cube(launch)]
fn squares_kernel(gradients: &Array<f32>, out: &mut Array<f32>) {
    let mut sum = 0.0f32;
    for at in range_stepped(ABSOLUTE_POS, gradients.len(), comptime!(PARTIAL * UNITS as usize)) {
        sum += gradients[at] * gradients[at];
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 && CUBE_POS < out.len() {
        out[CUBE_POS] = sum;
    }
}

/// One step, unless the loss or the norm of the gradients is not finite. Records the loss and the squared norm. Gradients longer than `clip` are
/// shortened to it.
#[cube(launch)]
fn step_kernel(
    param: &mut Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    grad: &Array<f32>,
    loss: &Array<f32>,
    squares: &Array<f32>,
    records: &mut Array<f32>,
    record: u32,
    clip: f32,
    constants: &Constants,
) {
    let i = ABSOLUTE_POS;
    let mut share = 0.0f32;
    for at in range_stepped(UNIT_POS as usize, comptime!(PARTIAL), comptime!(UNITS as usize)) {
        share += squares[at];
    }
    let square = cube_sum(share);
    if i == 0 {
        records[2 * record as usize] = loss[0];
        records[2 * record as usize + 1] = square;
    }
    let finite = (u32::reinterpret(loss[0]) >> 23) & 0xff != 0xff && (u32::reinterpret(square) >> 23) & 0xff != 0xff;
    if i < grad.len() && finite {
        let norm = square.sqrt();
        let g = grad[i] * select(clip > 0.0f32 && norm > clip, clip / norm, 1.0f32);
        adam_update(param, first, second, i, g, constants);
    }
}

#[cube(launch)]
fn clear_kernel(out: &mut Array<f32>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = 0.0f32;
    }
}

impl<R: CubeRuntime> Weight<R> {
    /// The current numbers, `[rows, columns]`.
    pub(crate) fn matrix(&self) -> Matrix<R> {
        Matrix::of(&self.device, self.value.clone(), self.rows, self.columns)
    }

    /// Clears the gradient of rows and columns without weights, because a product writes them all.
    pub fn clear_part(&self, rows: Range<usize>, columns: Range<usize>) {
        let (count, dim) = (rows.len() * columns.len(), CubeDim::new_1d(UNITS));
        if count > 0 {
            let (first, rows, gradient) = (rows.start as u32, rows.len() as u32, self.gradient.arg());
            let (from, width, client) = (columns.start, columns.len(), &self.device.client);
            clear_part_kernel::launch::<R>(client, units(count), dim, gradient, first, rows, self.columns, from, width);
        }
    }

    /// Clears the gradient before it is added to.
    pub fn clear_gradient(&self) {
        clear(&self.device, &self.gradient);
    }
}

#[cube(launch)]
fn clear_part_kernel(
    out: &mut Array<f32>,
    first_row: u32,
    rows: u32,
    #[comptime] stride: usize,
    #[comptime] first: usize,
    #[comptime] columns: usize,
) {
    let row = ABSOLUTE_POS / columns;
    if row < rows as usize {
        out[(first_row as usize + row) * stride + first + ABSOLUTE_POS % columns] = 0.0f32;
    }
}

/// Sets all numbers of `buffer` to 0.
fn clear<R: CubeRuntime>(device: &Device<R>, buffer: &DeviceBuffer<R>) {
    clear_kernel::launch::<R>(&device.client, units(buffer.len()), CubeDim::new_1d(UNITS), buffer.arg());
}

impl<R: CubeRuntime> Weights<R> {
    /// Weights with this layout, all 0.
    pub fn new(device: &R::Device, layout: WeightLayout) -> Self {
        let device = Device::new(device);
        let zeros = || device.filled(layout.len(), 0);
        let (values, gradients, moments) = (zeros(), zeros(), [zeros(), zeros()]);
        let records = device.filled(2 * MAX_UNREAD_STEPS, 0);
        Self { layout, values, gradients, moments, steps: 0, records, recorded: 0, device }
    }

    /// The weights of a block.
    pub fn at(&self, block: Block) -> Weight<R> {
        let Block { start, rows, columns } = block;
        let [value, gradient] = [&self.values, &self.gradients].map(|buffer| buffer.part(start, rows * columns));
        Weight { device: self.device.clone(), value, gradient, rows, columns }
    }

    /// Uploads rows of `columns` numbers.
    pub fn send(&self, rows: &[f32], columns: usize) -> Matrix<R> {
        let mut upload = UploadBuffer::default();
        upload.floats(rows.iter().copied());
        Matrix::of(&self.device, self.device.send(upload), rows.len() / columns.max(1), columns)
    }

    /// The numbers of all weights, one after the other. Waits for the device.
    pub fn values(&self) -> Vec<f32> {
        self.layout.unpack(&self.device.floats(&self.values))
    }

    /// The result of a pass: its loss, `[1, 1]`, and the gradients in the same order. Waits for the device.
    pub fn read_gradients(&self, loss: &Matrix<R>) -> (f32, Vec<f32>) {
        let [loss, gradients] = [&loss.buffer, &self.gradients].map(|buffer| self.device.read_later(buffer));
        (loss.wait()[0], self.layout.unpack(&gradients.wait()))
    }

    /// The number of steps and both moments, in the same order. Waits for the device.
    pub fn moments(&self) -> (u64, [Vec<f32>; 2]) {
        (self.steps, self.moments.each_ref().map(|moment| self.layout.unpack(&self.device.floats(moment))))
    }

    /// Replaces the numbers. A block that was taken with [`at`](Weights::at) before keeps the old ones: the new numbers
    /// get another buffer, because a thread that reads a buffer for the second time does not wait for later writes of
    /// others.
    ///
    /// # Panics
    /// If their number is not that of the weights.
    pub fn set_values(&mut self, values: &[f32]) {
        self.values = self.sent(values);
    }

    /// The same weights with gradients of their own, for a pass in parallel with others. The optimiser step is made
    /// elsewhere.
    pub fn with_own_gradients(&self) -> Self {
        let own = Self { gradients: self.device.empty(self.layout.len()).part(0, self.layout.len()), ..self.clone() };
        clear(&own.device, &own.gradients);
        own
    }

    /// Restores the optimiser from [`moments`](Weights::moments).
    ///
    /// # Panics
    /// If their number is not that of the weights.
    pub fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]) {
        self.steps = steps;
        self.moments = moments.map(|moment| self.sent(moment));
    }

    fn sent(&self, values: &[f32]) -> DeviceBuffer<R> {
        let mut upload = UploadBuffer::default();
        upload.floats(self.layout.pack(values));
        self.device.send(upload)
    }

    /// One optimiser step with the current gradients; `loss` `[1]` is their loss. `clip` is the largest norm of all of
    /// them together; 0 does not clip. If the loss or the norm is not finite, no weight changes. Does not wait for the device.
    ///
    /// # Panics
    /// If [`MAX_UNREAD_STEPS`] steps were made since their records were read.
    pub fn step(&mut self, loss: &Matrix<R>, constants: &AdamStep, clip: f32) {
        assert!(self.recorded < MAX_UNREAD_STEPS, "losses of {MAX_UNREAD_STEPS} steps have not been asked for");
        let (device, dim) = (&self.device, CubeDim::new_1d(UNITS));
        let squares = device.empty(PARTIAL).part(0, PARTIAL);
        squares_kernel::launch::<R>(&device.client, cubes(PARTIAL), dim, self.gradients.arg(), squares.arg());
        let [first, second] = &self.moments;
        step_kernel::launch::<R>(
            &device.client,
            units(self.gradients.len()),
            dim,
            self.values.arg(),
            first.arg(),
            second.arg(),
            self.gradients.arg(),
            loss.buffer.arg(),
            squares.arg(),
            self.records.arg(),
            self.recorded as u32,
            clip,
            ConstantsLaunch::of(constants),
        );
        self.recorded += 1;
        self.steps += 1;
    }

    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Number of steps since their records were last read.
    pub fn recorded(&self) -> usize {
        self.recorded
    }

    /// Losses and norms of the steps since the last call, oldest first. Waits for the device.
    pub fn take_step_records(&mut self) -> Vec<StepRecord> {
        let count = std::mem::take(&mut self.recorded);
        if count == 0 {
            return Vec::new();
        }
        let numbers = self.device.floats(&self.records);
        numbers
            .chunks(2)
            .take(count)
            .map(|record| StepRecord { loss: record[0], gradient_norm: record[1].sqrt() })
            .collect()
    }
}
