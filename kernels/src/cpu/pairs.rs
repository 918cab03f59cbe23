//! Scores of pairs of rows: the last step of a link decoder.
use crate::cpu::product::linear::PaddedRows;
use crate::cpu::vector::blocks::{BLOCK as LANES, sum_lanes};
use crate::cpu::vector::groups::Groups;
use crate::cpu::vector::math::{add, rectify};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::simd::vectorised;
use crate::cpu::vector::time::sum_rows;

/// Pairs, or rows, per task.
const CHUNK: usize = 64;

/// `score_p = w . relu(a[i_p] + b[j_p] [+ c_p]) + w_0`, for pairs `p` of a row of `a` and a row of `b`.
#[derive(Clone, Debug, Default)]
pub struct PairScores {
    /// `[P, O]` gradient of the ReLU's input.
    hidden: PaddedRows,
    groups: Groups,
    /// `[tasks, O]`
    partial: Vec<f32>,
}

/// The inputs of pair scores.
#[derive(Clone, Copy, Debug)]
pub struct PairInputs<'a> {
    /// `[A, O]`
    pub a: &'a PaddedRows,
    /// `[B, O]`
    pub b: &'a PaddedRows,
    /// `[P]` rows of `a`.
    pub i: &'a [u32],
    /// `[P]` rows of `b`.
    pub j: &'a [u32],
    /// `[P, O]` further rows that are added, if any.
    pub c: Option<&'a PaddedRows>,
    /// `[O]`
    pub weight: &'a [f32],
}

/// Gradients of [`PairInputs`], all overwritten.
#[derive(Debug)]
pub struct PairGradients<'a> {
    /// `[A, O]`
    pub a: &'a mut PaddedRows,
    /// `[B, O]`
    pub b: &'a mut PaddedRows,
    /// `[O]`
    pub weight: &'a mut [f32],
    /// `[1]`
    pub bias: &'a mut [f32],
}

impl PairScores {
    /// Writes the scores `[P]`.
    ///
    /// # Panics
    /// If shapes do not fit together, or a pair has a row out of range.
    pub fn forward(&self, inputs: PairInputs<'_>, bias: f32, scores: &mut [f32]) {
        assert_eq!([inputs.i.len(), inputs.j.len()], [scores.len(); 2], "a pair has one row of each side");
        let all = DisjointRows::new(scores, 1);
        in_chunks(inputs.i.len(), CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let scores = unsafe { all.rows(chunk.clone()) };
            for (pair, score) in chunk.zip(scores) {
                let [a, b, c] = inputs.rows(pair);
                *score = score_of(a, b, c, inputs.weight) + bias;
            }
        });
    }

    /// Gradients, given those of the scores. That of `c` is [`hidden`](Self::hidden).
    pub fn backward(&mut self, inputs: PairInputs<'_>, scores: &[f32], gradients: PairGradients<'_>) {
        let PairGradients { a, b, weight, bias } = gradients;
        let (pairs, width) = (inputs.i.len(), inputs.weight.len());
        assert_eq!(scores.len(), pairs, "a gradient for each score");
        self.hidden.resize(pairs, width);
        self.partial.clear();
        self.partial.resize(pairs.div_ceil(CHUNK) * width, 0.0);
        let stride = self.hidden.stride();
        let (hidden, partial) =
            (DisjointRows::new(&mut self.hidden.values, stride), DisjointRows::new(&mut self.partial, width));
        in_chunks(pairs, CHUNK, |chunk| {
            let task = chunk.start / CHUNK;
            // SAFETY: chunks do not overlap, and each has its own row of sums.
            let (hidden, weight) = unsafe { (hidden.rows(chunk.clone()), partial.rows(task..task + 1)) };
            for (pair, hidden) in chunk.zip(hidden.chunks_exact_mut(stride)) {
                let [a, b, c] = inputs.rows(pair);
                let (hidden, rest) = hidden.split_at_mut(width);
                score_backward(hidden, weight, scores[pair], a, b, c, inputs.weight);
                rest.fill(0.0);
            }
        });
        weight.fill(0.0);
        sum_rows(&self.partial, [weight]);
        bias[0] = scores.iter().sum();
        for (out, rows, of) in [(a, inputs.a.rows(), inputs.i), (b, inputs.b.rows(), inputs.j)] {
            out.resize(rows, width);
            self.groups.fill(rows, 0..pairs as u32, of);
            let stride = out.stride();
            let (all, groups, hidden) = (DisjointRows::new(&mut out.values, stride), &self.groups, &self.hidden);
            in_chunks(rows, CHUNK, |chunk| {
                // SAFETY: chunks do not overlap.
                let out = unsafe { all.rows(chunk.clone()) };
                for (row, out) in chunk.zip(out.chunks_exact_mut(stride)) {
                    out.fill(0.0);
                    groups.of(row).iter().for_each(|&pair| add(&mut out[..width], hidden.row(pair as usize)));
                }
            });
        }
    }

    /// `[P, O]` gradient of the ReLU's input from the last backward pass.
    pub fn hidden(&self) -> &PaddedRows {
        &self.hidden
    }
}

impl<'a> PairInputs<'a> {
    /// The three rows from which a pair is scored; the third is empty if nothing is added.
    fn rows(&self, pair: usize) -> [&'a [f32]; 3] {
        let c = self.c.map_or(&[][..], |c| c.row(pair));
        [self.a.row(self.i[pair] as usize), self.b.row(self.j[pair] as usize), c]
    }
}

vectorised! {
    /// `w . relu(a + b + c)`, summed in lanes; an empty `c` is zero.
    fn score_of<I>(a: &[f32], b: &[f32], c: &[f32], w: &[f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        let mut blocks = a.chunks(LANES).zip(b.chunks(LANES)).zip(w.chunks(LANES));
        if c.is_empty() {
            for ((a, b), w) in blocks {
                for (((sum, &a), &b), &w) in sums.iter_mut().zip(a).zip(b).zip(w) {
                    *sum = I::mul_add(rectify(a + b), w, *sum);
                }
            }
        } else {
            for c in c.chunks(LANES) {
                let Some(((a, b), w)) = blocks.next() else { break };
                for ((((sum, &a), &b), &c), &w) in sums.iter_mut().zip(a).zip(b).zip(c).zip(w) {
                    *sum = I::mul_add(rectify(a + b + c), w, *sum);
                }
            }
        }
        sum_lanes(&sums)
    }
}

vectorised! {
    /// `hidden = score w` where `a + b + c` is positive, else 0; adds `score relu(a + b + c)` to `weight`.
    fn score_backward<I>(hidden: &mut [f32], weight: &mut [f32], score: f32, a: &[f32], b: &[f32], c: &[f32], w: &[f32]) {
        let n = w.len();
        let (hidden, weight, a, b) = (&mut hidden[..n], &mut weight[..n], &a[..n], &b[..n]);
        if c.is_empty() {
            for at in 0..n {
                hidden[at] = a[at] + b[at];
            }
        } else {
            let c = &c[..n];
            for at in 0..n {
                hidden[at] = a[at] + b[at] + c[at];
            }
        }
        for at in 0..n {
            weight[at] = I::mul_add(score, rectify(hidden[at]), weight[at]);
        }
        for at in 0..n {
            hidden[at] = if hidden[at] > 0.0 { score * w[at] } else { 0.0 };
        }
    }
}
