//! Mail that waits: what each node's next memory update will be made of.

use crate::buffer::{Buffer, Table};
use crate::needs::{Combine, MailRule, OtherMemory};
use crate::{EventId, NodeId, Timestamp};

/// One message as it waits at its receiver. The receiver's own memory is not in it: that is the stored memory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Mail {
    pub event: EventId,
    pub time: Timestamp,
    /// The receiver's last memory update before this event.
    pub since: Timestamp,
    pub other: NodeId,
    /// 1, or 0 in a place where no mail waits.
    waits: u32,
}

impl Mail {
    /// Mail of `event` at `time` with `other`, to one that was updated last at `since`.
    pub fn new(event: EventId, other: NodeId, time: Timestamp, since: Timestamp) -> Mail {
        Mail { event, time, since, other, waits: 1 }
    }

    /// This mail, if it is any.
    fn as_slice(&self) -> &[Mail] {
        if self.waits == 0 { &[] } else { std::slice::from_ref(self) }
    }
}

/// The waiting mail of every node: one, or all of its last batch.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    rule: MailRule,
    /// Numbers of the other end's memory in a mail: `D`, or 0 where mail carries none.
    carried: usize,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    /// At most one mail a node, `[N]`, and what it carries, `[N, D]`.
    Last { mails: Buffer<Mail>, others: Buffer<f32> },
    /// Any number a node, `[N]`, each in (time, event id) order, and what they carry, `[mails, D]` each.
    All { mails: Vec<Vec<Mail>>, others: Vec<Vec<f32>> },
}

/// The mail of a node outside the box.
#[derive(Debug)]
pub(crate) struct KeptMail {
    mails: Vec<Mail>,
    others: Vec<f32>,
}

impl Mailbox {
    pub fn new(nodes: usize, rule: MailRule, width: usize) -> Mailbox {
        let kept = match rule.combine {
            Combine::Last => Kept::Last { mails: Buffer::default(), others: Buffer::default() },
            Combine::Mean => Kept::All { mails: Vec::new(), others: Vec::new() },
        };
        let carried = if rule.other == OtherMemory::AtEvent { width } else { 0 };
        let mut mailbox = Mailbox { rule, carried, kept };
        mailbox.grow(nodes);
        mailbox
    }

    pub fn grow(&mut self, nodes: usize) {
        match &mut self.kept {
            Kept::Last { mails, others } => {
                mails.resize(nodes, Mail::default());
                others.resize(nodes * self.carried, 0.0);
            }
            Kept::All { mails, others } => {
                mails.resize(nodes, Vec::new());
                others.resize(nodes, Vec::new());
            }
        }
    }

    /// Its tables, each with the entries a node has in it; none where a node may have any number of mails.
    pub fn tables(&mut self) -> Vec<(&mut dyn Table, usize)> {
        match &mut self.kept {
            Kept::Last { mails, others } => vec![(mails, 1), (others, self.carried)],
            Kept::All { .. } => Vec::new(),
        }
    }

    /// Whether a node may have any number of mails, which are in no table.
    pub fn keeps_any_number(&self) -> bool {
        matches!(self.kept, Kept::All { .. })
    }

    pub fn rule(&self) -> MailRule {
        self.rule
    }

    /// Numbers of the other end's memory, as it was at the event, that each mail holds.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// The mail waiting for `node`, in (time, event id) order.
    pub fn waiting(&self, node: NodeId) -> &[Mail] {
        match &self.kept {
            Kept::Last { mails, .. } => mails[node.index()].as_slice(),
            Kept::All { mails, .. } => &mails[node.index()],
        }
    }

    /// The other ends' memories in `node`'s mail, `[mails, carried]`.
    pub fn other_rows(&self, node: NodeId) -> &[f32] {
        let n = node.index();
        match &self.kept {
            Kept::Last { mails, others } => &others[n * self.carried..][..mails[n].as_slice().len() * self.carried],
            Kept::All { others, .. } => &others[n],
        }
    }

    /// A copy of the mail of `node`, before it changes.
    pub fn keep(&self, node: NodeId) -> KeptMail {
        let n = node.index();
        match &self.kept {
            Kept::Last { mails, others } => {
                KeptMail { mails: vec![mails[n]], others: others[n * self.carried..][..self.carried].to_vec() }
            }
            Kept::All { mails, others } => KeptMail { mails: mails[n].clone(), others: others[n].clone() },
        }
    }

    /// Exchanges the mail of `node` with what was kept of it.
    pub fn swap(&mut self, node: NodeId, kept: &mut KeptMail) {
        let n = node.index();
        match &mut self.kept {
            Kept::Last { mails, others } => {
                mails[n..=n].swap_with_slice(&mut kept.mails);
                others[n * self.carried..][..self.carried].swap_with_slice(&mut kept.others);
            }
            Kept::All { mails, others } => {
                std::mem::swap(&mut mails[n], &mut kept.mails);
                std::mem::swap(&mut others[n], &mut kept.others);
            }
        }
    }

    /// Throws away the mail of `node`: it has been read into its memory.
    pub fn clear(&mut self, node: NodeId) {
        match &mut self.kept {
            Kept::Last { mails, .. } => mails[node.index()] = Mail::default(),
            Kept::All { mails, others } => {
                mails[node.index()].clear();
                others[node.index()].clear();
            }
        }
    }

    /// Throws away mail of `event` that waits for `node`.
    pub fn take_back(&mut self, node: NodeId, event: EventId) {
        let n = node.index();
        match &mut self.kept {
            Kept::Last { mails, .. } if mails[n].event == event => mails[n] = Mail::default(),
            Kept::Last { .. } => {}
            Kept::All { mails, others } => {
                while let Some(at) = mails[n].iter().position(|mail| mail.event == event) {
                    mails[n].remove(at);
                    others[n].drain(at * self.carried..(at + 1) * self.carried);
                }
            }
        }
    }

    /// Throws away all mail.
    pub fn clear_all(&mut self) {
        match &mut self.kept {
            Kept::Last { mails, .. } => mails.fill(Mail::default()),
            Kept::All { mails, others } => {
                mails.iter_mut().for_each(Vec::clear);
                others.iter_mut().for_each(Vec::clear);
            }
        }
    }

    /// Delivers one mail; deliveries to a node come in (time, event id) order. `other` begins with what a mail carries.
    pub fn deliver(&mut self, node: NodeId, mail: Mail, other: &[f32]) {
        let (n, other) = (node.index(), &other[..self.carried]);
        match &mut self.kept {
            Kept::Last { mails, others } => {
                mails[n] = mail;
                others[n * self.carried..][..self.carried].copy_from_slice(other);
            }
            Kept::All { mails, others } => {
                mails[n].push(mail);
                others[n].extend_from_slice(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(event: u64) -> Mail {
        Mail::new(EventId(event), NodeId(event as u32), Timestamp(event as i64), Timestamp(0))
    }

    #[test]
    fn last_keeps_the_newest_mail_and_mean_keeps_all_until_read() {
        let rule = |combine| MailRule { combine, other: OtherMemory::AtEvent, update_without_mail: false };
        for (combine, expected) in [(Combine::Last, vec![2u64]), (Combine::Mean, vec![0, 1, 2])] {
            let mut mailbox = Mailbox::new(2, rule(combine), 1);
            for event in 0..3 {
                mailbox.deliver(NodeId(1), mail(event), &[event as f32]);
            }
            let events: Vec<u64> = mailbox.waiting(NodeId(1)).iter().map(|m| m.event.0).collect();
            assert_eq!(events, expected);
            assert_eq!(mailbox.other_rows(NodeId(1)), expected.iter().map(|&e| e as f32).collect::<Vec<_>>());
            assert!(mailbox.waiting(NodeId(0)).is_empty());
            mailbox.clear(NodeId(1));
            assert!(mailbox.waiting(NodeId(1)).is_empty() && mailbox.other_rows(NodeId(1)).is_empty());
        }
    }
}
