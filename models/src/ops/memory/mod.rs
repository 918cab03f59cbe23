//! The memory update: waiting mail becomes messages, messages become memory (TGN eq. 1-3).
//!
//! ```text
//! m_u     = msg(s_u, x_v, e_uv, phi(t - t_u))      identity, or two linear maps with a ReLU between      eq. 1, 2
//! m_u     = agg(m_u(t_1), ..., m_u(t_b))           last, mean                                           eq. 3
//! s_u(t)  = cell(m_u, s_u(t-))                     GRU, RNN                                             eq. 3
//! ```
//!
//! `x_v` is what the mail carries of the other end: its memory, or the payload that the model makes.
#[cfg(feature = "cube")]
mod device;
mod slices;
mod stepwise;
mod tensors;

use tempograph_framework::{Combine, MailRule};
use tempograph_kernels::Cell;
use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{Axis, Builder, Map, Operation, Param, Products, Shape, Stage, StepSizes, TensorContext, Value};
use crate::ops::tables::time::TimeEncoding;
use crate::settings::{Message, Updater};

/// Settings of a memory update.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUpdateSettings {
    /// Memory width `D`.
    pub width: usize,
    /// Message function.
    pub message: Message,
    /// Recurrent cell.
    pub updater: Updater,
    /// How mail is stored and read.
    pub rule: MailRule,
}

impl MemoryUpdateSettings {
    /// Settings for the last mail of a batch, unmapped, with the other end's memory at the event, into `updater`.
    pub fn last(width: usize, updater: Updater) -> MemoryUpdateSettings {
        MemoryUpdateSettings { width, message: Message::Identity, updater, rule: MailRule::default() }
    }
}

/// A memory update.
#[derive(Clone, Debug)]
pub struct MemoryUpdate {
    pub(crate) settings: MemoryUpdateSettings,
    pub(crate) time: TimeEncoding,
    pub(crate) edge: usize,
    /// Maps of the message, if it is mapped.
    pub(crate) message: Option<[Map; 2]>,
    /// `w_ih` `[G, X]`, `w_hh` `[G, D]`, `b_ih` `[G]`, `b_hh` `[G]`.
    pub(crate) cell: [Param; 4],
}

impl Builder {
    /// Updates memories from waiting mail: new memories, `[U, D]`. Parameters are called `NAME.message…` and
    /// `NAME.cell…`.
    pub fn memory_update(&mut self, name: &str, time: TimeEncoding, settings: MemoryUpdateSettings) -> Value {
        let (width, edge) = (settings.width, self.edge_width());
        self.check(width > 0, || "model.memory is 0; a memory update needs at least 1 column".into());
        self.check(settings.rule.combine.slots().is_none(), || {
            "a memory update reads the last mail or the mean of all, not mail in slots; model.mail is \"last\" or \"mean\"".into()
        });
        let said = settings.rule.width(width);
        self.check(said == width, || {
            format!("mail says {said} columns; a memory update reads as many as memories have, model.memory = {width}")
        });
        (self.needs.memory, self.needs.mail) = (width, settings.rule);
        let raw = 2 * width + edge + time.width;
        let parameters = &mut self.parameters;
        let message = match settings.message {
            Message::Identity => None,
            Message::Mlp => Some([
                parameters.linear(&format!("{name}.message.0"), raw, raw / 2, true),
                parameters.linear(&format!("{name}.message.1"), raw / 2, width, true),
            ]),
        };
        let (input, gates) = (if message.is_some() { width } else { raw }, cell(settings.updater).gates() * width);
        let bound = 1.0 / (width as f32).sqrt();
        let mut part = |part: &str, shape: &[usize]| parameters.uniform(&format!("{name}.cell.{part}"), shape, bound);
        let cell = [
            part("weight_ih", &[gates, input]),
            part("weight_hh", &[gates, width]),
            part("bias_ih", &[gates]),
            part("bias_hh", &[gates]),
        ];
        let op = MemoryUpdate { settings, time, edge, message, cell };
        self.push(name, op, &[], Shape { axis: Axis::Nodes, width })
    }
}

/// The kernel's cell for an updater.
pub(crate) fn cell(updater: Updater) -> Cell {
    match updater {
        Updater::Gru => Cell::Gru,
        Updater::Rnn => Cell::Rnn,
    }
}

impl MemoryUpdate {
    /// Whether the fused kernel supports it: one mail per node, unmapped.
    pub(crate) fn is_fused(&self) -> bool {
        self.message.is_none() && self.settings.rule.combine == Combine::Last
    }

    /// Checks that it can run on a device. The error names the setting.
    pub(crate) fn check_device_support(&self) -> Result<(), String> {
        match self.message {
            Some(_) => Err("message maps (model.message = \"mlp\")".into()),
            None => Ok(()),
        }
    }

    pub(crate) fn cell(&self) -> Cell {
        cell(self.settings.updater)
    }
}

impl Operation for MemoryUpdate {
    fn describe(&self) -> String {
        let MemoryUpdateSettings { message, updater, rule, .. } = self.settings;
        let message = if message == Message::Mlp { "mapped messages" } else { "messages" };
        let cell = if updater == Updater::Gru { "GRU" } else { "RNN" };
        format!(
            "memory update, {} of {message} into a {cell}",
            if rule.combine == Combine::Mean { "mean" } else { "last" }
        )
    }

    fn stage(&self) -> Box<dyn Stage> {
        if self.is_fused() {
            Box::new(slices::FusedStage::new(self.clone()))
        } else {
            Box::new(stepwise::StepwiseStage::new(self.clone()))
        }
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let StepSizes { receivers, silent, mails, .. } = *sizes;
        let (memory, time) = (self.settings.width, self.time.width);
        let raw = 2 * memory + self.edge + time;
        let (gates, apart) = match self.settings.updater {
            Updater::Gru => (3 * memory, memory),
            Updater::Rnn => (memory, 0),
        };
        products.map(silent, memory, gates, 0);
        match self.message {
            None => {
                products.map(receivers, raw, gates, time);
                products.map(receivers, memory, apart, 0);
            }
            Some(_) => {
                products.map(mails, raw, raw / 2, time);
                products.map(mails, raw / 2, memory, raw / 2);
                products.map(receivers, memory, gates, memory);
                products.map(receivers, memory, gates, 0);
            }
        }
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, _: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx)
    }
}
