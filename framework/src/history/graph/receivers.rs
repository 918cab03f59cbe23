//! `Graph::receivers`: which neighbours of a batch's ends get its mail.

use crate::history::view::needs::{Lookup, Receivers};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::{Batch, Graph, NodeId, Timestamp};

/// The mail of a batch to neighbours of its ends, as [`Receivers::Neighbours`] describes; none where only the ends get
/// mail.
#[derive(Debug, Default)]
pub struct NeighbourMail {
    /// `[B + 1]` the start of each event's deliveries; empty if there are none at all.
    starts: Vec<u32>,
    sent: Vec<NeighbourDelivery>,
    present: PendingIndex,
}

/// Mail to a neighbour of an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NeighbourDelivery {
    /// The receiver.
    pub to: NodeId,
    /// The end it is a neighbour of: 0 the source, 1 the destination.
    pub of: usize,
    /// Factor of the row that the mail carries.
    pub weight: f32,
}

impl Clone for NeighbourMail {
    /// A clone does not copy the scratch buffers.
    fn clone(&self) -> Self {
        NeighbourMail { starts: self.starts.clone(), sent: self.sent.clone(), present: PendingIndex::default() }
    }
}

impl NeighbourMail {
    /// The receivers, event by event: the neighbours of the source, then those of the destination, the newest of each
    /// first. A node is listed once for each mail.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.sent.iter().map(|sent| sent.to)
    }

    /// The deliveries of the batch's `event`-th event.
    pub(crate) fn of_event(&self, event: usize) -> &[NeighbourDelivery] {
        match self.starts.get(event..event + 2) {
            Some(&[start, end]) => &self.sent[start as usize..end as usize],
            _ => &[],
        }
    }

    fn clear(&mut self) {
        self.starts.clear();
        self.sent.clear();
    }
}

impl Graph {
    /// The neighbours that get mail of the events of `batch`, which is the next to be observed. They depend on the
    /// events alone: they are the same whether events are observed one by one, in [waves](crate::Waves) or, except for
    /// [`Lookup::Batch`], in batches.
    ///
    /// # Panics
    /// If the batch names a node that the graph does not hold.
    pub fn receivers(&self, batch: &Batch<'_>) -> NeighbourMail {
        let mut mail = NeighbourMail::default();
        self.receivers_into(batch, &mut mail);
        mail
    }

    /// The neighbours that got mail of the batch observed last.
    pub fn received(&self) -> &NeighbourMail {
        &self.receivers
    }

    /// Like [`receivers`](Graph::receivers), but overwrites `mail` and reuses its memory.
    ///
    /// # Panics
    /// As [`receivers`](Graph::receivers) does.
    pub fn receivers_into(&self, batch: &Batch<'_>, mail: &mut NeighbourMail) {
        mail.clear();
        let count = self.needs.receivers();
        if count == 0 {
            return;
        }
        let NeighbourMail { starts, sent, present } = mail;
        self.collect_pending(Some(batch), present);
        starts.push(0);
        for event in batch.events() {
            let moment = match self.needs.lookup {
                Lookup::Ordered => Moment::Position(event.time, event.id),
                Lookup::Exact | Lookup::Batch => Moment::Time(event.time),
            };
            let ends = [event.src, event.dst];
            // Both ends of a self-loop are one node.
            for of in 0..if event.src == event.dst { 1 } else { 2 } {
                let first = sent.len();
                for link in self.newest_links(ends[of], moment, present).take(self.needs.recent()) {
                    if sent.len() - first == count {
                        break;
                    }
                    let to = link.node;
                    if !ends.contains(&to) && sent[first..].iter().all(|sent| sent.to != to) {
                        sent.push(NeighbourDelivery { to, of, weight: self.weight(event.time, link.time) });
                    }
                }
            }
            starts.push(sent.len() as u32);
        }
    }

    /// The weight of mail of an event at `time` to a neighbour whose own event with the end was at `met`.
    fn weight(&self, time: Timestamp, met: Timestamp) -> f32 {
        match self.needs.mail.to {
            Receivers::Neighbours { decay: Some(decay), .. } => {
                (1.0 / (std::f64::consts::E + time.0.saturating_sub(met.0) as f64 / decay).ln()) as f32
            }
            _ => 1.0,
        }
    }

    /// Nodes besides `src` and `dst` that may have got mail of an event of these: the other ends of all their kept
    /// events. A neighbour that newer events have pushed out since is not among them.
    pub(crate) fn may_have_received(&self, src: NodeId, dst: NodeId) -> Vec<NodeId> {
        if self.needs.receivers() == 0 {
            return Vec::new();
        }
        let settled = [src, dst].into_iter().flat_map(|end| self.adjacency.newest_first(end).map(|link| link.node));
        let with_end =
            |(a, b): (NodeId, NodeId)| [(a, b), (b, a)].into_iter().find(|(end, _)| *end == src || *end == dst);
        let pending = self.pending.iter().filter_map(|event| with_end((event.src, event.dst))).map(|(_, other)| other);
        let mut nodes: Vec<NodeId> = settled.chain(pending).filter(|&node| node != src && node != dst).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}
