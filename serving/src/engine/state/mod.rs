//! The state that events change.
pub(crate) mod capture;
#[cfg(test)]
pub(crate) mod capture_tests;
pub(crate) mod exclusive;
pub(crate) mod pass;
pub(crate) mod stats;

use serde_json::Number;
use tempograph_framework::{Batch, History, NodeId, Side, Timestamp, Update};

use crate::artifact::manifest::Manifest;
use crate::artifact::names::{Names, NewNodes};
use crate::request::id::ExternalId;
use crate::request::incoming::{EventRules, Incoming, not_before};
use crate::request::{FieldPath, Granularity, NewEvent, RequestError, exact_ticks};

/// A history, and the users' ids of its nodes.
#[derive(Debug)]
pub(crate) struct State {
    pub history: History,
    pub names: Names,
}

impl State {
    /// What events to come are held against.
    pub fn rules<'a>(&self, manifest: &'a Manifest, exact: bool) -> EventRules<'a> {
        let (unit, edge_width, newest) = (&manifest.time_unit, manifest.widths.edge, self.history.newest());
        EventRules { unit, edge_width, newest, text_ids: self.names.text(), exact }
    }

    /// The node with the user's `id`.
    pub fn find(&self, side: Side, id: &ExternalId, place: FieldPath<'_>) -> Result<NodeId, RequestError> {
        let unknown = || RequestError::UnknownNode {
            place: place.to_string(),
            what: self.names.what(side),
            id: self.names.shown(id),
        };
        self.names.find(side, id).ok_or_else(unknown)
    }

    /// The side on which a node is searched.
    pub fn side_of(&self, asked: Option<Side>) -> Result<Side, RequestError> {
        match (asked, self.names.bipartite()) {
            (Some(side), _) => Ok(side),
            (None, false) => Ok(Side::Source),
            (None, true) => Err(RequestError::invalid("side", "is missing: say `source` or `destination`")),
        }
    }

    /// Finds the nodes of `events`. New nodes get numbers here, and are named when their first event is
    /// [observed](Self::observe).
    pub fn number(&self, events: &[NewEvent], incoming: &mut Incoming, new_nodes: &mut NewNodes) {
        for (i, event) in events.iter().enumerate() {
            let event_id = incoming.first + i as u64;
            let mut node = |side, id: &ExternalId| {
                self.names.find(side, id).unwrap_or_else(|| new_nodes.number(&self.names, event_id, side, id))
            };
            incoming.src.push(node(Side::Source, &event.src));
            incoming.dst.push(node(Side::Destination, &event.dst));
            incoming.label.push(event.label);
        }
    }

    /// Observes a batch or a wave of validated events.
    pub fn observe(&mut self, batch: &Batch<'_>, granularity: Granularity, update: &Update, new_nodes: &mut NewNodes) {
        let observed = match granularity {
            Granularity::Batch => self.history.observe(batch, update),
            Granularity::Event => self.history.observe_wave(batch, update),
        };
        observed.unwrap_or_else(|error| unreachable!("events are checked before they happen: {error}"));
        new_nodes.until(batch.first.0 + batch.len() as u64).for_each(|(side, id)| {
            self.names.add(side, id);
        });
        batch.dst.iter().for_each(|&node| self.names.mark_destination(node));
    }

    /// The time of a read: the queried time, or one tick after the newest event.
    pub fn read_time(
        &self,
        manifest: &Manifest,
        asked: Option<&Number>,
        incoming: &Incoming,
        place: FieldPath<'_>,
    ) -> Result<Timestamp, RequestError> {
        let newest = self.history.newest();
        if let Some(asked) = asked {
            let time = exact_ticks(&manifest.time_unit, asked, place)?;
            not_before(&manifest.time_unit, newest, time, place)?;
            return Ok(time);
        }
        let shown = incoming.time.last().copied().or(newest);
        let shown = shown
            .ok_or_else(|| RequestError::invalid(place, "is missing, and there is no event yet to be just after"))?;
        Ok(Timestamp(shown.0.saturating_add(1)))
    }
}
