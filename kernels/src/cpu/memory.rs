//! The memory update: messages, two products, gates.
use super::cell::{gru, rnn};
use super::gemm::{Into, Matrix, MatrixMut, multiply};
use super::mail_tile::MailTile;
use crate::{Cell, MailPlan};
use rayon::prelude::*;

/// Mails a task takes.
const TILE: usize = 64;

/// Weights of one update. `w_ih` `[G, X]`, `w_hh` `[G, D]`, `b_ih` `[G]`, `b_hh` `[G]`, `freq` `[T]`, `phase` `[T]`.
pub(crate) struct Weights<'a> {
    pub(crate) w_ih: &'a [f32],
    pub(crate) w_hh: &'a [f32],
    pub(crate) b_ih: &'a [f32],
    pub(crate) b_hh: &'a [f32],
    pub(crate) freq: &'a [f32],
    pub(crate) phase: &'a [f32],
}

/// Widths of one update.
pub(crate) struct Shape {
    pub(crate) cell: Cell,
    /// Memory.
    pub(crate) d: usize,
    /// Edge features.
    pub(crate) e: usize,
    /// Time encoding.
    pub(crate) t: usize,
    /// Message: `2D + E + T`.
    pub(crate) x: usize,
    /// All gates.
    pub(crate) g: usize,
    /// The leading gates that see only the sum of both products.
    pub(crate) summed: usize,
}

impl Shape {
    /// Panics when weights and plan do not fit together.
    pub(crate) fn new(plan: &MailPlan, cell: Cell, weights: &Weights<'_>) -> Self {
        let g = weights.b_hh.len();
        let d = g / cell.gates();
        let (e, t) = (plan.edge_width(), weights.freq.len());
        let x = 2 * d + e + t;
        assert_eq!(g % cell.gates(), 0, "b_hh has {g} numbers for {} gates", cell.gates());
        assert_eq!(weights.w_ih.len(), g * x, "w_ih is not [{g}, {x}]");
        assert_eq!(weights.w_hh.len(), g * d, "w_hh is not [{g}, {d}]");
        assert_eq!([weights.b_ih.len(), weights.phase.len()], [g, t], "b_ih is not [{g}] or phase is not [{t}]");
        plan.check(d);
        Self { cell, d, e, t, x, g, summed: cell.summed() * d }
    }

    /// Stored memory of the node a mail is for.
    pub(super) fn own_memory<'a>(&self, plan: &'a MailPlan, mail: usize) -> &'a [f32] {
        &plan.memory[plan.rows[mail] as usize * self.d..][..self.d]
    }

    /// Numbers a mail keeps for the backward pass.
    pub(super) fn kept(&self) -> usize {
        self.cell.kept() * self.d
    }
}

/// The new memory `[U, D]`, and what the backward pass needs to know `[M, kept]`.
pub(crate) fn forward(plan: &MailPlan, shape: &Shape, weights: &Weights<'_>) -> (Vec<f32>, Vec<f32>) {
    let mut memory = plan.memory.clone();
    let mut kept = vec![0.0; plan.rows.len() * shape.kept()];
    if plan.rows.is_empty() || shape.d == 0 {
        return (memory, kept);
    }
    let merged = (plan.rows.len() > TILE).then(|| Merged::new(shape, weights));
    let mut updated = pick_rows(&mut memory, shape.d, &plan.rows);
    let mut kept_rows: Vec<&mut [f32]> = kept.chunks_exact_mut(shape.kept()).collect();
    updated.par_chunks_mut(TILE).zip(kept_rows.par_chunks_mut(TILE)).enumerate().for_each_init(
        Scratch::new,
        |scratch, (task, (out, kept))| {
            let first = task * TILE;
            scratch.tile.load(plan, shape, weights, first..first + out.len());
            match &merged {
                Some(merged) => scratch.multiply_merged(shape, weights, merged),
                None => scratch.multiply(shape, weights),
            }
            scratch.apply_cell(shape, weights, first, out, kept);
        },
    );
    (memory, kept)
}

/// Mutable references to the rows named by `rows`, which ascend.
fn pick_rows<'a>(matrix: &'a mut [f32], width: usize, rows: &[u32]) -> Vec<&'a mut [f32]> {
    let mut wanted = rows.iter().peekable();
    let all = matrix.chunks_exact_mut(width).enumerate();
    all.filter_map(|(i, row)| wanted.next_if(|&&wanted| wanted as usize == i).map(|_| row)).collect()
}

/// Weights rearranged for many rows: transposed, so that products read them in order, and added where they can be.
struct Merged {
    /// `[X, G]`: `w_ih` transposed, with `w_hh` added where both meet the node's own memory and their products are only summed.
    message: Vec<f32>,
    /// `[D, G - summed]`: the rest of `w_hh` transposed.
    apart: Vec<f32>,
}

impl Merged {
    fn new(shape: &Shape, weights: &Weights<'_>) -> Self {
        let Shape { d, x, g, summed, .. } = *shape;
        let mut message = transposed(weights.w_ih, g, x);
        for (column, row) in message.chunks_exact_mut(g).take(d).enumerate() {
            for (gate, weight) in row[..summed].iter_mut().enumerate() {
                *weight += weights.w_hh[gate * d + column];
            }
        }
        Self { message, apart: transposed(&weights.w_hh[summed * d..], g - summed, d) }
    }
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (i, row) in matrix.chunks_exact(columns).enumerate() {
        for (j, &x) in row.iter().enumerate() {
            out[j * rows + i] = x;
        }
    }
    out
}

/// Working memory of one task.
struct Scratch {
    tile: MailTile,
    /// `[mails, G]`
    input: Vec<f32>,
    /// `[mails, G - summed]`
    recurrent: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self { tile: MailTile::new(), input: Vec::new(), recurrent: Vec::new() }
    }

    /// Products for a few rows, from the weights as they are.
    fn multiply(&mut self, shape: &Shape, weights: &Weights<'_>) {
        let Shape { d, x, g, summed, .. } = *shape;
        let (mails, full, apart) = self.prepare(shape);
        let message = Matrix::new(&self.tile.message, full, x, x);
        let memory = Matrix::new(&self.tile.message, mails, d, x);
        let w_ih = Matrix::new(weights.w_ih, g, x, x).t();
        let w_summed = Matrix::new(weights.w_hh, summed, d, d).t();
        let w_apart = Matrix::new(&weights.w_hh[summed * d..], apart, d, d).t();
        multiply(MatrixMut::new(&mut self.input, full, g, g), Into::Replace, message, w_ih);
        multiply(MatrixMut::new(&mut self.input, mails, summed, g), Into::Add, memory, w_summed);
        multiply(MatrixMut::new(&mut self.recurrent, mails, apart, apart), Into::Replace, memory, w_apart);
    }

    /// The same for many rows: one product less.
    fn multiply_merged(&mut self, shape: &Shape, weights: &Weights<'_>, merged: &Merged) {
        let Shape { d, x, g, summed, .. } = *shape;
        let (mails, full, apart) = self.prepare(shape);
        let (message, empties) = self.tile.message.split_at(full * x);
        let (into_full, into_empties) = self.input.split_at_mut(full * g);
        let w_message = Matrix::new(&merged.message, x, g, g);
        multiply(MatrixMut::new(into_full, full, g, g), Into::Replace, Matrix::new(message, full, x, x), w_message);
        let memory = Matrix::new(empties, mails - full, d, x);
        let w_summed = Matrix::new(weights.w_hh, summed, d, d).t();
        multiply(MatrixMut::new(into_empties, mails - full, summed, g), Into::Replace, memory, w_summed);

        let memory = Matrix::new(&self.tile.message, mails, d, x);
        let w_apart = Matrix::new(&merged.apart, d, apart, apart);
        multiply(MatrixMut::new(&mut self.recurrent, mails, apart, apart), Into::Replace, memory, w_apart);
    }

    /// Makes room; the gates of empty messages start at zero. Returns mails, full mails, and gates whose products stand apart.
    fn prepare(&mut self, shape: &Shape) -> (usize, usize, usize) {
        let mails = self.tile.mails.len();
        let apart = shape.g - shape.summed;
        self.input.clear();
        self.input.resize(mails * shape.g, 0.0);
        self.recurrent.resize(mails * apart, 0.0);
        (mails, self.tile.full, apart)
    }

    fn apply_cell(&self, shape: &Shape, weights: &Weights<'_>, first: usize, out: &mut [&mut [f32]], kept: &mut [&mut [f32]]) {
        let biases = [weights.b_ih, weights.b_hh];
        let apart = shape.g - shape.summed;
        for (i, &mail) in self.tile.mails.iter().enumerate() {
            let (out, kept) = (&mut *out[mail - first], &mut *kept[mail - first]);
            let input = &self.input[i * shape.g..][..shape.g];
            match shape.cell {
                Cell::Gru => {
                    let recurrent = &self.recurrent[i * apart..][..apart];
                    let memory = &self.tile.message[i * shape.x..][..shape.d];
                    gru(out, kept, input, recurrent, biases, memory);
                }
                Cell::Rnn => rnn(out, kept, input, biases),
            }
        }
    }
}
