//! Gradients of temporal attention. Neighbours are gathered again; the forward pass saved only their weights.
use crate::cpu::attention::{AttentionBuffers, NeighbourTable, RootTile, as_blocks, as_blocks_mut};
use crate::cpu::vector::groups::Groups;
use crate::cpu::vector::math::{add_two, sin_row};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::time::add_time_gradient;
use crate::plan::neighbours::AttentionPlanRef;

/// Rows of `hidden` per task.
const ROWS: usize = 16;

/// Gradients of one attention over `C` roots.
#[derive(Clone, Debug, Default)]
pub struct AttentionGradientBuffers {
    /// `[C, H, X]` gradient of the sums: the input.
    pub(crate) seen: Vec<f32>,
    /// `[C, H, X]` of the queries.
    pub(crate) query: Vec<f32>,
    /// `[C, H, K]`: attention weights after dropout.
    pub(crate) dropped: Vec<f32>,
    /// `[C, H, K]`: gradients of the scores.
    pub(crate) score: Vec<f32>,
    /// Slots by the row of `hidden` they read.
    pub(crate) groups: Groups,
}

impl AttentionGradientBuffers {
    /// Resizes as [`AttentionBuffers::resize`].
    pub(crate) fn resize(&mut self, rows: usize, stride: usize, k: usize) {
        self.seen.resize(rows * stride, 0.0);
        self.query.resize(rows * stride, 0.0);
        self.dropped.resize(rows * k, 0.0);
        self.score.resize(rows * k, 0.0);
    }
}

/// Inputs and outputs of one chunk of roots, all from root `first` on.
pub(crate) struct ChunkGradient<'a> {
    /// `[roots, H, X]` gradient of the sums.
    pub(crate) seen: &'a [f32],
    /// `[roots, H, X]` gradient of the queries.
    pub(crate) query: &'a mut [f32],
    /// `[roots, H, K]`
    pub(crate) dropped: &'a mut [f32],
    /// `[roots, H, K]`
    pub(crate) score: &'a mut [f32],
    /// `[2T]` gradients of frequencies and phases, which are added.
    pub(crate) time: &'a mut [f32],
}

/// Gradients of one chunk of roots, from the saved arrays of the forward pass.
pub(crate) fn attend_chunk_backward(
    attending: &AttentionPlanRef<'_>,
    table: NeighbourTable<'_>,
    [first, heads]: [usize; 2],
    kept: &AttentionBuffers,
    chunk: ChunkGradient<'_>,
) {
    let (columns, k) = (table.columns(attending), attending.neighbours.k);
    let ChunkGradient { seen, query, dropped, score, time } = chunk;
    RootTile::with(columns, k, |tile| {
        let wide = heads * tile.blocks;
        let mut encoder = TimeGradientAccumulator::new(table, attending, columns, time);
        let roots = as_blocks(seen).chunks_exact(wide).zip(as_blocks_mut(query).chunks_exact_mut(wide)).enumerate();
        for (i, (of_seen, of_query)) in roots {
            let root = first + i;
            tile.load(attending, table, root);
            let shares = i * heads * k..(i + 1) * heads * k;
            let (dropped, score) = (&mut dropped[shares.clone()], &mut score[shares]);
            for head in 0..heads {
                let part = head * tile.blocks..(head + 1) * tile.blocks;
                let slots = head * k..head * k + tile.count;
                tile.dots(&of_seen[part.clone()], &mut score[slots.clone()]);
                let at = (root * heads + head) * k;
                let place = [root, head, heads];
                score_gradients(
                    attending,
                    place,
                    &kept.weights[at..],
                    &kept.slopes[at..],
                    &mut dropped[slots.clone()],
                    &mut score[slots.clone()],
                );
                tile.mix(&score[slots], &mut of_query[part]);
            }
            let queries = &as_blocks(&kept.query)[root * wide..][..wide];
            encoder.add_root(attending, root, [dropped, score], [of_seen, queries].map(<[_]>::as_flattened), heads);
        }
    });
}

/// Converts `score` from gradients of the dropped weights of one root and head into gradients of the scores. Writes
/// these weights to `dropped`.
fn score_gradients(
    attending: &AttentionPlanRef<'_>,
    [root, head, heads]: [usize; 3],
    weights: &[f32],
    slopes: &[f32],
    dropped: &mut [f32],
    score: &mut [f32],
) {
    let mut mean = 0.0;
    for (slot, (score, dropped)) in score.iter_mut().zip(dropped).enumerate() {
        let keep = attending.dropout_factor(root, head, heads, slot);
        *score *= keep;
        *dropped = weights[slot] * keep;
        mean += weights[slot] * *score;
    }
    for ((score, &weight), &slope) in score.iter_mut().zip(weights).zip(slopes) {
        *score = weight * (*score - mean) * slope;
    }
}

/// Contributions of neighbours to the gradients of frequencies and phases.
struct TimeGradientAccumulator<'a> {
    table: NeighbourTable<'a>,
    /// First time column of a neighbour.
    start: usize,
    /// Numbers from one head of a root to the next.
    stride: usize,
    freq: &'a mut [f32],
    phase: &'a mut [f32],
}

/// Widest time encoding whose working memory is on the stack.
const WIDEST: usize = 1024;

impl<'a> TimeGradientAccumulator<'a> {
    fn new(table: NeighbourTable<'a>, attending: &AttentionPlanRef<'_>, columns: usize, time: &'a mut [f32]) -> Self {
        let (freq, phase) = time.split_at_mut(table.time.freq.len());
        Self {
            table,
            start: table.width + attending.edge_width(),
            stride: crate::cpu::product::gemm::padded(columns),
            freq,
            phase,
        }
    }

    fn add_root(
        &mut self,
        attending: &AttentionPlanRef<'_>,
        root: usize,
        [dropped, score]: [&[f32]; 2],
        [seen, query]: [&[f32]; 2],
        heads: usize,
    ) {
        let (k, width) = (attending.neighbours.k, self.freq.len());
        assert!(width <= WIDEST, "a time encoding of {width} columns is wider than {WIDEST}");
        let (mut encoding, mut sine) = ([0.0; WIDEST], [0.0; WIDEST]);
        let (encoding, sine) = (&mut encoding[..width], &mut sine[..width]);
        for slot in 0..attending.neighbours.count[root] as usize {
            encoding.fill(0.0);
            for head in 0..heads {
                let (share, at) = (head * k + slot, head * self.stride + self.start);
                add_two(encoding, dropped[share], &seen[at..], score[share], &query[at..]);
            }
            let dt = attending.neighbours.dt[root * k + slot];
            sin_row(sine, dt, self.table.time.freq, self.table.time.phase);
            add_time_gradient(self.freq, self.phase, dt, sine, encoding);
        }
    }
}

/// Groups the valid slots by the row they read, out of `rows` rows.
pub(crate) fn group_slots(groups: &mut Groups, attending: &AttentionPlanRef<'_>, rows: usize) {
    groups.fill(rows, attending.neighbours.valid_slots(), &attending.neighbours.row);
}

/// Writes every row of `out`, the gradient of `hidden` `[N, W]`: the sum of the contributions of the slots that read
/// it, in their order. Slot `k` contributes the sum over heads of `dropped * gradient of the sum + score * query`.
/// Slots are grouped already.
pub(crate) fn hidden_gradient(
    attending: &AttentionPlanRef<'_>,
    table: NeighbourTable<'_>,
    kept: &AttentionBuffers,
    gradient: &AttentionGradientBuffers,
    out: &mut [f32],
) {
    let (width, columns) = (table.width, table.columns(attending));
    let neighbours = attending.neighbours;
    if width == 0 || neighbours.roots * neighbours.k == 0 {
        out.fill(0.0);
        return;
    }
    let stride = crate::cpu::product::gemm::padded(columns);
    let heads = kept.seen.len() / (neighbours.roots * stride);
    let rows = out.len() / table.stride;
    let AttentionGradientBuffers { seen, dropped, score, groups, .. } = gradient;
    let all = DisjointRows::new(out, table.stride);
    in_chunks(rows, ROWS, |chunk| {
        // SAFETY: chunks do not overlap.
        let out = unsafe { all.rows(chunk.clone()) };
        for (row, out) in chunk.zip(out.chunks_exact_mut(table.stride)) {
            out.fill(0.0);
            let out = &mut out[..width];
            for &slot in groups.of(row) {
                let (root, slot) = (slot as usize / neighbours.k, slot as usize % neighbours.k);
                for head in root * heads..(root + 1) * heads {
                    let share = head * neighbours.k + slot;
                    add_two(out, dropped[share], &seen[head * stride..], score[share], &kept.query[head * stride..]);
                }
            }
        }
    });
}
