//! Counts of computations, and of computations that a cache saved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::engine::state::pass::Pass;

/// Counts since the engine was opened. Each is read at a slightly different time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Events observed one by one.
    pub events: u64,
    /// Waves in which events were computed.
    pub waves: u64,
    /// Memories shown to reads and writes.
    pub memories_shown: u64,
    /// Of these, memories that mail was read into. The others had no mail, or were updated and cached before.
    pub mails_read: u64,
    /// Embeddings that were requested, where the model's can be cached.
    pub embeddings_asked: u64,
    /// Of these, embeddings that were computed: no valid one was cached.
    pub embeddings_computed: u64,
    /// Embeddings precomputed when events were applied.
    pub embeddings_ahead: u64,
    /// Events retracted.
    pub retracted: u64,
    /// Nodes expired.
    pub expired: u64,
    /// Answers that were refused because they were not finite.
    pub not_finite: u64,
    /// The most rows that were copied for [`save`](crate::Engine::save) while events waited: of nodes, pairs, lists or links.
    pub most_copied: u64,
    /// The most nodes whose view was copied for a read at a time, while events waited.
    pub most_shown: u64,
    /// The most nodes that were searched for [idle](crate::Engine::expire) ones at a time, while events waited.
    pub most_looked_at: u64,
    /// The longest time for which a write held the exclusive lock, so that reads waited, in microseconds.
    pub longest_alone_us: u64,
}

impl EngineStats {
    /// Share of the requested embeddings that were cached.
    pub fn hit_rate(&self) -> f64 {
        1.0 - self.touched_fraction()
    }

    /// Share of the requested embeddings that were computed; 0 where none was requested.
    pub fn touched_fraction(&self) -> f64 {
        share(self.embeddings_computed, self.embeddings_asked)
    }

    /// Share of the shown memories that no mail had to be read into.
    pub fn skipped_mail(&self) -> f64 {
        1.0 - share(self.mails_read, self.memories_shown)
    }
}

impl std::ops::Sub for EngineStats {
    type Output = EngineStats;

    /// The counts since `earlier`. Maxima are still those since the engine was opened.
    fn sub(self, earlier: EngineStats) -> EngineStats {
        EngineStats {
            events: self.events - earlier.events,
            waves: self.waves - earlier.waves,
            memories_shown: self.memories_shown - earlier.memories_shown,
            mails_read: self.mails_read - earlier.mails_read,
            embeddings_asked: self.embeddings_asked - earlier.embeddings_asked,
            embeddings_computed: self.embeddings_computed - earlier.embeddings_computed,
            embeddings_ahead: self.embeddings_ahead - earlier.embeddings_ahead,
            retracted: self.retracted - earlier.retracted,
            expired: self.expired - earlier.expired,
            not_finite: self.not_finite - earlier.not_finite,
            most_copied: self.most_copied,
            most_shown: self.most_shown,
            most_looked_at: self.most_looked_at,
            longest_alone_us: self.longest_alone_us,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Atomic counters of [`EngineStats`]. Relaxed order is enough, since no other data depends on them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: AtomicU64,
    waves: AtomicU64,
    memories_shown: AtomicU64,
    mails_read: AtomicU64,
    embeddings_asked: AtomicU64,
    embeddings_computed: AtomicU64,
    embeddings_ahead: AtomicU64,
    retracted: AtomicU64,
    expired: AtomicU64,
    not_finite: AtomicU64,
    most_copied: AtomicU64,
    most_shown: AtomicU64,
    most_looked_at: AtomicU64,
    longest_alone_us: AtomicU64,
}

impl Counts {
    pub fn wave(&self, events: usize) {
        add(&self.events, events);
        add(&self.waves, 1);
    }

    pub fn memories(&self, pass: &Pass) {
        add(&self.memories_shown, pass.view.nodes.len());
        add(&self.mails_read, pass.mails_read());
    }

    pub fn embeddings(&self, asked: usize, computed: usize) {
        add(&self.embeddings_asked, asked);
        add(&self.embeddings_computed, computed);
    }

    pub fn ahead(&self, embeddings: usize) {
        add(&self.embeddings_ahead, embeddings);
    }

    pub fn retracted(&self, events: usize) {
        add(&self.retracted, events);
    }

    pub fn expired(&self, nodes: usize) {
        add(&self.expired, nodes);
    }

    pub fn not_finite(&self) {
        add(&self.not_finite, 1);
    }

    pub fn copied(&self, rows: usize) {
        self.most_copied.fetch_max(rows as u64, Ordering::Relaxed);
    }

    pub fn shown(&self, nodes: usize) {
        self.most_shown.fetch_max(nodes as u64, Ordering::Relaxed);
    }

    pub fn looked_at(&self, nodes: usize) {
        self.most_looked_at.fetch_max(nodes as u64, Ordering::Relaxed);
    }

    pub fn exclusive(&self, took: Duration) {
        self.longest_alone_us.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn read(&self) -> EngineStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EngineStats {
            events: read(&self.events),
            waves: read(&self.waves),
            memories_shown: read(&self.memories_shown),
            mails_read: read(&self.mails_read),
            embeddings_asked: read(&self.embeddings_asked),
            embeddings_computed: read(&self.embeddings_computed),
            embeddings_ahead: read(&self.embeddings_ahead),
            retracted: read(&self.retracted),
            expired: read(&self.expired),
            not_finite: read(&self.not_finite),
            most_copied: read(&self.most_copied),
            most_shown: read(&self.most_shown),
            most_looked_at: read(&self.most_looked_at),
            longest_alone_us: read(&self.longest_alone_us),
        }
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}
