//! Waiting mail: the inputs of each node's next memory update.

use tempograph_kernels::cpu::first_not_finite;

use crate::history::view::needs::{Combine, MailRule, Receivers};
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{EventId, NodeId, Timestamp};

/// One message that waits at its receiver. It does not hold the receiver's own memory, which is the stored memory.
#[derive(Clone, Copy, Debug, PartialEq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Mail {
    pub event: EventId,
    pub time: Timestamp,
    /// The receiver's last memory update before this event.
    pub since: Timestamp,
    pub other: NodeId,
    /// Factor of what the mail carries when it is read; above 0, or 0 in a slot without mail. Where mails of a batch
    /// are averaged, the mail holds their sum, and this is one over their number.
    pub weight: f32,
}

impl Mail {
    /// Mail of `event` at `time` with `other`, to a receiver that was updated last at `since`.
    pub fn new(event: EventId, other: NodeId, time: Timestamp, since: Timestamp) -> Mail {
        Mail { event, time, since, other, weight: 1.0 }
    }

    /// The same mail with another weight.
    pub fn with_weight(self, weight: f32) -> Mail {
        Mail { weight: weight.max(f32::MIN_POSITIVE), ..self }
    }

    /// This mail as a slice; empty if there is none.
    fn as_slice(&self) -> &[Mail] {
        if self.weight == 0.0 { &[] } else { std::slice::from_ref(self) }
    }
}

/// The waiting mail of every node: one, the last few, or all of its last batch.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    rule: MailRule,
    /// Whether mail is read with the other end's memory at that time.
    reads_other: bool,
    /// Numbers of the other end that a mail holds; 0 where it is read with that end's memory.
    carried: usize,
    kept: MailStorage,
}

#[derive(Clone, Debug)]
enum MailStorage {
    /// At most one mail a node, `[N]`, and what it carries, `[N, C]`.
    Last { mails: Buffer<Mail>, others: Buffer<f32> },
    /// At most `size` mails a node, `[N, S]`, and what they carry, `[N, S, C]`: a node's `i`-th mail is in slot `i %
    /// size`. `got`, `[N]`, counts all mails that each node received so far.
    Slots { size: usize, mails: Buffer<Mail>, others: Buffer<f32>, got: Buffer<u64> },
    /// Any number a node, `[N]`, each in (time, event id) order, and what they carry, `[mails, C]` each.
    All { mails: Vec<Vec<Mail>>, others: Vec<Vec<f32>> },
}

/// A saved copy of a node's mail.
#[derive(Debug)]
pub(crate) struct SavedMail {
    mails: Vec<Mail>,
    others: Vec<f32>,
    got: u64,
}

/// Consecutive mails of a node, and what they carry, `[mails, C]`.
pub(crate) type MailRun<'a> = (&'a [Mail], &'a [f32]);

impl Mailbox {
    /// `memory` is the width of a node's memory.
    pub fn new(nodes: usize, rule: MailRule, memory: usize) -> Mailbox {
        let kept = match rule.combine {
            Combine::Last => MailStorage::Last { mails: Buffer::default(), others: Buffer::default() },
            Combine::Slots(size) | Combine::MeanSlots(size) => MailStorage::Slots {
                size: size.max(1),
                mails: Buffer::default(),
                others: Buffer::default(),
                got: Buffer::default(),
            },
            Combine::Mean => MailStorage::All { mails: Vec::new(), others: Vec::new() },
        };
        let reads_other = rule.reads_other();
        let carried = if reads_other || memory == 0 { 0 } else { rule.width(memory) };
        let mut mailbox = Mailbox { rule, reads_other, carried, kept };
        mailbox.grow(nodes);
        mailbox
    }

    pub fn grow(&mut self, nodes: usize) {
        match &mut self.kept {
            MailStorage::Last { mails, others } => {
                mails.resize(nodes, Mail::default());
                others.resize(nodes * self.carried, 0.0);
            }
            MailStorage::Slots { size, mails, others, got } => {
                mails.resize(nodes * *size, Mail::default());
                others.resize(nodes * *size * self.carried, 0.0);
                got.resize(nodes, 0);
            }
            MailStorage::All { mails, others } => {
                mails.resize(nodes, Vec::new());
                others.resize(nodes, Vec::new());
            }
        }
    }

    /// A node at which mail waits that carries a number which is not finite.
    pub fn not_finite(&self) -> Option<usize> {
        let width = self.carried.max(1);
        match &self.kept {
            MailStorage::Last { others, .. } => first_not_finite(others).map(|at| at / width),
            MailStorage::Slots { size, others, .. } => first_not_finite(others).map(|at| at / (width * size)),
            MailStorage::All { others, .. } => others.iter().position(|others| first_not_finite(others).is_some()),
        }
    }

    /// Its tables, each with the number of entries for a node; none where a node may have any number of mails.
    pub fn tables(&mut self) -> Vec<(&mut dyn AnyBuffer, usize)> {
        match &mut self.kept {
            MailStorage::Last { mails, others } => vec![(mails, 1), (others, self.carried)],
            MailStorage::Slots { size, mails, others, got } => {
                vec![(mails, *size), (others, *size * self.carried), (got, 1)]
            }
            MailStorage::All { .. } => Vec::new(),
        }
    }

    /// Whether a node may have any number of mails, which are in no table.
    pub fn keeps_any_number(&self) -> bool {
        matches!(self.kept, MailStorage::All { .. })
    }

    pub fn rule(&self) -> &MailRule {
        &self.rule
    }

    /// Whether mail is read with the other end's memory at that time.
    pub fn reads_other(&self) -> bool {
        self.reads_other
    }

    /// Numbers of the other end, as they were at the event, that each mail holds.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Whether mails have different weights.
    pub fn has_weights(&self) -> bool {
        matches!(self.rule.to, Receivers::Neighbours { decay: Some(_), .. }) || self.averages()
    }

    /// Whether the mails of a batch to a node are kept as their mean.
    fn averages(&self) -> bool {
        matches!(self.rule.combine, Combine::MeanSlots(_)) && !self.reads_other
    }

    /// Bytes of the tables a node has, whether mail waits or not.
    pub fn bytes_a_node(&self) -> usize {
        let mails = if let MailStorage::Slots { size, .. } = self.kept { size } else { 1 };
        let counts = if let MailStorage::Slots { .. } = self.kept { size_of::<u64>() } else { 0 };
        mails * (size_of::<Mail>() + 4 * self.carried) + counts
    }

    /// The mail waiting for `node` in two runs, each in (time, event id) order, the older run first. The second is
    /// empty except for a ring.
    pub fn runs(&self, node: NodeId) -> [MailRun<'_>; 2] {
        let (n, c) = (node.index(), self.carried);
        match &self.kept {
            MailStorage::Last { mails, others } => {
                let mails = mails[n].as_slice();
                [(mails, &others[n * c..][..mails.len() * c]), (&[], &[])]
            }
            MailStorage::All { mails, others } => [(&mails[n], &others[n]), (&[], &[])],
            MailStorage::Slots { size, mails, others, got } => {
                let (mails, others) = (&mails[n * size..][..*size], &others[n * size * c..][..size * c]);
                let next = (got[n] % *size as u64) as usize;
                let ((newer, older), (newer_rows, older_rows)) = (mails.split_at(next), others.split_at(next * c));
                let full = got[n] >= *size as u64;
                [if full { (older, older_rows) } else { (&[], &[]) }, (newer, newer_rows)]
            }
        }
    }

    /// The mail waiting for `node`, in (time, event id) order.
    pub fn waiting(&self, node: NodeId) -> impl Iterator<Item = &Mail> {
        let [(older, _), (newer, _)] = self.runs(node);
        older.iter().chain(newer)
    }

    /// The newest mail waiting for `node`.
    pub fn newest(&self, node: NodeId) -> Option<&Mail> {
        let n = node.index();
        match &self.kept {
            MailStorage::Last { mails, .. } => mails[n].as_slice().last(),
            MailStorage::All { mails, .. } => mails[n].last(),
            MailStorage::Slots { size, mails, got, .. } => {
                got[n].checked_sub(1).map(|last| &mails[n * size + (last % *size as u64) as usize])
            }
        }
    }

    /// What the newest mail waiting for `node` carries, `[C]`; empty where none waits.
    pub fn newest_row(&self, node: NodeId) -> &[f32] {
        let (n, c) = (node.index(), self.carried);
        match &self.kept {
            MailStorage::Last { mails, others } => &others[n * c..][..mails[n].as_slice().len() * c],
            MailStorage::All { others, .. } => &others[n][others[n].len().saturating_sub(c)..],
            MailStorage::Slots { size, others, got, .. } => got[n]
                .checked_sub(1)
                .map_or(&[], |last| &others[(n * size + (last % *size as u64) as usize) * c..][..c]),
        }
    }

    /// Whether any mail waits for `node`.
    pub fn has_any(&self, node: NodeId) -> bool {
        self.newest(node).is_some()
    }

    /// A copy of the mail of `node`, before it changes.
    pub fn save(&self, node: NodeId) -> SavedMail {
        let (n, c) = (node.index(), self.carried);
        match &self.kept {
            MailStorage::Last { mails, others } => {
                SavedMail { mails: vec![mails[n]], others: others[n * c..][..c].to_vec(), got: 0 }
            }
            MailStorage::Slots { size, mails, others, got } => SavedMail {
                mails: mails[n * size..][..*size].to_vec(),
                others: others[n * size * c..][..size * c].to_vec(),
                got: got[n],
            },
            MailStorage::All { mails, others } => {
                SavedMail { mails: mails[n].clone(), others: others[n].clone(), got: 0 }
            }
        }
    }

    /// Swaps the mail of `node` with a saved copy.
    pub fn swap(&mut self, node: NodeId, kept: &mut SavedMail) {
        let (n, c) = (node.index(), self.carried);
        match &mut self.kept {
            MailStorage::Last { mails, others } => {
                mails[n..=n].swap_with_slice(&mut kept.mails);
                others[n * c..][..c].swap_with_slice(&mut kept.others);
            }
            MailStorage::Slots { size, mails, others, got } => {
                mails[n * *size..][..*size].swap_with_slice(&mut kept.mails);
                others[n * *size * c..][..*size * c].swap_with_slice(&mut kept.others);
                std::mem::swap(&mut got[n], &mut kept.got);
            }
            MailStorage::All { mails, others } => {
                std::mem::swap(&mut mails[n], &mut kept.mails);
                std::mem::swap(&mut others[n], &mut kept.others);
            }
        }
    }

    /// Nodes it has room for.
    pub fn nodes(&self) -> usize {
        match &self.kept {
            MailStorage::Last { mails, .. } => mails.len(),
            MailStorage::Slots { got, .. } => got.len(),
            MailStorage::All { mails, .. } => mails.len(),
        }
    }

    /// Overwrites the mail of `node` with that of `source` in `other`, a mailbox of the same rule.
    pub fn copy_from(&mut self, node: NodeId, other: &Mailbox, source: NodeId) {
        let (n, m, c) = (node.index(), source.index(), self.carried);
        match (&mut self.kept, &other.kept) {
            (MailStorage::Last { mails, others }, MailStorage::Last { mails: from, others: rows }) => {
                mails[n] = from[m];
                others[n * c..][..c].copy_from_slice(&rows[m * c..][..c]);
            }
            (
                MailStorage::Slots { size, mails, others, got },
                MailStorage::Slots { mails: from, others: rows, got: count, .. },
            ) => {
                mails[n * *size..][..*size].copy_from_slice(&from[m * *size..][..*size]);
                others[n * *size * c..][..*size * c].copy_from_slice(&rows[m * *size * c..][..*size * c]);
                got[n] = count[m];
            }
            (MailStorage::All { mails, others }, MailStorage::All { mails: from, others: rows }) => {
                mails[n].clone_from(&from[m]);
                others[n].clone_from(&rows[m]);
            }
            _ => unreachable!("both mailboxes have one rule"),
        }
    }

    /// Drops the mail of `node` up to the newest that `source` has in `earlier`, an older copy: that was read, and newer
    /// mail was not.
    pub fn drop_run(&mut self, node: NodeId, earlier: &Mailbox, source: NodeId) {
        let (n, m, c) = (node.index(), source.index(), self.carried);
        match (&mut self.kept, &earlier.kept) {
            (MailStorage::All { mails, others }, MailStorage::All { mails: read, .. }) => {
                let newest = read[m].last().map(|mail| mail.event);
                let count = mails[n].iter().take_while(|mail| Some(mail.event) <= newest).count();
                mails[n].drain(..count);
                others[n].drain(..count * c);
            }
            _ => self.mark_read(node),
        }
    }

    /// Sets the time that mail of `node` counts from, for mail of events from `first` on: it came as mail to a neighbour
    /// in a tick in which the memory is written, too.
    pub fn date_unread(&mut self, node: NodeId, first: EventId, since: Timestamp) {
        let n = node.index();
        let mails = match &mut self.kept {
            MailStorage::Last { mails, .. } => std::slice::from_mut(&mut mails[n]),
            MailStorage::Slots { size, mails, got, .. } => {
                let held = got[n].min(*size as u64) as usize;
                &mut mails[n * *size..][..held]
            }
            MailStorage::All { mails, .. } => &mut mails[n],
        };
        mails.iter_mut().filter(|mail| mail.weight > 0.0 && mail.event >= first).for_each(|mail| mail.since = since);
    }

    /// Call when the mail of `node` has been read into its memory: drops it, except from slots, where it stays until
    /// newer mail pushes it out.
    pub fn mark_read(&mut self, node: NodeId) {
        if !matches!(self.kept, MailStorage::Slots { .. }) {
            self.clear(node);
        }
    }

    /// Drops the mail of `node`.
    pub fn clear(&mut self, node: NodeId) {
        let n = node.index();
        match &mut self.kept {
            MailStorage::Last { mails, .. } => mails[n] = Mail::default(),
            MailStorage::Slots { got, .. } => got[n] = 0,
            MailStorage::All { mails, others } => {
                mails[n].clear();
                others[n].clear();
            }
        }
    }

    /// Drops mail of `event` that waits for `node`. Returns whether there was any. Mail that it has pushed out does
    /// not come back, and a mean of several mails is left as it is.
    pub fn retract(&mut self, node: NodeId, event: EventId) -> bool {
        let (carried, averages) = (self.carried, self.averages());
        let taken = |mail: &Mail| mail.event == event && !(averages && mail.weight < 1.0);
        if !self.waiting(node).any(taken) {
            return false;
        }
        let of_run = |(mails, rows): MailRun<'_>| -> Vec<(Mail, Vec<f32>)> {
            let row = |i: usize| rows[i * carried..][..carried].to_vec();
            mails.iter().enumerate().map(|(i, &mail)| (mail, row(i))).filter(|(mail, _)| !taken(mail)).collect()
        };
        let kept = self.runs(node).map(of_run).concat();
        self.clear(node);
        kept.iter().for_each(|(mail, row)| self.put(node, *mail, row));
        true
    }

    /// Drops all mail.
    pub fn clear_all(&mut self) {
        match &mut self.kept {
            MailStorage::Last { mails, .. } => mails.fill(Mail::default()),
            MailStorage::Slots { got, .. } => got.fill(0),
            MailStorage::All { mails, others } => {
                mails.iter_mut().for_each(Vec::clear);
                others.iter_mut().for_each(Vec::clear);
            }
        }
    }

    /// Delivers one mail of the batch whose first event is `first`; deliveries to a node come in (time, event id)
    /// order. `other` begins with the numbers that a mail carries.
    pub fn deliver(&mut self, node: NodeId, mail: Mail, other: &[f32], first: EventId) {
        let (n, c, averages) = (node.index(), self.carried, self.averages());
        let (Combine::MeanSlots(_), MailStorage::Slots { size, mails, others, got }) =
            (self.rule.combine, &mut self.kept)
        else {
            return self.put(node, mail, other);
        };
        let slot = |got: u64| n * *size + ((got - 1) % *size as u64) as usize;
        let begun = got[n] > 0 && mails[slot(got[n])].event >= first;
        got[n] += u64::from(!begun);
        let (at, row) = (slot(got[n]), &mut others[slot(got[n]) * c..][..c]);
        let earlier = if begun { (1.0 / mails[at].weight).round() } else { 0.0 };
        if !begun {
            row.fill(0.0);
        }
        row.iter_mut().zip(other).for_each(|(sum, number)| *sum += mail.weight * number);
        mails[at] = Mail { weight: if averages { 1.0 / (earlier + 1.0) } else { mail.weight }, ..mail };
    }

    /// Appends one mail to the waiting ones unchanged, after [`deliver`](Self::deliver) has replaced or averaged
    /// mails.
    pub fn put(&mut self, node: NodeId, mail: Mail, other: &[f32]) {
        let (n, c) = (node.index(), self.carried);
        let other = &other[..c];
        match &mut self.kept {
            MailStorage::Last { mails, others } => {
                mails[n] = mail;
                others[n * c..][..c].copy_from_slice(other);
            }
            MailStorage::Slots { size, mails, others, got } => {
                let slot = n * *size + (got[n] % *size as u64) as usize;
                mails[slot] = mail;
                others[slot * c..][..c].copy_from_slice(other);
                got[n] += 1;
            }
            MailStorage::All { mails, others } => {
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

    /// Events of the mail of node 1, and what it carries.
    fn stated(mailbox: &Mailbox) -> (Vec<u64>, Vec<f32>) {
        let rows = mailbox.runs(NodeId(1)).into_iter().flat_map(|(_, rows)| rows.to_vec()).collect();
        (mailbox.waiting(NodeId(1)).map(|mail| mail.event.0).collect(), rows)
    }

    fn numbers(events: &[u64]) -> (Vec<u64>, Vec<f32>) {
        (events.to_vec(), events.iter().map(|&event| event as f32).collect())
    }

    #[test]
    fn last_keeps_the_newest_mail_slots_the_newest_few_and_mean_all_until_they_are_read() {
        let rule = |combine| MailRule { combine, ..MailRule::default() };
        let kept = [
            (Combine::Last, vec![4u64], vec![]),
            (Combine::Slots(1), vec![4], vec![4]),
            (Combine::Slots(2), vec![3, 4], vec![3, 4]),
            (Combine::Slots(9), vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]),
            (Combine::Mean, vec![0, 1, 2, 3, 4], vec![]),
        ];
        for (combine, expected, after) in kept {
            let mut mailbox = Mailbox::new(2, rule(combine), 1);
            for event in 0..5 {
                mailbox.put(NodeId(1), mail(event), &[event as f32]);
            }
            assert_eq!(stated(&mailbox), numbers(&expected), "{combine:?}");
            assert_eq!(mailbox.newest(NodeId(1)).map(|mail| mail.event), Some(EventId(4)));
            assert!(!mailbox.has_any(NodeId(0)));
            mailbox.mark_read(NodeId(1));
            assert_eq!(stated(&mailbox), numbers(&after), "{combine:?} once read");
            mailbox.clear(NodeId(1));
            assert_eq!(stated(&mailbox), numbers(&[]));
        }
    }

    #[test]
    fn mail_taken_back_is_gone_and_the_rest_stays_in_order() {
        for (combine, back, expected) in [
            (Combine::Last, 4, vec![]),
            (Combine::Last, 3, vec![4]),
            (Combine::Slots(3), 3, vec![2, 4]),
            (Combine::Slots(3), 1, vec![2, 3, 4]),
            (Combine::Mean, 1, vec![0, 2, 3, 4]),
        ] {
            let mut mailbox = Mailbox::new(2, MailRule { combine, ..MailRule::default() }, 1);
            (0..5).for_each(|event| mailbox.put(NodeId(1), mail(event), &[event as f32]));
            let before = stated(&mailbox).0.len();
            let taken = mailbox.retract(NodeId(1), EventId(back));
            assert_eq!(
                (stated(&mailbox), taken),
                (numbers(&expected), expected.len() < before),
                "{combine:?} less {back}"
            );
            // The next mail is appended.
            mailbox.put(NodeId(1), mail(7), &[7.0]);
            assert_eq!(mailbox.newest(NodeId(1)).map(|mail| mail.event), Some(EventId(7)));
        }
    }

    #[test]
    fn mails_of_a_batch_to_a_node_are_one_mean_and_a_mean_of_several_is_not_taken_back() {
        let mut mailbox = Mailbox::new(2, MailRule { combine: Combine::MeanSlots(2), ..MailRule::default() }, 1);
        // Batches of events 0, 1 to 3, and 4.
        for (event, first) in [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4)] {
            mailbox.deliver(NodeId(1), mail(event), &[event as f32], EventId(first));
        }
        let means = |mailbox: &Mailbox| -> Vec<(u64, f32)> {
            let ((events, rows), mails) = (stated(mailbox), mailbox.waiting(NodeId(1)));
            events.into_iter().zip(rows.iter().zip(mails).map(|(row, mail)| row * mail.weight)).collect()
        };
        assert_eq!(means(&mailbox), [(3, 2.0), (4, 4.0)]);
        assert!(!mailbox.retract(NodeId(1), EventId(3)), "out of a mean of three");
        assert!(mailbox.retract(NodeId(1), EventId(4)));
        assert_eq!(means(&mailbox), [(3, 2.0)]);
        mailbox.deliver(NodeId(1), mail(6).with_weight(0.5), &[8.0], EventId(6));
        mailbox.deliver(NodeId(1), mail(7), &[6.0], EventId(6));
        assert_eq!(means(&mailbox), [(3, 2.0), (7, 5.0)]);
    }
}
