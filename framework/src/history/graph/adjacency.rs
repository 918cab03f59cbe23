//! Each node's settled events, newest last: a ring of the last `K`, or all of them.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::history::view::pending_index::Moment;
use crate::log::by_node::TemporalCsr;
use crate::log::link::Link;
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{EventId, NodeId, Timestamp};

/// Which events of a node are kept.
#[derive(Clone, Debug)]
enum LinkStorage {
    /// `[N, K]`, slot `i % K` holding the node's `i`-th event.
    Ring { k: usize, ring: Buffer<Link> },
    /// Every event of every node.
    All(Vec<Vec<Link>>),
    /// The last `last` of the node's events in the log that were observed, or all of them.
    InLog { log: Arc<TemporalCsr>, last: Option<usize> },
}

/// The settled neighbourhood of every node, in (time, event id) order.
#[derive(Clone, Debug)]
pub(crate) struct Adjacency {
    kept: LinkStorage,
    /// `[N]` events ever inserted for the node.
    degree: Buffer<u64>,
}

/// The old events of a node, as far as an undo log has to save them.
#[derive(Debug)]
pub(crate) struct SavedLinks {
    degree: u64,
    /// The node's slots in the ring, or its list. Of a list that has only grown since: the later links, while they are
    /// split off.
    links: Vec<Link>,
    whole: bool,
}

impl Adjacency {
    pub fn last(nodes: usize, k: usize) -> Adjacency {
        Adjacency {
            kept: LinkStorage::Ring { k, ring: vec![Link::default(); nodes * k].into() },
            degree: vec![0; nodes].into(),
        }
    }

    pub fn all(nodes: usize) -> Adjacency {
        Adjacency { kept: LinkStorage::All(vec![Vec::new(); nodes]), degree: vec![0; nodes].into() }
    }

    pub fn grow(&mut self, nodes: usize) {
        match &mut self.kept {
            LinkStorage::Ring { k, ring } => ring.resize(nodes * *k, Link::default()),
            LinkStorage::All(lists) => lists.resize(nodes, Vec::new()),
            LinkStorage::InLog { .. } => {}
        }
        self.degree.resize(nodes, 0);
    }

    /// Its tables, each with the number of entries for a node; lists that each node has of its own are in none.
    pub fn tables(&mut self) -> Vec<(&mut dyn AnyBuffer, usize)> {
        let Adjacency { kept, degree } = self;
        let mut tables: Vec<(&mut dyn AnyBuffer, usize)> = vec![(degree, 1)];
        if let LinkStorage::Ring { k, ring } = kept {
            tables.push((ring, *k));
        }
        tables
    }

    /// Reads events from `log` and stores none, if the events inserted so far are a prefix of the log.
    pub fn attach_log(&mut self, log: &Arc<TemporalCsr>) {
        let last = match self.kept {
            LinkStorage::Ring { k, .. } => Some(k),
            LinkStorage::All(_) => None,
            LinkStorage::InLog { .. } => return,
        };
        let begins = |n: usize| {
            let ((older, newer), node) = (self.runs(NodeId(n as u32)), NodeId(n as u32));
            log.of_node(node).get(..self.degree[n] as usize).is_some_and(|known| {
                let kept = older.len() + newer.len();
                let whole = last.map_or(known.len(), |k| k.min(known.len())) == kept;
                whole && known[known.len() - kept..].iter().eq(older.iter().chain(newer))
            })
        };
        if (0..self.degree.len()).into_par_iter().all(begins) {
            self.kept = LinkStorage::InLog { log: log.clone(), last };
        }
    }

    pub fn insert(&mut self, node: NodeId, link: Link) {
        let n = node.index();
        match &mut self.kept {
            LinkStorage::Ring { k: 0, .. } => {}
            LinkStorage::Ring { k, ring } => ring[n * *k + (self.degree[n] % *k as u64) as usize] = link,
            LinkStorage::All(lists) => lists[n].push(link),
            LinkStorage::InLog { log, .. } if log.of_node(node).get(self.degree[n] as usize) == Some(&link) => {}
            LinkStorage::InLog { last, .. } => {
                let last = *last;
                self.detach_from_log(last);
                return self.insert(node, link);
            }
        }
        self.degree[n] += 1;
    }

    /// Applies an event that another process has inserted into the shared tables: each process has lists of its own.
    pub fn apply_remote(&mut self, node: NodeId, link: Link) {
        if let LinkStorage::All(lists) = &mut self.kept {
            lists[node.index()].push(link);
        }
    }

    /// Stores events itself from here on: an observed event is not the attached log's.
    fn detach_from_log(&mut self, last: Option<usize>) {
        let lists = (0..self.degree.len()).map(|n| self.runs(NodeId(n as u32)).0);
        self.kept = match last {
            None => LinkStorage::All(lists.map(<[Link]>::to_vec).collect()),
            Some(k) => {
                let mut ring = vec![Link::default(); self.degree.len() * k];
                for (n, list) in lists.enumerate() {
                    let first = self.degree[n] as usize - list.len();
                    list.iter().enumerate().for_each(|(i, &link)| ring[n * k + (first + i) % k] = link);
                }
                LinkStorage::Ring { k, ring: ring.into() }
            }
        };
    }

    /// Events ever inserted for `node`, kept or not.
    pub fn degree(&self, node: NodeId) -> u64 {
        self.degree[node.index()]
    }

    /// Bytes of the events that are stored here and nowhere else.
    pub fn bytes(&self) -> usize {
        let links: usize = match &self.kept {
            LinkStorage::Ring { k, .. } => self.degree.iter().map(|&degree| (degree as usize).min(*k)).sum(),
            LinkStorage::All(lists) => lists.iter().map(Vec::len).sum(),
            LinkStorage::InLog { .. } => 0,
        };
        links * size_of::<Link>()
    }

    /// The kept events of `node` in two runs, each oldest first, the older run first.
    fn runs(&self, node: NodeId) -> (&[Link], &[Link]) {
        let n = node.index();
        match &self.kept {
            LinkStorage::Ring { k: 0, .. } => (&[], &[]),
            LinkStorage::Ring { k, ring } => {
                let (newer, older) = ring[n * k..][..*k].split_at((self.degree[n] % *k as u64) as usize);
                (if self.degree[n] < *k as u64 { &[] } else { older }, newer)
            }
            LinkStorage::All(lists) => (&lists[n], &[]),
            LinkStorage::InLog { log, last } => {
                let known = &log.of_node(node)[..self.degree[n] as usize];
                (&known[last.map_or(0, |k| known.len().saturating_sub(k))..], &[])
            }
        }
    }

    /// The kept events of `node`, newest first.
    pub fn newest_first(&self, node: NodeId) -> impl Iterator<Item = &Link> {
        let (older, newer) = self.runs(node);
        newer.iter().rev().chain(older.iter().rev()).filter(|link| link.direction != 0)
    }

    /// Whether `link` of `node` is kept.
    pub fn holds(&self, node: NodeId, link: &Link) -> bool {
        self.newest_first(node)
            .any(|kept| (kept.event, kept.node, kept.direction) == (link.event, link.node, link.direction))
    }

    /// Retracts an event of `node`, which need not be kept any more: as if it had never come, except that an older
    /// event it has pushed out does not come back.
    pub fn retract(&mut self, node: NodeId, event: EventId) {
        if let LinkStorage::InLog { last, .. } = self.kept {
            self.detach_from_log(last);
        }
        let kept: Vec<Link> = self.newest_first(node).filter(|link| link.event != event).copied().collect();
        let n = node.index();
        self.degree[n] = self.degree[n].saturating_sub(1);
        match &mut self.kept {
            LinkStorage::Ring { k, ring } => {
                let ring = &mut ring[n * *k..(n + 1) * *k];
                ring.fill(Link::default());
                let newest = self.degree[n] + *k as u64 - 1;
                kept.iter()
                    .enumerate()
                    .for_each(|(back, &link)| ring[((newest - back as u64) % *k as u64) as usize] = link);
            }
            LinkStorage::All(lists) => lists[n] = kept.into_iter().rev().collect(),
            LinkStorage::InLog { .. } => unreachable!("it has just parted from the log"),
        }
    }

    /// Every event of `node` that came before `moment`, oldest first; nothing where only the last events are kept.
    pub fn all_before(&self, node: NodeId, moment: Moment) -> &[Link] {
        until(self.list(node), moment)
    }

    /// The newest kept event of `node` before `moment`.
    pub fn newest_before(&self, node: NodeId, moment: Moment) -> Option<&Link> {
        match &self.kept {
            LinkStorage::Ring { .. } | LinkStorage::InLog { last: Some(_), .. } => {
                self.newest_first(node).find(|link| moment.sees(link))
            }
            LinkStorage::All(_) | LinkStorage::InLog { last: None, .. } => self.all_before(node, moment).last(),
        }
    }

    /// The events of `node`, saved before they change.
    pub fn save(&self, node: NodeId) -> SavedLinks {
        let (n, degree) = (node.index(), self.degree[node.index()]);
        match &self.kept {
            LinkStorage::Ring { k, ring } => SavedLinks { degree, links: ring[n * *k..][..*k].to_vec(), whole: true },
            // Its degree tells which links are new.
            LinkStorage::All(_) | LinkStorage::InLog { .. } => SavedLinks { degree, links: Vec::new(), whole: false },
        }
    }

    /// Call before an event is removed from the list of `node`: saves the links that had settled before event
    /// `unsettled`.
    pub fn save_list(&self, node: NodeId, unsettled: EventId, kept: &mut SavedLinks) {
        if let (LinkStorage::All(lists), false) = (&self.kept, kept.whole) {
            let list = &lists[node.index()];
            *kept = SavedLinks {
                links: list[..list.partition_point(|link| link.event < unsettled)].to_vec(),
                whole: true,
                ..*kept
            };
        }
    }

    /// Swaps the events of `node` with those before event `unsettled`, and saves the current ones in `kept`; `again`
    /// swaps them back.
    pub fn swap(&mut self, node: NodeId, kept: &mut SavedLinks, unsettled: EventId, again: bool) {
        let n = node.index();
        std::mem::swap(&mut self.degree[n], &mut kept.degree);
        match &mut self.kept {
            LinkStorage::Ring { k, ring } => ring[n * *k..][..*k].swap_with_slice(&mut kept.links),
            LinkStorage::All(lists) if kept.whole => std::mem::swap(&mut lists[n], &mut kept.links),
            LinkStorage::All(lists) if again => lists[n].append(&mut kept.links),
            LinkStorage::All(lists) => {
                let settled = lists[n].partition_point(|link| link.event < unsettled);
                kept.links = lists[n].split_off(settled);
            }
            // The degree alone tells how many of the log's events count.
            LinkStorage::InLog { .. } => {}
        }
    }

    /// Forgets the events of `node`; only for a ring.
    ///
    /// # Panics
    /// If all events are kept.
    pub fn forget(&mut self, node: NodeId) {
        let LinkStorage::Ring { k, ring } = &mut self.kept else { panic!("all events of node {} are kept", node.0) };
        ring[node.index() * *k..][..*k].fill(Link::default());
        self.degree[node.index()] = 0;
    }

    /// Forgets all events; the allocated tables stay.
    pub fn clear(&mut self) {
        self.reset_local();
        self.degree.fill(0);
    }

    /// Forgets what is in no table.
    pub fn reset_local(&mut self) {
        if let LinkStorage::All(lists) = &mut self.kept {
            lists.iter_mut().for_each(Vec::clear);
        }
    }

    /// Every kept event of `nodes` as (owner, link), a node's oldest first: what a snapshot stores, together with the
    /// degrees.
    pub fn links(&self, nodes: Range<usize>) -> impl Iterator<Item = (NodeId, Link)> + '_ {
        (nodes.start as u32..nodes.end as u32).map(NodeId).flat_map(move |node| {
            let (older, newer) = self.runs(node);
            older.iter().chain(newer).filter(|link| link.direction != 0).map(move |&link| (node, link))
        })
    }

    pub fn degrees(&self) -> &[u64] {
        &self.degree
    }

    /// Whether all events of every node are kept, in lists that only grow.
    pub fn keeps_all(&self) -> bool {
        matches!(self.kept, LinkStorage::All(_) | LinkStorage::InLog { last: None, .. })
    }

    /// Every event of `node`, oldest first; nothing where only the last are kept.
    pub fn list(&self, node: NodeId) -> &[Link] {
        if self.keeps_all() { self.runs(node).0 } else { &[] }
    }

    /// Rebuilds what [`links`](Adjacency::links) and [`degrees`](Adjacency::degrees) returned; the receiver is empty.
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

/// The part of `links` that came before `moment`: all of it, unless the moment is in the past.
fn until(links: &[Link], moment: Moment) -> &[Link] {
    match links.last() {
        Some(newest) if !moment.sees(newest) => &links[..links.partition_point(|link| moment.sees(link))],
        _ => links,
    }
}

/// The part of `links` from `from` on.
pub(crate) fn since(links: &[Link], from: Timestamp) -> &[Link] {
    match links.first() {
        Some(oldest) if oldest.time < from => &links[links.partition_point(|link| link.time < from)..],
        _ => links,
    }
}
