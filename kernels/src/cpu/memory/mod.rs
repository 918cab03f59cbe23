//! The memory update: messages, products, gates, and the gradients of its weights.
pub(crate) mod cell;
pub(crate) mod recurrent;

use crate::cpu::memory::cell::{gru, gru_backward, rnn, rnn_backward};
use crate::cpu::product::bf16::Precision;
use crate::cpu::product::gemm::{Matrix, Packed, WriteMode, gradient, multiply, padded};
use crate::cpu::product::scratch::with_scratch;
use crate::cpu::product::version::Version;
use crate::cpu::vector::math::{add, cos_row, sin_row};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::time::{TimeWeights, add_time_gradient, sum_rows};
use crate::{Cell, MailPlan};

/// Mails per task.
const TILE: usize = 24;

/// Weights of one update: `w_ih` `[G, X]` with `X = 2D + E + T`, `w_hh` `[G, D]`, `b_ih` `[G]`, `b_hh` `[G]`.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights<'a> {
    /// `[G, X]`
    pub w_ih: &'a [f32],
    /// `[G, D]`
    pub w_hh: &'a [f32],
    /// `[G]`
    pub b_ih: &'a [f32],
    /// `[G]`
    pub b_hh: &'a [f32],
    /// Version of all of them.
    pub version: Version,
    /// Precision of the products.
    pub precision: Precision,
}

/// Gradients of [`CellWeights`], overwritten.
#[derive(Debug)]
pub struct CellGradients<'a> {
    /// `[G, X]`
    pub w_ih: &'a mut [f32],
    /// `[G, D]`
    pub w_hh: &'a mut [f32],
    /// `[G]`
    pub b_ih: &'a mut [f32],
    /// `[G]`
    pub b_hh: &'a mut [f32],
}

/// Widths of one update.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    /// Memory.
    d: usize,
    /// Edge features.
    e: usize,
    /// Time encoding.
    t: usize,
    /// Message: `2D + E + T`.
    x: usize,
    /// All gates.
    g: usize,
    /// Number of leading gates that read only the sum of both products.
    summed: usize,
}

impl Shape {
    fn new(plan: &MailPlan, cell: Cell, weights: &CellWeights<'_>, time: TimeWeights<'_>) -> Self {
        let g = weights.b_hh.len();
        let d = g / cell.gates();
        let (e, t) = (plan.edge_width(), time.freq.len());
        let x = 2 * d + e + t;
        assert_eq!(g % cell.gates(), 0, "b_hh has {g} numbers for {} gates", cell.gates());
        assert_eq!(weights.w_ih.len(), g * x, "w_ih is not [{g}, {x}]");
        assert_eq!(weights.w_hh.len(), g * d, "w_hh is not [{g}, {d}]");
        assert_eq!([weights.b_ih.len(), time.phase.len()], [g, t], "b_ih is not [{g}] or phase is not [{t}]");
        plan.check([d, d]);
        Self { d, e, t, x, g, summed: cell.summed() * d }
    }

    /// Number of gates that need both products separately.
    fn apart(&self) -> usize {
        self.g - self.summed
    }
}

/// One memory update. Its forward pass saves the inputs of its backward pass, and both reuse their working memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryUpdate {
    shape: Shape,
    /// Positions of the mails in the plan: those with a message first, then those whose message is empty.
    mails: Vec<u32>,
    /// Number of mails with a message.
    full: usize,
    /// `[M, X]`: own memory, other memory, edge features, time encoding; of empty messages own memory only.
    message: Vec<f32>,
    /// `[M, G]`: the gates, in the backward pass their gradients.
    gates: Vec<f32>,
    /// `[M, G - summed]`: the recurrent product of the gates that need it separately; in the backward pass its
    /// gradient.
    recurrent: Vec<f32>,
    /// `[X, G]`: `w_ih` transposed, with `w_hh` added where both meet the node's own memory and their products are only
    /// summed.
    merged: Packed,
    /// `[D, summed]`: the part of it that applies to an empty message.
    w_empty: Packed,
    /// `[D, G - summed]`: the rest of `w_hh`.
    w_apart: Packed,
    /// `[G, T]`: the time columns of `w_ih`.
    w_time: Packed,
    /// Version of the weights that are packed.
    version: Option<(Version, Precision)>,
    /// Sums of each task: of the gates' gradients, of the recurrent ones, of frequency and phase.
    partial: Vec<f32>,
}

impl MemoryUpdate {
    /// Writes the new memory `[U, D]`. Rows without mail keep their memory.
    ///
    /// # Panics
    /// If plan and weights do not fit together, or `out` is not `[U, D]`.
    pub fn forward(
        &mut self,
        plan: &MailPlan,
        cell: Cell,
        weights: CellWeights<'_>,
        time: TimeWeights<'_>,
        out: &mut [f32],
    ) {
        self.shape = Shape::new(plan, cell, &weights, time);
        let Shape { d, x, g, .. } = self.shape;
        assert_eq!(out.len(), plan.memory.len(), "the new memory is not [{}, {d}]", plan.unique);
        self.order(plan);
        if self.mails.len() < plan.unique {
            out.copy_from_slice(&plan.memory);
        }
        if self.mails.is_empty() || d == 0 {
            return;
        }
        if self.version != Some((weights.version, weights.precision)) {
            self.pack(weights);
            self.version = Some((weights.version, weights.precision));
        }
        let mails = self.mails.len();
        let strides = [x, g, self.shape.apart()].map(padded);
        for (array, stride) in [&mut self.message, &mut self.gates, &mut self.recurrent].into_iter().zip(strides) {
            array.resize(mails * stride, 0.0);
        }
        let message = DisjointRows::new(&mut self.message, strides[0]);
        let gates = DisjointRows::new(&mut self.gates, strides[1]);
        let recurrent = DisjointRows::new(&mut self.recurrent, strides[2]);
        let out = DisjointRows::new(out, d);
        let (shape, packed, order, full) =
            (self.shape, [&self.merged, &self.w_empty, &self.w_apart], &self.mails, self.full);
        in_chunks(mails, TILE, |tile| {
            let mails = &order[tile.clone()];
            let full = full.clamp(tile.start, tile.end) - tile.start;
            // SAFETY: tiles do not overlap, and no two mails are for one row.
            let (message, gates, recurrent) =
                unsafe { (message.rows(tile.clone()), gates.rows(tile.clone()), recurrent.rows(tile)) };
            shape.load(message, plan, time, mails, full);
            shape.multiply(message, gates, recurrent, [full, mails.len()], packed);
            for (i, &mail) in mails.iter().enumerate() {
                let row = plan.rows[mail as usize] as usize;
                // SAFETY: as above.
                let out = unsafe { out.rows(row..row + 1) };
                let (gates, memory) = (&mut gates[i * strides[1]..][..g], &message[i * strides[0]..][..d]);
                let biases = [weights.b_ih, weights.b_hh];
                match cell {
                    Cell::Gru => gru(out, gates, &mut recurrent[i * strides[2]..][..d], biases, memory),
                    Cell::Rnn => rnn(out, gates, biases),
                }
            }
        });
    }

    /// Orders mails with a message before those without.
    fn order(&mut self, plan: &MailPlan) {
        let all = 0..plan.rows.len() as u32;
        self.mails.clear();
        self.mails.extend(all.clone().filter(|&mail| !plan.empty[mail as usize]));
        self.full = self.mails.len();
        self.mails.extend(all.filter(|&mail| plan.empty[mail as usize]));
    }

    fn pack(&mut self, weights: CellWeights<'_>) {
        let Shape { d, x, g, summed, t, .. } = self.shape;
        let precision = weights.precision;
        let w_ih = Matrix::new(weights.w_ih, g, x, x);
        let (w_summed, w_apart) = weights.w_hh.split_at(summed * d);
        let w_summed = Matrix::new(w_summed, summed, d, d);
        let (merged, w_empty, packed_apart, w_time) =
            (&mut self.merged, &mut self.w_empty, &mut self.w_apart, &mut self.w_time);
        rayon::join(
            || merged.transpose_sum(w_ih, w_summed, precision),
            || {
                w_empty.transpose(w_summed, precision);
                packed_apart.transpose(Matrix::new(w_apart, g - summed, d, d), precision);
                w_time.rows(Matrix::new(&weights.w_ih[x - t..], g, t, x), precision);
            },
        );
    }

    /// Gradients of the weights, given that of the new memory, `[U, D]`. Those of `time` are added. Called after
    /// [`forward`](Self::forward) with the same plan, cell and time weights; stored memories and mails are constants.
    pub fn backward(
        &mut self,
        plan: &MailPlan,
        cell: Cell,
        time: TimeWeights<'_>,
        grad: &[f32],
        gradients: CellGradients<'_>,
        time_gradients: [&mut [f32]; 2],
    ) {
        let Shape { d, x, g, t, summed, .. } = self.shape;
        let (apart, mails) = (self.shape.apart(), self.mails.len());
        let CellGradients { w_ih, w_hh, b_ih, b_hh } = gradients;
        if mails == 0 || d == 0 {
            [w_ih, w_hh, b_ih, b_hh].into_iter().for_each(|gradient| gradient.fill(0.0));
            return;
        }
        self.gate_gradients(plan, cell, time, grad);
        let [message_stride, gate_stride, apart_stride] = [x, g, apart].map(padded);
        let (full, empties) = (self.full, mails - self.full);
        let message = Matrix::new(&self.message, full, x, message_stride);
        let (w_summed, w_apart) = w_hh.split_at_mut(summed * d);
        let memory = Matrix::new(&self.message, mails, d, message_stride);
        rayon::join(
            || gradient(w_ih, x, WriteMode::Replace, Matrix::new(&self.gates, full, g, gate_stride), message),
            || {
                gradient(
                    w_apart,
                    d,
                    WriteMode::Replace,
                    Matrix::new(&self.recurrent, mails, apart, apart_stride),
                    memory,
                )
            },
        );
        // for mails with a message, the gradient of the summed rows of `w_hh` equals the own-memory columns of `w_ih`
        for (w_hh, w_ih) in w_summed.chunks_exact_mut(d).zip(w_ih.chunks_exact(x)) {
            w_hh.copy_from_slice(&w_ih[..d]);
        }
        if empties > 0 {
            let gates = Matrix::new(&self.gates[full * gate_stride..], empties, summed, gate_stride);
            let memory = Matrix::new(&self.message[full * message_stride..], empties, d, message_stride);
            gradient(w_summed, d, WriteMode::Add, gates, memory);
        }
        b_ih.fill(0.0);
        b_hh.fill(0.0);
        let [freq, phase] = time_gradients;
        sum_rows(&self.partial, [b_ih, &mut b_hh[summed..], &mut freq[..t], &mut phase[..t]]);
        b_hh[..summed].copy_from_slice(&b_ih[..summed]);
    }

    /// Converts gates into their gradients and writes each task's sums over its rows to `partial`.
    fn gate_gradients(&mut self, plan: &MailPlan, cell: Cell, time: TimeWeights<'_>, grad: &[f32]) {
        let Shape { d, x, g, t, .. } = self.shape;
        let (apart, mails) = (self.shape.apart(), self.mails.len());
        let strides = [x, g, apart].map(padded);
        let partial_width = g + apart + 2 * t;
        self.partial.clear();
        self.partial.resize(mails.div_ceil(TILE) * partial_width, 0.0);
        let partial = DisjointRows::new(&mut self.partial, partial_width);
        let gates = DisjointRows::new(&mut self.gates, strides[1]);
        let recurrent = DisjointRows::new(&mut self.recurrent, strides[2]);
        let (order, full, message, w_time) = (&self.mails, self.full, &self.message, &self.w_time);
        in_chunks(mails, TILE, |tile| {
            let (mails, task) = (&order[tile.clone()], tile.start / TILE);
            let full = full.clamp(tile.start, tile.end) - tile.start;
            // SAFETY: tiles do not overlap.
            let (gates, recurrent) = unsafe { (gates.rows(tile.clone()), recurrent.rows(tile.clone())) };
            // SAFETY: each task has its own row.
            let (of_gates, rest) = unsafe { partial.rows(task..task + 1) }.split_at_mut(g);
            let (of_recurrent, of_time) = rest.split_at_mut(apart);
            for (i, &mail) in mails.iter().enumerate() {
                let grad = &grad[plan.rows[mail as usize] as usize * d..][..d];
                let gates = &mut gates[i * strides[1]..][..g];
                match cell {
                    Cell::Gru => {
                        let memory = &message[(tile.start + i) * strides[0]..][..d];
                        let recurrent = &mut recurrent[i * strides[2]..][..d];
                        let (r, rest) = gates.split_at_mut(d);
                        let (z, n) = rest.split_at_mut(d);
                        gru_backward(r, z, n, recurrent, memory, grad);
                        add(of_recurrent, recurrent);
                    }
                    Cell::Rnn => rnn_backward(gates, grad),
                }
                add(of_gates, gates);
            }
            time_gradient(of_time, plan, time, &mails[..full], Matrix::new(gates, full, g, strides[1]), w_time);
        });
    }
}

/// Adds what the time encodings of some mails contribute to `sums`: those of the frequencies, then those of the phases.
fn time_gradient(
    sums: &mut [f32],
    plan: &MailPlan,
    time: TimeWeights<'_>,
    mails: &[u32],
    gates: Matrix<'_>,
    w_time: &Packed,
) {
    let t = time.freq.len();
    if t == 0 {
        return;
    }
    let stride = padded(t);
    let (freq, phase) = sums.split_at_mut(t);
    with_scratch(mails.len() * stride + t, |scratch| {
        let (encoding, sine) = scratch.split_at_mut(mails.len() * stride);
        multiply(encoding, stride, WriteMode::Replace, gates, w_time);
        for (row, &mail) in encoding.chunks_exact(stride).zip(mails) {
            let dt = plan.dt[mail as usize];
            sin_row(sine, dt, time.freq, time.phase);
            add_time_gradient(freq, phase, dt, sine, &row[..t]);
        }
    });
}

impl Shape {
    /// Gathers the messages of `mails`, of which the first `full` are not empty.
    fn load(&self, message: &mut [f32], plan: &MailPlan, time: TimeWeights<'_>, mails: &[u32], full: usize) {
        let Shape { d, e, t, x, .. } = *self;
        for (i, (row, &mail)) in message.chunks_exact_mut(padded(x)).zip(mails).enumerate() {
            let mail = mail as usize;
            row[..d].copy_from_slice(&plan.memory[plan.rows[mail] as usize * d..][..d]);
            if i < full {
                row[d..2 * d].copy_from_slice(&plan.other[mail * d..][..d]);
                if let Some(features) = &plan.features {
                    row[2 * d..2 * d + e].copy_from_slice(features.row(plan.event[mail]));
                }
                cos_row(&mut row[x - t..x], plan.dt[mail], time.freq, time.phase);
            }
            // a micro-kernel reads whole vectors
            row[x..].fill(0.0);
        }
    }

    /// The products of some mails, of which the first `full` have a message.
    fn multiply(
        &self,
        message: &[f32],
        gates: &mut [f32],
        recurrent: &mut [f32],
        [full, mails]: [usize; 2],
        packed: [&Packed; 3],
    ) {
        let Shape { d, x, g, .. } = *self;
        let [merged, w_empty, w_apart] = packed;
        let [message_stride, gate_stride, apart_stride] = [x, g, self.apart()].map(padded);
        multiply(gates, gate_stride, WriteMode::Replace, Matrix::new(message, full, x, message_stride), merged);
        if full < mails {
            let (gates, message) = (&mut gates[full * gate_stride..], &message[full * message_stride..]);
            gates.fill(0.0);
            multiply(
                gates,
                gate_stride,
                WriteMode::Replace,
                Matrix::new(message, mails - full, d, message_stride),
                w_empty,
            );
        }
        multiply(recurrent, apart_stride, WriteMode::Replace, Matrix::new(message, mails, d, message_stride), w_apart);
    }
}
