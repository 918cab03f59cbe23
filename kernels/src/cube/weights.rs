//! All weights of a model on a device, with their gradients and moments: the optimiser's step is one kernel, whatever there are of them.
use super::adam::{Constants, ConstantsLaunch, moved};
use super::matrix::{Matrix, Part, join};
use super::reduce::sum_rows_into;
use super::span::{Device, Parcel, Places, Span, UNITS, padded, units};
use crate::AdamStep;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Steps whose losses are kept on the device before somebody has to ask for them.
pub const REMEMBERED: usize = 64;

/// Weights, their gradients and their moments: four arrays, in which each weight has the same place.
#[derive(Clone)]
pub struct Weights<R: CubeRuntime> {
    device: Device<R>,
    sizes: Vec<usize>,
    values: Span<R>,
    gradients: Span<R>,
    moments: [Span<R>; 2],
    steps: u64,
    /// `[REMEMBERED, 2]` loss and squared norm of all gradients.
    records: Span<R>,
    recorded: usize,
    zero: Span<R>,
}

/// One of [`Weights`]: where its numbers and its gradient are.
#[derive(Clone, Debug)]
pub struct Weight<R: CubeRuntime> {
    value: Span<R>,
    gradient: Span<R>,
}

impl<R: CubeRuntime> Weight<R> {
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }

    pub(super) fn value(&self) -> &Span<R> {
        &self.value
    }

    pub(super) fn gradient(&self) -> &Span<R> {
        &self.gradient
    }

    /// Adds to the gradient.
    pub(super) fn add_gradient(&self, device: &Device<R>, share: &Span<R>) {
        if self.len() > 0 {
            join(device, &[Part::rows(share, self.len())], &self.gradient, true);
        }
    }

    /// The weight in rows of `columns`.
    pub(super) fn matrix(&self, device: &Device<R>, columns: usize) -> Matrix<R> {
        Matrix::of(device, self.value.clone(), self.len() / columns.max(1), columns)
    }
}

/// What a record kept of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Its loss, before the step. Where it is not finite, the step was not taken.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f32,
}

/// Squares of the numbers, in rows of [`UNITS`].
#[cube(launch)]
fn squares_kernel(gradients: &Array<f32>, out: &mut Array<f32>) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let mut sum = 0.0f32;
        for at in range_stepped(i, gradients.len(), out.len()) {
            sum += gradients[at] * gradients[at];
        }
        out[i] = sum;
    }
}

/// A step, unless the loss is not finite; remembers the loss and the squared norm. Gradients longer than `clip` are shortened to it.
#[cube(launch)]
fn step_kernel(
    param: &mut Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    grad: &Array<f32>,
    loss: &Array<f32>,
    square: &Array<f32>,
    records: &mut Array<f32>,
    record: u32,
    clip: f32,
    constants: &Constants,
) {
    let i = ABSOLUTE_POS;
    if i == 0 {
        records[2 * record as usize] = loss[0];
        records[2 * record as usize + 1] = square[0];
    }
    let finite = (u32::reinterpret(loss[0]) >> 23) & 0xff != 0xff;
    if i < grad.len() && finite {
        let norm = square[0].sqrt();
        let g = grad[i] * select(clip > 0.0f32 && norm > clip, clip / norm, 1.0f32);
        moved(param, first, second, i, g, constants);
    }
}

impl<R: CubeRuntime> Weights<R> {
    /// Weights of these sizes, all 0.
    pub fn new(device: &R::Device, sizes: &[usize]) -> Self {
        let device = Device::new(device);
        let total: usize = sizes.iter().map(|&size| padded(size)).sum();
        let zeros = || device.filled(total, 0);
        let (values, gradients, moments) = (zeros(), zeros(), [zeros(), zeros()]);
        let records = device.filled(2 * REMEMBERED, 0);
        Self { sizes: sizes.to_vec(), values, gradients, moments, steps: 0, records, recorded: 0, zero: device.filled(1, 0), device }
    }

    /// The `index`-th.
    pub fn weight(&self, index: usize) -> Weight<R> {
        let [value, gradient] = [&self.values, &self.gradients].map(|span| self.part(span, index));
        Weight { value, gradient }
    }

    fn part(&self, span: &Span<R>, index: usize) -> Span<R> {
        let start: usize = self.sizes[..index].iter().map(|&size| padded(size)).sum();
        span.part(start, self.sizes[index])
    }

    /// The numbers of all weights, one after the other. Waits for the device.
    pub fn values(&self) -> Vec<f32> {
        self.unpadded(&self.values)
    }

    /// The gradients of the last step, in the same order. Waits for the device.
    pub fn gradients(&self) -> Vec<f32> {
        self.unpadded(&self.gradients)
    }

    /// Steps taken and both moments, in the same order. Waits for the device.
    pub fn moments(&self) -> (u64, [Vec<f32>; 2]) {
        (self.steps, self.moments.each_ref().map(|moment| self.unpadded(moment)))
    }

    /// Takes these numbers.
    ///
    /// # Panics
    /// Where there are not as many as the weights have.
    pub fn set_values(&mut self, values: &[f32]) {
        self.write(&self.values, values);
    }

    /// Takes up the optimiser where [`moments`](Weights::moments) left.
    ///
    /// # Panics
    /// Where there are not as many numbers as the weights have.
    pub fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]) {
        self.steps = steps;
        self.moments.iter().zip(moments).for_each(|(span, moment)| self.write(span, moment));
    }

    /// Clears the gradients of the weights that are told in parts, which are then added.
    pub fn clear_gradients(&self) {
        join(&self.device, &[Part::repeated(&self.zero)], &self.gradients, false);
    }

    fn unpadded(&self, span: &Span<R>) -> Vec<f32> {
        let (all, mut places) = (self.device.floats(span), Places::default());
        self.sizes.iter().flat_map(|&size| all[places.next(size)..][..size].to_vec()).collect()
    }

    fn write(&self, span: &Span<R>, values: &[f32]) {
        assert_eq!(values.len(), self.sizes.iter().sum::<usize>(), "numbers of all weights");
        let (mut parcel, mut rest) = (Parcel::default(), values);
        for &size in &self.sizes {
            let (own, after) = rest.split_at(size);
            parcel.floats(own.iter().copied());
            rest = after;
        }
        let sent = self.device.send(parcel);
        self.device.copy_to(&sent, 0, span);
    }

    /// One step down the gradients, of which `loss` `[1]` is the loss. `clip` is the largest norm of all of them together; 0 does not clip. Where
    /// the loss is not finite nothing is learned. Waits for nothing.
    ///
    /// # Panics
    /// Where [`REMEMBERED`] steps were taken and nobody has asked for their losses.
    pub fn step(&mut self, loss: &Matrix<R>, constants: &AdamStep, clip: f32) {
        assert!(self.recorded < REMEMBERED, "losses of {REMEMBERED} steps have not been asked for");
        let device = &self.device;
        let partial = device.empty(1 << 14).part(0, 1 << 14);
        let square = device.empty(1);
        let dim = CubeDim::new_1d(UNITS);
        squares_kernel::launch::<R>(&device.client, units(partial.len()), dim, self.gradients.arg(), partial.arg());
        sum_rows_into(device, &partial, 1 << 14, 1, &square);
        let [first, second] = &self.moments;
        step_kernel::launch::<R>(
            &device.client,
            units(self.gradients.len()),
            dim,
            self.values.arg(),
            first.arg(),
            second.arg(),
            self.gradients.arg(),
            loss.span.arg(),
            square.arg(),
            self.records.arg(),
            self.recorded as u32,
            clip,
            ConstantsLaunch::of(constants),
        );
        self.recorded += 1;
        self.steps += 1;
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps taken since their losses were last asked for.
    pub fn recorded(&self) -> usize {
        self.recorded
    }

    /// Losses and norms of the steps since they were last asked for, oldest first. Waits for the device.
    pub fn learned(&mut self) -> Vec<Learned> {
        let count = std::mem::take(&mut self.recorded);
        if count == 0 {
            return Vec::new();
        }
        let numbers = self.device.floats(&self.records);
        numbers.chunks(2).take(count).map(|record| Learned { loss: record[0], gradient_norm: record[1].sqrt() }).collect()
    }
}
