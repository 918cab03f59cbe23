//! What a model must be told of the past, declared once so that a history keeps that and nothing else.

use serde::{Deserialize, Serialize};

/// What a model asks a [`History`](crate::History) to keep and a [`View`](crate::View) to show.
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
    /// Whether facts about each asked pair are shown ([`PairFact`](crate::PairFact)).
    pub pairs: bool,
}

impl Needs {
    /// A model that remembers nothing; start from it and name what is needed.
    pub fn nothing() -> Needs {
        Needs {
            memory: 0,
            mail: MailRule { combine: Combine::Last, other: OtherMemory::AtEvent, update_without_mail: false },
            neighbours: 0,
            layers: 0,
            sampler: Sampler::Recent,
            lookup: Lookup::Exact,
            delta: Delta::SinceEvent,
            idle: false,
            pairs: false,
        }
    }
}

/// How a node's mail is combined, what it holds of the other end, and who is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailRule {
    /// Which mails of one batch reach the node.
    pub combine: Combine,
    /// Which state of the other end a message carries.
    pub other: OtherMemory,
    /// Whether nodes without mail go through the updater with a zero message, as PyG's `TGNMemory` does.
    pub update_without_mail: bool,
}

/// The mail combiner ("message aggregator" in the TGN paper, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// The last mail of the batch, by (time, event id).
    Last,
    /// The mean of all messages of the node's last batch.
    Mean,
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
    /// The same of the events in the last so many ticks before the query: `{ window = TICKS }` in a spec.
    Window(i64),
}

/// Which events a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// Every event strictly before the query's time, those of its own batch included.
    Exact,
    /// Every event before the query's own in the log, by (time, event id): as `Exact`, but earlier events of the very same time are
    /// seen too. Right where the order within a tick is real (messages sent one after the other, recorded by the second), a leak
    /// where it is not (the recipients of one mail).
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
