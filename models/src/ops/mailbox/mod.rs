//! Attention of nodes to the mails in their mailboxes. The row of a node at a time follows from its memory and its
//! mailbox alone.
//!
//! ```text
//! x_i = [mail_i | e_i | phi(t - t_i)]                                  of the mails in the slots i
//! q   = Wq s + bq,  k_i = Wk x_i + bk,  v_i = Wv x_i + bv
//! h   = relu(drop(W norm(sum a_i v_i + s) + b)),  a = softmax(LeakyReLU(q . k))
//! ```
//!
//! It is APAN's encoder as TGL has it. A row is that of a root: a node at a time. The memory of a node is such a row at
//! its last event.
mod slices;
mod tensors;

use std::sync::Arc;

use tempograph_framework::{Combine, MailRule, MailView, Queries, View};
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{Dropout, Neighbours, Rows, ScoreActivation};

use crate::operation::{Axis, Builder, Map, Operation, Param, Products, Shape, Stage, StepSizes, TensorContext, Value};
use crate::ops::tables::dropout;
use crate::ops::tables::time::TimeEncoding;

/// Slope below zero of the score activation.
const SLOPE: f32 = 0.2;
/// The event of a slot without mail.
const NONE: u64 = u64::MAX;

/// Settings of a mailbox attention.
#[derive(Clone, Copy, Debug)]
pub struct MailboxSettings {
    /// Memory width `D`.
    pub width: usize,
    /// Heads `H`, which divide `D`.
    pub heads: usize,
    /// Share of the attention weights and of the attention's output that a training step drops.
    pub dropout: f32,
    /// Whether slots without mail are read, as mails of zeros at the log's first event.
    pub empty: bool,
    /// How mail is stored: in slots.
    pub rule: MailRule,
}

/// Attends to the mails in a node's mailbox.
#[derive(Clone, Debug)]
pub struct MailboxAttention {
    pub(crate) settings: MailboxSettings,
    pub(crate) slots: usize,
    /// Columns of a mail's payload.
    pub(crate) said: usize,
    /// Columns of the features that are read with each mail's event.
    pub(crate) edge: usize,
    pub(crate) query: Map,
    pub(crate) key: Map,
    pub(crate) value: Map,
    pub(crate) norm: [Param; 2],
    pub(crate) last: Map,
    pub(crate) time: TimeEncoding,
}

impl Builder {
    /// Rows of the roots from their memories and mailboxes, `[C, D]`. Parameters are called `NAME.query…`, `NAME.key…`
    /// and so on.
    pub fn mailbox_attention(&mut self, name: &str, time: TimeEncoding, settings: MailboxSettings) -> Value {
        let MailboxSettings { width, heads, rule, empty, .. } = settings;
        self.check(width > 0, || "model.memory is 0; a mailbox attention needs at least 1 column".into());
        self.check(heads > 0 && width.is_multiple_of(heads.max(1)), || {
            format!("model.heads = {heads} does not divide model.memory = {width}")
        });
        let slots = rule.combine.slots().unwrap_or_default();
        self.check(slots > 0, || "model.slots is 0; a mailbox attention needs mail in at least 1 slot".into());
        (self.needs.memory, self.needs.mail) = (width, rule);
        self.needs.age |= empty;
        self.require_hop(0);
        let said = rule.width(width);
        // The payload of a mean already contains the features of its events.
        let edge = if matches!(rule.combine, Combine::MeanSlots(_)) { 0 } else { self.edge_width() };
        let seen = said + edge + time.width;
        let mut map = |part: &str, inputs| self.parameters.linear(&format!("{name}.{part}"), inputs, width, true);
        let [query, key, value] = [("query", width), ("key", seen), ("value", seen)].map(|(part, x)| map(part, x));
        let last = map("last", width);
        let norm = self.parameters.norm(&format!("{name}.norm"), width);
        let op = MailboxAttention { settings, slots, said, edge, query, key, value, norm, last, time };
        self.push(name, op, &[], Shape { axis: Axis::Centres(0), width })
    }
}

/// The mails that each root attends to.
#[derive(Debug, Default)]
pub(crate) struct MailboxSlots {
    /// Slots as neighbours: rows of mail payloads, of which the last is zeros.
    pub slots: Neighbours,
    /// `[C]` query time of each centre.
    times: Vec<i64>,
    /// `[U]` range of each node's mails.
    mails: Vec<[u32; 2]>,
}

impl MailboxSlots {
    pub fn fill(&mut self, op: &MailboxAttention, queries: &Queries, view: &View) {
        let MailView::Many(mails) = &view.mail else { unreachable!("a history keeps what the program needs: slots") };
        let (hop, MailboxSlots { slots, times, mails: spans }) = (&view.hops[0], self);
        let (centres, k) = (hop.centres.len(), op.slots);
        times.clear();
        times.resize(centres, 0);
        view.roots.iter().zip(queries.times()).for_each(|(&row, time)| times[row as usize] = time.0);
        spans.clear();
        spans.resize(view.nodes.len(), [0, 0]);
        for (&row, span) in mails.rows.iter().zip(mails.starts.windows(2)) {
            spans[row as usize] = [span[0], span[1]];
        }
        (slots.roots, slots.k) = (centres, k);
        slots.count.clear();
        slots.row.clear();
        slots.event.clear();
        slots.dt.clear();
        for (centre, (&row, &time)) in hop.centres.iter().zip(&*times).enumerate() {
            let [start, end] = spans[row as usize];
            for mail in start..end {
                slots.row.push(mail);
                slots.event.push(mails.event[mail as usize]);
                slots.dt.push(time.saturating_sub(mails.time[mail as usize]) as f32);
            }
            let age = hop.age.get(centre).copied().unwrap_or(0.0);
            slots.count.push(if op.settings.empty { k as u32 } else { end - start });
            let filled = (centre + 1) * k;
            slots.row.resize(filled, mails.event.len() as u32);
            slots.event.resize(filled, NONE);
            slots.dt.resize(filled, age);
        }
    }
}

/// Edge features, and zeros for slots without mail.
#[derive(Clone, Debug)]
pub(crate) struct FeaturesOrZeros {
    rows: Arc<dyn Rows>,
    none: Vec<f32>,
}

impl FeaturesOrZeros {
    pub fn new(rows: &Arc<dyn Rows>) -> FeaturesOrZeros {
        FeaturesOrZeros { rows: rows.clone(), none: vec![0.0; rows.width()] }
    }

    /// Replaces the features, in the same memory.
    pub fn show(&mut self, rows: &Arc<dyn Rows>) {
        self.rows.clone_from(rows);
        self.none.resize(rows.width(), 0.0);
    }
}

impl Rows for FeaturesOrZeros {
    fn width(&self) -> usize {
        self.none.len()
    }

    fn row(&self, id: u64) -> &[f32] {
        if id == NONE { &self.none } else { self.rows.row(id) }
    }
}

impl MailboxAttention {
    fn activation() -> ScoreActivation {
        ScoreActivation::LeakyRelu(SLOPE)
    }

    fn dropped_weights(&self, seed: Option<u64>) -> Option<Dropout> {
        let rate = self.settings.dropout;
        seed.filter(|_| rate > 0.0).map(|seed| Dropout { rate, seed })
    }

    fn dropped(&self, seed: Option<u64>) -> Option<Dropout> {
        dropout::of_rows(self.settings.dropout, seed, 0)
    }
}

impl Operation for MailboxAttention {
    fn describe(&self) -> String {
        format!("attention to the last {} mails, {} heads", self.slots, self.settings.heads)
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(slices::MailboxStage::new(self.clone()))
    }

    fn has_dropout(&self) -> bool {
        self.settings.dropout > 0.0
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let (centres, width, x, time) = (sizes.hop(0).centres, self.settings.width, self.key.inputs, self.time.width);
        products.map(centres, width, width, 0);
        products.map(centres, width, x, width);
        products.attend(centres * (self.slots * self.settings.heads) as f64, x, time);
        products.map(centres, x, width, x);
        products.map(centres, width, width, width);
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, _: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx)
    }
}
