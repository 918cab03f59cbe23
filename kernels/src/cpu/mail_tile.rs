//! A few rows of the concatenated message, gathered for the products of one task.
use super::math::{cos_row, sin_row};
use super::memory::{Shape, Weights};
use crate::MailPlan;
use std::ops::Range;

/// Messages of some mails. Those that are not empty come first; the others have their own memory only.
pub(super) struct MailTile {
    /// Positions of the mails in the plan.
    pub(super) mails: Vec<usize>,
    /// How many of them are not empty.
    pub(super) full: usize,
    /// `[mails, X]`: own memory, other memory, edge features, time encoding.
    pub(super) message: Vec<f32>,
}

impl MailTile {
    pub(super) fn new() -> Self {
        Self { mails: Vec::new(), full: 0, message: Vec::new() }
    }

    /// Gathers the messages of `mails`.
    pub(super) fn load(&mut self, plan: &MailPlan, shape: &Shape, weights: &Weights<'_>, mails: Range<usize>) {
        self.mails.clear();
        self.mails.extend(mails.clone().filter(|&mail| !plan.empty[mail]));
        self.full = self.mails.len();
        self.mails.extend(mails.filter(|&mail| plan.empty[mail]));
        self.message.resize(self.mails.len() * shape.x, 0.0);
        for (i, (row, &mail)) in self.message.chunks_exact_mut(shape.x).zip(&self.mails).enumerate() {
            let (own, rest) = row.split_at_mut(shape.d);
            own.copy_from_slice(shape.own_memory(plan, mail));
            if i < self.full {
                load_rest(rest, plan, shape, weights, mail);
            }
        }
    }

    /// `[full, T]`: the sines whose cosines are the time encodings.
    pub(super) fn sines(&self, plan: &MailPlan, weights: &Weights<'_>, sines: &mut Vec<f32>) {
        let width = weights.freq.len();
        sines.resize(self.full * width, 0.0);
        if width > 0 {
            for (row, &mail) in sines.chunks_exact_mut(width).zip(&self.mails) {
                sin_row(row, plan.dt[mail], weights.freq, weights.phase);
            }
        }
    }
}

fn load_rest(rest: &mut [f32], plan: &MailPlan, shape: &Shape, weights: &Weights<'_>, mail: usize) {
    let (other, rest) = rest.split_at_mut(shape.d);
    let (edge, time) = rest.split_at_mut(shape.e);
    other.copy_from_slice(&plan.other[mail * shape.d..][..shape.d]);
    if let Some(features) = &plan.features {
        edge.copy_from_slice(features.row(plan.event[mail]));
    }
    cos_row(time, plan.dt[mail], weights.freq, weights.phase);
}
