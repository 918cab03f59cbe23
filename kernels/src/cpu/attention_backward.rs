//! Gradients of temporal attention. Neighbours are put together again; only their weights were kept.
use super::attention::{CHUNK, Inputs, RootTile, by_chunk};
use super::groups::Groups;
use super::math::{add_two, sin_row};
use super::time::TimeGradient;
use crate::AttentionPlan;
use rayon::prelude::*;

/// Rows of `hidden` a task takes.
const ROWS: usize = 32;

/// What the gradient of `hidden` is made of: that of slot `k` is the sum over heads of
/// `dropped * output gradient + score * query`.
struct Shares {
    /// `[H, R, K]`: attention weights after dropout.
    dropped: Vec<f32>,
    /// `[H, R, K]`: gradients of the scores.
    score: Vec<f32>,
}

/// Gradients of `hidden`, `query`, `freq` and `phase`.
pub(crate) fn backward(plan: &AttentionPlan, inputs: &Inputs<'_>, weights: &[f32], slopes: &[f32], grad: &[f32]) -> [Vec<f32>; 4] {
    let x = inputs.check(plan);
    let (heads, roots, k) = (inputs.heads, plan.neighbours.roots, plan.neighbours.k);
    let mut query = vec![0.0; heads * roots * x];
    if heads * roots * k == 0 {
        let zeros = |like: &[f32]| vec![0.0; like.len()];
        return [zeros(inputs.hidden), query, zeros(inputs.freq), zeros(inputs.phase)];
    }
    let mut shares = Shares { dropped: vec![0.0; heads * roots * k], score: vec![0.0; heads * roots * k] };
    let parts = by_chunk(&mut query, roots, x).into_par_iter().zip(by_chunk(&mut shares.dropped, roots, k)).zip(by_chunk(
        &mut shares.score,
        roots,
        k,
    ));
    let times: Vec<TimeGradient> = parts
        .enumerate()
        .map_init(
            || Scratch::new(plan, inputs),
            |scratch, (chunk, ((mut query, mut dropped), mut score))| {
                let mut time = TimeGradient::zero(inputs.freq.len());
                for root in chunk * CHUNK..roots.min((chunk + 1) * CHUNK) {
                    let i = root % CHUNK;
                    scratch.tile.load(plan, inputs, root);
                    let count = scratch.tile.count;
                    for head in 0..heads {
                        let at = head * roots + root;
                        let dropped = &mut dropped[head][i * k..][..count];
                        let score = &mut score[head][i * k..][..count];
                        let grad = &grad[at * x..][..x];
                        scratch.scores(plan, heads, [root, head], &weights[at * k..], &slopes[at * k..], grad, dropped, score);
                        scratch.tile.mix(score, &mut query[head][i * x..][..x]);
                    }
                    let slots = |shares: &[&mut [f32]], head: usize, slot: usize| shares[head][i * k + slot];
                    scratch.time(
                        plan,
                        inputs,
                        root,
                        grad,
                        |head, slot| (slots(&dropped, head, slot), slots(&score, head, slot)),
                        &mut time,
                    );
                }
                time
            },
        )
        .collect();
    let [freq, phase] = TimeGradient::sum(inputs.freq.len(), &times).into_parts();
    [hidden_gradient(plan, inputs, &shares, grad, x), query, freq, phase]
}

/// Working memory of one task.
struct Scratch {
    tile: RootTile,
    /// `[T]`
    sine: Vec<f32>,
    /// `[T]` gradient of the time encoding of one neighbour.
    encoding: Vec<f32>,
}

impl Scratch {
    fn new(plan: &AttentionPlan, inputs: &Inputs<'_>) -> Self {
        let width = inputs.freq.len();
        Self { tile: RootTile::new(plan, inputs), sine: vec![0.0; width], encoding: vec![0.0; width] }
    }

    /// Gradients of the scores of one root and head, and the weights after dropout.
    #[allow(clippy::too_many_arguments)]
    fn scores(
        &mut self,
        plan: &AttentionPlan,
        heads: usize,
        [root, head]: [usize; 2],
        weights: &[f32],
        slopes: &[f32],
        grad: &[f32],
        dropped: &mut [f32],
        score: &mut [f32],
    ) {
        self.tile.dots(grad, score);
        let mut mean = 0.0;
        for (slot, (score, dropped)) in score.iter_mut().zip(dropped).enumerate() {
            let keep = plan.keep(root, head, heads, slot);
            *score *= keep;
            *dropped = weights[slot] * keep;
            mean += weights[slot] * *score;
        }
        for ((score, &weight), &slope) in score.iter_mut().zip(weights).zip(slopes) {
            *score = weight * (*score - mean) * slope;
        }
    }

    /// Adds what the neighbours of one root contribute to the gradients of `freq` and `phase`.
    fn time(
        &mut self,
        plan: &AttentionPlan,
        inputs: &Inputs<'_>,
        root: usize,
        grad: &[f32],
        shares: impl Fn(usize, usize) -> (f32, f32),
        time: &mut TimeGradient,
    ) {
        let (roots, k) = (plan.neighbours.roots, plan.neighbours.k);
        let start = inputs.width + plan.edge_width();
        let x = start + inputs.freq.len() + 1;
        for slot in 0..self.tile.count {
            self.encoding.fill(0.0);
            for head in 0..inputs.heads {
                let (dropped, score) = shares(head, slot);
                let at = (head * roots + root) * x + start;
                add_two(&mut self.encoding, dropped, &grad[at..], score, &inputs.query[at..]);
            }
            let dt = plan.neighbours.dt[root * k + slot];
            sin_row(&mut self.sine, dt, inputs.freq, inputs.phase);
            time.add_row(dt, &self.sine, &self.encoding);
        }
    }
}

/// Adds up, for every row of `hidden`, the slots that read it, in their order.
fn hidden_gradient(plan: &AttentionPlan, inputs: &Inputs<'_>, shares: &Shares, grad: &[f32], x: usize) -> Vec<f32> {
    let mut hidden = vec![0.0; inputs.hidden.len()];
    let width = inputs.width;
    if width == 0 {
        return hidden;
    }
    let (roots, k) = (plan.neighbours.roots, plan.neighbours.k);
    let groups = Groups::new(inputs.hidden.len() / width, plan.neighbours.valid_slots(), &plan.neighbours.row);
    hidden.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, rows)| {
        for (i, out) in rows.chunks_exact_mut(width).enumerate() {
            for &slot in groups.of(chunk * ROWS + i) {
                let root = slot as usize / k;
                for head in 0..inputs.heads {
                    let share = head * roots * k + slot as usize;
                    let at = (head * roots + root) * x;
                    add_two(out, shares.dropped[share], &grad[at..], shares.score[share], &inputs.query[at..]);
                }
            }
        }
    });
    hidden
}
