//! The memory update on slices if messages are mapped or averaged over a node's mails: step by step.

use tempograph_framework::MailView;
use tempograph_kernels::cpu::{
    Activation, CellGradients, InputGradient, Linear, PaddedRows, RecurrentCell, add, add_time_gradient, cos_row,
    relu_backward, sin_row,
};

use crate::operation::{Context, Gradients, Stage, TableGradients, Tables};
use crate::ops::memory::MemoryUpdate;

#[derive(Debug)]
pub(super) struct StepwiseStage {
    op: MemoryUpdate,
    /// `[M]` rows of the view that are updated.
    rows: Vec<u32>,
    /// `[M + 1]` where the mails of each row begin.
    starts: Vec<u32>,
    /// `[M, D]` their memories.
    own: PaddedRows,
    /// `[mails]` time since the receiver's last update.
    dt: Vec<f32>,
    /// `[mails, X]` messages before the map, and their gradient.
    raw: PaddedRows,
    raw_gradient: PaddedRows,
    maps: [Linear; 2],
    /// `[mails, X/2]`
    rectified: PaddedRows,
    rectified_gradient: PaddedRows,
    /// `[mails, D]` mapped messages; in the backward pass their gradient.
    mapped: PaddedRows,
    /// `[M, in]` means, and their gradient.
    combined: PaddedRows,
    combined_gradient: PaddedRows,
    cell: RecurrentCell,
    sine: Vec<f32>,
}

impl StepwiseStage {
    pub fn new(op: MemoryUpdate) -> StepwiseStage {
        StepwiseStage {
            op,
            rows: Vec::new(),
            starts: Vec::new(),
            own: PaddedRows::default(),
            dt: Vec::new(),
            raw: PaddedRows::default(),
            raw_gradient: PaddedRows::default(),
            maps: Default::default(),
            rectified: PaddedRows::default(),
            rectified_gradient: PaddedRows::default(),
            mapped: PaddedRows::default(),
            combined: PaddedRows::default(),
            combined_gradient: PaddedRows::default(),
            cell: RecurrentCell::default(),
            sine: Vec::new(),
        }
    }

    /// Gathers receivers, their memories and their messages.
    fn load(&mut self, cx: &Context<'_>) {
        let StepwiseStage { op, rows, starts, own, dt, raw, .. } = self;
        let (d, e) = (op.settings.width, op.edge);
        let time = op.time.weights(cx.weights);
        rows.clear();
        starts.clear();
        dt.clear();
        let memory = cx.view.mail.memory();
        let fill = |raw: &mut PaddedRows, mail: usize, row: u32, other: &[f32], event: u64, dt: f32| {
            let numbers = raw.row_mut(mail);
            let x = numbers.len();
            numbers[..d].copy_from_slice(&memory[row as usize * d..][..d]);
            numbers[d..2 * d].copy_from_slice(other);
            if let Some(features) = &cx.view.edge_features {
                numbers[2 * d..2 * d + e].copy_from_slice(features.row(event));
            }
            cos_row(&mut numbers[x - op.time.width..], dt, time.freq, time.phase);
        };
        let columns = 2 * d + e + op.time.width;
        match &cx.view.mail {
            MailView::Last(plan) => {
                rows.extend_from_slice(&plan.rows);
                raw.zeros(plan.empty.iter().filter(|empty| !**empty).count(), columns);
                for (m, &empty) in plan.empty.iter().enumerate() {
                    starts.push(dt.len() as u32);
                    if !empty {
                        fill(raw, dt.len(), plan.rows[m], &plan.other[m * d..][..d], plan.event[m], plan.dt[m]);
                        dt.push(plan.dt[m]);
                    }
                }
                starts.push(dt.len() as u32);
            }
            MailView::Many(mails) => {
                rows.extend_from_slice(&mails.rows);
                starts.extend_from_slice(&mails.starts);
                dt.extend_from_slice(&mails.dt);
                raw.zeros(dt.len(), columns);
                for (m, ends) in mails.starts.windows(2).enumerate() {
                    for mail in ends[0] as usize..ends[1] as usize {
                        let other = &mails.other[mail * d..][..d];
                        fill(raw, mail, mails.rows[m], other, mails.event[mail], mails.dt[mail]);
                    }
                }
            }
        }
        own.gather(memory, d, d, rows);
    }
}

/// The mean of each group of rows; zeros of an empty one.
fn mean_by_group(out: &mut PaddedRows, rows: &PaddedRows, starts: &[u32]) {
    out.zeros(starts.len().saturating_sub(1), rows.columns());
    for (group, ends) in starts.windows(2).enumerate() {
        let share = 1.0 / (ends[1] - ends[0]).max(1) as f32;
        let mean = out.row_mut(group);
        (ends[0]..ends[1]).for_each(|row| add(mean, rows.row(row as usize)));
        mean.iter_mut().for_each(|x| *x *= share);
    }
}

/// The gradient of each row from that of its group's mean.
fn mean_backward(out: &mut PaddedRows, means: &PaddedRows, starts: &[u32], rows: usize) {
    out.zeros(rows, means.columns());
    for (group, ends) in starts.windows(2).enumerate() {
        let share = 1.0 / (ends[1] - ends[0]).max(1) as f32;
        for row in ends[0]..ends[1] {
            out.row_mut(row as usize).iter_mut().zip(means.row(group)).for_each(|(x, &mean)| *x = mean * share);
        }
    }
}

impl Stage for StepwiseStage {
    fn forward(&mut self, cx: &Context<'_>, _: Tables<'_>, out: &mut PaddedRows) {
        out.resize_dense(cx.view.nodes.len(), self.op.settings.width);
        out.values.copy_from_slice(cx.view.mail.memory());
        self.load(cx);
        let StepwiseStage { op, rows, starts, own, raw, maps, rectified, mapped, combined, cell, .. } = self;
        if rows.is_empty() {
            return;
        }
        match &op.message {
            None => mean_by_group(combined, raw, starts),
            Some([first, second]) => {
                maps[0].forward(raw, cx.weights.linear(first), Activation::Relu, rectified);
                maps[1].forward(rectified, cx.weights.linear(second), Activation::None, mapped);
                mean_by_group(combined, mapped, starts);
            }
        }
        cell.forward(op.cell(), [combined, own], op.cell_weights(cx.weights), rows, &mut out.values);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        _: Tables<'_>,
        grad: &mut PaddedRows,
        _: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let StepwiseStage { op, rows, starts, own, dt, raw, raw_gradient, maps, rectified, .. } = self;
        let [w_ih, w_hh, b_ih, b_hh] = op.cell;
        if rows.is_empty() {
            gradients.zero(op.cell.into_iter().chain(op.message.iter().flatten().flat_map(|map| map.params())));
            return;
        }
        let [w_ih, w_hh, b_ih, b_hh] = gradients.params_mut([w_ih, w_hh, b_ih, b_hh]);
        let cell = CellGradients { w_ih, w_hh, b_ih, b_hh };
        let into = InputGradient::Replace(&mut self.combined_gradient);
        let weights = op.cell_weights(cx.weights);
        self.cell.backward(op.cell(), [&self.combined, own], weights, (rows, &grad.values), cell, into);
        match &op.message {
            None => mean_backward(raw_gradient, &self.combined_gradient, starts, dt.len()),
            Some([first, second]) => {
                mean_backward(&mut self.mapped, &self.combined_gradient, starts, dt.len());
                let into = InputGradient::Replace(&mut self.rectified_gradient);
                let weight = cx.weights.values(second.weight);
                maps[1].backward(rectified, weight, &self.mapped, gradients.map(second), into);
                relu_backward(&mut self.rectified_gradient.values, &rectified.values);
                let into = InputGradient::Replace(raw_gradient);
                let weight = cx.weights.values(first.weight);
                maps[0].backward(raw, weight, &self.rectified_gradient, gradients.map(first), into);
            }
        }
        let (time, columns) = (op.time.weights(cx.weights), raw.columns() - op.time.width);
        let [freq, phase] = gradients.params_mut([op.time.freq, op.time.phase]);
        self.sine.resize(op.time.width, 0.0);
        for (mail, &dt) in dt.iter().enumerate() {
            sin_row(&mut self.sine, dt, time.freq, time.phase);
            add_time_gradient(freq, phase, dt, &self.sine, &raw_gradient.row(mail)[columns..]);
        }
    }
}
