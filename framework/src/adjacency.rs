//! Each node's settled events, newest last: a ring of the last `K`, or all of them.

use crate::present::Moment;
use crate::{EventId, NodeId, Timestamp};

/// One event as seen from one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Link {
    pub time: Timestamp,
    pub event: EventId,
    /// The other end.
    pub node: NodeId,
    /// 1 if the owner was the source, else 0.
    pub outgoing: u32,
}

impl Link {
    /// An event from src to dst as its ends see it: (owner, link). A self-loop is one event of its node.
    pub fn ends(event: EventId, src: NodeId, dst: NodeId, time: Timestamp) -> impl Iterator<Item = (NodeId, Link)> {
        let from = (src, Link { time, event, node: dst, outgoing: 1 });
        let to = (dst, Link { time, event, node: src, outgoing: 0 });
        std::iter::once(from).chain((src != dst).then_some(to))
    }
}

/// How many events a node keeps.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    /// `[N, K]`, slot `i % K` holding the node's `i`-th event.
    Last { k: usize, ring: Vec<Link> },
    /// Every event of every node.
    All(Vec<Vec<Link>>),
}

/// The settled neighbourhood of every node, in (time, event id) order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Adjacency {
    kept: Kept,
    /// `[N]` events ever inserted for the node.
    degree: Vec<u64>,
}

impl Adjacency {
    pub fn last(nodes: usize, k: usize) -> Adjacency {
        Adjacency { kept: Kept::Last { k, ring: vec![Link::default(); nodes * k] }, degree: vec![0; nodes] }
    }

    pub fn all(nodes: usize) -> Adjacency {
        Adjacency { kept: Kept::All(vec![Vec::new(); nodes]), degree: vec![0; nodes] }
    }

    pub fn grow(&mut self, nodes: usize) {
        match &mut self.kept {
            Kept::Last { k, ring } => ring.resize(nodes * *k, Link::default()),
            Kept::All(lists) => lists.resize(nodes, Vec::new()),
        }
        self.degree.resize(nodes, 0);
    }

    pub fn insert(&mut self, node: NodeId, link: Link) {
        let n = node.index();
        match &mut self.kept {
            Kept::Last { k: 0, .. } => {}
            Kept::Last { k, ring } => ring[n * *k + (self.degree[n] % *k as u64) as usize] = link,
            Kept::All(lists) => lists[n].push(link),
        }
        self.degree[n] += 1;
    }

    /// Events ever inserted for `node`, kept or not.
    pub fn degree(&self, node: NodeId) -> u64 {
        self.degree[node.index()]
    }

    /// Events of `node` that can still be read.
    pub fn len(&self, node: NodeId) -> usize {
        match &self.kept {
            Kept::Last { k, .. } => (self.degree[node.index()] as usize).min(*k),
            Kept::All(lists) => lists[node.index()].len(),
        }
    }

    /// The kept events of `node` in two runs, each oldest first, the older run first.
    fn runs(&self, node: NodeId) -> (&[Link], &[Link]) {
        let n = node.index();
        match &self.kept {
            Kept::Last { k: 0, .. } => (&[], &[]),
            Kept::Last { k, ring } => {
                let (newer, older) = ring[n * k..][..*k].split_at((self.degree[n] % *k as u64) as usize);
                (if self.degree[n] < *k as u64 { &[] } else { older }, newer)
            }
            Kept::All(lists) => (&lists[n], &[]),
        }
    }

    /// The kept events of `node`, newest first.
    pub fn newest_first(&self, node: NodeId) -> impl Iterator<Item = &Link> {
        let (older, newer) = self.runs(node);
        newer.iter().rev().chain(older.iter().rev())
    }

    /// Every event of `node` that came before `moment`, oldest first; nothing where only the last events are kept.
    pub fn all_before(&self, node: NodeId, moment: Moment) -> &[Link] {
        match &self.kept {
            Kept::Last { .. } => &[],
            Kept::All(lists) => until(&lists[node.index()], moment),
        }
    }

    /// The newest kept event of `node` before `moment`.
    pub fn newest_before(&self, node: NodeId, moment: Moment) -> Option<&Link> {
        match &self.kept {
            Kept::Last { .. } => self.newest_first(node).find(|link| moment.sees(link)),
            Kept::All(_) => self.all_before(node, moment).last(),
        }
    }

    /// Forgets all events; the room stays.
    pub fn clear(&mut self) {
        if let Kept::All(lists) = &mut self.kept {
            lists.iter_mut().for_each(Vec::clear);
        }
        self.degree.fill(0);
    }

    /// Every kept event as (owner, link), a node's oldest first: what a snapshot stores. `degree` goes beside it.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, Link)> + '_ {
        (0..self.degree.len() as u32).map(NodeId).flat_map(move |node| {
            let (older, newer) = self.runs(node);
            older.iter().chain(newer).map(move |&link| (node, link))
        })
    }

    pub fn degrees(&self) -> &[u64] {
        &self.degree
    }

    /// Rebuilds what [`links`](Adjacency::links) and [`degrees`](Adjacency::degrees) told; the receiver is empty.
    ///
    /// # Errors
    /// A node of lower degree than it has links.
    pub fn restore(&mut self, degrees: &[u64], links: &[(NodeId, Link)]) -> Result<(), NodeId> {
        self.degree.copy_from_slice(degrees);
        for (node, _) in links {
            let degree = &mut self.degree[node.index()];
            *degree = degree.checked_sub(1).ok_or(*node)?;
        }
        links.iter().for_each(|&(node, link)| self.insert(node, link));
        Ok(())
    }
}

/// The part of `links` that came before `moment`: all of it, unless the past itself is asked about.
pub(crate) fn until(links: &[Link], moment: Moment) -> &[Link] {
    match links.last() {
        Some(newest) if !moment.sees(newest) => &links[..links.partition_point(|link| moment.sees(link))],
        _ => links,
    }
}
