//! Events that wait to be applied in order of time: with `late = "wait"`, an event is applied once one has come that is
//! newer by the window.
//!
//! What waits is in the log of record, as [`Hold`](crate::Mutation::Hold) entries, before it is acknowledged. Events
//! that are released are in the log again, as a [`Release`](crate::Mutation::Release) in the order in which they are
//! applied. So a replay needs no rule, and after a restart the same events wait as before.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tempograph_framework::Timestamp;

use crate::log::{Entry, Mutation};
use crate::request::NewEvent;

/// The time of an event and the number under which it waits: the order in which events are applied.
pub(crate) type WaitingKey = (Timestamp, u64);

/// How a queued entry has changed which events wait. It is undone if the entry does not reach the log.
#[derive(Debug, Default)]
pub(crate) enum WaitingChange {
    #[default]
    None,
    Held(Vec<WaitingKey>),
    Released(Vec<WaitingKey>),
    Dropped(Vec<(WaitingKey, NewEvent)>),
}

/// The events that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingEvents {
    events: BTreeMap<WaitingKey, NewEvent>,
    ids: FxHashMap<String, WaitingKey>,
    next_arrival: u64,
    /// When events arrived, with the number after the last of them.
    arrived: VecDeque<(Instant, u64)>,
    /// `Hold` entries in the log with events that are not released in the log, by the number of their first event.
    holds: BTreeMap<u64, Hold>,
}

#[derive(Debug)]
struct Hold {
    first_seq: u64,
    /// The number after that of its last event.
    end: u64,
    left: usize,
}

impl WaitingEvents {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn contains_id(&self, id: &str) -> bool {
        self.ids.contains_key(id)
    }

    /// The event with an id that waits.
    pub fn with_id(&self, id: &str) -> Option<&NewEvent> {
        self.events.get(self.ids.get(id)?)
    }

    /// Time of the newest event that waits.
    pub fn newest(&self) -> Option<Timestamp> {
        self.events.last_key_value().map(|(key, _)| key.0)
    }

    /// Time of the oldest event that waits.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.events.first_key_value().map(|(key, _)| key.0)
    }

    /// Lets events wait. Returns the entry for the log.
    pub fn hold(&mut self, events: Vec<NewEvent>, times: &[Timestamp]) -> (Mutation, WaitingChange) {
        let first_arrival = self.next_arrival;
        let keys: Vec<WaitingKey> = times.iter().copied().zip(first_arrival..).collect();
        keys.iter().zip(&events).for_each(|(&key, event)| self.insert(key, event.clone()));
        self.next_arrival += events.len() as u64;
        self.arrived.push_back((Instant::now(), self.next_arrival));
        (Mutation::Hold { first_arrival, events }, WaitingChange::Held(keys))
    }

    /// Releases the events up to a time, and as many of the oldest as are more than `most`; no more than `at_once`.
    pub fn release(
        &mut self,
        until: Option<Timestamp>,
        most: usize,
        at_once: usize,
    ) -> Option<(Mutation, WaitingChange)> {
        let (mut keys, mut events) = (Vec::new(), Vec::new());
        while keys.len() < at_once
            && self.oldest().is_some_and(|oldest| self.len() > most || until.is_some_and(|until| oldest <= until))
        {
            let Some((key, event)) = self.events.pop_first() else { break };
            event.id.iter().for_each(|id| _ = self.ids.remove(id));
            keys.push(key);
            events.push(event);
        }
        let arrivals = keys.iter().map(|key| key.1).collect();
        (!keys.is_empty()).then_some((Mutation::Release { arrivals, events }, WaitingChange::Released(keys)))
    }

    /// Drops the events with these ids that wait. Returns the entry for the log.
    pub fn drop_ids<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> Option<(Mutation, WaitingChange)> {
        let mut dropped = Vec::new();
        for id in ids {
            let Some(key) = self.ids.remove(id) else { continue };
            dropped.extend(self.events.remove(&key).map(|event| (key, event)));
        }
        let arrivals = dropped.iter().map(|(key, _)| key.1).collect();
        (!dropped.is_empty()).then_some((Mutation::Drop { arrivals }, WaitingChange::Dropped(dropped)))
    }

    /// Time of the newest event that has waited for longer than `longest`, and must be released.
    pub fn overdue(&mut self, longest: Duration) -> Option<Timestamp> {
        let mut end = None;
        while self.arrived.front().is_some_and(|(arrived, _)| arrived.elapsed() >= longest) {
            end = end.max(self.arrived.pop_front().map(|(_, end)| end));
        }
        let end = end?;
        self.events.keys().filter(|key| key.1 < end).map(|key| key.0).max()
    }

    /// Undoes the change of an entry that is not in the log. Changes are undone in the opposite order.
    pub fn undo(&mut self, change: WaitingChange, entry: Option<&Entry>) {
        match change {
            WaitingChange::None => {}
            WaitingChange::Held(keys) => keys.iter().for_each(|key| self.remove(key)),
            WaitingChange::Released(keys) => {
                let events = entry.map_or(&[][..], Entry::new_events);
                keys.iter().zip(events).for_each(|(&key, event)| self.insert(key, event.clone()));
                // They are overdue still, and are released when the log can be written again.
                let end = keys.iter().map(|key| key.1 + 1).max();
                end.into_iter().for_each(|end| self.arrived.push_front((Instant::now(), end)));
            }
            WaitingChange::Dropped(dropped) => dropped.into_iter().for_each(|(key, event)| self.insert(key, event)),
        }
    }

    /// Notes that an entry is in the log.
    pub fn logged(&mut self, entry: &Entry) {
        match &entry.mutation {
            Mutation::Hold { first_arrival, events } => {
                let (left, end) = (events.len(), first_arrival + events.len() as u64);
                self.holds.insert(*first_arrival, Hold { first_seq: entry.first_seq, end, left });
            }
            Mutation::Release { arrivals, .. } | Mutation::Drop { arrivals } => {
                arrivals.iter().for_each(|&arrival| self.settle(arrival));
            }
            _ => {}
        }
    }

    /// Takes an entry that was read from the log; `times` are those of its events, or of those that wait. It still has
    /// to be noted as [logged](WaitingEvents::logged).
    pub fn replay(&mut self, entry: &Entry, times: &[Timestamp]) {
        match &entry.mutation {
            Mutation::Hold { first_arrival, events } => {
                let keys = times.iter().copied().zip(*first_arrival..);
                keys.zip(events).for_each(|(key, event)| self.insert(key, event.clone()));
                self.next_arrival = self.next_arrival.max(first_arrival + events.len() as u64);
                self.arrived.push_back((Instant::now(), self.next_arrival));
            }
            Mutation::Release { arrivals, .. } => {
                times.iter().copied().zip(arrivals.iter().copied()).for_each(|key| self.remove(&key));
                self.next_arrival = self.next_arrival.max(arrivals.iter().max().map_or(0, |last| last + 1));
            }
            Mutation::Drop { arrivals } => {
                let dropped: Vec<_> = self.events.keys().filter(|key| arrivals.contains(&key.1)).copied().collect();
                dropped.iter().for_each(|key| self.remove(key));
            }
            _ => {}
        }
    }

    /// The number of events before the first entry in the log with an event that still waits.
    pub fn oldest_seq(&self) -> Option<u64> {
        self.holds.first_key_value().map(|(_, hold)| hold.first_seq)
    }

    fn insert(&mut self, key: WaitingKey, event: NewEvent) {
        event.id.iter().for_each(|id| _ = self.ids.insert(id.clone(), key));
        self.events.insert(key, event);
    }

    fn remove(&mut self, key: &WaitingKey) {
        if let Some(NewEvent { id: Some(id), .. }) = self.events.remove(key) {
            self.ids.remove(&id);
        }
    }

    fn settle(&mut self, arrival: u64) {
        let Some((&first, hold)) = self.holds.range_mut(..=arrival).next_back() else { return };
        if arrival >= hold.end {
            return;
        }
        hold.left = hold.left.saturating_sub(1);
        if hold.left == 0 {
            self.holds.remove(&first);
        }
    }
}
