//! Plans and numbers for tests, made from a seed.
#![allow(dead_code)] // every test file uses some of it
pub mod pairs;
pub mod slices;

use std::sync::Arc;
use tempograph_kernels::tensor::{AutodiffBackend, Backend, CpuTape, Tensor, TensorData};
use tempograph_kernels::{
    AttentionPlan, Cell, Dropout, MailPlan, Neighbours, Rows, ScoreActivation, TemporalOps, memory_update_gru,
    memory_update_rnn, reference, temporal_attention,
};

/// Numbers in `[-1, 1)`.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[derive(Debug)]
pub struct Table {
    width: usize,
    numbers: Vec<f32>,
}

impl Table {
    pub fn of(seed: u64, rows: usize, width: usize) -> Arc<dyn Rows> {
        Arc::new(Self { width, numbers: numbers(seed, rows * width) })
    }
}

impl Rows for Table {
    fn width(&self) -> usize {
        self.width
    }

    fn row(&self, id: u64) -> &[f32] {
        &self.numbers[id as usize * self.width..][..self.width]
    }
}

const EVENTS: usize = 40;

/// Sizes of a memory update.
#[derive(Clone, Copy, Debug)]
pub struct MailSizes {
    pub unique: usize,
    pub d: usize,
    pub e: Option<usize>,
    pub t: usize,
    /// One node in so many has no mail at all; 1: none has mail.
    pub silent: usize,
    /// One mail in so many is empty.
    pub empty: usize,
}

impl MailSizes {
    pub fn plan(self) -> MailPlan {
        let rows: Vec<u32> = (0..self.unique as u32).filter(|row| row % self.silent as u32 != 0).collect();
        let mails = rows.len();
        let empty: Vec<bool> = (0..mails).map(|mail| mail % self.empty == self.empty - 1).collect();
        // the numbers of an empty mail are ignored
        let event = (0..mails).map(|mail| if empty[mail] { u64::MAX } else { (mail * 7 % EVENTS) as u64 }).collect();
        let mut other = numbers(2, mails * self.d);
        for (mail, row) in other.chunks_mut(self.d).enumerate() {
            if empty[mail] {
                row.fill(f32::NAN);
            }
        }
        MailPlan {
            unique: self.unique,
            memory: numbers(1, self.unique * self.d),
            dt: numbers(3, mails)
                .iter()
                .zip(&empty)
                .map(|(dt, &empty)| if empty { f32::NAN } else { 3.0 + 3.0 * dt })
                .collect(),
            features: self.e.map(|e| Table::of(4, EVENTS, e)),
            rows,
            empty,
            other,
            event,
        }
    }

    /// `w_ih`, `w_hh`, `b_ih`, `b_hh`, `freq`, `phase`.
    pub fn weights(self, cell: Cell) -> [Vec<f32>; 6] {
        let (g, x) = (cell.gates() * self.d, 2 * self.d + self.e.unwrap_or(0) + self.t);
        let mut seed = 10;
        [g * x, g * self.d, g, g, self.t, self.t].map(|count| {
            seed += 1;
            numbers(seed, count).iter().map(|w| w * 0.5).collect()
        })
    }

    pub fn shapes(self, cell: Cell) -> [Vec<usize>; 6] {
        let (g, x) = (cell.gates() * self.d, 2 * self.d + self.e.unwrap_or(0) + self.t);
        [vec![g, x], vec![g, self.d], vec![g], vec![g], vec![self.t], vec![self.t]]
    }
}

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSizes {
    pub roots: usize,
    pub k: usize,
    pub n: usize,
    pub w: usize,
    pub e: Option<usize>,
    pub t: usize,
    pub heads: usize,
    pub activation: ScoreActivation,
    pub rate: Option<f32>,
    pub lonely: bool,
}

impl AttentionSizes {
    pub fn x(self) -> usize {
        self.w + self.e.unwrap_or(0) + self.t + 1
    }

    pub fn plan(self) -> AttentionPlan {
        let Self { roots, k, .. } = self;
        let count: Vec<u32> =
            (0..roots).map(|root| if self.lonely { 0 } else { (k - (root * 5) % (k + 1)) as u32 }).collect();
        let valid = |at: usize| at % k < count[at / k] as usize;
        // the numbers of an invalid slot are ignored
        let row = (0..roots * k).map(|at| if valid(at) { (at * at % self.n) as u32 } else { u32::MAX }).collect();
        let event = (0..roots * k).map(|at| if valid(at) { (at * 3 % EVENTS) as u64 } else { u64::MAX }).collect();
        let dt = numbers(5, roots * k)
            .iter()
            .enumerate()
            .map(|(at, dt)| if valid(at) { 3.0 + 3.0 * dt } else { f32::NAN })
            .collect();
        AttentionPlan {
            neighbours: Neighbours { roots, k, count, row, event, dt },
            features: self.e.map(|e| Table::of(6, EVENTS, e)),
            activation: self.activation,
            dropout: self.rate.map(|rate| Dropout { rate, seed: 99 }),
        }
    }

    /// `hidden`, `query`, `freq`, `phase`.
    pub fn inputs(self) -> [Vec<f32>; 4] {
        let mut seed = 20;
        [self.n * self.w, self.heads * self.roots * self.x(), self.t, self.t].map(|count| {
            seed += 1;
            numbers(seed, count)
        })
    }

    pub fn shapes(self) -> [Vec<usize>; 4] {
        [vec![self.n, self.w], vec![self.heads, self.roots, self.x()], vec![self.t], vec![self.t]]
    }
}

pub fn leaf<B: AutodiffBackend, const D: usize>(numbers: &[f32], shape: &[usize]) -> Tensor<B, D> {
    constant(numbers, shape).require_grad()
}

pub fn constant<B: Backend, const D: usize>(numbers: &[f32], shape: &[usize]) -> Tensor<B, D> {
    let shape: [usize; D] = shape.try_into().expect("a shape of the right rank");
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &Default::default())
}

pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().expect("f32")
}

/// Fails if two vectors differ by more than `tolerance`, absolute near 0 and relative to the largest number elsewhere.
#[track_caller]
pub fn assert_close(ours: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}: lengths");
    let scale = expected.iter().fold(1.0f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}[{i}]: {a} is not {b}");
    }
}

/// Output and gradients of the fused update, the loss being the output times fixed numbers.
pub fn fused_update<B: AutodiffBackend + TemporalOps>(sizes: MailSizes, cell: Cell) -> Vec<Vec<f32>> {
    update::<B>(sizes, cell, |plan, [w_ih, w_hh], [b_ih, b_hh, freq, phase]| {
        let update = match cell {
            Cell::Gru => memory_update_gru::<B>,
            Cell::Rnn => memory_update_rnn::<B>,
        };
        update(Arc::new(plan), w_ih, w_hh, b_ih, b_hh, freq, phase)
    })
}

/// As [`fused_update`], by the slow twin on the CPU.
pub fn reference_update(sizes: MailSizes, cell: Cell) -> Vec<Vec<f32>> {
    update::<CpuTape>(sizes, cell, |plan, matrices, vectors| reference::memory_update(&plan, cell, (matrices, vectors)))
}

fn update<B: AutodiffBackend>(
    sizes: MailSizes,
    cell: Cell,
    op: impl FnOnce(MailPlan, [Tensor<B, 2>; 2], [Tensor<B, 1>; 4]) -> Tensor<B, 2>,
) -> Vec<Vec<f32>> {
    let (weights, shapes) = (sizes.weights(cell), sizes.shapes(cell));
    let matrices = [0, 1].map(|i| leaf::<B, 2>(&weights[i], &shapes[i]));
    let vectors = [2, 3, 4, 5].map(|i| leaf::<B, 1>(&weights[i], &shapes[i]));
    let output = op(sizes.plan(), matrices.clone(), vectors.clone());
    assert_eq!(output.dims(), [sizes.unique, sizes.d]);
    let mut results = vec![values(output.clone())];
    let gradients = weighted(output).backward();
    results.extend(matrices.iter().map(|leaf| gradient(leaf, &gradients)));
    results.extend(vectors.iter().map(|leaf| gradient(leaf, &gradients)));
    results
}

/// Output and gradients of the fused attention, the loss being the output times fixed numbers.
pub fn fused_attention<B: AutodiffBackend + TemporalOps>(sizes: AttentionSizes) -> Vec<Vec<f32>> {
    attention::<B>(sizes, |plan, hidden, query, [freq, phase]| {
        temporal_attention(Arc::new(plan), hidden, query, freq, phase)
    })
}

/// As [`fused_attention`], by the slow twin on the CPU.
pub fn reference_attention(sizes: AttentionSizes) -> Vec<Vec<f32>> {
    attention::<CpuTape>(sizes, |plan, hidden, query, [freq, phase]| {
        reference::temporal_attention(&plan, hidden, query, freq, phase)
    })
}

fn attention<B: AutodiffBackend>(
    sizes: AttentionSizes,
    op: impl FnOnce(AttentionPlan, Tensor<B, 2>, Tensor<B, 3>, [Tensor<B, 1>; 2]) -> Tensor<B, 3>,
) -> Vec<Vec<f32>> {
    let (inputs, shapes) = (sizes.inputs(), sizes.shapes());
    let hidden = leaf::<B, 2>(&inputs[0], &shapes[0]);
    let query = leaf::<B, 3>(&inputs[1], &shapes[1]);
    let time = [2, 3].map(|i| leaf::<B, 1>(&inputs[i], &shapes[i]));
    let output = op(sizes.plan(), hidden.clone(), query.clone(), time.clone());
    assert_eq!(output.dims(), [sizes.heads, sizes.roots, sizes.x()]);
    let mut results = vec![values(output.clone())];
    let gradients = weighted(output).backward();
    results.extend([gradient(&hidden, &gradients), gradient(&query, &gradients)]);
    results.extend(time.iter().map(|leaf| gradient(leaf, &gradients)));
    results
}

/// The numbers the output is multiplied by to make a loss.
pub fn loss_weights(count: usize) -> Vec<f32> {
    numbers(77, count)
}

/// The loss. If there is nothing to sum it is a constant: not every backend differentiates the sum of no numbers.
pub fn weighted<B: AutodiffBackend, const D: usize>(output: Tensor<B, D>) -> Tensor<B, 1> {
    let shape = output.dims();
    let count = shape.iter().product();
    if count == 0 {
        return Tensor::zeros([1], &output.device()).require_grad();
    }
    (output * constant(&loss_weights(count), &shape)).sum()
}

/// Zeros if the loss does not depend on the leaf.
pub fn gradient<B: AutodiffBackend, const D: usize>(leaf: &Tensor<B, D>, gradients: &B::Gradients) -> Vec<f32> {
    leaf.grad(gradients).map_or_else(|| vec![0.0; leaf.dims().iter().product()], values)
}
