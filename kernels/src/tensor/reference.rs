//! The slow twin of every operation, composed of the tensor library's own operations. Nobody optimises it. Kernels are
//! tested against it, its gradients come from the tape, and it runs on every backend of the library.
use crate::tensor::ops::rectify;
use crate::{AdamStep, AttentionPlan, Cell, MailPlan, PairPlan, Rows, ScoreActivation};
use burn::tensor::activation::{leaky_relu, sigmoid, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Weights of a memory update: `w_ih` and `w_hh`, then `b_ih`, `b_hh`, `freq` and `phase`.
pub type CellWeights<B> = ([Tensor<B, 2>; 2], [Tensor<B, 1>; 4]);

/// See [`memory_update_gru`](crate::memory_update_gru) and [`memory_update_rnn`](crate::memory_update_rnn).
pub fn memory_update<B: Backend>(plan: &MailPlan, cell: Cell, weights: CellWeights<B>) -> Tensor<B, 2> {
    let ([w_ih, w_hh], [b_ih, b_hh, freq, phase]) = weights;
    let (device, width, mails) = (w_ih.device(), w_hh.dims()[1], plan.rows.len());
    let memory = matrix::<B>(plan.memory.clone(), plan.unique, width, &device);
    if mails == 0 {
        return memory;
    }
    let own = memory.clone().select(0, indices(plan.rows.iter().copied(), &device));
    let mut message = vec![own.clone(), matrix(plan.other.clone(), mails, width, &device)];
    if let Some(features) = &plan.features {
        let events = plan.event.iter().zip(&plan.empty).map(|(&event, &empty)| (!empty).then_some(event));
        message.push(feature_rows(features.as_ref(), events, &device));
    }
    let dt: Vec<f32> = plan.dt.iter().zip(&plan.empty).map(|(&dt, &empty)| if empty { 0.0 } else { dt }).collect();
    push_time(&mut message, &dt, freq, phase);
    let full = plan.empty.iter().map(|&empty| if empty { 0.0 } else { 1.0 }).collect();
    // if a message is empty, its numbers in the plan are ignored
    let absent = matrix::<B>(full, mails, 1, &device).equal_elem(0.0);
    let message = Tensor::cat(message, 1);
    let message = message.clone().mask_fill(absent.expand(message.dims()), 0.0);

    let input = message.matmul(w_ih.transpose()) + b_ih.unsqueeze();
    let recurrent = own.clone().matmul(w_hh.transpose()) + b_hh.unsqueeze();
    let new = cell_step(cell, input, recurrent, own);
    let mut source: Vec<u32> = (0..plan.unique as u32).map(|row| row + mails as u32).collect();
    for (mail, &row) in plan.rows.iter().enumerate() {
        source[row as usize] = mail as u32;
    }
    Tensor::cat(vec![new, memory], 0).select(0, indices(source, &device))
}

/// One step of a recurrent cell, `[M, D]`: from `x W_ihᵀ + b_ih` and `h W_hhᵀ + b_hh`, `[M, 3D]` of a GRU and `[M, D]`
/// of an RNN, and `h` itself.
pub fn cell_step<B: Backend>(
    cell: Cell,
    input: Tensor<B, 2>,
    recurrent: Tensor<B, 2>,
    memory: Tensor<B, 2>,
) -> Tensor<B, 2> {
    if cell == Cell::Rnn {
        return (input + recurrent).tanh();
    }
    let width = memory.dims()[1];
    let gate = |from: &Tensor<B, 2>, gate: usize| from.clone().narrow(1, gate * width, width);
    let r = sigmoid(gate(&input, 0) + gate(&recurrent, 0));
    let z = sigmoid(gate(&input, 1) + gate(&recurrent, 1));
    let n = (gate(&input, 2) + r * gate(&recurrent, 2)).tanh();
    n.clone() + z * (memory - n)
}

/// See [`temporal_attention`](crate::temporal_attention).
pub fn temporal_attention<B: Backend>(
    plan: &AttentionPlan,
    hidden: Tensor<B, 2>,
    query: Tensor<B, 3>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let [heads, roots, x] = query.dims();
    let (device, k) = (query.device(), plan.neighbours.k);
    if roots * k == 0 {
        return query.zeros_like();
    }
    let rows = neighbour_rows(plan, hidden, freq, phase).reshape([roots, k, x]);
    let weights = softmax_of_scores(plan, query, &rows);
    let kept = (0..roots).flat_map(|root| {
        (0..heads).flat_map(move |head| (0..k).map(move |slot| plan.borrowed().dropout_factor(root, head, heads, slot)))
    });
    let kept = Tensor::<B, 3>::from_data(TensorData::new(kept.collect::<Vec<_>>(), [roots, heads, k]), &device);
    (weights * kept).matmul(rows).swap_dims(0, 1)
}

/// See [`attention_weights`](crate::attention_weights).
pub fn attention_weights<B: Backend>(
    plan: &AttentionPlan,
    hidden: Tensor<B, 2>,
    query: Tensor<B, 3>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let [heads, roots, x] = query.dims();
    let k = plan.neighbours.k;
    if roots * k == 0 {
        return Tensor::zeros([heads, roots, k], &query.device());
    }
    let rows = neighbour_rows(plan, hidden, freq, phase).reshape([roots, k, x]);
    softmax_of_scores(plan, query, &rows).swap_dims(0, 1)
}

/// `[R, H, K]`, from `query` `[H, R, X]` and `rows` `[R, K, X]`.
fn softmax_of_scores<B: Backend>(plan: &AttentionPlan, query: Tensor<B, 3>, rows: &Tensor<B, 3>) -> Tensor<B, 3> {
    let scores = query.swap_dims(0, 1).matmul(rows.clone().transpose());
    let scores = match plan.activation {
        ScoreActivation::Scaled(scale) => scores * scale,
        ScoreActivation::LeakyRelu(slope) => leaky_relu(scores, f64::from(slope)),
    };
    let ([roots, _, k], shape) = (scores.dims(), scores.dims());
    let valid = (0..roots * k).map(|at| if at % k < plan.neighbours.count[at / k] as usize { 1.0f32 } else { 0.0 });
    let valid = Tensor::<B, 3>::from_data(TensorData::new(valid.collect::<Vec<_>>(), [roots, 1, k]), &rows.device());
    let scores = scores.mask_fill(valid.clone().equal_elem(0.0).expand(shape), -1e30);
    // a root without neighbours also gets a softmax here; multiplying by `valid` makes it zero
    softmax(scores, 2) * valid
}

/// `[R * K, X]`, with a stand-in where a slot is not valid.
fn neighbour_rows<B: Backend>(
    plan: &AttentionPlan,
    hidden: Tensor<B, 2>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let (device, neighbours) = (hidden.device(), &plan.neighbours);
    let is_valid = |at: usize| at % neighbours.k < neighbours.count[at / neighbours.k] as usize;
    let row = neighbours.row.iter().enumerate().map(|(at, &row)| if is_valid(at) { row } else { 0 });
    let mut columns = vec![hidden.select(0, indices(row, &device))];
    if let Some(features) = &plan.features {
        let events = neighbours.event.iter().enumerate().map(|(at, &event)| is_valid(at).then_some(event));
        columns.push(feature_rows(features.as_ref(), events, &device));
    }
    let dt: Vec<f32> = neighbours.dt.iter().enumerate().map(|(at, &dt)| if is_valid(at) { dt } else { 0.0 }).collect();
    push_time(&mut columns, &dt, freq, phase);
    columns.push(Tensor::ones([neighbours.row.len(), 1], &device));
    Tensor::cat(columns, 1)
}

/// See [`time_encode`](crate::time_encode).
pub fn time_encode<B: Backend>(dt: &[f32], freq: Tensor<B, 1>, phase: Tensor<B, 1>) -> Tensor<B, 2> {
    let dt = matrix::<B>(dt.to_vec(), dt.len(), 1, &freq.device());
    (dt * freq.unsqueeze() + phase.unsqueeze()).cos()
}

/// Appends the time encoding if there is one: the tensor library has no empty columns.
fn push_time<B: Backend>(columns: &mut Vec<Tensor<B, 2>>, dt: &[f32], freq: Tensor<B, 1>, phase: Tensor<B, 1>) {
    if freq.dims()[0] > 0 {
        columns.push(time_encode(dt, freq, phase));
    }
}

/// See [`gather_rows`](crate::gather_rows).
pub fn gather_rows<B: Backend>(hidden: Tensor<B, 2>, rows: &[u32]) -> Tensor<B, 2> {
    let device = hidden.device();
    hidden.select(0, indices(rows.iter().copied(), &device))
}

/// See [`adam_step`](crate::cpu::adam_step). Tensors: parameter, first moment, second moment.
pub fn adam_step<B: Backend, const D: usize>(
    tensors: [Tensor<B, D>; 3],
    grad: Tensor<B, D>,
    step: &AdamStep,
) -> [Tensor<B, D>; 3] {
    let [param, first, second] = tensors;
    let first = first * step.beta1 + grad.clone() * (1.0 - step.beta1);
    let second = second * step.beta2 + grad.clone() * grad * (1.0 - step.beta2);
    let root = second.clone().sqrt() / step.root_correction() + step.eps;
    let param = param * (1.0 - step.lr * step.weight_decay) - first.clone() * step.step_size() / root;
    [param, first, second]
}

/// See [`pair_scores`](crate::pair_scores): inputs `a`, `b`, `c` and `weight`, then `bias`.
pub fn pair_scores<B: Backend>(plan: &PairPlan, inputs: [Tensor<B, 2>; 4], bias: Tensor<B, 1>) -> Tensor<B, 1> {
    let [a, b, c, weight] = inputs;
    (rectify(pair_hidden(plan, a, b, c)).matmul(weight.transpose()) + bias.unsqueeze()).squeeze_dim(1)
}

/// The input of the ReLU, `[P, O]`.
fn pair_hidden<B: Backend>(plan: &PairPlan, a: Tensor<B, 2>, b: Tensor<B, 2>, c: Tensor<B, 2>) -> Tensor<B, 2> {
    let sum = gather_rows(a, &plan.i) + gather_rows(b, &plan.j);
    if c.dims()[0] == 0 { sum } else { sum + c }
}

fn matrix<B: Backend>(numbers: Vec<f32>, rows: usize, columns: usize, device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(numbers, [rows, columns]), device)
}

fn indices<B: Backend>(rows: impl IntoIterator<Item = u32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.into_iter().map(|row| row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// The feature rows of some events; zeros for a missing event.
fn feature_rows<B: Backend>(
    features: &dyn Rows,
    events: impl Iterator<Item = Option<u64>>,
    device: &B::Device,
) -> Tensor<B, 2> {
    let width = features.width();
    let mut numbers = Vec::new();
    let mut rows = 0;
    for event in events {
        rows += 1;
        match event {
            Some(event) => numbers.extend_from_slice(features.row(event)),
            None => numbers.resize(rows * width, 0.0),
        }
    }
    matrix(numbers, rows, width, device)
}
