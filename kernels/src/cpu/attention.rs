//! Temporal attention, a root at a time: what a neighbour looks like is put together in cache and never written out.
use super::blocks::{BLOCK, Block, blocks, dots, mix};
use super::math::{cos_row, softmax};
use crate::AttentionPlan;
use rayon::prelude::*;

/// Roots a task takes.
pub(super) const CHUNK: usize = 8;

/// Tensors of one attention. `hidden` `[N, W]`, `query` `[H, R, X]`, `freq` `[T]`, `phase` `[T]`, with `X = W + E + T + 1`.
pub(crate) struct Inputs<'a> {
    pub(crate) hidden: &'a [f32],
    pub(crate) query: &'a [f32],
    pub(crate) freq: &'a [f32],
    pub(crate) phase: &'a [f32],
    /// `W`
    pub(crate) width: usize,
    /// `H`
    pub(crate) heads: usize,
}

/// What attention gives, and what its backward pass needs to know.
pub(crate) struct Attended {
    /// `[H, R, X]`
    pub(crate) output: Vec<f32>,
    /// `[H, R, K]`: softmax of the scores, before dropout.
    pub(crate) weights: Vec<f32>,
    /// `[H, R, K]`: derivative of the activation at each score.
    pub(crate) slopes: Vec<f32>,
}

impl Inputs<'_> {
    /// `X`. Panics when tensors and plan do not fit together.
    pub(crate) fn check(&self, plan: &AttentionPlan) -> usize {
        plan.neighbours.check();
        let x = self.width + plan.edge_width() + self.freq.len() + 1;
        let roots = plan.neighbours.roots;
        assert_eq!(self.query.len(), self.heads * roots * x, "query is not [{}, {roots}, {x}]", self.heads);
        assert_eq!(self.phase.len(), self.freq.len(), "phase is not as long as freq");
        x
    }
}

/// Attends.
pub(crate) fn forward(plan: &AttentionPlan, inputs: &Inputs<'_>) -> Attended {
    let x = inputs.check(plan);
    let (heads, roots, k) = (inputs.heads, plan.neighbours.roots, plan.neighbours.k);
    let mut output = vec![0.0; heads * roots * x];
    let mut weights = vec![0.0; heads * roots * k];
    let mut slopes = vec![0.0; heads * roots * k];
    if heads * roots * k > 0 {
        by_chunk(&mut output, roots, x)
            .into_par_iter()
            .zip(by_chunk(&mut weights, roots, k))
            .zip(by_chunk(&mut slopes, roots, k))
            .enumerate()
            .for_each_init(
                || RootTile::new(plan, inputs),
                |tile, (chunk, ((mut output, mut weights), mut slopes))| {
                    for root in chunk * CHUNK..roots.min((chunk + 1) * CHUNK) {
                        let i = root % CHUNK;
                        tile.load(plan, inputs, root);
                        for head in 0..heads {
                            let weights = &mut weights[head][i * k..][..tile.count];
                            let slopes = &mut slopes[head][i * k..][..tile.count];
                            tile.attend(plan, inputs, [root, head], weights, slopes, &mut output[head][i * x..][..x]);
                        }
                    }
                },
            );
    }
    Attended { output, weights, slopes }
}

/// Cuts `[H, R, width]` in chunks of roots: for each chunk, the part of every head.
pub(super) fn by_chunk(array: &mut [f32], roots: usize, width: usize) -> Vec<Vec<&mut [f32]>> {
    let mut chunks: Vec<Vec<&mut [f32]>> = (0..roots.div_ceil(CHUNK)).map(|_| Vec::new()).collect();
    for head in array.chunks_mut(roots * width) {
        for (chunk, part) in chunks.iter_mut().zip(head.chunks_mut(CHUNK * width)) {
            chunk.push(part);
        }
    }
    chunks
}

/// The neighbours of one root, each `[hidden | edge | time | 1]` and padded with zeros to whole blocks.
pub(super) struct RootTile {
    /// Valid neighbours.
    pub(super) count: usize,
    /// Blocks a neighbour takes.
    pub(super) blocks: usize,
    /// `[K, blocks]`
    pub(super) rows: Vec<Block>,
    /// A padded vector of the caller's.
    query: Vec<Block>,
    mixed: Vec<Block>,
    /// `[K]`
    lanes: Vec<Block>,
    dropped: Vec<f32>,
}

impl RootTile {
    pub(super) fn new(plan: &AttentionPlan, inputs: &Inputs<'_>) -> Self {
        let blocks = blocks(inputs.width + plan.edge_width() + inputs.freq.len() + 1);
        Self {
            count: 0,
            blocks,
            rows: vec![[0.0; BLOCK]; plan.neighbours.k * blocks],
            query: vec![[0.0; BLOCK]; blocks],
            mixed: vec![[0.0; BLOCK]; blocks],
            lanes: vec![[0.0; BLOCK]; plan.neighbours.k],
            dropped: vec![0.0; plan.neighbours.k],
        }
    }

    /// Gathers the neighbours of `root`.
    pub(super) fn load(&mut self, plan: &AttentionPlan, inputs: &Inputs<'_>, root: usize) {
        let neighbours = &plan.neighbours;
        let (width, edge_width, time_width) = (inputs.width, plan.edge_width(), inputs.freq.len());
        self.count = neighbours.count[root] as usize;
        for (slot, row) in self.rows.chunks_exact_mut(self.blocks).take(self.count).enumerate() {
            let at = root * neighbours.k + slot;
            let (hidden, rest) = row.as_flattened_mut().split_at_mut(width);
            let (edge, rest) = rest.split_at_mut(edge_width);
            let (time, rest) = rest.split_at_mut(time_width);
            hidden.copy_from_slice(&inputs.hidden[neighbours.row[at] as usize * width..][..width]);
            if let Some(features) = &plan.features {
                edge.copy_from_slice(features.row(neighbours.event[at]));
            }
            cos_row(time, neighbours.dt[at], inputs.freq, inputs.phase);
            rest[0] = 1.0;
        }
    }

    /// `out[k] = vector . neighbour k`, for the valid neighbours.
    pub(super) fn dots(&mut self, vector: &[f32], out: &mut [f32]) {
        self.query.as_flattened_mut()[..vector.len()].copy_from_slice(vector);
        dots(out, &mut self.lanes[..self.count], &self.query, &self.rows);
    }

    /// `out = sum over k of weights[k] * neighbour k`.
    pub(super) fn mix(&mut self, weights: &[f32], out: &mut [f32]) {
        mix(&mut self.mixed, weights, &self.rows);
        out.copy_from_slice(&self.mixed.as_flattened()[..out.len()]);
    }

    fn attend(
        &mut self,
        plan: &AttentionPlan,
        inputs: &Inputs<'_>,
        [root, head]: [usize; 2],
        weights: &mut [f32],
        slopes: &mut [f32],
        out: &mut [f32],
    ) {
        let x = out.len();
        self.dots(&inputs.query[(head * plan.neighbours.roots + root) * x..][..x], weights);
        for (score, slope) in weights.iter_mut().zip(slopes) {
            (*score, *slope) = plan.activation.apply(*score);
        }
        softmax(weights);
        let mut dropped = std::mem::take(&mut self.dropped);
        for (slot, (dropped, &weight)) in dropped.iter_mut().zip(&*weights).enumerate() {
            *dropped = weight * plan.keep(root, head, inputs.heads, slot);
        }
        self.mix(&dropped[..self.count], out);
        self.dropped = dropped;
    }
}
