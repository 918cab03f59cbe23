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

    /// The `back`-th newest kept event, 0 being the newest.
    pub fn newest(&self, node: NodeId, back: usize) -> Link {
        let n = node.index();
        match &self.kept {
            Kept::Last { k, ring } => ring[n * k + ((self.degree[n] - 1 - back as u64) % *k as u64) as usize],
            Kept::All(lists) => lists[n][lists[n].len() - 1 - back],
        }
    }

    /// How many of the newest kept events did not come before `moment`: none, unless the past itself is asked about.
    pub fn not_before(&self, node: NodeId, moment: Moment) -> usize {
        let len = self.len(node);
        if len == 0 || moment.sees(&self.newest(node, 0)) {
            return 0;
        }
        match &self.kept {
            Kept::Last { .. } => (0..len).take_while(|&back| !moment.sees(&self.newest(node, back))).count(),
            Kept::All(lists) => len - lists[node.index()].partition_point(|link| moment.sees(link)),
        }
    }

    /// Every kept event as (owner, link), a node's oldest first: what a snapshot stores. `degree` goes beside it.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, Link)> + '_ {
        (0..self.degree.len() as u32)
            .map(NodeId)
            .flat_map(move |node| (0..self.len(node)).rev().map(move |back| (node, self.newest(node, back))))
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
