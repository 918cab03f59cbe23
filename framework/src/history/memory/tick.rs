//! The state of nodes before the newest tick, so that no query sees the memory of its own time.

use rustc_hash::FxHashMap;

use crate::history::graph::receivers::NeighbourMail;
use crate::history::memory::mailbox::Mailbox;
use crate::{Batch, EventId, Memories, Needs, NodeId, Timestamp};

/// The nodes whose state the events of one tick have changed, each as it was before the tick: as if the batch that the
/// tick began in had ended there.
///
/// A batch may cut a tick. Its part of the tick is written to the tables like every event, and the old state is saved
/// here. Views at a time that is not after the tick show the old state, and updates of the rest of the tick are
/// computed from it. So a tick that is cut leaves what it would leave in one batch.
#[derive(Clone, Debug)]
pub(crate) struct TickLog {
    /// Time of the tick; nothing before the first event.
    pub time: Option<Timestamp>,
    /// First event of the tick.
    pub first: EventId,
    /// The slot of each saved node.
    pub slots: FxHashMap<NodeId, u32>,
    /// `[slots, D]`.
    pub rows: Vec<f32>,
    /// `[slots]`.
    pub updated: Vec<Timestamp>,
    /// Mail by slot.
    pub mailbox: Mailbox,
}

impl TickLog {
    pub fn new(needs: &Needs) -> TickLog {
        TickLog {
            time: None,
            first: EventId(0),
            slots: FxHashMap::default(),
            rows: Vec::new(),
            updated: Vec::new(),
            mailbox: Mailbox::new(0, needs.mail, needs.memory),
        }
    }

    /// Forgets the tick; the allocated tables stay.
    pub fn clear(&mut self) {
        self.time = None;
        self.slots.clear();
        self.rows.clear();
        self.updated.clear();
    }

    /// Reserves space for `nodes` nodes.
    pub fn reserve(&mut self, nodes: usize, width: usize) {
        if self.slots.capacity() < nodes {
            self.slots.reserve(nodes);
        }
        self.rows.reserve((nodes * width).saturating_sub(self.rows.len()));
        self.updated.reserve(nodes.saturating_sub(self.updated.len()));
        if self.mailbox.nodes() < nodes {
            self.mailbox.grow(nodes);
        }
    }

    /// The slot of `node`, if it is one of the first `slots`.
    pub fn continues(&self, node: NodeId, slots: u32) -> Option<NodeId> {
        if slots == 0 {
            return None;
        }
        self.slots.get(&node).filter(|&&slot| slot < slots).map(|&slot| NodeId(slot))
    }

    /// The saved memory of a slot, `[width]`.
    pub fn row(&self, slot: NodeId, width: usize) -> &[f32] {
        &self.rows[slot.index() * width..][..width]
    }

    /// Time of the newest mail that was read into the memory when the saved mail is read.
    pub fn updated_with_mail(&self, slot: NodeId) -> Timestamp {
        self.mailbox.newest(slot).map_or(self.updated[slot.index()], |mail| mail.time)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots = self.slots.len();
        4 * self.rows.len() + 24 * slots + slots * self.mailbox.bytes_a_node()
    }

    /// Adds a slot for `node`, unless it has one.
    fn save(&mut self, node: NodeId, row: &[f32], updated: Timestamp, mailbox: &Mailbox) {
        let slot = self.updated.len() as u32;
        if *self.slots.entry(node).or_insert(slot) != slot {
            return;
        }
        self.rows.extend_from_slice(row);
        self.updated.push(updated);
        // Slots of earlier ticks are used again, so the tables grow to the size of the largest tick.
        if self.mailbox.nodes() <= slot as usize {
            self.mailbox.grow((slot as usize + 1).next_power_of_two());
        }
        self.mailbox.copy_from(NodeId(slot), mailbox, node);
    }
}

impl Memories {
    /// Saves the state of the nodes that the newest tick of `batch` is about to change. Every process that holds the
    /// tables calls it before the batch is written.
    pub(crate) fn save_before_tick(&mut self, batch: &Batch<'_>, receivers: &NeighbourMail) {
        let (true, Some(&begin), Some(&newest)) = (self.strict, batch.time.first(), batch.time.last()) else { return };
        self.tick_slots = if self.tick.time == Some(begin) { self.tick.updated.len() as u32 } else { 0 };
        let Memories { tick, next_tick, rows, updated, mailbox, width, .. } = self;
        let of_tick = batch.time.partition_point(|&time| time < newest);
        let log = if tick.time == Some(newest) {
            tick
        } else {
            next_tick.clear();
            (next_tick.time, next_tick.first) = (Some(newest), batch.id(of_tick));
            next_tick
        };
        for e in of_tick..batch.len() {
            let ends = [batch.src[e], batch.dst[e]].into_iter();
            for node in ends.chain(receivers.of_event(e).iter().map(|sent| sent.to)) {
                let n = node.index();
                log.save(node, &rows[n * *width..][..*width], updated[n], mailbox);
            }
        }
    }

    /// How many events of `batch` are before a tick that it begins and does not complete, for all anybody knows.
    pub(crate) fn events_before_tick(&self, batch: &Batch<'_>) -> usize {
        self.next_tick.time.map_or(0, |tick| batch.time.partition_point(|&time| time < tick))
    }

    /// Writes the memories of the events before the tick that `batch` ends in to the saved nodes of that tick: they are
    /// then as if the batch had ended where the tick begins. The tables have been written.
    pub(crate) fn write_before_tick(&mut self, batch: &Batch<'_>) {
        let cut = self.events_before_tick(batch);
        for &node in batch.src[..cut].iter().chain(&batch.dst[..cut]) {
            let Some(&slot) = self.next_tick.slots.get(&node) else { continue };
            let (slot, continued) = (NodeId(slot), self.continues(node));
            let Memories { tick, next_tick, rows, width, .. } = self;
            let row = &rows[node.index() * *width..][..*width];
            next_tick.rows[slot.index() * *width..][..*width].copy_from_slice(row);
            let read = match continued {
                Some(old) => tick.updated_with_mail(old),
                None => next_tick.updated_with_mail(slot),
            };
            next_tick.updated[slot.index()] = read;
            match continued {
                Some(old) => {
                    next_tick.mailbox.drop_run(slot, &tick.mailbox, old);
                    next_tick.mailbox.date_unread(slot, tick.first, read);
                }
                None => next_tick.mailbox.mark_read(slot),
            }
        }
    }

    /// Takes over the tick that a written batch ended in.
    pub(crate) fn finish_tick(&mut self) {
        if self.next_tick.time.is_some() {
            std::mem::swap(&mut self.tick, &mut self.next_tick);
            self.next_tick.clear();
            // The two are used in turns.
            self.next_tick.reserve(self.tick.updated.len(), self.width);
        }
        self.tick_slots = 0;
    }

    /// The slot of `node` if an earlier batch has changed it in the tick that the current batch begins in.
    pub(crate) fn continues(&self, node: NodeId) -> Option<NodeId> {
        self.tick.continues(node, self.tick_slots)
    }
}
