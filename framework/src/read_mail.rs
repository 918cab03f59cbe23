//! Memory and waiting mail, read for the nodes of a view.

use std::sync::Arc;

use rayon::prelude::*;
use tempograph_kernels::MailPlan;

use crate::needs::{Combine, OtherMemory};
use crate::view::{MailView, ManyMails};
use crate::{History, NodeId};

/// Numbers one task copies.
const NUMBERS_A_TASK: usize = 1 << 13;

impl History {
    /// Shows the memory and the mail of `nodes` in `mail`, in the memory it has unless somebody else holds it too.
    pub(crate) fn read_mail(&self, nodes: &[NodeId], mail: &mut MailView) {
        match (self.mailbox.rule().combine, &mut *mail) {
            (Combine::Last, MailView::Last(plan)) => self.read_last(nodes, writable(plan)),
            (Combine::Mean, MailView::Many(mails)) => self.read_many(nodes, writable(mails)),
            (combine, _) => {
                *mail = match combine {
                    Combine::Last => MailView::Last(Arc::default()),
                    Combine::Mean => MailView::Many(Arc::default()),
                };
                self.read_mail(nodes, mail);
            }
        }
    }

    fn read_last(&self, nodes: &[NodeId], plan: &mut MailPlan) {
        self.read_memory(nodes, &mut plan.memory);
        plan.unique = nodes.len();
        plan.features.clone_from(&self.features.edges);
        plan.rows.clear();
        plan.empty.clear();
        plan.event.clear();
        plan.dt.clear();
        let unread = |node| self.reads(node) && self.kept_ahead(node).is_none();
        for (row, &node) in nodes.iter().enumerate().filter(|&(_, &node)| unread(node)) {
            let mail = self.mailbox.waiting(node).last();
            plan.rows.push(row as u32);
            plan.empty.push(mail.is_none());
            plan.event.push(mail.map_or(0, |mail| mail.event.0));
            plan.dt.push(mail.map_or(0.0, |mail| mail.time.since(mail.since)));
        }
        let MailPlan { rows, other, .. } = plan;
        fill_rows(other, self.needs.memory, rows, |&row| {
            let node = nodes[row as usize];
            match self.needs.mail.other {
                OtherMemory::AtEvent => self.mailbox.other_rows(node),
                OtherMemory::AtRead => self.mailbox.waiting(node).last().map_or(&[], |mail| self.memory_of(mail.other)),
            }
        });
    }

    fn read_many(&self, nodes: &[NodeId], mails: &mut ManyMails) {
        self.read_memory(nodes, &mut mails.memory);
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
            mails.dt.extend(waiting.iter().map(|mail| mail.time.since(mail.since)));
            match self.needs.mail.other {
                OtherMemory::AtEvent => mails.other.extend_from_slice(self.mailbox.other_rows(node)),
                OtherMemory::AtRead => waiting.iter().for_each(|mail| mails.other.extend_from_slice(self.memory_of(mail.other))),
            }
        }
        mails.starts.push(mails.event.len() as u32);
    }

    /// Whether the memory of `node` goes through the updater.
    fn reads(&self, node: NodeId) -> bool {
        self.needs.memory > 0 && (self.needs.mail.update_without_mail || !self.mailbox.waiting(node).is_empty())
    }

    fn read_memory(&self, nodes: &[NodeId], memory: &mut Vec<f32>) {
        fill_rows(memory, self.needs.memory, nodes, |&node| self.kept_ahead(node).unwrap_or_else(|| self.memory_of(node)));
    }

    fn memory_of(&self, node: NodeId) -> &[f32] {
        &self.memory[node.index() * self.needs.memory..][..self.needs.memory]
    }
}

/// Makes `table` the rows, `[width]` each, that `row` finds for `keys`; zeros where it finds an empty one.
fn fill_rows<'a, K: Sync>(table: &mut Vec<f32>, width: usize, keys: &[K], row: impl Fn(&K) -> &'a [f32] + Sync) {
    table.resize(keys.len() * width, 0.0);
    if width == 0 {
        return;
    }
    let rows = NUMBERS_A_TASK.div_ceil(width);
    table.par_chunks_mut(rows * width).zip(keys.par_chunks(rows)).for_each(|(table, keys)| {
        for (to, key) in table.chunks_mut(width).zip(keys) {
            match row(key) {
                [] => to.fill(0.0),
                from => to.copy_from_slice(from),
            }
        }
    });
}

/// What `shared` holds, to be written over: its own memory if nobody else reads it, else new memory.
fn writable<T: Default>(shared: &mut Arc<T>) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::default();
    }
    Arc::get_mut(shared).expect("shared with nobody: just found to be, or just made")
}
