//! The memory module: waiting mail becomes messages, messages become memory (TGN eq. 1-3).

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::IndexingUpdateOp;
use burn::tensor::activation::{relu, sigmoid};
use tempograph_framework::{MailView, ManyMails, View};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{
    MailPlan, Rows, TemporalOps, gather_rows, memory_update_gru, memory_update_rnn, product, time_encode,
};

use super::spec::{Message, TgnSpec, TimeInit, Updater};
use crate::layers::{Init, Linear};

/// Frequencies and phases of `cos(dt w + b)`, both `[T]`.
#[derive(Module, Debug)]
pub(crate) struct TimeEncoder<B: Backend> {
    pub freq: Param<Tensor<B, 1>>,
    pub phase: Param<Tensor<B, 1>>,
}

impl<B: Backend> TimeEncoder<B> {
    pub fn new(spec: &TgnSpec, init: &mut Init<B>) -> TimeEncoder<B> {
        let width = spec.time;
        match spec.time_init {
            TimeInit::Uniform => TimeEncoder { freq: init.uniform([width], 1.0), phase: init.uniform([width], 1.0) },
            TimeInit::LogSpaced => {
                let step = 9.0 / (width.max(2) - 1) as f64;
                let freq = (0..width).map(|i| 10f64.powf(-step * i as f64) as f32).collect();
                TimeEncoder { freq: init.values(freq, [width]), phase: init.values(vec![0.0; width], [width]) }
            }
        }
    }
}

/// Weights of a recurrent cell in PyTorch's layout: `G` gates times `D` rows.
#[derive(Module, Debug)]
pub(crate) struct Cell<B: Backend> {
    weight_ih: Param<Tensor<B, 2>>,
    weight_hh: Param<Tensor<B, 2>>,
    bias_ih: Param<Tensor<B, 1>>,
    bias_hh: Param<Tensor<B, 1>>,
}

impl<B: Backend> Cell<B> {
    fn new(init: &mut Init<B>, gates: usize, input: usize, width: usize) -> Cell<B> {
        let bound = 1.0 / (width as f32).sqrt();
        Cell {
            weight_ih: init.uniform([gates * width, input], bound),
            weight_hh: init.uniform([gates * width, width], bound),
            bias_ih: init.uniform([gates * width], bound),
            bias_hh: init.uniform([gates * width], bound),
        }
    }
}

/// Reads waiting mail into memory.
#[derive(Module, Debug)]
pub(crate) struct MemoryUpdater<B: Backend> {
    pub time: TimeEncoder<B>,
    message: Option<[Linear<B>; 2]>,
    cell: Cell<B>,
    #[module(skip)]
    updater: Updater,
    #[module(skip)]
    width: usize,
}

impl<B: Backend> MemoryUpdater<B> {
    pub fn new(spec: &TgnSpec, edge: usize, init: &mut Init<B>) -> MemoryUpdater<B> {
        let raw = 2 * spec.memory + edge + spec.time;
        let message = match spec.message {
            Message::Identity => None,
            Message::Mlp => {
                Some([Linear::new(init, raw, raw / 2, true), Linear::new(init, raw / 2, spec.memory, true)])
            }
        };
        let input = if message.is_some() { spec.memory } else { raw };
        let gates = if spec.updater == Updater::Gru { 3 } else { 1 };
        MemoryUpdater {
            time: TimeEncoder::new(spec, init),
            message,
            cell: Cell::new(init, gates, input, spec.memory),
            updater: spec.updater,
            width: spec.memory,
        }
    }
}

impl<B: TemporalOps> MemoryUpdater<B> {
    /// Memories of the view's nodes with their mail read, `[U, D]`.
    pub fn forward(&self, view: &View) -> Tensor<B, 2> {
        match (&view.mail, &self.message) {
            (MailView::Last(plan), None) => self.fused(plan.clone()),
            (MailView::Last(plan), Some(_)) => self.stepwise(&single_mails(plan), view.edge_features.as_deref()),
            (MailView::Many(mails), _) => self.stepwise(mails, view.edge_features.as_deref()),
        }
    }

    fn fused(&self, plan: Arc<MailPlan>) -> Tensor<B, 2> {
        let Cell { weight_ih, weight_hh, bias_ih, bias_hh } = &self.cell;
        let update = match self.updater {
            Updater::Gru => memory_update_gru,
            Updater::Rnn => memory_update_rnn,
        };
        update(
            plan,
            weight_ih.val(),
            weight_hh.val(),
            bias_ih.val(),
            bias_hh.val(),
            self.time.freq.val(),
            self.time.phase.val(),
        )
    }

    /// The same in separate steps, for what the fused kernel does not know: many mails a node and message MLPs.
    fn stepwise(&self, mails: &ManyMails, features: Option<&dyn Rows>) -> Tensor<B, 2> {
        let device = self.time.freq.device();
        let memory =
            Tensor::<B, 2>::from_data(TensorData::new(mails.memory.clone(), [mails.unique, self.width]), &device);
        if mails.rows.is_empty() {
            return memory;
        }
        let own = gather_rows(memory.clone(), mails.rows.clone());
        let combined = self.combined_messages(mails, features, own.clone());
        let updated = self.step(combined, own);
        // Rows not updated come from the memory, the rest from the updated rows behind it.
        let mut source: Vec<u32> = (0..mails.unique as u32).collect();
        mails.rows.iter().enumerate().for_each(|(i, &row)| source[row as usize] = (mails.unique + i) as u32);
        gather_rows(Tensor::cat(vec![memory, updated], 0), source)
    }

    /// The mean of each receiver's messages, `[M, in]`; zero for a receiver without mail.
    fn combined_messages(&self, mails: &ManyMails, features: Option<&dyn Rows>, own: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = own.device();
        let receivers = mails.rows.len();
        let width_in = self.cell.weight_ih.dims()[1];
        let count = mails.event.len();
        if count == 0 {
            return Tensor::zeros([receivers, width_in], &device);
        }
        let receiver: Vec<u32> = (0..receivers)
            .flat_map(|m| std::iter::repeat_n(m as u32, (mails.starts[m + 1] - mails.starts[m]) as usize))
            .collect();
        let other = Tensor::from_data(TensorData::new(mails.other.clone(), [count, self.width]), &device);
        let mut parts = vec![gather_rows(own, receiver), other];
        if let Some(rows) = features {
            parts.push(super::feature_rows(rows, mails.event.iter().copied(), &device));
        }
        parts.push(time_encode(&mails.dt, self.time.freq.val(), self.time.phase.val()));
        let raw = Tensor::cat(parts, 1);
        let messages = match &self.message {
            Some([first, second]) => second.forward(relu(first.forward(raw))),
            None => raw,
        };
        mean_by_group(messages, &mails.starts)
    }

    fn step(&self, input: Tensor<B, 2>, memory: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = product(input, self.cell.weight_ih.val().transpose()) + self.cell.bias_ih.val().unsqueeze();
        let h = product(memory.clone(), self.cell.weight_hh.val().transpose()) + self.cell.bias_hh.val().unsqueeze();
        match self.updater {
            Updater::Rnn => (x + h).tanh(),
            Updater::Gru => {
                let gate = |of: &Tensor<B, 2>, i: usize| of.clone().narrow(1, i * self.width, self.width);
                let reset = sigmoid(gate(&x, 0) + gate(&h, 0));
                let keep = sigmoid(gate(&x, 1) + gate(&h, 1));
                let new = (gate(&x, 2) + reset * gate(&h, 2)).tanh();
                new.clone() + keep * (memory - new)
            }
        }
    }
}

/// Means over consecutive groups of rows, `[groups, width]`; an empty group's mean is zero.
fn mean_by_group<B: Backend>(rows: Tensor<B, 2>, starts: &[u32]) -> Tensor<B, 2> {
    let [count, width] = rows.dims();
    let (mut group, mut share) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (g, ends) in starts.windows(2).enumerate() {
        let members = (ends[1] - ends[0]) as usize;
        group.extend(std::iter::repeat_n(g as i32, members));
        share.extend(std::iter::repeat_n(1.0 / members.max(1) as f32, members));
    }
    let device = rows.device();
    let shares = Tensor::<B, 2>::from_data(TensorData::new(share, [count, 1]), &device);
    let groups = Tensor::from_data(TensorData::new(group, [count]), &device);
    Tensor::zeros([starts.len() - 1, width], &device).select_assign(0, groups, rows * shares, IndexingUpdateOp::Add)
}

fn single_mails(plan: &MailPlan) -> ManyMails {
    let width = plan.memory.len() / plan.unique.max(1);
    let mut mails =
        ManyMails { unique: plan.unique, memory: plan.memory.clone(), rows: plan.rows.clone(), ..ManyMails::default() };
    for (m, &empty) in plan.empty.iter().enumerate() {
        mails.starts.push(mails.event.len() as u32);
        if !empty {
            mails.other.extend_from_slice(&plan.other[m * width..][..width]);
            mails.event.push(plan.event[m]);
            mails.dt.push(plan.dt[m]);
        }
    }
    mails.starts.push(mails.event.len() as u32);
    mails
}
