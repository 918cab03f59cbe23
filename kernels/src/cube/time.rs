//! The time encoding `cos(dt * freq + phase)` and its gradients.
use super::math::{cos, sin, time_argument};
use super::reduce::sum_rows;
use super::span::{Device, Parcel, Span, UNITS, padded, units};
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

/// What each row adds to both gradients, `[n, 2, padded]`, from the gradient of its encoding, `[n, stride]`.
#[cube(launch)]
fn shares_kernel(
    dt: &Array<f32>,
    freq: &Array<f32>,
    phase: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] padded: usize,
) {
    let width = freq.len();
    let row = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if row < rows as usize {
        let share = -grad[row * width + column] * sin(time_argument(dt[row], freq, phase, column));
        out[row * 2 * padded + column] = share * dt[row];
        out[(row * 2 + 1) * padded + column] = share;
    }
}

/// `[n, T]`.
pub(super) fn encode<R: CubeRuntime>(dt: &[f32], [freq, phase]: &[CubeTensor<R>; 2]) -> CubeTensor<R> {
    let device = Device::of(freq);
    let [freq, phase] = [freq, phase].map(|tensor| device.span(tensor));
    let (tensor, out) = device.matrix(dt.len(), freq.len());
    if out.len() > 0 {
        let mut parcel = Parcel::default();
        parcel.floats(dt.iter().copied());
        let dt = device.send(parcel);
        let (count, dim) = (units(out.len()), CubeDim::new_1d(UNITS));
        encode_kernel::launch::<R>(&device.client, count, dim, dt.arg(), freq.arg(), phase.arg(), out.arg());
    }
    tensor
}

/// Gradients of `freq` and `phase`, given the gradient of the encoding.
pub(super) fn encode_backward<R: CubeRuntime>(dt: &[f32], [freq, phase]: &[CubeTensor<R>; 2], grad: &CubeTensor<R>) -> [CubeTensor<R>; 2] {
    let device = Device::of(freq);
    let mut parcel = Parcel::default();
    parcel.floats(dt.iter().copied());
    let rows = dt.len();
    let dt = device.send(parcel);
    let [freq, phase, grad] = [freq, phase, grad].map(|tensor| device.span(tensor));
    gradients(&device, rows, &dt, [&freq, &phase], &grad).map(|span| device.tensor(&span, [freq.len()]))
}

/// Gradients of `freq` and `phase` from `rows` times and the gradients of their encodings.
pub(super) fn gradients<R: CubeRuntime>(
    device: &Device<R>,
    rows: usize,
    dt: &Span<R>,
    [freq, phase]: [&Span<R>; 2],
    grad: &Span<R>,
) -> [Span<R>; 2] {
    let width = freq.len();
    let shares = device.empty(rows * 2 * padded(width));
    if rows * width > 0 {
        let (count, dim) = (units(rows * width), CubeDim::new_1d(UNITS));
        let (rows, padded) = (rows as u32, padded(width));
        shares_kernel::launch::<R>(&device.client, count, dim, dt.arg(), freq.arg(), phase.arg(), grad.arg(), shares.arg(), rows, padded);
    }
    sum_shares(device, &shares, rows, width)
}

/// Adds up what rows bring to both gradients, `[rows, 2, padded]`.
pub(super) fn sum_shares<R: CubeRuntime>(device: &Device<R>, shares: &Span<R>, rows: usize, width: usize) -> [Span<R>; 2] {
    let padded = padded(width);
    let sum = sum_rows(device, shares, rows, 2 * padded);
    [0, padded].map(|start| sum.part(start, width))
}
