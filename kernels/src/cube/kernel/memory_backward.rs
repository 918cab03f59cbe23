//! Gradients of the memory update's weights.
use crate::cube::array::matrix::Matrix;
use crate::cube::array::products::product;
use crate::cube::kernel::memory::{CellWeights, Saved, Shape};
use crate::cube::kernel::time::{sum_time_partials, write_time_partials};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, padded, transposed, units, zeros};
use crate::cube::launch::plans::{EMPTY, NONE};
use crate::cube::launch::reduce::sum_rows_into;
use crate::{Cell, MailPlan};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Saved cells of a forward pass.
#[derive(CubeType, CubeLaunch)]
struct Cells {
    rows: Array<u32>,
    own: Array<f32>,
    gates: Array<f32>,
}

/// Gradients of both products, `[M, gates]` each, from the gradient of the new memory, the first columns of rows of
/// `stride`.
#[cube(launch)]
fn cell_kernel(
    cells: &Cells,
    grad: &Array<f32>,
    input: &mut Array<f32>,
    recurrent: &mut Array<f32>,
    #[comptime] shape: Shape,
    #[comptime] stride: usize,
) {
    let i = ABSOLUTE_POS;
    let d = comptime!(shape.d);
    if i < cells.rows.len() * d {
        let mail = i / d;
        let column = i % d;
        let marked = cells.rows[mail];
        // a mail that no row reads changes nothing, and its gates are not written
        let read = marked != NONE;
        let row = select(read, marked & !EMPTY, 0u32) as usize;
        let grad = grad[row * stride + column];
        if comptime!(shape.cell == Cell::Gru) {
            let start = mail * 4 * d + column;
            let r = cells.gates[start];
            let z = cells.gates[start + d];
            let n = cells.gates[start + 2 * d];
            let hidden = cells.gates[start + 3 * d];
            let into_n = select(read, grad * (1.0f32 - z) * (1.0f32 - n * n), 0.0f32);
            let into_r = select(read, into_n * hidden * r * (1.0f32 - r), 0.0f32);
            let own = cells.own[mail * comptime!(shape.h()) + column];
            let into_z = select(read, grad * (own - n) * z * (1.0f32 - z), 0.0f32);
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

/// The buffers for the gradients of matrices, and of biases if they are not columns of the matrices.
pub(crate) struct CellGradientBuffers<R: CubeRuntime> {
    pub(crate) w_ih: DeviceBuffer<R>,
    pub(crate) w_hh: DeviceBuffer<R>,
    pub(crate) biases: Option<[DeviceBuffer<R>; 2]>,
}

/// Gradients of the six weights.
pub(crate) fn backward<R: CubeRuntime>(
    plan: &MailPlan,
    cell: Cell,
    weights: &[CubeTensor<R>; 6],
    kept: &Saved<R>,
    grad: &CubeTensor<R>,
) -> [CubeTensor<R>; 6] {
    let (device, shape) = (Device::of(grad), Shape::new(plan, cell, weights));
    let mails = plan.rows.len();
    if mails * shape.d == 0 {
        return weights.each_ref().map(zeros);
    }
    let (x, gates) = (shape.x(), shape.gates());
    let [w_ih, w_hh, b_ih, b_hh] = [gates * x, gates * shape.d, gates, gates].map(|len| device.empty(len).part(0, len));
    let written = CellGradientBuffers { w_ih, w_hh, biases: Some([b_ih.clone(), b_hh.clone()]) };
    let shares = device.empty(mails * 2 * padded(shape.t));
    let weights = CellWeights::of(weights);
    gradients(&device, &shape, &weights, kept, (&device.buffer(grad), shape.d), &written, &shares);
    let [freq, phase] = sum_time_partials(&device, &shares, if shape.t > 0 { mails } else { 0 }, shape.t);
    let [freq, phase] = [freq, phase].map(|buffer| device.tensor(&buffer, [shape.t]));
    let [w_ih, w_hh] =
        [(written.w_ih, x), (written.w_hh, shape.d)].map(|(buffer, width)| device.tensor(&buffer, [gates, width]));
    let [b_ih, b_hh] = [b_ih, b_hh].map(|buffer| device.tensor(&buffer, [gates]));
    [w_ih, w_hh, b_ih, b_hh, freq, phase]
}

/// Writes the gradients of matrices and biases, and to `shares` the contribution of every mail to those of `freq` and
/// `phase`, `[M, 2, padded]`. The gradient of the new memory is the first columns of rows of `stride`. There must be
/// mails, and memories must have a width.
pub(crate) fn gradients<R: CubeRuntime>(
    device: &Device<R>,
    shape: &Shape,
    weights: &CellWeights<R>,
    kept: &Saved<R>,
    (grad, stride): (&DeviceBuffer<R>, usize),
    written: &CellGradientBuffers<R>,
    shares: &DeviceBuffer<R>,
) {
    let (Shape { d, o, e, t, .. }, mails) = (*shape, kept.rows.len());
    let (x, gates) = (shape.x(), shape.gates());
    let (input, into_input) = device.matrix(mails, gates);
    let (recurrent, into_recurrent) = device.matrix(mails, gates);
    cell_kernel::launch::<R>(
        &device.client,
        units(mails * d),
        CubeDim::new_1d(UNITS),
        CellsLaunch::new(kept.rows.arg(), kept.own.arg(), kept.gates.arg()),
        grad.arg(),
        into_input.arg(),
        into_recurrent.arg(),
        *shape,
        stride,
    );
    for (into, rows, width, out) in
        [(&input, &kept.message, x, &written.w_ih), (&recurrent, &kept.own, shape.h(), &written.w_hh)]
    {
        product(transposed(into), device.tensor(rows, [mails, width]), device.tensor(out, [gates, width]));
    }
    if let Some(biases) = &written.biases {
        for (into, out) in [&into_input, &into_recurrent].into_iter().zip(biases) {
            sum_rows_into(device, into, mails, gates, out);
        }
    }
    if t > 0 {
        let (encoding, of_encoding) = device.matrix(mails, t);
        // with joint biases the time columns begin every row
        let of_time = match shape.joint {
            true => device.columns(&device.buffer(&weights.w_ih), [gates, t], x),
            false => Matrix::from_tensor(&weights.w_ih, gates, x).part(d + o + e, t).tensor(),
        };
        product(input, of_time, encoding);
        write_time_partials(
            device,
            mails,
            &kept.dt,
            [&weights.freq, &weights.phase],
            (&of_encoding, Some(&kept.rows)),
            shares,
        );
    }
}
