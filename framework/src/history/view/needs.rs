//! What a model needs of the past. It is declared once, so that a history keeps only that.

use serde::{Deserialize, Serialize};

/// What a model needs a [`History`](crate::History) to keep and a [`View`](crate::View) to show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Needs {
    /// Width `D` of a node's memory; 0 keeps no memory.
    pub memory: usize,
    /// How mail is kept and read; ignored without memory.
    pub mail: MailRule,
    /// Neighbours `K` shown for each root; 0 keeps none.
    pub neighbours: usize,
    /// Hops of neighbours shown, one for each embedding layer.
    pub layers: usize,
    /// Which of a node's earlier events are shown as its neighbours.
    pub sampler: Sampler,
    /// Whether a batch's own earlier events are seen by its later queries.
    pub lookup: Lookup,
    /// The time difference that comes with each neighbour.
    pub delta: Delta,
    /// Whether each centre is shown how long its memory has not been updated ([`Hop::idle`](crate::Hop::idle)).
    pub idle: bool,
    /// Whether each centre is shown the time from the log's first event to its query ([`Hop::age`](crate::Hop::age)).
    #[serde(default)]
    pub age: bool,
    /// Whether a neighbour's own neighbours are those before the event it is shown for, as in TGAT, instead of before
    /// the root's time. That is right for models whose rows are of a node at a time; memories are always the current
    /// ones.
    #[serde(default)]
    pub before_events: bool,
    /// Whether facts about each queried pair are shown ([`PairFact`](crate::PairFact)).
    pub pairs: bool,
    /// Whether an update needs the batch's ends as roots ([`Queries::ends`](crate::Queries::ends)): where their
    /// embeddings are an input of the update. Whoever observes a batch then queries all of them, even if nothing else
    /// is queried.
    #[serde(default)]
    pub ends: bool,
    /// An event window of each root, in addition to its neighbours ([`View::window`](crate::View::window)). It is
    /// shown for the centres of the first hop, so nothing is shown without layers.
    #[serde(default)]
    pub window: Option<WindowSpec>,
    /// Rows of temporal walk matrices that are kept of each node and shown of each root
    /// ([`View::walks`](crate::View::walks)); `None` keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walks: Option<WalkRule>,
}

/// The event window: the newest events of a root, however its neighbours are chosen (the node encoder of GraphMixer,
/// Cong et al., 2023, section 3.2).
///
/// It uses the same lookup as the neighbours and shows no forgotten nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// Largest number of events of a root, the newest first.
    pub neighbours: usize,
    /// If set, only events of this many ticks before the root's time.
    #[serde(default)]
    pub ticks: Option<i64>,
}

impl Needs {
    /// Whether views leave out what events of their own time have changed in memories: always, except where the order
    /// within a tick counts.
    pub fn is_strict(&self) -> bool {
        self.memory > 0 && self.lookup != Lookup::Ordered
    }

    /// A model that remembers nothing; start from it and name what is needed.
    pub fn nothing() -> Needs {
        Needs {
            memory: 0,
            mail: MailRule::default(),
            neighbours: 0,
            layers: 0,
            sampler: Sampler::Recent,
            lookup: Lookup::Exact,
            delta: Delta::SinceEvent,
            idle: false,
            age: false,
            before_events: false,
            pairs: false,
            ends: false,
            window: None,
            walks: None,
        }
    }

    /// Checks whether a history on a device can keep all of this.
    ///
    /// # Errors
    /// The first thing that it cannot keep, in words.
    pub fn on_device(&self) -> Result<(), &'static str> {
        match self {
            Needs { window: Some(_), .. } => Err("a second look at the past (model.window)"),
            Needs { walks: Some(_), .. } => Err("rows of temporal walks (model.walks)"),
            Needs { memory: 0, layers: 0..=1, .. } => Ok(()),
            Needs { mail, memory: 1.., .. } if mail.combine == Combine::Mean => {
                Err("mean of many mails (model.mail = \"mean\")")
            }
            Needs { mail, memory: 1.., .. } if mail.combine != Combine::Last => {
                Err("mailboxes of the last few mails (model.mail = { slots = .. })")
            }
            Needs { mail, memory: 1.., .. } if mail.to != Receivers::Ends => Err("mail to neighbours (model.deliver)"),
            Needs { layers: 2, neighbours: 0, .. } => Err("two layers without neighbours (model.neighbours = 0)"),
            Needs { layers: 3.., .. } => Err("more than two layers (model.layers)"),
            _ => Ok(()),
        }
    }

    /// What of an event stays when it is [retracted](crate::History::retract): the parts of the state that cannot be
    /// undone. To remove the event there, too, replay the log without it.
    pub fn kept_after_retract(&self) -> Vec<&'static str> {
        let kept = [(self.memory > 0, "memory"), (self.walks.is_some(), "walks")];
        kept.into_iter().filter(|(keeps, _)| *keeps).map(|(_, what)| what).collect()
    }

    /// Whether a view shows the time of each mail, so that a model can distinguish every moment from every other.
    pub fn shows_mail_times(&self) -> bool {
        self.memory > 0 && self.mail.combine.slots().is_some()
    }

    /// Whether all events of a node are kept: any may be drawn, or be the newest before an old event.
    pub fn keeps_all(&self) -> bool {
        self.sampler != Sampler::Recent || self.reads_past_neighbours()
    }

    /// Whether neighbours are looked up as of past events.
    pub(crate) fn reads_past_neighbours(&self) -> bool {
        self.before_events && self.layers > 1
    }

    /// The event window that a view shows; `None` without layers.
    pub fn window_spec(&self) -> Option<WindowSpec> {
        self.window.filter(|_| self.layers > 0)
    }

    /// Whether the window depends on the query's time even if no event was observed in between.
    pub fn window_is_timed(&self) -> bool {
        self.window_spec().is_some_and(|look| look.ticks.is_some())
    }

    /// Largest number of events in a root's window; 0 without a window.
    pub(crate) fn window_size(&self) -> usize {
        self.window_spec().map_or(0, |look| look.neighbours)
    }

    /// How many of a node's newest events are kept where not all are: the largest number that a view shows, among its
    /// neighbours or in its window, or that mail to neighbours reads. At least one where facts about pairs include the
    /// idle time, or where no mail records the time of the newest event.
    pub(crate) fn recent(&self) -> usize {
        let shown = self.neighbours.max(self.window_size());
        shown.max(usize::from(self.pairs || self.memory == 0)).max(self.receivers())
    }

    /// Neighbours of each end that get mail of an event; 0 if only the ends get mail. Without memory there is no mail.
    pub(crate) fn receivers(&self) -> usize {
        match self.mail.to {
            Receivers::Neighbours { count, .. } if self.memory > 0 => count,
            _ => 0,
        }
    }
}

/// Rows of temporal walk matrices of each node, made small by a random projection (TPNet, Lu et al., NeurIPS 2024,
/// arXiv:2410.04013, theorem 1).
///
/// Row `l` of a node is a sum over the walks of `l` events that begin at it and go back in time. Each walk adds the
/// random row of the node where it ends, times `exp(-decay dt)` for each of its events, `dt` ticks ago. The inner
/// product of rows of two nodes estimates (in expectation) the weighted number of pairs of walks that end at the same
/// node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalkRule {
    /// Events `L` of the longest walks, 1 at least.
    pub layers: usize,
    /// Columns `d` of a row, 1 at least.
    pub width: usize,
    /// `lambda`: the decrease of the logarithm of an event's weight in a tick. 0 means no decay.
    pub decay: f64,
    /// Seed of the projection. A node's random row follows from this and the node's number.
    #[serde(default)]
    pub seed: u64,
}

impl WalkRule {
    /// Numbers of a node, `(L + 1) d`: its random row, then rows 1 to `L`.
    pub fn numbers(&self) -> usize {
        (self.layers + 1) * self.width
    }
}

/// How a node's mail is kept, what it carries of the other end, who gets it, and which nodes are updated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MailRule {
    /// Which mails are kept for the node.
    pub combine: Combine,
    /// Which state of the other end a message carries. A row that a model [gives](MailContent::Given) is always from
    /// the time of the event.
    pub other: OtherMemory,
    /// Whether nodes without mail go through the updater with a zero message, as PyG's `TGNMemory` does.
    pub update_without_mail: bool,
    /// What mail carries of the other end.
    #[serde(default)]
    pub says: MailContent,
    /// Who gets the mail of an event.
    #[serde(default)]
    pub to: Receivers,
}

impl Default for MailRule {
    /// The last mail, with the other end's memory at the event, to the ends (the TGN paper).
    fn default() -> MailRule {
        MailRule {
            combine: Combine::Last,
            other: OtherMemory::AtEvent,
            update_without_mail: false,
            says: MailContent::Memory,
            to: Receivers::Ends,
        }
    }
}

impl MailRule {
    /// Whether mail is read with the other end's memory at that time, and holds no copy of it.
    pub fn reads_other(&self) -> bool {
        self.says == MailContent::Memory && self.other == OtherMemory::AtRead
    }

    /// Numbers that a mail carries of the other end, for memories of width `memory`.
    pub fn width(&self, memory: usize) -> usize {
        match self.says {
            MailContent::Memory => memory,
            MailContent::Given(width) => width,
        }
    }
}

/// What mail carries of the other end of its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailContent {
    /// Its memory.
    #[default]
    Memory,
    /// A row of this many numbers that the model gives with the update ([`Update::mail`](crate::Update::mail)).
    Given(usize),
}

/// Who gets the mail of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receivers {
    /// Its two ends.
    #[default]
    Ends,
    /// Its two ends, and neighbours of each end: APAN's propagator, DyGNN's propagation.
    ///
    /// The neighbours are the nodes of the newest events of the end that a query at the event would see. The history
    /// searches as many events as it keeps for the model: the largest of [`Needs::neighbours`],
    /// [`WindowSpec::neighbours`] and `count`. They are never drawn. Neither end of the event is among them, and no
    /// node is there twice. A mail to a neighbour carries the same row of the end as the mail to the other end. The
    /// neighbour's memory is not written when the event is observed, but when the neighbour next has an event.
    Neighbours {
        /// Largest number of neighbours of an end that get the mail, the newest first.
        count: usize,
        /// If set, what a mail to a neighbour carries is multiplied by `1 / ln(e + dt / decay)`, where `dt` is the
        /// time of the event minus that of the neighbour's event with the end, in ticks (DyGNN's `g`). Above 0.
        decay: Option<f64>,
    },
}

/// The mail combiner ("message aggregator" in the TGN paper, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// The last mail of the batch, by (time, event id).
    Last,
    /// The mean of all messages of the node's last batch, and of those that it received as a neighbour since.
    Mean,
    /// The last mails, this many, of any batch (APAN's mailbox), 1 at least: `{ slots = 10 }` in a spec. They stay
    /// when they are read.
    Slots(usize),
    /// The last means, this many: the mails of a batch to a node are replaced by their mean, with the time and the
    /// event of the last of them (APAN eq. 8): `{ mean-slots = 10 }` in a spec. They stay when they are read. Where
    /// mail is read with the other end's memory at that time, the last mail of the batch is used instead of the mean.
    MeanSlots(usize),
}

impl Combine {
    /// Number of mails of a node that stay when they are read; `None` where mail does not stay.
    pub fn slots(self) -> Option<usize> {
        match self {
            Combine::Slots(slots) | Combine::MeanSlots(slots) => Some(slots),
            Combine::Last | Combine::Mean => None,
        }
    }
}

/// Which memory of the other end enters a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherMemory {
    /// As it was when the event was observed (the paper's raw message store).
    AtEvent,
    /// As it is when the mail is read (PyG).
    AtRead,
}

/// Neighbour sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// The last `K` events before the query; kept in a ring, O(1) to insert.
    Recent,
    /// `K` of all events before the query, drawn with replacement; keeps every event.
    Uniform,
    /// As `Uniform`, but of the events in this many ticks before the query: `{ window = TICKS }` in a spec.
    Window(i64),
}

/// Which events a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// Every event strictly before the query's time, those of its own batch included.
    Exact,
    /// Every event before the query's own in the log, by (time, event id): as `Exact`, but earlier events of the very
    /// same time are seen too. Right where the order within a tick is real (messages sent one after the other,
    /// recorded by the second), a leak seen too. Right where the order within a tick is real (messages sent one after
    /// the other, recorded by the second), a leak where it is not (the recipients of one mail).
    Ordered,
    /// Only events of earlier batches, strictly before the query's time: the protocol of PyG's example.
    Batch,
}

/// The time difference shown with a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delta {
    /// Query time less event time (the paper).
    SinceEvent,
    /// The neighbour's last memory update less event time (PyG's example).
    SinceUpdate,
}
