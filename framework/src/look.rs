//! `History::view`: how the past is read.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tempograph_kernels::{MailPlan, Neighbours};

use crate::adjacency::Link;
use crate::needs::{Combine, Delta, Lookup, OtherMemory, Sampler};
use crate::pairs::{PairFact, Recency};
use crate::present::{Moment, Present};
use crate::view::{Hop, MailView, ManyMails, View};
use crate::{Batch, History, NodeId, PurposeDraw, Queries, Timestamp};

/// Nodes at times whose neighbours are asked, and the links found: `[C]` and `[C, K]`.
#[derive(Default)]
struct Look {
    centres: Vec<(NodeId, Moment)>,
    count: Vec<u32>,
    links: Vec<Link>,
}

impl Look {
    /// The links of centre `c`, newest first.
    fn of(&self, c: usize, k: usize) -> &[Link] {
        &self.links[c * k..][..self.count[c] as usize]
    }
}

impl History {
    /// Reads the past of the roots of `queries`, strictly before each root's time.
    ///
    /// `during` is the batch in hand: exact lookups see its earlier events too. All nodes it touches are in the view, so that the
    /// forward pass can say what observing it will write. `chance` draws uniform neighbours; a root's draw depends on its node and
    /// time only. Every layer looks at the root's time (as the TGN authors' code does), since the memories are those of now.
    ///
    /// # Panics
    /// If a root or the batch names a node the history has no room for: callers check ids where they enter.
    pub fn view(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw) -> View {
        let present = self.present(during);
        let roots: Vec<_> = (0..queries.len()).map(|root| (queries.nodes()[root], self.moment(queries, root))).collect();
        let mut looks = Vec::with_capacity(self.needs.layers);
        let mut centres = roots.clone();
        for layer in 0..self.needs.layers {
            let look = self.look(centres, &present, chance);
            centres = if layer + 1 < self.needs.layers { below(&look, self.needs.neighbours) } else { Vec::new() };
            looks.push(look);
        }
        let named = looks.last().map(|look: &Look| names(look, self.needs.neighbours)).unwrap_or_default();
        let touched = during.into_iter().flat_map(|batch| batch.src.iter().chain(batch.dst)).copied();
        let (nodes, row_of) = distinct(named.into_iter().chain(queries.nodes().iter().copied()).chain(touched));
        let pairs = if self.needs.pairs { self.facts(queries, looks.first(), &present) } else { Vec::new() };
        View {
            version: self.version,
            mail: self.read_mail(&nodes),
            hops: self.hops(looks, &row_of),
            roots: match self.needs.layers {
                0 => queries.nodes().iter().map(|node| row_of[node]).collect(),
                _ => (0..queries.len() as u32).collect(),
            },
            nodes,
            pairs,
            edge_features: self.features.edges.clone(),
            node_features: self.features.nodes.clone(),
        }
    }

    /// When a root is asked about, as the history's lookup means it.
    fn moment(&self, queries: &Queries, root: usize) -> Moment {
        let (time, place) = (queries.times()[root], queries.places()[root]);
        match self.needs.lookup {
            Lookup::Ordered => Moment::Place(time, place),
            Lookup::Exact | Lookup::Batch => Moment::Time(time),
        }
    }

    fn look(&self, centres: Vec<(NodeId, Moment)>, present: &Present, chance: PurposeDraw) -> Look {
        let k = self.needs.neighbours;
        let mut look = Look { count: vec![0; centres.len()], links: vec![Link::default(); centres.len() * k], centres };
        for (c, slots) in look.links.chunks_mut(k.max(1)).enumerate() {
            let (node, moment) = look.centres[c];
            let fresh = present.before(node, moment);
            look.count[c] = match self.needs.sampler {
                Sampler::Recent => self.last_before(node, moment, fresh, slots),
                Sampler::Uniform => self.uniform_before(node, moment, fresh, slots, chance),
            };
        }
        look
    }

    /// Fills `slots` with the newest links before `moment`, newest first, and says how many there were.
    fn last_before(&self, node: NodeId, moment: Moment, fresh: &[Link], slots: &mut [Link]) -> u32 {
        let skip = self.adjacency.not_before(node, moment);
        let settled = (skip..self.adjacency.len(node)).map(|back| self.adjacency.newest(node, back));
        let mut count = 0;
        for (slot, link) in slots.iter_mut().zip(fresh.iter().rev().copied().chain(settled)) {
            *slot = link;
            count += 1;
        }
        count
    }

    /// Fills `slots` with links before `moment` drawn with replacement, newest first.
    fn uniform_before(&self, node: NodeId, moment: Moment, fresh: &[Link], slots: &mut [Link], chance: PurposeDraw) -> u32 {
        let skip = self.adjacency.not_before(node, moment);
        let settled = self.adjacency.len(node) - skip;
        let all = (settled + fresh.len()) as u32;
        if all == 0 {
            return 0;
        }
        let mut draw = chance.at(node.0, moment.time().0 as u64);
        for slot in slots.iter_mut() {
            let back = draw.below(all) as usize;
            *slot = match fresh.len().checked_sub(back + 1) {
                Some(at) => fresh[at],
                None => self.adjacency.newest(node, skip + back - fresh.len()),
            };
        }
        slots.sort_by_key(|link| std::cmp::Reverse((link.time, link.event)));
        slots.len() as u32
    }

    fn hops(&self, looks: Vec<Look>, row_of: &FxHashMap<NodeId, u32>) -> Vec<Hop> {
        let depth = looks.len();
        let mut hops = Vec::with_capacity(depth);
        let mut above = looks.into_iter().peekable();
        while let Some(look) = above.next() {
            let hop = match above.peek() {
                None => self.hop(&look, |node, _| row_of[&node]),
                Some(next) => {
                    let place: FxHashMap<_, _> = next.centres.iter().enumerate().map(|(i, &centre)| (centre, i as u32)).collect();
                    self.hop(&look, |node, moment| place[&(node, moment)])
                }
            };
            hops.push(hop);
        }
        hops
    }

    /// One hop with its rows named by `row`, a function of (node, moment of the query).
    fn hop(&self, look: &Look, row: impl Fn(NodeId, Moment) -> u32) -> Hop {
        let k = self.needs.neighbours;
        let slots = look.centres.len() * k;
        let mut neighbours = Neighbours {
            roots: look.centres.len(),
            k,
            count: look.count.clone(),
            row: vec![0; slots],
            event: vec![0; slots],
            dt: vec![0.0; slots],
        };
        for (c, &(_, moment)) in look.centres.iter().enumerate() {
            for (j, link) in look.of(c, k).iter().enumerate() {
                let slot = c * k + j;
                neighbours.row[slot] = row(link.node, moment);
                neighbours.event[slot] = link.event.0;
                neighbours.dt[slot] = match self.needs.delta {
                    Delta::SinceEvent => moment.time().since(link.time),
                    Delta::SinceUpdate => self.updated_with_mail(link.node).since(link.time),
                };
            }
        }
        let centres = look.centres.iter().map(|&(node, moment)| row(node, moment)).collect();
        let idle = look.centres.iter().map(|&(node, moment)| moment.time().since(self.updated_with_mail(node))).collect();
        Hop { centres, neighbours, idle }
    }

    /// When the memory of `node` is from, once its waiting mail is read.
    fn updated_with_mail(&self, node: NodeId) -> Timestamp {
        self.mailbox.waiting(node).last().map_or(self.updated[node.index()], |mail| mail.time)
    }

    fn read_mail(&self, nodes: &[NodeId]) -> MailView {
        let width = self.needs.memory;
        let mut memory = Vec::with_capacity(nodes.len() * width);
        let mut mails = ManyMails { unique: nodes.len(), ..ManyMails::default() };
        for (row, &node) in nodes.iter().enumerate() {
            memory.extend_from_slice(self.memory_of(node));
            let waiting = self.mailbox.waiting(node);
            if width == 0 || (waiting.is_empty() && !self.needs.mail.update_without_mail) {
                continue;
            }
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
        mails.memory = memory;
        match self.mailbox.rule().combine {
            Combine::Last => MailView::Last(Arc::new(one_each(mails, width, self.features.edges.clone()))),
            Combine::Mean => MailView::Many(Arc::new(mails)),
        }
    }

    fn memory_of(&self, node: NodeId) -> &[f32] {
        &self.memory[node.index() * self.needs.memory..][..self.needs.memory]
    }

    fn facts(&self, queries: &Queries, look: Option<&Look>, present: &Present) -> Vec<PairFact> {
        let links = |root: u32| look.map_or(&[][..], |look| look.of(root as usize, self.needs.neighbours));
        let fact = |pair: &crate::Pair| {
            let [src, dst] = [pair.src, pair.dst].map(|root| queries.nodes()[root as usize]);
            let moment = self.moment(queries, pair.src as usize);
            let time = moment.time();
            let (count, last) = self.together(src, dst, moment, present);
            let (of_src, of_dst) = (links(pair.src), links(pair.dst));
            PairFact {
                count,
                since_last: last.map(|last| time.since(last)),
                in_src: Recency::of(dst, of_src.iter().map(|link| link.node)),
                in_dst: Recency::of(src, of_dst.iter().map(|link| link.node)),
                common: common(of_src, of_dst),
                degrees: [src, dst].map(|node| self.adjacency.degree(node) + present.before(node, moment).len() as u64),
                idle: [src, dst].map(|node| self.newest_before(node, moment, present).map(|newest| time.since(newest))),
            }
        };
        queries.pairs().iter().map(fact).collect()
    }

    /// How often `src` turned to `dst` before `moment`, and when last.
    fn together(&self, src: NodeId, dst: NodeId, moment: Moment, present: &Present) -> (u32, Option<Timestamp>) {
        let settled = self.pairs.get(src, dst).filter(|&(_, last)| last < moment.time());
        let fresh = present.before(src, moment).iter().filter(|link| link.node == dst && link.outgoing == 1);
        let (mut count, mut last) = settled.map_or((0, None), |(count, last)| (count, Some(last)));
        for link in fresh {
            count += 1;
            last = Some(link.time);
        }
        (count, last)
    }

    fn newest_before(&self, node: NodeId, moment: Moment, present: &Present) -> Option<Timestamp> {
        present.before(node, moment).last().map(|link| link.time).or_else(|| {
            let skip = self.adjacency.not_before(node, moment);
            (skip < self.adjacency.len(node)).then(|| self.adjacency.newest(node, skip).time)
        })
    }
}

/// The centres the hop below `look` has to embed: its own and their neighbours, at the same query times, each once.
fn below(look: &Look, k: usize) -> Vec<(NodeId, Moment)> {
    let mut seen = FxHashMap::default();
    let mut centres = Vec::new();
    let neighbours =
        look.centres.iter().enumerate().flat_map(|(c, &(_, moment))| look.of(c, k).iter().map(move |link| (link.node, moment)));
    for centre in look.centres.iter().copied().chain(neighbours) {
        seen.entry(centre).or_insert_with(|| centres.push(centre));
    }
    centres
}

/// Every node a hop names, repeats included.
fn names(look: &Look, k: usize) -> Vec<NodeId> {
    let neighbours = (0..look.centres.len()).flat_map(|c| look.of(c, k)).map(|link| link.node);
    look.centres.iter().map(|&(node, _)| node).chain(neighbours).collect()
}

/// The distinct nodes, ascending, and the row of each.
fn distinct(named: impl Iterator<Item = NodeId>) -> (Vec<NodeId>, FxHashMap<NodeId, u32>) {
    let mut row_of: FxHashMap<NodeId, u32> = named.map(|node| (node, 0)).collect();
    let mut nodes: Vec<NodeId> = row_of.keys().copied().collect();
    nodes.sort_unstable();
    for (row, node) in nodes.iter().enumerate() {
        row_of.insert(*node, row as u32);
    }
    (nodes, row_of)
}

/// Distinct nodes that stand in both lists.
fn common(a: &[Link], b: &[Link]) -> u32 {
    let first = |i: usize| a[..i].iter().all(|earlier| earlier.node != a[i].node);
    (0..a.len()).filter(|&i| first(i) && b.iter().any(|link| link.node == a[i].node)).count() as u32
}

/// Mails of which no node has more than one, in the form the fused updater reads.
fn one_each(mails: ManyMails, width: usize, features: Option<Arc<dyn tempograph_kernels::Rows>>) -> MailPlan {
    let updated = mails.rows.len();
    let mut plan = MailPlan {
        unique: mails.unique,
        memory: mails.memory,
        rows: mails.rows,
        empty: vec![false; updated],
        other: vec![0.0; updated * width],
        event: vec![0; updated],
        dt: vec![0.0; updated],
        features,
    };
    for row in 0..updated {
        let (at, end) = (mails.starts[row] as usize, mails.starts[row + 1] as usize);
        plan.empty[row] = at == end;
        if at < end {
            plan.other[row * width..][..width].copy_from_slice(&mails.other[at * width..][..width]);
            plan.event[row] = mails.event[at];
            plan.dt[row] = mails.dt[at];
        }
    }
    plan
}
