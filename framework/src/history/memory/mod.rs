//! What a model computed from the events: the half of a history that depends on its weights.
pub(crate) mod mailbox;
pub(crate) mod read;
pub(crate) mod tick;
pub(crate) mod updated_cache;

use crate::history::graph::TableWriter;
use crate::history::graph::receivers::{NeighbourDelivery, NeighbourMail};
use crate::history::memory::mailbox::{Mail, Mailbox, SavedMail};
use crate::history::memory::tick::TickLog;
use crate::history::memory::updated_cache::UpdatedMemoryCache;
use crate::history::view::needs::MailContent;
use crate::history::view::node_positions::NodePositions;
use crate::log::link::Link;
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{Batch, Needs, NodeId, ObserveError, Timestamp, Update};

/// The memory of every node and the mail that waits for it.
#[derive(Clone, Debug)]
pub struct Memories {
    /// `D`; 0 keeps no memory.
    pub(crate) width: usize,
    pub(crate) origin: Timestamp,
    /// `[N, D]`.
    pub(crate) rows: Buffer<f32>,
    /// `[N]` time of the last mail read into each memory.
    pub(crate) updated: Buffer<Timestamp>,
    pub(crate) mailbox: Mailbox,
    /// `[N]` the version at which each memory or its mail was written last.
    pub(crate) written: Buffer<u64>,
    pub(crate) version: u64,
    pub(crate) updated_cache: Option<UpdatedMemoryCache>,
    /// Whether views do not show the memory of their own tick.
    pub(crate) strict: bool,
    /// The newest tick.
    pub(crate) tick: TickLog,
    /// The tick that the current batch ends in, where it is another.
    pub(crate) next_tick: TickLog,
    /// Slots of `tick` that earlier batches saved, where the current batch begins in that tick.
    pub(crate) tick_slots: u32,
    /// The position of each node in the current update.
    places: NodePositions,
}

/// The memory that a node had, saved for an undo log.
#[derive(Debug)]
pub(crate) struct SavedMemory {
    row: Vec<f32>,
    updated: Timestamp,
    written: u64,
    mail: SavedMail,
}

impl Memories {
    /// Memories of `nodes` nodes without events. `origin` is the time they start from: the log's first event.
    pub fn new(nodes: usize, needs: &Needs, origin: Timestamp) -> Memories {
        let mut memories = Memories {
            width: needs.memory,
            origin,
            rows: Buffer::default(),
            updated: Buffer::default(),
            mailbox: Mailbox::new(0, needs.mail, needs.memory),
            written: Buffer::default(),
            version: 0,
            updated_cache: None,
            strict: needs.is_strict(),
            tick: TickLog::new(needs),
            next_tick: TickLog::new(needs),
            tick_slots: 0,
            places: NodePositions::default(),
        };
        memories.grow(nodes);
        memories
    }

    /// Grows the tables to hold node numbers below `nodes`; existing values stay.
    pub fn grow(&mut self, nodes: usize) {
        let nodes = nodes.max(self.nodes());
        self.rows.resize(nodes * self.width, 0.0);
        self.updated.resize(nodes, self.origin);
        self.mailbox.grow(nodes);
        self.written.resize(nodes, 0);
        self.places.make_room(nodes);
        if let Some(ahead) = &mut self.updated_cache {
            ahead.grow(nodes, self.width);
        }
    }

    /// Forgets all events; the allocated tables stay.
    pub fn reset(&mut self) {
        self.rows.fill(0.0);
        self.updated.fill(self.origin);
        self.mailbox.clear_all();
        self.written.fill(0);
        if let Some(ahead) = &mut self.updated_cache {
            ahead.clear();
        }
        self.tick.clear();
        self.version = 0;
    }

    /// Its tables, each with the number of entries for a node; mail is in none where a node may have any number of
    /// mails.
    pub(crate) fn tables(&mut self) -> Vec<(&mut dyn AnyBuffer, usize)> {
        let mut tables = self.mailbox.tables();
        tables.extend([
            (&mut self.rows as &mut dyn AnyBuffer, self.width),
            (&mut self.updated, 1),
            (&mut self.written, 1),
        ]);
        tables.extend(self.updated_cache.iter_mut().flat_map(|ahead| ahead.tables(self.width)));
        tables
    }

    /// Nodes the tables hold.
    pub fn nodes(&self) -> usize {
        self.updated.len()
    }

    /// Batches observed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All stored memories, `[N, D]`, as written by the last observe of each node (waiting mail not read).
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Time of the newest mail read into each memory, `[N]`.
    pub fn updated(&self) -> &[Timestamp] {
        &self.updated
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        let mail = self.nodes() * self.mailbox.bytes_a_node();
        4 * self.rows.len()
            + 16 * self.nodes()
            + mail
            + self.tick.bytes()
            + self.updated_cache.as_ref().map_or(0, UpdatedMemoryCache::bytes)
    }

    /// Writes what a model computed for `batch`: the memories of its ends are written, and the mail that was read into
    /// them is replaced by mail of this batch. `receivers` are the neighbours that get mail, too
    /// ([`Graph::receivers`](crate::Graph::receivers)); their memories are not written.
    ///
    /// # Errors
    /// [`ObserveError`], and nothing has changed: an unknown node, or an update without a row for an end or with
    /// another number of rows of mail.
    pub fn observe(
        &mut self,
        batch: &Batch<'_>,
        update: &Update,
        receivers: &NeighbourMail,
    ) -> Result<(), ObserveError> {
        self.apply(batch, update, receivers, 1)
    }

    /// Applies a batch that another process has written to the shared tables: writes what is in no table. `mail` is
    /// that of the update, where the model gives mail.
    pub(crate) fn apply_remote(&mut self, batch: &Batch<'_>, mail: &[f32], receivers: &NeighbourMail) {
        if self.width > 0 && self.mailbox.keeps_any_number() {
            batch.src.iter().chain(batch.dst).for_each(|&node| self.mark_read(node));
        }
        if self.width > 0 {
            self.write_before_tick(batch);
            self.deliver(batch, mail, receivers, TableWriter::OtherProcess, false);
        }
        self.finish_tick();
        self.version += 1;
    }

    /// Whether [`apply_remote`](Memories::apply_remote) needs the mail of the update.
    pub(crate) fn needs_remote_mail(&self) -> bool {
        self.width > 0 && self.given().is_some() && (self.mailbox.keeps_any_number() || self.strict)
    }

    /// Forgets what is in no table.
    pub(crate) fn reset_local(&mut self) {
        if self.mailbox.keeps_any_number() {
            self.mailbox.clear_all();
        }
        self.tick.clear();
        self.version = 0;
    }

    /// Applies `versions` batches, of which none reads what another writes.
    pub(crate) fn apply(
        &mut self,
        batch: &Batch<'_>,
        update: &Update,
        receivers: &NeighbourMail,
        versions: u64,
    ) -> Result<(), ObserveError> {
        self.places.note_all(&update.nodes);
        self.check(batch, update)?;
        let version = self.version + versions;
        self.save_before_tick(batch, receivers);
        self.write(batch, update, version);
        if self.width > 0 {
            self.write_before_tick(batch);
            self.deliver(batch, &update.mail, receivers, TableWriter::ThisProcess, versions > 1);
            receivers.nodes().for_each(|node| self.written[node.index()] = version);
        }
        self.finish_tick();
        self.version = version;
        Ok(())
    }

    /// The width of the mail rows that a model gives, if it gives them.
    fn given(&self) -> Option<usize> {
        match self.mailbox.rule().says {
            MailContent::Given(width) => Some(width),
            MailContent::Memory => None,
        }
    }

    fn check(&self, batch: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        for event in batch.events() {
            for node in [event.src, event.dst] {
                if node.index() >= self.nodes() {
                    return Err(ObserveError::UnknownNode { event: event.id.0, node: node.0, nodes: self.nodes() });
                }
                if self.width > 0 && self.update_row(node, update).is_none() {
                    return Err(ObserveError::MissingRow { node: node.0 });
                }
            }
        }
        let (events, width, found) = (batch.len(), self.given().unwrap_or_default(), update.mail.len());
        if self.width > 0 && found != 2 * events * width {
            return Err(ObserveError::Mail { events, width, found });
        }
        Ok(())
    }

    /// The row of `node` in the current update, `[D]`.
    fn update_row<'u>(&self, node: NodeId, update: &'u Update) -> Option<&'u [f32]> {
        let row = self.places.of(node, &update.nodes)?;
        update.memory.get(row * self.width..(row + 1) * self.width)
    }

    fn write(&mut self, batch: &Batch<'_>, update: &Update, version: u64) {
        for &node in batch.src.iter().chain(batch.dst) {
            self.written[node.index()] = version;
            if self.width == 0 {
                continue;
            }
            if let Some(row) = self.update_row(node, update) {
                self.rows[node.index() * self.width..][..self.width].copy_from_slice(row);
            }
            // The mail that the view showed was read: where an earlier batch wrote this tick, that is the saved mail.
            let updated = match self.continues(node) {
                Some(slot) => Some(self.tick.updated_with_mail(slot)),
                None => self.mailbox.newest(node).map(|mail| mail.time),
            };
            if let Some(time) = updated {
                self.updated[node.index()] = time;
            }
            self.mark_read(node);
        }
    }

    /// Drops the mail that was read into the memory of `node`. Mail of the tick that goes on has not been read.
    fn mark_read(&mut self, node: NodeId) {
        match self.continues(node) {
            Some(slot) => {
                self.mailbox.drop_run(node, &self.tick.mailbox, slot);
                self.mailbox.date_unread(node, self.tick.first, self.updated[node.index()]);
            }
            None => self.mailbox.mark_read(node),
        }
    }

    /// Delivers the mail of a batch: of each event to its ends, then to their neighbours. `given` are the mail rows,
    /// where the model gives them. With `apart` each event counts as a batch of its own. What is before the tick that
    /// the batch ends in is delivered to the saved nodes of that tick, too.
    fn deliver(
        &mut self,
        batch: &Batch<'_>,
        given: &[f32],
        receivers: &NeighbourMail,
        writer: TableWriter,
        apart: bool,
    ) {
        let cut = self.events_before_tick(batch);
        let Memories { rows, updated, mailbox, width, strict, tick, next_tick, tick_slots, .. } = self;
        let says = mailbox.rule().says;
        let in_tables = writer == TableWriter::ThisProcess || mailbox.keeps_any_number();
        for (e, event) in batch.events().enumerate() {
            let own = batch.id(match (apart, *strict) {
                (false, _) => 0,
                (true, false) => e,
                // The events of a tick are of one batch.
                (true, true) => batch.time.partition_point(|&time| time < event.time),
            });
            // The row of an end: 0 the source, 1 the destination.
            let said = |of: usize| match says {
                MailContent::Memory => &rows[[event.src, event.dst][of].index() * *width..][..*width],
                MailContent::Given(width) => &given[(2 * e + of) * width..][..width],
            };
            let mut send = |to: NodeId, other: NodeId, of: usize, weight: f32| {
                // Mail of a tick that an earlier batch began is of one batch with that.
                let first = if tick.continues(to, *tick_slots).is_some() { tick.first } else { own };
                let mail = |since| Mail::new(event.id, other, event.time, since).with_weight(weight);
                if in_tables {
                    mailbox.deliver(to, mail(updated[to.index()]), said(of), first);
                }
                if let Some(&slot) = next_tick.slots.get(&to).filter(|_| e < cut) {
                    let since = next_tick.updated[slot as usize];
                    next_tick.mailbox.deliver(NodeId(slot), mail(since), said(of), first);
                }
            };
            for (node, link) in Link::ends(event.id, event.src, event.dst, event.time) {
                send(node, link.node, usize::from(link.direction == Link::OUTGOING), 1.0);
            }
            for &NeighbourDelivery { to, of, weight } in receivers.of_event(e) {
                send(to, [event.src, event.dst][of], of, weight);
            }
        }
    }

    /// Whether `node` has any state of past events.
    pub(crate) fn holds(&self, node: NodeId) -> bool {
        self.updated[node.index()] != self.origin || self.mailbox.has_any(node)
    }

    /// Resets the memory of `node` to that of a new node.
    pub(crate) fn forget(&mut self, node: NodeId, version: u64) {
        self.rows[node.index() * self.width..][..self.width].fill(0.0);
        self.updated[node.index()] = self.origin;
        self.mailbox.clear(node);
        self.tick.slots.remove(&node);
        self.written[node.index()] = version;
    }

    /// A copy of all state of `node`, before it changes. The cache of updated memories is not copied: its rows have
    /// versions of their own.
    pub(crate) fn save(&self, node: NodeId) -> SavedMemory {
        let n = node.index();
        SavedMemory {
            row: self.of(node).to_vec(),
            updated: self.updated[n],
            written: self.written[n],
            mail: self.mailbox.save(node),
        }
    }

    /// Swaps the state of `node` with a saved copy.
    pub(crate) fn swap(&mut self, node: NodeId, kept: &mut SavedMemory) {
        let n = node.index();
        self.rows[n * self.width..][..self.width].swap_with_slice(&mut kept.row);
        std::mem::swap(&mut self.updated[n], &mut kept.updated);
        std::mem::swap(&mut self.written[n], &mut kept.written);
        self.mailbox.swap(node, &mut kept.mail);
    }

    /// The stored memory of `node`, `[D]`.
    pub(crate) fn of(&self, node: NodeId) -> &[f32] {
        &self.rows[node.index() * self.width..][..self.width]
    }
}
