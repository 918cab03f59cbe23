//! Gradients of the memory update's weights.
use super::memory::{Kept, Shape};
use super::plans::{EMPTY, NONE};
use super::products::product;
use super::reduce::sum_rows_into;
use super::span::{Device, Span, UNITS, transposed, units, zeros};
use super::time;
use crate::{Cell, MailPlan};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// What a forward pass kept of its cells.
#[derive(CubeType, CubeLaunch)]
struct Cells {
    rows: Array<u32>,
    own: Array<f32>,
    gates: Array<f32>,
}

/// Gradients of both products, `[M, gates]` each, from the gradient of the new memory `[U, D]`.
#[cube(launch)]
fn cell_kernel(cells: &Cells, grad: &Array<f32>, input: &mut Array<f32>, recurrent: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < cells.own.len() {
        let d = comptime!(shape.d);
        let mail = i / d;
        let column = i % d;
        let marked = cells.rows[mail];
        // a mail that nobody reads changes nothing, and nobody has written its gates
        let read = marked != NONE;
        let row = select(read, marked & !EMPTY, 0u32) as usize;
        let grad = grad[row * d + column];
        if comptime!(shape.cell == Cell::Gru) {
            let start = mail * 4 * d + column;
            let r = cells.gates[start];
            let z = cells.gates[start + d];
            let n = cells.gates[start + 2 * d];
            let hidden = cells.gates[start + 3 * d];
            let into_n = select(read, grad * (1.0f32 - z) * (1.0f32 - n * n), 0.0f32);
            let into_r = select(read, into_n * hidden * r * (1.0f32 - r), 0.0f32);
            let into_z = select(read, grad * (cells.own[i] - n) * z * (1.0f32 - z), 0.0f32);
            let at = mail * 3 * d + column;
            input[at] = into_r;
            recurrent[at] = into_r;
            input[at + d] = into_z;
            recurrent[at + d] = into_z;
            input[at + 2 * d] = into_n;
            recurrent[at + 2 * d] = select(read, into_n * r, 0.0f32);
        } else {
            let new = cells.gates[i];
            let into = select(read, grad * (1.0f32 - new * new), 0.0f32);
            input[i] = into;
            recurrent[i] = into;
        }
    }
}

/// Clears the rows of empty mails, whose messages have no time encoding.
#[cube(launch)]
fn mask_kernel(rows: &Array<u32>, encoding: &mut Array<f32>, #[comptime] width: usize) {
    let i = ABSOLUTE_POS;
    if i < encoding.len() && rows[i / width] & EMPTY != 0 {
        encoding[i] = 0.0f32;
    }
}

/// Where the gradients of matrices and biases are written: `w_ih`, `w_hh`, `b_ih` and `b_hh`.
pub(super) type Written<R> = [Span<R>; 4];

/// Gradients of the six weights.
pub(super) fn backward<R: CubeRuntime>(
    plan: &MailPlan,
    cell: Cell,
    weights: &[CubeTensor<R>; 6],
    kept: &Kept<R>,
    grad: &CubeTensor<R>,
) -> [CubeTensor<R>; 6] {
    let (device, shape) = (Device::of(grad), Shape::new(plan, cell, weights));
    if shape.mails * shape.d == 0 {
        return weights.each_ref().map(zeros);
    }
    let (x, gates) = (shape.x(), shape.gates());
    let written = [gates * x, gates * shape.d, gates, gates].map(|len| device.empty(len));
    let [freq, phase] = gradients(&device, &shape, weights, kept, &device.span(grad), &written);
    let [w_ih, w_hh, b_ih, b_hh] = &written;
    let [freq, phase] = [freq, phase].map(|span| device.tensor(&span, [shape.t]));
    let [w_ih, w_hh] = [(w_ih, x), (w_hh, shape.d)].map(|(span, width)| device.tensor(span, [gates, width]));
    let [b_ih, b_hh] = [b_ih, b_hh].map(|span| device.tensor(span, [gates]));
    [w_ih, w_hh, b_ih, b_hh, freq, phase]
}

/// Writes the gradients of matrices and biases and gives those of `freq` and `phase`, `[T]`. There are mails, and memories have a width.
pub(super) fn gradients<R: CubeRuntime>(
    device: &Device<R>,
    shape: &Shape,
    weights: &[CubeTensor<R>; 6],
    kept: &Kept<R>,
    grad: &Span<R>,
    [w_ih, w_hh, b_ih, b_hh]: &Written<R>,
) -> [Span<R>; 2] {
    let Shape { mails, d, t, .. } = *shape;
    let (x, gates) = (shape.x(), shape.gates());
    let (input, into_input) = device.matrix(mails, gates);
    let (recurrent, into_recurrent) = device.matrix(mails, gates);
    let dim = CubeDim::new_1d(UNITS);
    cell_kernel::launch::<R>(
        &device.client,
        units(mails * d),
        dim,
        CellsLaunch::new(kept.rows.arg(), kept.own.arg(), kept.gates.arg()),
        grad.arg(),
        into_input.arg(),
        into_recurrent.arg(),
        *shape,
    );
    for (into, rows, width, out) in [(&input, &kept.message, x, w_ih), (&recurrent, &kept.own, d, w_hh)] {
        product(transposed(into), device.tensor(rows, [mails, width]), device.tensor(out, [gates, width]));
    }
    for (into, out) in [(&into_input, b_ih), (&into_recurrent, b_hh)] {
        sum_rows_into(device, into, mails, gates, out);
    }
    let [freq, phase] = [4, 5].map(|i| device.span(&weights[i]));
    if t == 0 {
        return [freq, phase];
    }
    let (out, encoding) = device.matrix(mails, t);
    product(input, slice(weights[0].clone(), &[0..gates, x - t..x]), out);
    mask_kernel::launch::<R>(&device.client, units(mails * t), dim, kept.rows.arg(), encoding.arg(), t);
    time::gradients(device, mails, &kept.dt, [&freq, &phase], &encoding)
}
