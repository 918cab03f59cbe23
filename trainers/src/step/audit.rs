//! What the negatives of an evaluation are: how many differ, how many the rule gave, and how many are true.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tempograph_framework::{EventLog, LinkMetrics, NodeId, Timestamp};

/// What the negatives of the ranked events are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NegativeFacts {
    /// Negatives of all ranked events together.
    pub asked: u64,
    /// Share of them that the rule itself gave. The others were drawn at random where it had too few.
    pub of_rule: f64,
    /// Share of them that are true: the source meets that destination at the very time of the event.
    pub true_at_time: f64,
    /// Mean number of different negatives of an event.
    pub distinct: f64,
    /// Fewest different negatives of an event.
    pub fewest_distinct: u64,
}

/// Gathers [`NegativeFacts`] event by event.
pub(crate) struct NegativeAudit<'a> {
    log: &'a EventLog,
    /// The events of the time that was looked at last, and their pairs.
    tick: Range<usize>,
    pairs: HashSet<(NodeId, NodeId)>,
    sorted: Vec<NodeId>,
    events: u64,
    asked: u64,
    of_rule: u64,
    true_at_time: u64,
    distinct: u64,
    fewest: Option<u64>,
}

impl<'a> NegativeAudit<'a> {
    pub fn new(log: &'a EventLog) -> Self {
        NegativeAudit {
            log,
            tick: 0..0,
            pairs: HashSet::new(),
            sorted: Vec::new(),
            events: 0,
            asked: 0,
            of_rule: 0,
            true_at_time: 0,
            distinct: 0,
            fewest: None,
        }
    }

    /// Counts the negatives of the event at position `event`, of which the rule gave `of_rule`.
    pub fn count(&mut self, event: usize, negatives: &[NodeId], of_rule: usize) {
        self.look_at(event);
        let source = self.log.src()[event];
        self.sorted.clear();
        self.sorted.extend_from_slice(negatives);
        self.sorted.sort_unstable();
        self.sorted.dedup();
        let distinct = self.sorted.len() as u64;
        self.events += 1;
        self.asked += negatives.len() as u64;
        self.of_rule += of_rule as u64;
        self.distinct += distinct;
        self.fewest = Some(self.fewest.map_or(distinct, |fewest| fewest.min(distinct)));
        // The event's own pair alone says nothing that is not known.
        self.true_at_time += negatives.iter().filter(|&&node| self.pairs.contains(&(source, node))).count() as u64;
    }

    /// Reads the pairs of the event's time.
    fn look_at(&mut self, event: usize) {
        if self.tick.contains(&event) {
            return;
        }
        let (time, log) = (self.log.time(), self.log);
        let now: Timestamp = time[event];
        let start = time.partition_point(|&other| other < now);
        let end = start + time[start..].partition_point(|&other| other <= now);
        self.tick = start..end;
        self.pairs.clear();
        self.pairs.extend(log.src()[start..end].iter().copied().zip(log.dst()[start..end].iter().copied()));
    }

    pub fn finish(&self) -> NegativeFacts {
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        NegativeFacts {
            asked: self.asked,
            of_rule: share(self.of_rule, self.asked),
            true_at_time: share(self.true_at_time, self.asked),
            distinct: share(self.distinct, self.events),
            fewest_distinct: self.fewest.unwrap_or(0),
        }
    }
}

/// Takes away what means nothing with so few different negatives, or of so few events. Gives the reason of each.
pub(crate) fn blank_undefined(metrics: &mut LinkMetrics, facts: &NegativeFacts) -> BTreeMap<String, String> {
    let mut why = BTreeMap::new();
    let fewest = facts.fewest_distinct;
    for (k, name, value) in [(3, "hits3", &mut metrics.hits3), (10, "hits10", &mut metrics.hits10)] {
        if fewest < k {
            *value = None;
            let worst = fewest + 1;
            why.insert(
                name.to_string(),
                format!(
                    "an event has only {fewest} different negatives, so that its rank is at most {worst} whatever the score"
                ),
            );
        }
    }
    for (name, value) in [("ap", metrics.ap), ("auc", metrics.auc)] {
        if value.is_none() {
            why.insert(name.to_string(), "of one event it only says which of two scores is higher".into());
        }
    }
    why
}
