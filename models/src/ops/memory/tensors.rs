//! The memory update on tensors.

use burn::tensor::IndexingUpdateOp;
use tempograph_framework::{MailView, ManyMails};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{
    MailPlan, TemporalOps, gather_rows, memory_update_gru, memory_update_rnn, product, rectify, reference,
};

use crate::operation::TensorContext;
use crate::ops::memory::MemoryUpdate;
use crate::settings::Updater;

impl MemoryUpdate {
    /// Memories of the view's nodes, updated from their mail, `[U, D]`.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>) -> Tensor<B, 2> {
        match &cx.view.mail {
            MailView::Last(plan) if self.message.is_none() => {
                let update = match self.settings.updater {
                    Updater::Gru => memory_update_gru,
                    Updater::Rnn => memory_update_rnn,
                };
                let [w_ih, w_hh, b_ih, b_hh] = self.cell;
                let [w_ih, w_hh] = [w_ih, w_hh].map(|param| cx.matrix(param));
                let [b_ih, b_hh] = [b_ih, b_hh].map(|param| cx.vector(param));
                let [freq, phase] = [self.time.freq, self.time.phase].map(|param| cx.vector(param));
                update(plan.clone(), w_ih, w_hh, b_ih, b_hh, freq, phase)
            }
            MailView::Last(plan) => self.stepwise(cx, &single_mails(plan)),
            MailView::Many(mails) => self.stepwise(cx, mails),
        }
    }

    /// The same in separate steps, for what the fused kernel does not support: many mails per node and mapped messages.
    fn stepwise<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, mails: &ManyMails) -> Tensor<B, 2> {
        let memory = cx.from_rows(mails.memory.clone(), [mails.unique, self.settings.width]);
        if mails.rows.is_empty() {
            return memory;
        }
        let own = gather_rows(memory.clone(), mails.rows.clone());
        let combined = self.combined_messages(cx, mails, own.clone());
        let updated = self.step(cx, combined, own);
        // Rows without an update come from the memory, the rest from the updated rows, which follow it.
        let mut source: Vec<u32> = (0..mails.unique as u32).collect();
        mails.rows.iter().enumerate().for_each(|(i, &row)| source[row as usize] = (mails.unique + i) as u32);
        gather_rows(Tensor::cat(vec![memory, updated], 0), source)
    }

    /// The mean of each receiver's messages, `[M, in]`; zero for a receiver without mail.
    fn combined_messages<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        mails: &ManyMails,
        own: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let (receivers, count) = (mails.rows.len(), mails.event.len());
        if count == 0 {
            return Tensor::zeros([receivers, cx.matrix(self.cell[0]).dims()[1]], cx.device());
        }
        let receiver: Vec<u32> = (0..receivers)
            .flat_map(|m| std::iter::repeat_n(m as u32, (mails.starts[m + 1] - mails.starts[m]) as usize))
            .collect();
        let other = cx.from_rows(mails.other.clone(), [count, self.settings.width]);
        let mut parts = vec![gather_rows(own, receiver), other];
        if let Some(rows) = &cx.view.edge_features {
            parts.push(cx.constant_rows(rows.as_ref(), mails.event.iter().copied()));
        }
        parts.push(self.time.encode(cx, &mails.dt));
        let raw = Tensor::cat(parts, 1);
        let messages = match &self.message {
            Some([first, second]) => cx.linear(second, rectify(cx.linear(first, raw))),
            None => raw,
        };
        mean_by_group(messages, &mails.starts)
    }

    fn step<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        input: Tensor<B, 2>,
        memory: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let [w_ih, w_hh, b_ih, b_hh] = self.cell;
        let x = product(input, cx.matrix(w_ih).transpose()) + cx.vector(b_ih).unsqueeze();
        let h = product(memory.clone(), cx.matrix(w_hh).transpose()) + cx.vector(b_hh).unsqueeze();
        reference::cell_step(self.cell(), x, h, memory)
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
