//! Times of the operations at the shapes of a Wikipedia batch of 200 events, with and without edge features, on one thread and on two.
//!
//! `cargo bench -p tempograph-kernels [-- PART_OF_A_NAME]` prints the best of many runs in milliseconds: other work on the machine can only
//! add to a time. Forward is without a tape; with gradients is forward and backward on the tape.
use std::sync::Arc;
use std::time::Instant;
use tempograph_kernels::tensor::{Autodiff, Backend, Cpu, Tensor, TensorData};
use tempograph_kernels::{
    AdamStep, AttentionPlan, Cell, Dropout, MailPlan, Neighbours, Rows, ScoreActivation, adam_step, gather_rows, memory_update_gru,
    reference, temporal_attention,
};

const UNIQUE: usize = 840;
const MAILS: usize = 800;
const ROOTS: usize = 600;
const K: usize = 10;
const HEADS: usize = 2;
const D: usize = 100;
const T: usize = 100;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.1
    };
    (0..count).map(|_| next()).collect()
}

fn random<B: Backend, const R: usize>(seed: u64, shape: [usize; R]) -> Tensor<B, R> {
    Tensor::from_data(TensorData::new(numbers(seed, shape.iter().product()), shape), &Default::default())
}

#[derive(Debug)]
struct Table(Vec<f32>, usize);

impl Rows for Table {
    fn width(&self) -> usize {
        self.1
    }

    fn row(&self, id: u64) -> &[f32] {
        &self.0[id as usize * self.1..][..self.1]
    }
}

fn table(width: usize) -> Option<Arc<dyn Rows>> {
    (width > 0).then(|| Arc::new(Table(numbers(9, 1000 * width), width)) as Arc<dyn Rows>)
}

/// Best time of a run in milliseconds.
fn best(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..60).map(time).fold(f64::INFINITY, f64::min)
}

fn mail_plan(e: usize) -> MailPlan {
    MailPlan {
        unique: UNIQUE,
        memory: numbers(1, UNIQUE * D),
        rows: (0..MAILS as u32).collect(),
        empty: vec![false; MAILS],
        other: numbers(2, MAILS * D),
        event: (0..MAILS as u64).collect(),
        dt: (0..MAILS).map(|mail| (mail * 997) as f32).collect(),
        features: table(e),
    }
}

fn attention_plan(e: usize) -> AttentionPlan {
    let slots = ROOTS * K;
    let neighbours = Neighbours {
        roots: ROOTS,
        k: K,
        count: vec![K as u32; ROOTS],
        row: (0..slots).map(|slot| (slot * 7919 % UNIQUE) as u32).collect(),
        event: (0..slots as u64).map(|slot| slot * 31 % 1000).collect(),
        dt: (0..slots).map(|slot| (slot * 997) as f32).collect(),
    };
    AttentionPlan {
        neighbours,
        features: table(e),
        activation: ScoreActivation::Scaled(0.1),
        dropout: Some(Dropout { rate: 0.1, seed: 1 }),
    }
}

type Tape = Autodiff<Cpu>;

fn frequencies<B: Backend>() -> Tensor<B, 1> {
    let numbers: Vec<f32> = (0..T).map(|i| 10f32.powf(-0.09 * i as f32)).collect();
    Tensor::from_data(TensorData::new(numbers, [T]), &Default::default())
}

fn memory_update(e: usize) -> [f64; 3] {
    let plan = Arc::new(mail_plan(e));
    let matrices = || [random::<Tape, 2>(11, [3 * D, 2 * D + e + T]), random(12, [3 * D, D])].map(Tensor::require_grad);
    let vectors = || [random::<Tape, 1>(13, [3 * D]), random(14, [3 * D]), frequencies(), random(15, [T])].map(Tensor::require_grad);
    let (matrices, vectors) = (matrices(), vectors());
    let grad = random::<Tape, 2>(16, [UNIQUE, D]);
    let forward = best(|| {
        let ([w_ih, w_hh], [b_ih, b_hh, freq, phase]) = (matrices.clone().map(Tensor::inner), vectors.clone().map(Tensor::inner));
        std::hint::black_box(memory_update_gru(plan.clone(), w_ih, w_hh, b_ih, b_hh, freq, phase));
    });
    let both = best(|| {
        let ([w_ih, w_hh], [b_ih, b_hh, freq, phase]) = (matrices.clone(), vectors.clone());
        let output = memory_update_gru(plan.clone(), w_ih, w_hh, b_ih, b_hh, freq, phase);
        std::hint::black_box((output * grad.clone()).sum().backward());
    });
    let slow = best(|| {
        let output = reference::memory_update(&plan, Cell::Gru, (matrices.clone(), vectors.clone()));
        std::hint::black_box((output * grad.clone()).sum().backward());
    });
    [forward, both, slow]
}

fn attention(e: usize) -> [f64; 3] {
    let plan = Arc::new(attention_plan(e));
    let x = D + e + T + 1;
    let hidden = random::<Tape, 2>(21, [UNIQUE, D]).require_grad();
    let query = random::<Tape, 3>(22, [HEADS, ROOTS, x]).require_grad();
    let time = [frequencies::<Tape>(), random(23, [T])].map(Tensor::require_grad);
    let grad = random::<Tape, 3>(24, [HEADS, ROOTS, x]);
    let forward = best(|| {
        let [freq, phase] = time.clone().map(Tensor::inner);
        std::hint::black_box(temporal_attention(plan.clone(), hidden.clone().inner(), query.clone().inner(), freq, phase));
    });
    let both = best(|| {
        let [freq, phase] = time.clone();
        let output = temporal_attention(plan.clone(), hidden.clone(), query.clone(), freq, phase);
        std::hint::black_box((output * grad.clone()).sum().backward());
    });
    let slow = best(|| {
        let [freq, phase] = time.clone();
        let output = reference::temporal_attention(&plan, hidden.clone(), query.clone(), freq, phase);
        std::hint::black_box((output * grad.clone()).sum().backward());
    });
    [forward, both, slow]
}

fn gather() -> [f64; 3] {
    let hidden = random::<Tape, 2>(31, [UNIQUE, D]).require_grad();
    let rows: Arc<[u32]> = (0..ROOTS).map(|root| (root * 31 % UNIQUE) as u32).collect();
    let forward = best(|| {
        std::hint::black_box(gather_rows(hidden.clone().inner(), rows.clone()));
    });
    let both = best(|| {
        std::hint::black_box(gather_rows(hidden.clone(), rows.clone()).sum().backward());
    });
    let slow = best(|| {
        std::hint::black_box(reference::gather_rows(hidden.clone(), &rows).sum().backward());
    });
    [forward, both, slow]
}

fn adam() -> [f64; 3] {
    let shape = [3 * D, 2 * D + 172 + T];
    let step = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 10 };
    let grad = random::<Cpu, 2>(41, shape);
    let mut tensors = Some([random::<Cpu, 2>(42, shape), random(43, shape), random::<Cpu, 2>(44, shape).abs()]);
    let fused = best(|| {
        let [param, first, second] = tensors.take().expect("put back below");
        tensors = Some(adam_step(param, grad.clone(), first, second, &step).into());
    });
    let slow = best(|| {
        tensors = tensors.take().map(|tensors| reference::adam_step(tensors, grad.clone(), &step));
    });
    [fused, f64::NAN, slow]
}

fn main() {
    // cargo adds `--bench`
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let report = |name: &str, run: &dyn Fn() -> [f64; 3]| {
        if name.contains(&wanted) {
            let [forward, both, slow] = run();
            println!("{name:<28} forward {forward:7.3}   with gradients {both:7.3}   slow twin with gradients {slow:8.3}");
        }
    };
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        println!("{threads} thread(s), milliseconds");
        pool.install(|| {
            for e in [172, 0] {
                report(&format!("memory_update_gru E={e}"), &|| memory_update(e));
                report(&format!("temporal_attention E={e}"), &|| attention(e));
            }
            report("gather_rows", &gather);
            report("adam_step 300 x 472", &adam);
        });
    }
}
