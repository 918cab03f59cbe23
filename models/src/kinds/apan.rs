//! APAN: "APAN: Asynchronous Propagation Attention Network for Real-time Temporal Graph Embedding", Wang et al., SIGMOD
//! 2021 (arXiv:2011.11545), as TGL has it.
//!
//! ```text
//! x_i     = [mail_i | e_i | phi(t - t_i)]                     of the last S mails of a node
//! r       = norm(sum a_i (Wv x_i) + s_u),  a = softmax(LeakyReLU(Wq s_u . Wk x_i))               eq. 2-4
//! h_u(t)  = relu(drop(W r + b)),  s_u = h_u of the node's last event                             eq. 5
//! z_u(t)  = norm(h_u)
//! mail    = [h_u | h_v] with e_uv, to both ends and to the last K neighbours of each             eq. 6-7
//!           of the mails of a batch to a node, their mean                                        eq. 8
//! p(u, v) = f2 relu(f1 [z_u | z_v])                           link decoder
//! ```
//!
//! No neighbours are read to score a link. They are read after the answer, when mail is delivered.
//!
//! Differs:
//! - the time of a mean is that of its last mail; TGL's is the mean of their times. `mean = false` gives each mail a
//!   slot;
//! - a neighbour of an end gets the same mail as that end, so `[own | other]` has the ends in the reverse order of
//!   TGL's; `says = "sum"`, the paper's, has no such order. An end of an event does not get its mail again as a
//!   neighbour, and no node gets it twice;
//! - neighbours are the last `K` strictly before the event; TGL's sampler misses some of them;
//! - mail and memories are made without dropout, so that a replay makes the same ones; TGL's are those of the training
//!   step;
//! - the paper has a code of the mail's rank instead of its time, and more than one hop of delivery.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Combine, Lookup, MailContent, MailRule, OtherMemory, Receivers};

use crate::operation::Builder;
use crate::ops::mailbox::MailboxSettings;
use crate::program::{MailPayload, MailRows, ModelKind, Outputs};
use crate::settings;
use crate::settings::{DatasetStats, Precision, TimeInit, WalkSpec, walks};

/// Settings of an APAN. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApanSpec {
    /// Memory width `D`, also that of embeddings (100).
    pub memory: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Initialisation of the time encoding (`log-spaced`).
    pub time_init: TimeInit,
    /// Mails `S` that a node keeps (10).
    pub slots: usize,
    /// Whether the mails of a batch to a node are combined to their mean (true); else each has its own slot.
    pub mean: bool,
    /// Whether slots without mail are read as mails of zeros (true).
    pub empty_slots: bool,
    /// Which rows of an event's ends mail carries: `both`, their `sum`, or the `other` (`both`).
    pub says: MailRows,
    /// Neighbours `K` of each end that also get mail (10).
    pub neighbours: usize,
    /// Attention heads `H` (2); divides `memory`.
    pub heads: usize,
    /// Width inside the link decoder (100).
    pub width: usize,
    /// Dropout on attention weights and on the attention's output (0.1).
    pub dropout: f32,
    /// Whether neighbours that were met in an event's own batch get its mail (`exact`).
    pub history: Lookup,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Features of the temporal walks of both ends, which the decoder reads, as in TPNet (off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walks: Option<WalkSpec>,
}

impl Default for ApanSpec {
    fn default() -> ApanSpec {
        ApanSpec {
            memory: 100,
            time: 100,
            time_init: TimeInit::LogSpaced,
            slots: 10,
            mean: true,
            empty_slots: true,
            says: MailRows::Both,
            neighbours: 10,
            heads: 2,
            width: 100,
            dropout: 0.1,
            history: Lookup::Exact,
            precision: Precision::F32,
            walks: None,
        }
    }
}

impl ModelKind for ApanSpec {
    const KIND: &'static str = "apan";
    const ABOUT: &'static str =
        "attention to a mailbox; mail goes to neighbours, and none are read when a link is scored";
    const PAPER: &'static str = "Wang et al., 2021, arXiv:2011.11545";
    const TEMPLATE: &'static str = include_str!("apan.toml");

    fn check(&self) -> Result<(), String> {
        let ApanSpec { memory, time, slots, heads, width, .. } = *self;
        let widths = [("memory", memory), ("time", time), ("slots", slots), ("heads", heads), ("width", width)];
        settings::check_at_least_one(&widths)?;
        settings::check_share("dropout", self.dropout)?;
        walks::check(self.walks.as_ref())?;
        self.precision.check()
    }

    fn complete(&mut self, facts: &DatasetStats) {
        walks::complete(self.walks.as_mut(), facts);
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let ApanSpec { memory: width, heads, dropout, says, mean, neighbours: count, .. } = *self;
        g.precision(self.precision);
        g.lookup(self.history);
        let time = g.time_encoding("memory.time", self.time, self.time_init);
        let rule = MailRule {
            combine: if mean { Combine::MeanSlots(self.slots) } else { Combine::Slots(self.slots) },
            other: OtherMemory::AtEvent,
            update_without_mail: false,
            says: MailContent::Given(says.columns(width) + if mean { g.edge_width() } else { 0 }),
            to: if count > 0 { Receivers::Neighbours { count, decay: None } } else { Receivers::Ends },
        };
        let memory = g.mailbox_attention(
            "memory",
            time,
            MailboxSettings { width, heads, dropout, empty: self.empty_slots, rule },
        );
        let embedding = g.norm("embedding.norm", memory);
        g.walks(self.walks.as_ref());
        let decoder = g.link_decoder(width, self.width, false);
        let says = MailPayload { value: memory, rows: says, features: mean };
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: Some(says) }
    }
}
