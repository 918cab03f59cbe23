//! Gradients of the weights of a memory update. Memories and mails are constants.
use super::cell::{gru_backward, rnn_backward};
use super::gemm::{Into, Matrix, MatrixMut, multiply};
use super::mail_tile::MailTile;
use super::math::add;
use super::memory::{Shape, Weights};
use super::time::TimeGradient;
use crate::{Cell, MailPlan};
use rayon::prelude::*;
use std::ops::Range;

/// Most lanes the mails are split in: every lane holds its own copy of the gradients.
const LANES: usize = 8;
/// Fewest mails that are worth a lane.
const LANE: usize = 128;
/// Most mails whose messages are held at once.
const TILE: usize = 128;

/// Gradients of `w_ih`, `w_hh`, `b_ih`, `b_hh`, `freq` and `phase`, from `grad` `[U, D]` and what the forward pass kept.
pub(crate) fn backward(plan: &MailPlan, shape: &Shape, weights: &Weights<'_>, kept: &[f32], grad: &[f32]) -> [Vec<f32>; 6] {
    let mails = plan.rows.len();
    let lanes: Vec<Lane> = split(0..mails, lanes_for(mails))
        .into_par_iter()
        .map(|mails| Lane::new(shape).run(plan, shape, weights, kept, grad, mails))
        .collect();
    let mut total = lanes.into_iter().reduce(Lane::merge).unwrap_or_else(|| Lane::new(shape));
    total.finish(shape);
    let [freq, phase] = total.time.into_parts();
    [total.w_ih, total.w_hh, total.b_ih, total.b_hh, freq, phase]
}

/// A power of two that depends on nothing but the work.
fn lanes_for(mails: usize) -> usize {
    let mut lanes = 1;
    while lanes < LANES && mails >= 2 * lanes * LANE {
        lanes *= 2;
    }
    lanes
}

/// `parts` ranges of nearly equal length.
fn split(range: Range<usize>, parts: usize) -> Vec<Range<usize>> {
    let length = range.len();
    (0..parts).map(|i| range.start + i * length / parts..range.start + (i + 1) * length / parts).collect()
}

/// Gradients over some of the mails.
struct Lane {
    w_ih: Vec<f32>,
    w_hh: Vec<f32>,
    b_ih: Vec<f32>,
    b_hh: Vec<f32>,
    time: TimeGradient,
}

/// Working memory of one lane.
struct Scratch {
    tile: MailTile,
    /// `[mails, G]` gradient of what the gates receive.
    input: Vec<f32>,
    /// `[mails, G - summed]` gradient of the recurrent product where it stands apart.
    recurrent: Vec<f32>,
    /// `[full, T]`
    sines: Vec<f32>,
    /// `[full, T]` gradient of the time encoding.
    encoding: Vec<f32>,
}

impl Lane {
    fn new(shape: &Shape) -> Self {
        Self {
            w_ih: vec![0.0; shape.g * shape.x],
            w_hh: vec![0.0; shape.g * shape.d],
            b_ih: vec![0.0; shape.g],
            b_hh: vec![0.0; shape.g],
            time: TimeGradient::zero(shape.t),
        }
    }

    fn run(mut self, plan: &MailPlan, shape: &Shape, weights: &Weights<'_>, kept: &[f32], grad: &[f32], mails: Range<usize>) -> Self {
        let mut scratch = Scratch { tile: MailTile::new(), input: vec![], recurrent: vec![], sines: vec![], encoding: vec![] };
        let tiles = mails.len().div_ceil(TILE);
        for mails in split(mails, tiles) {
            scratch.tile.load(plan, shape, weights, mails);
            scratch.apply_cell(plan, shape, kept, grad);
            self.add_weights(shape, &scratch);
            self.add_biases(shape, &scratch);
            self.add_time(plan, shape, weights, &mut scratch);
        }
        self
    }

    fn add_weights(&mut self, shape: &Shape, scratch: &Scratch) {
        let Shape { d, x, g, summed, .. } = *shape;
        let (mails, full) = (scratch.tile.mails.len(), scratch.tile.full);
        let apart = g - summed;
        let (message, empties) = scratch.tile.message.split_at(full * x);
        let (of_full, of_empties) = scratch.input.split_at(full * g);

        let gates = Matrix::new(of_full, full, g, g).t();
        multiply(MatrixMut::new(&mut self.w_ih, g, x, x), Into::Add, gates, Matrix::new(message, full, x, x));
        // what full mails add to the summed rows of w_hh already stands in w_ih: see `finish`
        let gates = Matrix::new(of_empties, mails - full, summed, g).t();
        let memory = Matrix::new(empties, mails - full, d, x);
        let (w_summed, w_apart) = self.w_hh.split_at_mut(summed * d);
        multiply(MatrixMut::new(w_summed, summed, d, d), Into::Add, gates, memory);

        let gates = Matrix::new(&scratch.recurrent, mails, apart, apart).t();
        let memory = Matrix::new(&scratch.tile.message, mails, d, x);
        multiply(MatrixMut::new(w_apart, apart, d, d), Into::Add, gates, memory);
    }

    fn add_biases(&mut self, shape: &Shape, scratch: &Scratch) {
        for row in scratch.input.chunks_exact(shape.g) {
            add(&mut self.b_ih, row);
        }
        if shape.summed < shape.g {
            for row in scratch.recurrent.chunks_exact(shape.g - shape.summed) {
                add(&mut self.b_hh[shape.summed..], row);
            }
        }
    }

    fn add_time(&mut self, plan: &MailPlan, shape: &Shape, weights: &Weights<'_>, scratch: &mut Scratch) {
        let Shape { x, g, t, .. } = *shape;
        if t == 0 {
            return;
        }
        let full = scratch.tile.full;
        scratch.tile.sines(plan, weights, &mut scratch.sines);
        scratch.encoding.resize(full * t, 0.0);
        let gates = Matrix::new(&scratch.input, full, g, g);
        let w_time = Matrix::new(&weights.w_ih[x - t..], g, t, x);
        multiply(MatrixMut::new(&mut scratch.encoding, full, t, t), Into::Replace, gates, w_time);
        let rows = scratch.sines.chunks_exact(t).zip(scratch.encoding.chunks_exact(t));
        for ((sine, grad), &mail) in rows.zip(&scratch.tile.mails) {
            self.time.add_row(plan.dt[mail], sine, grad);
        }
    }

    fn merge(mut self, next: Self) -> Self {
        add(&mut self.w_ih, &next.w_ih);
        add(&mut self.w_hh, &next.w_hh);
        add(&mut self.b_ih, &next.b_ih);
        add(&mut self.b_hh, &next.b_hh);
        self.time.add(&next.time);
        self
    }

    /// Where both products are summed, `w_hh` has the gradient of the own-memory columns of `w_ih`, and `b_hh` that of `b_ih`.
    fn finish(&mut self, shape: &Shape) {
        if shape.d == 0 {
            return;
        }
        let rows = self.w_hh.chunks_exact_mut(shape.d).zip(self.w_ih.chunks_exact(shape.x));
        for (w_hh, w_ih) in rows.take(shape.summed) {
            add(w_hh, w_ih);
        }
        self.b_hh[..shape.summed].copy_from_slice(&self.b_ih[..shape.summed]);
    }
}

impl Scratch {
    fn apply_cell(&mut self, plan: &MailPlan, shape: &Shape, kept: &[f32], grad: &[f32]) {
        let Shape { d, x, g, summed, .. } = *shape;
        let apart = g - summed;
        self.input.resize(self.tile.mails.len() * g, 0.0);
        self.recurrent.resize(self.tile.mails.len() * apart, 0.0);
        for (i, &mail) in self.tile.mails.iter().enumerate() {
            let input = &mut self.input[i * g..][..g];
            let kept = &kept[mail * shape.kept()..][..shape.kept()];
            let grad = &grad[plan.rows[mail] as usize * d..][..d];
            match shape.cell {
                Cell::Gru => {
                    let memory = &self.tile.message[i * x..][..d];
                    gru_backward(input, &mut self.recurrent[i * apart..][..apart], kept, memory, grad);
                }
                Cell::Rnn => rnn_backward(input, kept, grad),
            }
        }
    }
}
