//! Memory and waiting mail, read for the nodes of a view.

use std::sync::Arc;

use rayon::prelude::*;
use tempograph_kernels::{MailPlan, Rows};

use crate::history::memory::mailbox::{Mail, Mailbox};
use crate::history::memory::tick::TickLog;
use crate::history::view::needs::Combine;
use crate::history::view::scratch::DeferredReads;
use crate::history::view::{MailView, ManyMails};
use crate::{Batch, Memories, NodeId, Timestamp, View};

/// Numbers one task copies.
const NUMBERS_A_TASK: usize = 1 << 13;

impl Memories {
    /// Shows the memory and the mail of the nodes of `view`, and reuses its memory unless somebody else holds it too.
    /// The view's nodes and features stay.
    ///
    /// # Panics
    /// If the view names a node that is not held.
    pub fn read_into(&self, view: &mut View) {
        self.read(None, view);
    }

    /// As [`read_into`](Memories::read_into), but early: `pending` will be observed before the view is used, and
    /// `receivers` get its mail besides its ends ([`Graph::receivers`](crate::Graph::receivers)). What observing it
    /// will write is left to [`complete_prefetch`](Memories::complete_prefetch).
    ///
    /// # Panics
    /// If the view names a node that is not held.
    pub fn prefetch_into(&self, pending: &Batch<'_>, receivers: &[NodeId], view: &mut View) {
        self.read(Some((pending, receivers)), view);
    }

    /// Reads what [`prefetch_into`](Memories::prefetch_into) has left out. Its pending batch has been observed by now,
    /// and no other: `view` then shows what reading all of it now would.
    pub fn complete_prefetch(&self, view: &mut View) {
        view.memory_version = self.version;
        if view.work.pending.late.is_empty() {
            return;
        }
        let plan = match &mut view.mail {
            MailView::Last(plan) => Arc::get_mut(plan),
            MailView::Many(_) => None,
        };
        let Some(plan) = plan.filter(|_| self.updated_cache.is_none()) else { return self.read_into(view) };
        // The batch has cut a tick: what this view shows of its nodes is older than what was to be read late.
        if self.at(view.before).tick.is_some() {
            return self.read_into(view);
        }
        for [row, m] in view.work.pending.late.drain(..).map(|late| late.map(|at| at as usize)) {
            let node = view.nodes[row];
            let mail = self.mailbox.newest(node);
            plan.empty[m] = mail.is_none();
            plan.event[m] = mail.map_or(0, |mail| mail.event.0);
            plan.dt[m] = mail.map_or(0.0, since_update);
            copy_row(&mut plan.memory[row * self.width..][..self.width], self.of(node));
            let said = self.mail_width();
            let other = &mut plan.other[m * said..][..said];
            copy_row(other, self.at(view.before).newest_mail_row(node));
            weigh(other, mail.map_or(1.0, |mail| mail.weight));
        }
    }

    fn read(&self, pending: Option<(&Batch<'_>, &[NodeId])>, view: &mut View) {
        let (several, later) = (self.mailbox.rule().combine != Combine::Last, &mut view.work.pending);
        // Two cases read all again: with several mails, the number of a node's mails is not known yet; with a cache,
        // its rows come and go.
        let again = pending.is_some() && (several || self.updated_cache.is_some());
        later.refill(pending.filter(|_| !again), self.nodes());
        let then = self.at(view.before);
        match (several, &mut view.mail) {
            (false, MailView::Last(plan)) => {
                then.read_last(&view.nodes, view.edge_features.as_ref(), later, writable(plan))
            }
            (true, MailView::Many(mails)) => then.read_many(&view.nodes, &mut later.mails, writable(mails)),
            (several, other) => {
                *other = if several { MailView::Many(Arc::default()) } else { MailView::Last(Arc::default()) };
                return self.read(pending, view);
            }
        }
        later.late.extend(again.then_some([0, 0]));
        view.memory_version = self.version;
    }

    /// Whether a message carries the other end's memory as it is when the mail is read.
    fn carries_stored(&self) -> bool {
        self.mailbox.reads_other()
    }

    /// Width of what a mail shows of the other end.
    fn mail_width(&self) -> usize {
        if self.width == 0 { 0 } else { self.mailbox.rule().width(self.width) }
    }

    /// The nodes whose current memories the mail of `node` is read with.
    pub(crate) fn senders_read(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.senders_read_at(node, Timestamp(i64::MAX))
    }

    /// The same, of the mail that a view of the past before `before` shows.
    pub(crate) fn senders_read_at(&self, node: NodeId, before: Timestamp) -> impl Iterator<Item = NodeId> + '_ {
        let (reads, (mailbox, node)) = (self.carries_stored(), self.at(before).mailbox(node));
        mailbox.waiting(node).filter(move |_| reads).map(|mail| mail.other)
    }

    /// The memories that a view of the past before `before` shows.
    fn at(&self, before: Timestamp) -> MemoriesAt<'_> {
        MemoriesAt { memories: self, tick: self.tick.time.filter(|&time| before <= time).map(|_| &self.tick) }
    }
}

/// Memories without the changes of the newest tick, where a view is not after that tick.
#[derive(Clone, Copy)]
struct MemoriesAt<'a> {
    memories: &'a Memories,
    /// What the tick has changed, as it was before; nothing where the view is after the tick.
    tick: Option<&'a TickLog>,
}

impl<'a> MemoriesAt<'a> {
    fn slot(self, node: NodeId) -> Option<(&'a TickLog, NodeId)> {
        let tick = self.tick?;
        tick.slots.get(&node).map(|&slot| (tick, NodeId(slot)))
    }

    /// The mailbox that has the mail of `node`, and its number there.
    fn mailbox(self, node: NodeId) -> (&'a Mailbox, NodeId) {
        self.slot(node).map_or((&self.memories.mailbox, node), |(tick, slot)| (&tick.mailbox, slot))
    }

    /// The newest mail of `node`.
    fn newest(self, node: NodeId) -> Option<&'a Mail> {
        let (mailbox, node) = self.mailbox(node);
        mailbox.newest(node)
    }

    /// The stored memory of `node`, `[D]`.
    fn row(self, node: NodeId) -> &'a [f32] {
        let width = self.memories.width;
        self.slot(node).map_or_else(|| self.memories.of(node), |(tick, slot)| tick.row(slot, width))
    }

    /// The cached memory of `node` with its mail read; the cache is of the current memories alone.
    fn cached_row(self, node: NodeId) -> Option<&'a [f32]> {
        let is_old = |node| self.slot(node).is_some();
        let old = self.tick.is_some() && (is_old(node) || self.memories.senders_read(node).any(is_old));
        if old { None } else { self.memories.cached_row(node) }
    }

    /// Whether the memory of `node` goes through the updater.
    fn reads(self, node: NodeId) -> bool {
        let (mailbox, slot) = self.mailbox(node);
        self.memories.width > 0 && (mailbox.rule().update_without_mail || mailbox.has_any(slot))
    }

    fn read_last(
        self,
        nodes: &[NodeId],
        features: Option<&Arc<dyn Rows>>,
        pending: &mut DeferredReads,
        plan: &mut MailPlan,
    ) {
        self.read_rows(nodes, &mut plan.memory);
        plan.unique = nodes.len();
        plan.features = features.cloned();
        plan.rows.clear();
        plan.empty.clear();
        plan.event.clear();
        plan.dt.clear();
        for (row, &node) in nodes.iter().enumerate() {
            // A node that the pending batch writes will have mail, whether it has any now or not.
            let unread = self.reads(node) && self.cached_row(node).is_none();
            if !unread && (self.memories.width == 0 || !pending.has(node)) {
                continue;
            }
            let mail = self.newest(node);
            if pending.has(node) || mail.is_some_and(|mail| self.memories.carries_stored() && pending.has(mail.other)) {
                pending.late.push([row as u32, plan.rows.len() as u32]);
            }
            plan.rows.push(row as u32);
            plan.empty.push(mail.is_none());
            plan.event.push(mail.map_or(0, |mail| mail.event.0));
            plan.dt.push(mail.map_or(0.0, since_update));
        }
        let MailPlan { rows, other, .. } = plan;
        fill_rows(other, self.memories.mail_width(), rows, |&row| self.newest_mail_row(nodes[row as usize]));
        if self.memories.mailbox.has_weights() && self.memories.mail_width() > 0 {
            let weight = |&row: &u32| self.newest(nodes[row as usize]).map_or(1.0, |mail| mail.weight);
            let mails = other.chunks_exact_mut(self.memories.mail_width()).zip(rows);
            mails.for_each(|(other, row)| weigh(other, weight(row)));
        }
    }

    /// What the last mail of `node` carries, before its weight is applied; empty where no mail waits.
    fn newest_mail_row(self, node: NodeId) -> &'a [f32] {
        let (mailbox, slot) = self.mailbox(node);
        match self.memories.carries_stored() {
            false => mailbox.newest_row(slot),
            true => mailbox.newest(slot).map_or(&[], |mail| self.row(mail.other)),
        }
    }

    fn read_many(self, nodes: &[NodeId], shown: &mut Vec<[u32; 2]>, mails: &mut ManyMails) {
        self.read_rows(nodes, &mut mails.memory);
        mails.unique = nodes.len();
        mails.rows.clear();
        mails.starts.clear();
        mails.event.clear();
        mails.dt.clear();
        mails.time.clear();
        shown.clear();
        for (row, &node) in nodes.iter().enumerate().filter(|&(_, &node)| self.reads(node)) {
            mails.rows.push(row as u32);
            mails.starts.push(mails.event.len() as u32);
            let (mailbox, slot) = self.mailbox(node);
            for (which, mail) in mailbox.waiting(slot).enumerate() {
                mails.event.push(mail.event.0);
                mails.dt.push(since_update(mail));
                mails.time.push(mail.time.0);
                shown.push([row as u32, which as u32]);
            }
        }
        mails.starts.push(mails.event.len() as u32);
        let (said, carried) = (self.memories.mail_width(), self.memories.mailbox.carried());
        let found = |[row, which]: [u32; 2]| {
            let (mailbox, slot) = self.mailbox(nodes[row as usize]);
            let ([older, newer], which) = (mailbox.runs(slot), which as usize);
            let ((mails, rows), at) =
                if which < older.0.len() { (older, which) } else { (newer, which - older.0.len()) };
            (&mails[at], &rows[at * carried..][..carried])
        };
        fill_rows(&mut mails.other, said, shown, |&mail| match (self.memories.carries_stored(), found(mail)) {
            (true, (mail, _)) => self.row(mail.other),
            (false, (_, row)) => row,
        });
        if self.memories.mailbox.has_weights() && said > 0 {
            let mails = mails.other.chunks_exact_mut(said).zip(&*shown);
            mails.for_each(|(other, &mail)| weigh(other, found(mail).0.weight));
        }
    }

    fn read_rows(self, nodes: &[NodeId], memory: &mut Vec<f32>) {
        fill_rows(memory, self.memories.width, nodes, |&node| self.cached_row(node).unwrap_or_else(|| self.row(node)));
    }
}

/// Ticks from the receiver's last update to the mail.
fn since_update(mail: &Mail) -> f32 {
    mail.time.since(mail.since)
}

/// Fills `table` with the rows, `[width]` each, that `row` returns for `keys`; zeros for an empty one.
fn fill_rows<'a, K: Sync>(table: &mut Vec<f32>, width: usize, keys: &[K], row: impl Fn(&K) -> &'a [f32] + Sync) {
    table.resize(keys.len() * width, 0.0);
    if width == 0 {
        return;
    }
    let rows = NUMBERS_A_TASK.div_ceil(width);
    table.par_chunks_mut(rows * width).zip(keys.par_chunks(rows)).for_each(|(table, keys)| {
        table.chunks_mut(width).zip(keys).for_each(|(to, key)| copy_row(to, row(key)));
    });
}

/// Copies `from` to `to`; zeros if `from` is empty.
fn copy_row(to: &mut [f32], from: &[f32]) {
    match from {
        [] => to.fill(0.0),
        from => to.copy_from_slice(from),
    }
}

/// Multiplies what a mail carries by its weight.
fn weigh(said: &mut [f32], weight: f32) {
    if weight != 1.0 {
        said.iter_mut().for_each(|number| *number *= weight);
    }
}

/// The value of `shared`, for overwriting: the same memory if nobody else holds it, else new memory.
fn writable<T: Default>(shared: &mut Arc<T>) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::default();
    }
    Arc::get_mut(shared).expect("shared with nobody: just found to be, or just made")
}
