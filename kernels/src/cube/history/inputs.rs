//! The inputs of a history on a device: its rules, its data set, events and queried roots.
use crate::Rows;
use crate::cube::history::state::MailConfig;
use std::ops::Range;
use std::sync::Arc;

/// The rules of a history on a device: what it stores and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRules {
    /// Width of a node's memory; 0 for none.
    pub memory: usize,
    /// Width of a mail's payload: that of a memory, unless the payload is given.
    pub mail_width: usize,
    /// Whether the payload of mail is given when a batch is applied, and is not the other end's memory.
    pub given: bool,
    /// Neighbours per root; 0 for none.
    pub neighbours: usize,
    /// Hops of neighbours, 1 or 2. With 2, `neighbours` must not be 0.
    pub layers: usize,
    /// Neighbour sampler.
    pub sampler: DeviceSampler,
    /// Whether a message has the other end's memory as it is when the mail is read, and not as it was at the event.
    pub other_at_read: bool,
    /// Whether nodes without mail go through the updater with a zero message.
    pub update_without_mail: bool,
    /// Whether a neighbour's time difference is to its last memory update, and not to the query.
    pub since_update: bool,
    /// Whether roots are shown their idle times.
    pub idle: bool,
    /// Whether a centre without neighbours has one of zeros, met at the first event.
    pub pads: bool,
    /// Whether a neighbour's own neighbours are those before the event that shows it.
    pub before_events: bool,
}

/// Which neighbours of a root are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceSampler {
    /// The most recent ones.
    Recent,
    /// Drawn with replacement from those of the last so many ticks.
    Drawn {
        /// Ticks; `i64::MAX` is all of them.
        window: i64,
    },
}

/// The constant data of a history on a device.
#[derive(Clone, Debug)]
pub struct DeviceDataset<'a> {
    /// `N`
    pub nodes: usize,
    /// The time from which memories count.
    pub origin: i64,
    /// Edge features by event.
    pub features: Option<Arc<dyn Rows>>,
    /// Events of the whole log.
    pub events: usize,
    /// The log by node. Sampling needs it, and so do neighbours of neighbours before their events.
    pub log: Option<DeviceLog<'a>>,
    /// Bytes of the device available for all of it.
    pub room: u64,
}

/// A log by node, each node's events in order.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLog<'a> {
    /// `[N + 1]` where the events of each node begin.
    pub starts: &'a [u32],
    /// The other ends.
    pub node: &'a [u32],
    /// Times in ticks.
    pub time: &'a [i64],
    /// Positions in the log.
    pub event: &'a [u32],
}

/// A history that is too large for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes needed, without edge features.
    pub bytes: u64,
    /// Bytes available.
    pub room: u64,
}

/// Events in the order of the log.
#[derive(Clone, Copy, Debug)]
pub struct DeviceEvents<'a> {
    /// `[B]`
    pub src: &'a [u32],
    /// `[B]`
    pub dst: &'a [u32],
    /// `[B]` ticks, ascending.
    pub time: &'a [i64],
    /// Number of the first event in the log.
    pub first: u64,
}

/// The queried roots.
#[derive(Clone, Debug)]
pub struct DeviceRoots<'a> {
    /// `[R]`
    pub node: &'a [u32],
    /// `[R]` ticks.
    pub time: &'a [i64],
    /// `[R]` if given, events at exactly the root's time are also seen if they are before this position in the log.
    pub place: Option<&'a [u64]>,
    /// Whether events of the current batch are seen.
    pub sees_batch: bool,
    /// Key of the sampler's draws.
    pub key: u64,
    /// The roots that are the ends of the current batch, source and destination in turn, if any.
    pub ends: Range<usize>,
}

impl DeviceRules {
    pub(crate) fn rule(&self) -> MailConfig {
        MailConfig {
            d: self.memory,
            mail_width: self.mail_width,
            given: self.given,
            other_at_read: self.other_at_read,
            update_without_mail: self.update_without_mail,
        }
    }
}

/// Bytes of a history, without edge features.
pub(crate) fn bytes_of(rules: &DeviceRules, dataset: &DeviceDataset<'_>) -> u64 {
    let carried = if rules.other_at_read { 0 } else { rules.mail_width };
    let neighbours = match &dataset.log {
        Some(log) => 3 * log.node.len() + dataset.nodes,
        None => 3 * dataset.nodes * rules.neighbours,
    };
    // memory, what mail carries, the five numbers of mail and update, degree and two of working memory
    4 * (dataset.nodes * (rules.memory + carried + 8) + neighbours) as u64
}
