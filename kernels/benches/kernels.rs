//! Times of the kernels at the shapes of a wikipedia batch of 200 events, without edge features and with 172, on one
//! thread and on two.
//!
//! `cargo bench -p tempograph-kernels [-- PART_OF_A_NAME]`. An item is a floating-point operation of the matrix
//! products and, in the attention, of its dots and sums; in the gather, the time encoding and Adam it is a number.
//! Other work on the machine only adds to a time: read the fastest or the median.
use std::cell::RefCell;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempograph_kernels::cpu::{
    Activation, AttentionPlanRef, CellGradients, CellWeights, InputGradient, Linear, LinearWeights, MemoryUpdate,
    NeighbourTable, PaddedRows, PairGradients, PairInputs, PairScores, Precision, ProjectedAttention,
    ProjectionGradients, ProjectionWeights, TimeWeights, Version, adam_step, head_stride, sum_of_squares,
};
use tempograph_kernels::tensor::{Backend, Cpu, CpuTape, Tensor, TensorData};
use tempograph_kernels::{
    AdamStep, Cell, Dropout, MailPlan, Neighbours, Rows, ScoreActivation, gather_rows, time_encode,
};

const UNIQUE: usize = 840;
const MAILS: usize = 800;
const ROOTS: usize = 600;
const PAIRS: usize = 400;
const K: usize = 10;
const HEADS: usize = 2;
const D: usize = 100;
const T: usize = 100;
const O: usize = 100;
/// Columns of edge features.
const EDGE: [usize; 2] = [0, 172];
/// Rows, inputs and outputs of linear maps: a root's query, its merge layer, the gates of a message with features.
const MAPS: [[usize; 3]; 3] = [[600, 100, 100], [600, 200, 100], [800, 472, 300]];

fn main() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        println!("{threads} thread(s)");
        // The caller is a thread of the pool, so starting a kernel wakes only its helpers.
        pool.install(divan::main);
    }
}

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.1
    };
    (0..count).map(|_| next()).collect()
}

fn padded_rows(seed: u64, rows: usize, columns: usize) -> PaddedRows {
    let mut padded = PaddedRows::default();
    padded.gather(&numbers(seed, rows * columns), columns, columns, &(0..rows as u32).collect::<Vec<_>>());
    padded
}

fn random<B: Backend, const R: usize>(seed: u64, shape: [usize; R]) -> Tensor<B, R> {
    Tensor::from_data(TensorData::new(numbers(seed, shape.iter().product()), shape), &Default::default())
}

#[derive(Debug)]
struct Features(Vec<f32>, usize);

impl Rows for Features {
    fn width(&self) -> usize {
        self.1
    }

    fn row(&self, id: u64) -> &[f32] {
        &self.0[id as usize * self.1..][..self.1]
    }
}

fn features(width: usize) -> Option<Arc<dyn Rows>> {
    (width > 0).then(|| Arc::new(Features(numbers(9, 1000 * width), width)) as Arc<dyn Rows>)
}

/// Frequencies from 1 to about 1e-9 and phases.
struct Time {
    freq: Vec<f32>,
    phase: Vec<f32>,
}

impl Time {
    fn new() -> Time {
        Time { freq: (0..T).map(|i| 10f32.powf(-0.09 * i as f32)).collect(), phase: numbers(15, T) }
    }

    fn weights(&self) -> TimeWeights<'_> {
        TimeWeights { freq: &self.freq, phase: &self.phase }
    }
}

/// A memory update with its inputs.
struct Update {
    plan: MailPlan,
    weights: [Vec<f32>; 4],
    time: Time,
    kernel: MemoryUpdate,
    out: Vec<f32>,
}

impl Update {
    fn new(edge: usize) -> Update {
        let plan = MailPlan {
            unique: UNIQUE,
            memory: numbers(1, UNIQUE * D),
            rows: (0..MAILS as u32).collect(),
            empty: vec![false; MAILS],
            other: numbers(2, MAILS * D),
            event: (0..MAILS as u64).collect(),
            dt: (0..MAILS).map(|mail| (mail * 997) as f32).collect(),
            features: features(edge),
        };
        let weights = [3 * D * (2 * D + edge + T), 3 * D * D, 3 * D, 3 * D].map(|count| numbers(count as u64, count));
        Update { plan, weights, time: Time::new(), kernel: MemoryUpdate::default(), out: vec![0.0; UNIQUE * D] }
    }

    fn forward(&mut self) {
        let [w_ih, w_hh, b_ih, b_hh] = &self.weights;
        let weights = CellWeights { w_ih, w_hh, b_ih, b_hh, version: Version::fresh(), precision: Precision::F32 };
        self.kernel.forward(&self.plan, Cell::Gru, weights, self.time.weights(), &mut self.out);
    }

    /// Operations of the forward pass; the backward pass also has those of the time columns.
    fn operations(&self) -> usize {
        2 * MAILS * (self.weights[0].len() + D * D)
    }
}

#[divan::bench(args = EDGE)]
fn memory_update_forward(bencher: Bencher, edge: usize) {
    let mut update = Update::new(edge);
    bencher.counter(ItemsCount::new(update.operations())).bench_local(|| update.forward());
}

#[divan::bench(args = EDGE)]
fn memory_update_backward(bencher: Bencher, edge: usize) {
    let update = RefCell::new(Update::new(edge));
    let grad = numbers(16, UNIQUE * D);
    let [mut w_ih, mut w_hh, mut b_ih, mut b_hh] = update.borrow().weights.clone();
    let (mut freq, mut phase) = (vec![0.0; T], vec![0.0; T]);
    let operations = update.borrow().operations() + 2 * MAILS * 3 * D * T;
    // The backward pass overwrites the gates with gradients, so each needs its own forward pass, which is not timed.
    bencher.counter(ItemsCount::new(operations)).with_inputs(|| update.borrow_mut().forward()).bench_local_values(
        |()| {
            let update = &mut *update.borrow_mut();
            let gradients = CellGradients { w_ih: &mut w_ih, w_hh: &mut w_hh, b_ih: &mut b_ih, b_hh: &mut b_hh };
            update.kernel.backward(
                &update.plan,
                Cell::Gru,
                update.time.weights(),
                &grad,
                gradients,
                [&mut freq, &mut phase],
            );
        },
    );
}

/// An attention with its inputs.
struct Attention {
    neighbours: Neighbours,
    features: Option<Arc<dyn Rows>>,
    columns: usize,
    hidden: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    time: Time,
    query: Vec<f32>,
    out: Vec<f32>,
}

impl Attention {
    fn new(edge: usize) -> Attention {
        let slots = ROOTS * K;
        let neighbours = Neighbours {
            roots: ROOTS,
            k: K,
            count: vec![K as u32; ROOTS],
            row: (0..slots).map(|slot| (slot * 7919 % UNIQUE) as u32).collect(),
            event: (0..slots as u64).map(|slot| slot * 31 % 1000).collect(),
            dt: (0..slots).map(|slot| (slot * 997) as f32).collect(),
        };
        let (columns, row) = (D + edge + T + 1, head_stride(O, HEADS));
        let query = numbers(22, ROOTS * row);
        let (key, value) = (numbers(23, O * columns), numbers(24, O * columns));
        let (hidden, time, out) = (numbers(21, UNIQUE * D), Time::new(), vec![0.0; ROOTS * row]);
        Attention { neighbours, features: features(edge), columns, hidden, key, value, time, query, out }
    }

    fn attending(&self) -> AttentionPlanRef<'_> {
        AttentionPlanRef {
            neighbours: &self.neighbours,
            features: self.features.as_deref(),
            activation: ScoreActivation::Scaled(0.1),
            dropout: Some(Dropout { rate: 0.1, seed: 1 }),
        }
    }

    fn weights(&self) -> ProjectionWeights<'_> {
        ProjectionWeights {
            key: &self.key,
            value: &self.value,
            heads: HEADS,
            version: Version::fresh(),
            precision: Precision::F32,
        }
    }

    fn table(&self) -> NeighbourTable<'_> {
        NeighbourTable { hidden: &self.hidden, width: D, stride: D, time: self.time.weights() }
    }

    /// Operations of the two projections, and of the dots and sums.
    fn operations(&self) -> usize {
        2 * (2 * ROOTS * O * self.columns + 2 * ROOTS * K * HEADS * self.columns)
    }
}

#[divan::bench(args = EDGE)]
fn attention_forward(bencher: Bencher, edge: usize) {
    let mut attention = Attention::new(edge);
    let (mut kernel, mut out) = (ProjectedAttention::default(), std::mem::take(&mut attention.out));
    bencher.counter(ItemsCount::new(attention.operations())).bench_local(|| {
        kernel.forward(&attention.attending(), attention.weights(), attention.table(), &attention.query, &mut out);
    });
}

#[divan::bench(args = EDGE)]
fn attention_backward(bencher: Bencher, edge: usize) {
    let mut attention = Attention::new(edge);
    let (mut kernel, mut out) = (ProjectedAttention::default(), std::mem::take(&mut attention.out));
    kernel.forward(&attention.attending(), attention.weights(), attention.table(), &attention.query, &mut out);
    let (mut key, mut value, mut query) = (attention.key.clone(), attention.value.clone(), attention.query.clone());
    let (mut hidden, mut freq, mut phase) = (vec![0.0; UNIQUE * D], vec![0.0; T], vec![0.0; T]);
    let learned = 2 * 2 * ROOTS * K * HEADS * (D + T) + 2 * 2 * ROOTS * O * attention.columns;
    bencher.counter(ItemsCount::new(attention.operations() + learned)).bench_local(|| {
        hidden.fill(0.0);
        let gradients = ProjectionGradients {
            key: &mut key,
            value: &mut value,
            query: &mut query,
            hidden: &mut hidden,
            time: [&mut freq, &mut phase],
        };
        kernel.backward(&attention.attending(), attention.table(), &attention.query, &out, gradients);
    });
}

#[divan::bench(args = MAPS)]
fn linear_forward(bencher: Bencher, [rows, inputs, outputs]: [usize; 3]) {
    let (x, weight, bias) = (padded_rows(31, rows, inputs), numbers(32, outputs * inputs), numbers(33, outputs));
    let (mut map, mut y) = (Linear::default(), PaddedRows::default());
    let operations = ItemsCount::new(2 * rows * inputs * outputs);
    bencher.counter(operations).bench_local(|| {
        // each training step packs its weights again
        let weights =
            LinearWeights { weight: &weight, bias: Some(&bias), version: Version::fresh(), precision: Precision::F32 };
        map.forward(&x, weights, Activation::None, &mut y);
    });
}

#[divan::bench(args = MAPS)]
fn linear_backward(bencher: Bencher, [rows, inputs, outputs]: [usize; 3]) {
    let (x, y, weight) = (padded_rows(31, rows, inputs), padded_rows(34, rows, outputs), numbers(32, outputs * inputs));
    let (mut map, mut into) = (Linear::default(), PaddedRows::default());
    let (mut of_weight, mut of_bias) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
    bencher.counter(ItemsCount::new(4 * rows * inputs * outputs)).bench_local(|| {
        map.backward(&x, &weight, &y, [&mut of_weight, &mut of_bias], InputGradient::Replace(&mut into));
    });
}

/// Ends of the pairs: the first half positives, the second the same sources with others.
fn ends() -> [Vec<u32>; 2] {
    [(0..PAIRS).map(|pair| (pair % (PAIRS / 2)) as u32).collect(), (0..PAIRS as u32).collect()]
}

#[divan::bench]
fn pairs_forward(bencher: Bencher) {
    let (a, b, weight, [i, j]) = (padded_rows(41, PAIRS / 2, O), padded_rows(42, PAIRS, O), numbers(43, O), ends());
    let (kernel, mut scores) = (PairScores::default(), vec![0.0; PAIRS]);
    let inputs = PairInputs { a: &a, b: &b, i: &i, j: &j, c: None, weight: &weight };
    bencher.counter(ItemsCount::new(2 * PAIRS * O)).bench_local(|| kernel.forward(inputs, 0.1, &mut scores));
}

#[divan::bench]
fn pairs_backward(bencher: Bencher) {
    let (a, b, weight, [i, j]) = (padded_rows(41, PAIRS / 2, O), padded_rows(42, PAIRS, O), numbers(43, O), ends());
    let (mut kernel, scores) = (PairScores::default(), numbers(44, PAIRS));
    let inputs = PairInputs { a: &a, b: &b, i: &i, j: &j, c: None, weight: &weight };
    let (mut of_a, mut of_b) = (PaddedRows::default(), PaddedRows::default());
    let (mut of_weight, mut of_bias) = (vec![0.0; O], [0.0]);
    bencher.counter(ItemsCount::new(4 * PAIRS * O)).bench_local(|| {
        let gradients = PairGradients { a: &mut of_a, b: &mut of_b, weight: &mut of_weight, bias: &mut of_bias };
        kernel.backward(inputs, &scores, gradients);
    });
}

#[divan::bench]
fn time_encoding(bencher: Bencher) {
    let (dt, time) = ((0..ROOTS * K).map(|slot| (slot * 997) as f32).collect::<Vec<_>>(), Time::new());
    let vector =
        |values: &[f32]| Tensor::<Cpu, 1>::from_data(TensorData::new(values.to_vec(), [T]), &Default::default());
    let (freq, phase) = (vector(&time.freq), vector(&time.phase));
    bencher.counter(ItemsCount::new(ROOTS * K * T)).bench_local(|| time_encode(&dt, freq.clone(), phase.clone()));
}

#[divan::bench]
fn time_encoding_backward(bencher: Bencher) {
    let (dt, time) = ((0..ROOTS * K).map(|slot| (slot * 997) as f32).collect::<Vec<_>>(), Time::new());
    let vector =
        |values: &[f32]| Tensor::<CpuTape, 1>::from_data(TensorData::new(values.to_vec(), [T]), &Default::default());
    let encoded = || time_encode(&dt, vector(&time.freq).require_grad(), vector(&time.phase).require_grad()).sum();
    bencher.counter(ItemsCount::new(ROOTS * K * T)).with_inputs(encoded).bench_local_values(|sum| sum.backward());
}

#[divan::bench]
fn gather_backward(bencher: Bencher) {
    let rows: Arc<[u32]> = (0..ROOTS).map(|root| (root * 31 % UNIQUE) as u32).collect();
    let gathered = || gather_rows(random::<CpuTape, 2>(51, [UNIQUE, D]).require_grad(), rows.clone()).sum();
    bencher.counter(ItemsCount::new(ROOTS * D)).with_inputs(gathered).bench_local_values(|sum| sum.backward());
}

#[divan::bench]
fn gather(bencher: Bencher) {
    let hidden = random::<Cpu, 2>(51, [UNIQUE, D]);
    let rows: Arc<[u32]> = (0..ROOTS).map(|root| (root * 31 % UNIQUE) as u32).collect();
    bencher.counter(ItemsCount::new(ROOTS * D)).bench_local(|| gather_rows(hidden.clone(), rows.clone()));
}

#[divan::bench(args = [100 * 1000, 300 * 1000])]
fn norm(bencher: Bencher, weights: usize) {
    let (grad, mut partials) = (numbers(64, weights), Vec::new());
    bencher.counter(ItemsCount::new(weights)).bench_local(|| sum_of_squares(&grad, &mut partials));
}

#[divan::bench(args = [100 * 1000, 300 * 1000])]
fn adam(bencher: Bencher, weights: usize) {
    let step = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 10 };
    let [mut param, grad, mut first] = [61, 62, 63].map(|seed| numbers(seed, weights));
    let mut second: Vec<f32> = numbers(64, weights).iter().map(|value| value.abs()).collect();
    bencher
        .counter(ItemsCount::new(weights))
        .bench_local(|| adam_step(&mut param, &grad, &mut first, &mut second, &step));
}
