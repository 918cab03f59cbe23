//! Memory and waiting mail, read for the nodes of a view.

use std::sync::Arc;

use rayon::prelude::*;
use tempograph_kernels::{MailPlan, Rows};

use crate::mailbox::Mail;
use crate::needs::{Combine, OtherMemory};
use crate::view::{MailView, ManyMails};
use crate::{Memories, NodeId, View};

/// Numbers one task copies.
const NUMBERS_A_TASK: usize = 1 << 13;

impl Memories {
    /// Shows the memory and the mail of the nodes of `view`, in the memory it has unless somebody else holds it too. The view's nodes and
    /// features are those it is to keep.
    ///
    /// # Panics
    /// If the view names a node there is no room for.
    pub fn read_into(&self, view: &mut View) {
        match (self.mailbox.rule().combine, &mut view.mail) {
            (Combine::Last, MailView::Last(plan)) => self.read_last(&view.nodes, view.edge_features.as_ref(), writable(plan)),
            (Combine::Mean, MailView::Many(mails)) => self.read_many(&view.nodes, writable(mails)),
            (combine, other) => {
                *other = match combine {
                    Combine::Last => MailView::Last(Arc::default()),
                    Combine::Mean => MailView::Many(Arc::default()),
                };
                return self.read_into(view);
            }
        }
        view.memory_version = self.version;
    }

    /// Brings what `view` shows, which [`read_into`](Memories::read_into) read from these memories at an earlier version, to this one:
    /// the same as reading all of it again, but only what was written since is copied.
    ///
    /// # Panics
    /// If the view names a node there is no room for.
    pub fn refresh_into(&self, view: &mut View) {
        if view.memory_version == self.version {
            return;
        }
        let plan = match &mut view.mail {
            MailView::Last(plan) => Arc::get_mut(plan),
            MailView::Many(_) => None,
        };
        // Memories that are kept ahead come and go otherwise than mail does.
        let Some(plan) = plan.filter(|_| self.ahead.is_none()) else { return self.read_into(view) };
        self.refresh_last(&view.nodes, view.memory_version, plan);
        view.memory_version = self.version;
    }

    fn read_last(&self, nodes: &[NodeId], features: Option<&Arc<dyn Rows>>, plan: &mut MailPlan) {
        self.read_rows(nodes, &mut plan.memory);
        plan.unique = nodes.len();
        plan.features = features.cloned();
        plan.rows.clear();
        plan.empty.clear();
        plan.event.clear();
        plan.dt.clear();
        let unread = |node| self.reads(node) && self.read_ahead(node).is_none();
        for (row, &node) in nodes.iter().enumerate().filter(|&(_, &node)| unread(node)) {
            let mail = self.mailbox.waiting(node).last();
            plan.rows.push(row as u32);
            plan.empty.push(mail.is_none());
            plan.event.push(mail.map_or(0, |mail| mail.event.0));
            plan.dt.push(mail.map_or(0.0, since_update));
        }
        let MailPlan { rows, other, .. } = plan;
        fill_rows(other, self.width, rows, |&row| self.other_end(nodes[row as usize]));
    }

    /// From the last row to the first: mail only ever comes to rows that had none, so what is kept moves towards the end.
    fn refresh_last(&self, nodes: &[NodeId], version: u64, plan: &mut MailPlan) {
        let (width, mut old) = (self.width, plan.rows.len());
        let mut new = nodes.iter().filter(|&&node| self.reads(node)).count();
        plan.rows.resize(new, 0);
        plan.empty.resize(new, false);
        plan.event.resize(new, 0);
        plan.dt.resize(new, 0.0);
        plan.other.resize(new * width, 0.0);
        for (row, &node) in nodes.iter().enumerate().rev() {
            if self.written_since(version, node) {
                plan.memory[row * width..][..width].copy_from_slice(self.of(node));
            }
            let had = old > 0 && plan.rows[old - 1] == row as u32;
            old -= usize::from(had);
            if !self.reads(node) {
                continue;
            }
            new -= 1;
            let mail = self.mailbox.waiting(node).last();
            let other_written = || mail.is_some_and(|mail| self.carries_stored() && self.written_since(version, mail.other));
            plan.rows[new] = row as u32;
            if !had || self.written_since(version, node) || other_written() {
                plan.empty[new] = mail.is_none();
                plan.event[new] = mail.map_or(0, |mail| mail.event.0);
                plan.dt[new] = mail.map_or(0.0, since_update);
                copy_row(&mut plan.other[new * width..][..width], self.other_end(node));
            } else if old != new {
                plan.empty[new] = plan.empty[old];
                plan.event[new] = plan.event[old];
                plan.dt[new] = plan.dt[old];
                plan.other.copy_within(old * width..(old + 1) * width, new * width);
            }
        }
    }

    fn written_since(&self, version: u64, node: NodeId) -> bool {
        self.written[node.index()] > version
    }

    /// Whether a message carries the other end's memory as it is when the mail is read.
    fn carries_stored(&self) -> bool {
        self.mailbox.rule().other == OtherMemory::AtRead
    }

    /// The other end's memory in the last mail of `node`, `[D]`; empty where no mail waits.
    fn other_end(&self, node: NodeId) -> &[f32] {
        match self.mailbox.rule().other {
            OtherMemory::AtEvent => self.mailbox.other_rows(node),
            OtherMemory::AtRead => self.mailbox.waiting(node).last().map_or(&[], |mail| self.of(mail.other)),
        }
    }

    fn read_many(&self, nodes: &[NodeId], mails: &mut ManyMails) {
        self.read_rows(nodes, &mut mails.memory);
        mails.unique = nodes.len();
        mails.rows.clear();
        mails.starts.clear();
        mails.other.clear();
        mails.event.clear();
        mails.dt.clear();
        for (row, &node) in nodes.iter().enumerate().filter(|&(_, &node)| self.reads(node)) {
            let waiting = self.mailbox.waiting(node);
            mails.rows.push(row as u32);
            mails.starts.push(mails.event.len() as u32);
            mails.event.extend(waiting.iter().map(|mail| mail.event.0));
            mails.dt.extend(waiting.iter().map(since_update));
            match self.carries_stored() {
                false => mails.other.extend_from_slice(self.mailbox.other_rows(node)),
                true => waiting.iter().for_each(|mail| mails.other.extend_from_slice(self.of(mail.other))),
            }
        }
        mails.starts.push(mails.event.len() as u32);
    }

    fn read_rows(&self, nodes: &[NodeId], memory: &mut Vec<f32>) {
        fill_rows(memory, self.width, nodes, |&node| self.read_ahead(node).unwrap_or_else(|| self.of(node)));
    }
}

/// Ticks from the receiver's last update to the mail.
fn since_update(mail: &Mail) -> f32 {
    mail.time.since(mail.since)
}

/// Makes `table` the rows, `[width]` each, that `row` finds for `keys`; zeros where it finds an empty one.
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

/// Makes `to` what `from` is, zeros if that is empty.
fn copy_row(to: &mut [f32], from: &[f32]) {
    match from {
        [] => to.fill(0.0),
        from => to.copy_from_slice(from),
    }
}

/// What `shared` holds, to be written over: its own memory if nobody else reads it, else new memory.
fn writable<T: Default>(shared: &mut Arc<T>) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::default();
    }
    Arc::get_mut(shared).expect("shared with nobody: just found to be, or just made")
}
