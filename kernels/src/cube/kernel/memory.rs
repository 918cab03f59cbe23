//! The memory update: messages and gates in kernels, the two products between them.
use crate::cube::array::layout::with_one;
use crate::cube::array::math::{cos, sigmoid, tanh, time_argument};
use crate::cube::array::products::product;
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, transposed, units};
use crate::cube::launch::plans::{EMPTY, MailBuffers, NONE};
use crate::{Cell, MailPlan};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Sizes of a memory update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Width of the memory.
    pub(crate) d: usize,
    /// Width of a mail's payload.
    pub(crate) o: usize,
    /// Columns of edge features.
    pub(crate) e: usize,
    /// Columns of the time encoding.
    pub(crate) t: usize,
    pub(crate) cell: Cell,
    /// Whether biases are columns of the matrices, which multiply a 1 after messages and memories.
    pub(crate) joint: bool,
}

/// The weights of a memory update.
#[derive(Clone, Debug)]
pub(crate) struct CellWeights<R: CubeRuntime> {
    pub(crate) w_ih: CubeTensor<R>,
    pub(crate) w_hh: CubeTensor<R>,
    /// Of input and recurrence, if they are not columns of the matrices.
    pub(crate) biases: Option<[DeviceBuffer<R>; 2]>,
    pub(crate) freq: DeviceBuffer<R>,
    pub(crate) phase: DeviceBuffer<R>,
}

impl<R: CubeRuntime> CellWeights<R> {
    pub(crate) fn of(weights: &[CubeTensor<R>; 6]) -> Self {
        let [w_ih, w_hh, rest @ ..] = weights;
        let [b_ih, b_hh, freq, phase] = rest.each_ref().map(|tensor| Device::of(tensor).buffer(tensor));
        Self { w_ih: w_ih.clone(), w_hh: w_hh.clone(), biases: Some([b_ih, b_hh]), freq, phase }
    }
}

impl Shape {
    /// The shape of `plan`, which fits `weights`.
    pub(crate) fn new<R: CubeRuntime>(plan: &MailPlan, cell: Cell, weights: &[CubeTensor<R>; 6]) -> Self {
        let (d, t) = (weights[1].shape()[1], weights[4].shape()[0]);
        let shape = Self { d, o: d, e: plan.edge_width(), t, cell, joint: false };
        let (gates, x) = (shape.gates(), shape.x());
        let expected: [&[usize]; 6] = [&[gates, x], &[gates, d], &[gates], &[gates], &[t], &[t]];
        let names = ["w_ih", "w_hh", "b_ih", "b_hh", "freq", "phase"];
        for ((tensor, expected), name) in weights.iter().zip(expected).zip(names) {
            assert_eq!(&tensor.shape()[..], expected, "shape of {name}");
        }
        plan.check([d, d]);
        shape
    }

    /// Width of a message.
    pub(crate) fn x(&self) -> usize {
        self.row(self.d + self.o + self.e + self.t)
    }

    /// Width of a memory as the recurrence reads it.
    pub(crate) fn h(&self) -> usize {
        self.row(self.d)
    }

    fn row(&self, columns: usize) -> usize {
        if self.joint { with_one(columns) } else { columns }
    }

    /// Width of all gates.
    pub(crate) fn gates(&self) -> usize {
        self.cell.gates() * self.d
    }
}

/// The saved arrays for the backward pass.
#[derive(Clone, Debug)]
pub struct Saved<R: CubeRuntime> {
    /// `[M]` the row of each mail, marked if the mail is empty.
    pub(crate) rows: DeviceBuffer<R>,
    /// `[M]`, 0 if the mail is empty.
    pub(crate) dt: DeviceBuffer<R>,
    /// `[M, X]`
    pub(crate) message: DeviceBuffer<R>,
    /// `[M, H]` memory before.
    pub(crate) own: DeviceBuffer<R>,
    /// `[M, 4D]` r, z, n and `W_hn h + b_hn` of a GRU, `[M, D]` the new memory of a plain cell.
    pub(crate) gates: DeviceBuffer<R>,
}

impl<R: CubeRuntime> Saved<R> {
    fn new(device: &Device<R>, shape: &Shape, sent: &MailBuffers<R>) -> Self {
        let (mails, d) = (sent.rows.len(), shape.d);
        let kept = match shape.cell {
            Cell::Gru => 4 * d,
            Cell::Rnn => d,
        };
        let [message, own, gates] =
            [shape.x(), shape.h(), kept].map(|width| device.empty(mails * width).part(0, mails * width));
        Self { rows: sent.rows.clone(), dt: sent.dt.clone(), message, own, gates }
    }
}

/// The arrays from which messages are built.
#[derive(CubeType, CubeLaunch)]
struct Parts {
    memory: Array<f32>,
    other: Array<f32>,
    rows: Array<u32>,
    dt: Array<f32>,
    feature: Array<u32>,
    table: Array<f32>,
    freq: Array<f32>,
    phase: Array<f32>,
}

/// The logical column of a message: with joint biases the time encoding comes first, so that its weights begin a row.
#[cube]
fn logical_column(column: usize, #[comptime] shape: Shape) -> usize {
    if comptime!(shape.joint) {
        let t = comptime!(shape.t);
        let rest = comptime!(shape.d + shape.o + shape.e);
        let moved = select(column < t, column + rest, column - usize::min(t, column));
        select(column < rest + t, moved, column)
    } else {
        column
    }
}

/// Writes `message` and `own`.
#[cube(launch)]
fn message_kernel(parts: &Parts, message: &mut Array<f32>, own: &mut Array<f32>, #[comptime] shape: Shape) {
    let x = comptime!(shape.x());
    let mail = ABSOLUTE_POS / x;
    let column = logical_column(ABSOLUTE_POS % x, shape);
    if mail < parts.rows.len() {
        let d = comptime!(shape.d);
        let o = comptime!(shape.o);
        let e = comptime!(shape.e);
        let marked = parts.rows[mail];
        let full = marked & EMPTY == 0;
        let row = select(marked == NONE, 0u32, marked & !EMPTY) as usize;
        let h = comptime!(shape.h());
        let mut value = 0.0f32;
        if comptime!(shape.joint) {
            value = select(column == d + o + e + comptime!(shape.t), 1.0f32, 0.0f32);
            if column >= d && column < h {
                own[mail * h + column] = select(column == d, 1.0f32, 0.0f32);
            }
        }
        if column < d {
            let memory = parts.memory[row * d + column];
            own[mail * h + column] = memory;
            if full {
                value = memory;
            }
        } else if full && column < comptime!(shape.d + shape.o + shape.e + shape.t) {
            if column < d + o {
                value = parts.other[mail * o + column - d];
            } else if column < d + o + e {
                if comptime!(shape.e > 0) {
                    value = parts.table[parts.feature[mail] as usize * e + column - d - o];
                }
            } else if comptime!(shape.t > 0) {
                value = cos(time_argument(parts.dt[mail], &parts.freq, &parts.phase, column - d - o - e));
            }
        }
        message[ABSOLUTE_POS] = value;
    }
}

/// Products of messages and memories with their weights, and the biases if these are not part of the products.
#[derive(CubeType, CubeLaunch)]
struct GateProducts {
    input: Array<f32>,
    recurrent: Array<f32>,
    b_ih: Array<f32>,
    b_hh: Array<f32>,
}

/// The argument of one gate.
#[cube]
fn argument(products: &GateProducts, mail: usize, gate: usize, #[comptime] shape: Shape) -> f32 {
    let at = mail * comptime!(shape.gates()) + gate;
    if comptime!(shape.joint) {
        products.input[at] + products.recurrent[at]
    } else {
        products.input[at] + products.b_ih[gate] + (products.recurrent[at] + products.b_hh[gate])
    }
}

/// The product of one gate with the bias.
#[cube]
fn with_bias(product: &Array<f32>, bias: &Array<f32>, mail: usize, gate: usize, #[comptime] shape: Shape) -> f32 {
    let value = product[mail * comptime!(shape.gates()) + gate];
    if comptime!(shape.joint) { value } else { value + bias[gate] }
}

/// The new memory of every row, and the saved arrays for its backward pass.
#[cube(launch)]
fn cell_kernel(
    products: &GateProducts,
    memory: &Array<f32>,
    mail_of: &Array<u32>,
    kept: &mut Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let d = comptime!(shape.d);
        let mail = mail_of[i / d];
        let column = i % d;
        if mail == NONE {
            out[i] = memory[i];
        } else {
            let mail = mail as usize;
            if comptime!(shape.cell == Cell::Gru) {
                let r = sigmoid(argument(products, mail, column, shape));
                let z = sigmoid(argument(products, mail, d + column, shape));
                let hidden = with_bias(&products.recurrent, &products.b_hh, mail, 2 * d + column, shape);
                let n = tanh(with_bias(&products.input, &products.b_ih, mail, 2 * d + column, shape) + r * hidden);
                let start = mail * 4 * d + column;
                kept[start] = r;
                kept[start + d] = z;
                kept[start + 2 * d] = n;
                kept[start + 3 * d] = hidden;
                out[i] = n + z * (memory[i] - n);
            } else {
                let new = tanh(argument(products, mail, column, shape));
                kept[mail * d + column] = new;
                out[i] = new;
            }
        }
    }
}

/// New memory `[U, D]` and the saved arrays for the backward pass.
pub(crate) fn forward<R: CubeRuntime>(
    plan: &MailPlan,
    cell: Cell,
    weights: &[CubeTensor<R>; 6],
) -> (CubeTensor<R>, Saved<R>) {
    let device = Device::of(&weights[0]);
    let shape = Shape::new(plan, cell, weights);
    let sent = MailBuffers::send(&device, plan, [shape.d; 2]);
    update(&device, &shape, &sent, plan.unique, &CellWeights::of(weights))
}

/// As [`forward`], of `unique` rows whose mail is on the device.
pub(crate) fn update<R: CubeRuntime>(
    device: &Device<R>,
    shape: &Shape,
    sent: &MailBuffers<R>,
    unique: usize,
    weights: &CellWeights<R>,
) -> (CubeTensor<R>, Saved<R>) {
    let (kept, mails) = (Saved::new(device, shape, sent), sent.rows.len());
    if mails * shape.d == 0 {
        return (device.tensor(&sent.memory, [unique, shape.d]), kept);
    }
    let CellWeights { w_ih, w_hh, biases, freq, phase } = weights;
    let [b_ih, b_hh] = biases.as_ref().map_or([freq, freq], |[b_ih, b_hh]| [b_ih, b_hh]);
    let dim = CubeDim::new_1d(UNITS);
    message_kernel::launch::<R>(
        &device.client,
        units(mails * shape.x()),
        dim,
        PartsLaunch::new(
            sent.memory.arg(),
            sent.other.arg(),
            sent.rows.arg(),
            sent.dt.arg(),
            sent.feature.arg(),
            sent.table.arg(),
            freq.arg(),
            phase.arg(),
        ),
        kept.message.arg(),
        kept.own.arg(),
        *shape,
    );
    let [input, recurrent] =
        [(&kept.message, shape.x(), w_ih), (&kept.own, shape.h(), w_hh)].map(|(rows, width, weight)| {
            let (out, numbers) = device.matrix(mails, shape.gates());
            product(device.tensor(rows, [mails, width]), transposed(weight), out);
            numbers
        });
    let (output, out) = device.matrix(unique, shape.d);
    cell_kernel::launch::<R>(
        &device.client,
        units(out.len()),
        dim,
        GateProductsLaunch::new(input.arg(), recurrent.arg(), b_ih.arg(), b_hh.arg()),
        sent.memory.arg(),
        sent.mail_of.arg(),
        kept.gates.arg(),
        out.arg(),
        *shape,
    );
    (output, kept)
}
