//! Temporal attention, one root at a time. The rows of its neighbours are gathered in cache and never written to
//! memory.
pub(crate) mod backward;
pub(crate) mod projected;

use crate::cpu::attention::backward::{
    AttentionGradientBuffers, ChunkGradient, attend_chunk_backward, group_slots, hidden_gradient,
};
use crate::cpu::product::gemm::padded;
use crate::cpu::vector::blocks::{BLOCK, Block, blocks, dots, mix};
use crate::cpu::vector::math::{cos_row, softmax};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::time::{TimeWeights, sum_rows};
use crate::plan::neighbours::AttentionPlanRef;
use std::cell::RefCell;

/// The table from which neighbours are gathered: `hidden` `[N, W]` and the weights of the time encoding.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourTable<'a> {
    /// `[N, W]`
    pub hidden: &'a [f32],
    /// `W`
    pub width: usize,
    /// Numbers from one hidden row to the next.
    pub stride: usize,
    /// `[T]`
    pub time: TimeWeights<'a>,
}

impl NeighbourTable<'_> {
    /// `X = W + E + T + 1`: columns of a neighbour.
    pub(crate) fn columns(&self, attending: &AttentionPlanRef<'_>) -> usize {
        self.width + attending.edge_width() + self.time.freq.len() + 1
    }

    /// Panics if the shapes do not fit together.
    pub(crate) fn check(&self, attending: &AttentionPlanRef<'_>) {
        attending.neighbours.check();
        assert_eq!(self.time.phase.len(), self.time.freq.len(), "phase is not as long as freq");
    }
}

/// The neighbours of one root, each `[hidden | edge | time | 1]` and padded with zeros to whole blocks.
#[derive(Default)]
pub(super) struct RootTile {
    /// Valid neighbours.
    pub(super) count: usize,
    /// Columns of a neighbour.
    columns: usize,
    /// Blocks per neighbour.
    pub(super) blocks: usize,
    /// `[K, blocks]`
    pub(super) rows: Vec<Block>,
    /// `[K]` working memory of [`dots`].
    lanes: Vec<Block>,
    /// `[K]` weights after dropout.
    dropped: Vec<f32>,
}

thread_local! {
    static TILE: RefCell<RootTile> = RefCell::default();
}

impl RootTile {
    /// Calls `task` with this thread's tile, prepared for `k` neighbours of `columns` numbers.
    pub(super) fn with<R>(columns: usize, k: usize, task: impl FnOnce(&mut Self) -> R) -> R {
        TILE.with_borrow_mut(|tile| {
            let blocks = blocks(columns);
            tile.blocks = blocks;
            if tile.columns != columns {
                // an attention of another width may have left numbers in the padding
                tile.rows.fill([0.0; BLOCK]);
                tile.columns = columns;
            }
            tile.rows.resize(k * blocks, [0.0; BLOCK]);
            tile.lanes.resize(k, [0.0; BLOCK]);
            tile.dropped.resize(k, 0.0);
            task(tile)
        })
    }

    /// Gathers the neighbours of `root`.
    pub(super) fn load(&mut self, attending: &AttentionPlanRef<'_>, table: NeighbourTable<'_>, root: usize) {
        let neighbours = attending.neighbours;
        let (width, edge_width, time_width) = (table.width, attending.edge_width(), table.time.freq.len());
        self.count = neighbours.count[root] as usize;
        for (slot, row) in self.rows.chunks_exact_mut(self.blocks).take(self.count).enumerate() {
            let at = root * neighbours.k + slot;
            let (hidden, rest) = row.as_flattened_mut().split_at_mut(width);
            let (edge, rest) = rest.split_at_mut(edge_width);
            let (time, rest) = rest.split_at_mut(time_width);
            hidden.copy_from_slice(&table.hidden[neighbours.row[at] as usize * table.stride..][..width]);
            if let Some(features) = attending.features {
                edge.copy_from_slice(features.row(neighbours.event[at]));
            }
            cos_row(time, neighbours.dt[at], table.time.freq, table.time.phase);
            rest[0] = 1.0;
        }
    }

    /// `out[k] = vector . neighbour k`, for the valid neighbours; `vector` is padded.
    pub(super) fn dots(&mut self, vector: &[Block], out: &mut [f32]) {
        dots(out, &mut self.lanes[..self.count], vector, &self.rows);
    }

    /// `out = sum over k of weights[k] * neighbour k`, padded.
    pub(super) fn mix(&self, weights: &[f32], out: &mut [Block]) {
        mix(out, weights, &self.rows);
    }

    /// Attention of the root in the tile for one head: reads `query`; writes `weights`, `slopes` and the sum `seen`.
    pub(super) fn attend(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        [root, head, heads]: [usize; 3],
        query: &[Block],
        weights: &mut [f32],
        slopes: &mut [f32],
        seen: &mut [Block],
    ) {
        let (weights, slopes) = (&mut weights[..self.count], &mut slopes[..self.count]);
        self.dots(query, weights);
        for (score, slope) in weights.iter_mut().zip(slopes) {
            (*score, *slope) = attending.activation.apply(*score);
        }
        softmax(weights);
        let mut dropped = std::mem::take(&mut self.dropped);
        for (slot, (dropped, &weight)) in dropped.iter_mut().zip(&*weights).enumerate() {
            *dropped = weight * attending.dropout_factor(root, head, heads, slot);
        }
        self.mix(&dropped[..self.count], seen);
        self.dropped = dropped;
    }
}

/// Padded rows as blocks.
pub(super) fn as_blocks(numbers: &[f32]) -> &[Block] {
    numbers.as_chunks().0
}

/// Padded rows as blocks.
pub(super) fn as_blocks_mut(numbers: &mut [f32]) -> &mut [Block] {
    numbers.as_chunks_mut().0
}

/// Padded arrays of one attention over `C` roots: its working memory, reused from call to call.
#[derive(Clone, Debug, Default)]
pub struct AttentionBuffers {
    /// `[C, H, X]` queries, multiplied with the key weights.
    pub(crate) query: Vec<f32>,
    /// `[C, H, X]` sums of neighbours.
    pub(crate) seen: Vec<f32>,
    /// `[C, H, K]` softmax of the scores, before dropout.
    pub(crate) weights: Vec<f32>,
    /// `[C, H, K]` derivative of the activation at each score.
    pub(crate) slopes: Vec<f32>,
}

impl AttentionBuffers {
    /// Resizes; queries and sums have rows of `stride` numbers.
    pub(crate) fn resize(&mut self, rows: usize, stride: usize, k: usize) {
        self.query.resize(rows * stride, 0.0);
        self.seen.resize(rows * stride, 0.0);
        self.weights.resize(rows * k, 0.0);
        self.slopes.resize(rows * k, 0.0);
    }
}

/// Attention of one chunk of roots: `query` and `seen` `[roots, H, X]` padded, `weights` and `slopes` `[roots, H, K]`,
/// from root `first` on.
pub(super) fn attend_chunk(
    attending: &AttentionPlanRef<'_>,
    table: NeighbourTable<'_>,
    [first, heads]: [usize; 2],
    query: &[f32],
    seen: &mut [f32],
    weights: &mut [f32],
    slopes: &mut [f32],
) {
    let (columns, k) = (table.columns(attending), attending.neighbours.k);
    RootTile::with(columns, k, |tile| {
        let wide = heads * tile.blocks;
        let roots = as_blocks(query).chunks_exact(wide).zip(as_blocks_mut(seen).chunks_exact_mut(wide)).enumerate();
        for (i, (query, seen)) in roots {
            tile.load(attending, table, first + i);
            for head in 0..heads {
                let at = (i * heads + head) * k;
                let part = head * tile.blocks..(head + 1) * tile.blocks;
                let (weights, slopes) = (&mut weights[at..at + k], &mut slopes[at..at + k]);
                tile.attend(
                    attending,
                    [first + i, head, heads],
                    &query[part.clone()],
                    weights,
                    slopes,
                    &mut seen[part],
                );
            }
        }
    });
}

/// An attention whose queries are already multiplied with the key weights, head by head: the operation on the tape.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    kept: AttentionBuffers,
    gradient: AttentionGradientBuffers,
}

/// Roots per task.
const CHUNK: usize = 8;

impl Attention {
    /// `[H, R, X]` from `query` `[H, R, X]`.
    pub(crate) fn forward(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        table: NeighbourTable<'_>,
        heads: usize,
        query: &[f32],
    ) -> Vec<f32> {
        table.check(attending);
        let (columns, roots, k) = (table.columns(attending), attending.neighbours.roots, attending.neighbours.k);
        assert_eq!(query.len(), heads * roots * columns, "query is not [{heads}, {roots}, {columns}]");
        let stride = padded(columns);
        self.kept.resize(roots * heads, stride, k);
        let AttentionBuffers { query: looked, seen, weights, slopes } = &mut self.kept;
        by_root(looked, query, [heads, roots, columns]);
        let (seen, weights) = (DisjointRows::new(seen, heads * stride), DisjointRows::new(weights, heads * k));
        let (slopes, looked) = (DisjointRows::new(slopes, heads * k), &*looked);
        in_chunks(roots, CHUNK, |chunk| {
            let query = &looked[chunk.start * heads * stride..chunk.end * heads * stride];
            // SAFETY: chunks do not overlap.
            let (seen, weights, slopes) =
                unsafe { (seen.rows(chunk.clone()), weights.rows(chunk.clone()), slopes.rows(chunk.clone())) };
            attend_chunk(attending, table, [chunk.start, heads], query, seen, weights, slopes);
        });
        by_head(&self.kept.seen, stride, [heads, roots, columns])
    }

    /// `[H, R, K]`: the attention weights before dropout.
    pub(crate) fn weights(&self, [heads, roots, k]: [usize; 3]) -> Vec<f32> {
        by_head(&self.kept.weights, k, [heads, roots, k])
    }

    /// Gradients of `hidden`, `query`, `freq` and `phase`, from that of the output.
    pub(crate) fn backward(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        table: NeighbourTable<'_>,
        heads: usize,
        grad: &[f32],
    ) -> [Vec<f32>; 4] {
        let (columns, roots, k) = (table.columns(attending), attending.neighbours.roots, attending.neighbours.k);
        let (stride, width) = (padded(columns), table.time.freq.len());
        self.gradient.resize(roots * heads, stride, k);
        by_root(&mut self.gradient.seen, grad, [heads, roots, columns]);
        let mut partial = vec![0.0; roots.div_ceil(CHUNK) * 2 * width];
        let AttentionGradientBuffers { seen, query, dropped, score, .. } = &mut self.gradient;
        let (query, dropped) = (DisjointRows::new(query, heads * stride), DisjointRows::new(dropped, heads * k));
        let (score, sums) = (DisjointRows::new(score, heads * k), DisjointRows::new(&mut partial, 2 * width));
        let (kept, seen) = (&self.kept, &*seen);
        in_chunks(roots, CHUNK, |chunk| {
            let task = chunk.start / CHUNK;
            let seen = &seen[chunk.start * heads * stride..chunk.end * heads * stride];
            // SAFETY: chunks do not overlap.
            let (query, dropped) = unsafe { (query.rows(chunk.clone()), dropped.rows(chunk.clone())) };
            // SAFETY: as above, and each task has its own row of sums.
            let (score, time) = unsafe { (score.rows(chunk.clone()), sums.rows(task..task + 1)) };
            let gradient = ChunkGradient { seen, query, dropped, score, time };
            attend_chunk_backward(attending, table, [chunk.start, heads], kept, gradient);
        });
        let mut hidden = vec![0.0; table.hidden.len()];
        group_slots(&mut self.gradient.groups, attending, hidden.len() / table.stride.max(1));
        hidden_gradient(attending, table, &self.kept, &self.gradient, &mut hidden);
        let (mut freq, mut phase) = (vec![0.0; width], vec![0.0; width]);
        sum_rows(&partial, [&mut freq, &mut phase]);
        [hidden, by_head(&self.gradient.query, stride, [heads, roots, columns]), freq, phase]
    }
}

/// `[H, R, X]` to `[R, H, X]`, padded with zeros.
fn by_root(out: &mut [f32], array: &[f32], [heads, roots, columns]: [usize; 3]) {
    let stride = padded(columns);
    for (at, row) in array.chunks_exact(columns).enumerate() {
        let (head, root) = (at / roots, at % roots);
        let out = &mut out[(root * heads + head) * stride..][..stride];
        out[..columns].copy_from_slice(row);
        out[columns..].fill(0.0);
    }
}

/// `[R, H, X]`, rows `stride` apart, to `[H, R, X]`.
fn by_head(array: &[f32], stride: usize, [heads, roots, columns]: [usize; 3]) -> Vec<f32> {
    let rows = (0..heads).flat_map(|head| (0..roots).map(move |root| (root * heads + head) * stride));
    rows.flat_map(|at| &array[at..at + columns]).copied().collect()
}
