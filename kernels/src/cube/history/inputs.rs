//! What a history on a device is told: what it keeps, of which log, what happens and who is asked about.
use crate::Rows;
use crate::cube::history::state::MailConfig;
use std::ops::Range;
use std::sync::Arc;

/// What a history on a device keeps and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRules {
    /// Width of a node's memory; 0 keeps none.
    pub memory: usize,
    /// Numbers that a mail says of the other end: as many as its memory has, unless they are given.
    pub mail_width: usize,
    /// Whether what mail says is given when a batch happens, and is not the other end's memory.
    pub given: bool,
    /// Neighbours of a root; 0 shows none.
    pub neighbours: usize,
    /// Hops of neighbours, 1 or 2; 2 have neighbours.
    pub layers: usize,
    /// Which neighbours.
    pub sampler: DeviceSampler,
    /// Whether a message has the other end's memory as it is when the mail is read, and not as it was at the event.
    pub other_at_read: bool,
    /// Whether nodes without mail go through the updater with a zero message.
    pub update_without_mail: bool,
    /// Whether a neighbour's time difference is to its last memory update, and not to the query.
    pub since_update: bool,
    /// Whether roots are shown how long ago their memories were updated.
    pub idle: bool,
    /// Whether a centre without neighbours has one of zeros, met at the first event.
    pub pads: bool,
    /// Whether a neighbour's own neighbours are those before the event it is shown for.
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

/// What a history on a device is told once.
#[derive(Clone, Debug)]
pub struct DeviceDataset<'a> {
    /// `N`
    pub nodes: usize,
    /// The time memories count from.
    pub origin: i64,
    /// Edge features by event.
    pub features: Option<Arc<dyn Rows>>,
    /// Events of the whole log.
    pub events: usize,
    /// The log by node, which draws need and neighbours of neighbours before their events.
    pub log: Option<DeviceLog<'a>>,
    /// Bytes there are on the device for all of it.
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
    /// Places in the log.
    pub event: &'a [u32],
}

/// A history that is too large for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes it takes, edge features not counted.
    pub bytes: u64,
    /// Bytes there are.
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

/// Who is asked about.
#[derive(Clone, Debug)]
pub struct DeviceRoots<'a> {
    /// `[R]`
    pub node: &'a [u32],
    /// `[R]` ticks.
    pub time: &'a [i64],
    /// `[R]` where given, events of the root's very time are seen as well if they stand before this place in the log.
    pub place: Option<&'a [u64]>,
    /// Whether events of the batch in hand are seen.
    pub sees_batch: bool,
    /// Key of the draws of neighbours.
    pub key: u64,
    /// Which roots are the ends of the batch in hand, source and destination by turns, where anybody asks.
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

/// Bytes a history takes, edge features not counted.
pub(crate) fn bytes_of(rules: &DeviceRules, dataset: &DeviceDataset<'_>) -> u64 {
    let carried = if rules.other_at_read { 0 } else { rules.mail_width };
    let neighbours = match &dataset.log {
        Some(log) => 3 * log.node.len() + dataset.nodes,
        None => 3 * dataset.nodes * rules.neighbours,
    };
    // memory, what mail carries, the five numbers of mail and update, degree and two of working memory
    4 * (dataset.nodes * (rules.memory + carried + 8) + neighbours) as u64
}
