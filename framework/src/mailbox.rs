//! Mail that waits: what each node's next memory update will be made of.

use crate::needs::{Combine, MailRule, OtherMemory};
use crate::{EventId, NodeId, Timestamp};

/// One message as it waits at its receiver. The receiver's own memory is not in it: that is the stored memory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub event: EventId,
    pub other: NodeId,
    pub time: Timestamp,
    /// The receiver's last memory update before this event.
    pub since: Timestamp,
}

/// The waiting mail of every node: one, or all of its last batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mailbox {
    rule: MailRule,
    width: usize,
    /// `[N]`, each in (time, event id) order.
    mails: Vec<Slot>,
    /// `[N]` rows of the other ends' memory, `[mails, D]` each; empty unless mail carries memory.
    others: Vec<Vec<f32>>,
}

/// Most nodes hold no or one mail, so one is kept in place.
#[derive(Clone, Debug, PartialEq, Default)]
enum Slot {
    #[default]
    Empty,
    One(Mail),
    Many(Vec<Mail>),
}

impl Mailbox {
    pub fn new(nodes: usize, rule: MailRule, width: usize) -> Mailbox {
        let mut mailbox = Mailbox { rule, width, mails: Vec::new(), others: Vec::new() };
        mailbox.grow(nodes);
        mailbox
    }

    pub fn grow(&mut self, nodes: usize) {
        self.mails.resize(nodes, Slot::Empty);
        if self.carries_memory() {
            self.others.resize(nodes, Vec::new());
        }
    }

    pub fn rule(&self) -> MailRule {
        self.rule
    }

    /// Whether a mail holds the other end's memory as it was at the event.
    pub fn carries_memory(&self) -> bool {
        self.rule.other == OtherMemory::AtEvent && self.width > 0
    }

    /// The mail waiting for `node`, in (time, event id) order.
    pub fn waiting(&self, node: NodeId) -> &[Mail] {
        match &self.mails[node.index()] {
            Slot::Empty => &[],
            Slot::One(mail) => std::slice::from_ref(mail),
            Slot::Many(mails) => mails,
        }
    }

    /// The other ends' memories in `node`'s mail, `[mails, D]`; empty unless [`carries_memory`](Mailbox::carries_memory).
    pub fn other_rows(&self, node: NodeId) -> &[f32] {
        self.others.get(node.index()).map_or(&[], Vec::as_slice)
    }

    /// Throws away the mail of `node`: it has been read into its memory.
    pub fn clear(&mut self, node: NodeId) {
        self.mails[node.index()] = Slot::Empty;
        if let Some(rows) = self.others.get_mut(node.index()) {
            rows.clear();
        }
    }

    /// Delivers one mail; deliveries to a node come in (time, event id) order. `other` is `[D]`, read where mail carries memory.
    pub fn deliver(&mut self, node: NodeId, mail: Mail, other: &[f32]) {
        let n = node.index();
        let carries = self.carries_memory();
        if self.rule.combine == Combine::Last {
            self.clear(node);
        }
        self.mails[n] = match std::mem::take(&mut self.mails[n]) {
            Slot::Empty => Slot::One(mail),
            Slot::One(first) => Slot::Many(vec![first, mail]),
            Slot::Many(mut mails) => {
                mails.push(mail);
                Slot::Many(mails)
            }
        };
        if carries {
            self.others[n].extend_from_slice(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(event: u64) -> Mail {
        Mail { event: EventId(event), other: NodeId(event as u32), time: Timestamp(event as i64), since: Timestamp(0) }
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
