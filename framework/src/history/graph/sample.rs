//! `Graph::sample_into`: how neighbours are looked up.

use rayon::prelude::*;

use crate::history::graph::adjacency::since;
use crate::history::view::needs::{Delta, Lookup, Sampler};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::history::view::scratch::{Centres, ViewScratch};
use crate::history::view::{Hop, View};
use crate::log::link::Link;
use crate::{Batch, EventId, Graph, Needs, NodeId, PurposeDraw, Queries, Timestamp};

/// Centres whose neighbours one task looks up.
pub(crate) const CENTRES_A_TASK: usize = 128;

/// The neighbours' slots of one centre, `[K]` each.
struct NeighbourSlots<'a> {
    /// The neighbour's node until the rows are known, then its row.
    row: &'a mut [u32],
    event: &'a mut [u64],
    dt: &'a mut [f32],
    time: &'a mut [i64],
}

impl NeighbourSlots<'_> {
    fn put(&mut self, at: usize, link: &Link, dt: f32) {
        (self.row[at], self.event[at], self.dt[at]) = (link.node.0, link.event.0, dt);
        self.time[at] = link.time.0;
    }

    /// Clears what an earlier refill left after the first `count` slots.
    fn blank(&mut self, count: usize) {
        self.row[count..].fill(0);
        self.event[count..].fill(0);
        self.dt[count..].fill(0.0);
    }
}

impl Graph {
    /// Fills the neighbourhood part of `view`: neighbours, facts about pairs and the distinct nodes. It overwrites the
    /// old content and reuses the memory. [`History::view`](crate::History::view) explains `queries`, `during` and
    /// `chance`.
    ///
    /// Features and memories are still to be read: the old ones belong to other nodes.
    ///
    /// # Panics
    /// If a root or the batch names a node that the graph does not hold: callers check ids at their entry points.
    pub fn sample_into(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw, view: &mut View) {
        let earliest = queries.times().iter().chain(during.and_then(|batch| batch.time.first())).min();
        view.before = earliest.copied().unwrap_or(Timestamp(i64::MAX));
        let View { before, nodes, hops, roots, window, pairs, walks, work, .. } = view;
        let ViewScratch { present, centres, named, rows, times, parts, walked, .. } = work;
        self.collect_pending(during, present);
        present.shown_before = *before;
        self.fill_walks(queries, present, walked, walks);
        named.make_room(self.nodes());
        rows.make_room(self.nodes());
        hops.resize_with(self.needs.layers, Hop::default);
        centres.resize_with(self.needs.layers, Centres::default);
        self.index_roots(queries, centres.first_mut(), roots);
        window.clear();
        for depth in 0..hops.len() {
            let (above, below) = centres.split_at_mut(depth + 1);
            let (hop, looked) = (&mut hops[depth], &above[depth]);
            self.sample_hop(looked, present, chance, hop, times);
            if depth == 0 {
                self.fill_pair_facts(queries, Some(hop), roots, present, pairs);
                if let Some(look) = self.needs.window_spec() {
                    self.fill_window(look, (&looked.nodes, &looked.moments), present, (hop, times), parts, window);
                    window.row.iter().for_each(|&node| named.insert(NodeId(node)));
                }
            }
            match below.first_mut() {
                Some(below) => {
                    below.clear(self.nodes());
                    self.index_next_hop(hop, &looked.moments, times, below);
                }
                None => slots_of(hop).for_each(|node| named.insert(NodeId(*node))),
            }
        }
        if hops.is_empty() {
            self.fill_pair_facts(queries, None, roots, present, pairs);
            queries.nodes().iter().for_each(|&node| named.insert(node));
        }
        during.into_iter().flat_map(|batch| batch.src.iter().chain(batch.dst)).for_each(|&node| named.insert(node));
        named.drain_to(nodes);
        rows.note_all(nodes);
        let row = |node: &mut u32| *node = rows.of(NodeId(*node), nodes).unwrap_or_default() as u32;
        match hops.last_mut() {
            Some(hop) => slots_of(hop).for_each(row),
            None => roots.iter_mut().for_each(row),
        }
        window.row.iter_mut().for_each(row);
        view.version = self.version;
    }

    /// The row of each root: a centre of the first hop or, without hops, its node, whose row is not known yet.
    fn index_roots(&self, queries: &Queries, centres: Option<&mut Centres>, roots: &mut Vec<u32>) {
        roots.clear();
        let Some(centres) = centres else { return roots.extend(queries.nodes().iter().map(|node| node.0)) };
        centres.clear(self.nodes());
        let end = self.end_of_known();
        roots.extend(queries.nodes().iter().enumerate().map(|(root, &node)| {
            let moment = match (self.moment(queries, root), end) {
                (Moment::Time(time), Some(end)) => Moment::Time(time.min(end)),
                (moment, _) => moment,
            };
            centres.row(node, moment)
        }));
    }

    /// The moment of a root's query under the graph's lookup.
    pub(crate) fn moment(&self, queries: &Queries, root: usize) -> Moment {
        let (time, place) = (queries.times()[root], queries.log_positions()[root]);
        match self.needs.lookup {
            Lookup::Ordered => Moment::Position(time, place),
            Lookup::Exact | Lookup::Batch => Moment::Time(time),
        }
    }

    /// The first time after all observed events, if all that a model is shown of a node is the same from then on.
    fn end_of_known(&self) -> Option<Timestamp> {
        let Needs { lookup, delta, sampler, idle, .. } = self.needs;
        let dated = idle || self.needs.age || self.needs.shows_mail_times() || self.needs.window_is_timed();
        let still = (lookup, delta, sampler, dated) == (Lookup::Batch, Delta::SinceUpdate, Sampler::Recent, false);
        still.then(|| self.newest().map_or(Timestamp(i64::MIN), |newest| Timestamp(newest.0.saturating_add(1))))
    }

    /// The pending events that a query may see in addition to the settled ones.
    pub(crate) fn collect_pending(&self, during: Option<&Batch<'_>>, present: &mut PendingIndex) {
        let own = during.copied().filter(|_| self.needs.lookup != Lookup::Batch);
        present.refill(self.nodes(), || self.pending.iter().copied().chain(own.into_iter().flat_map(Batch::events)));
    }

    /// Finds the neighbours of `centres`. Rows hold node numbers until they are known.
    fn sample_hop(
        &self,
        centres: &Centres,
        present: &PendingIndex,
        chance: PurposeDraw,
        hop: &mut Hop,
        times: &mut Vec<i64>,
    ) {
        let (k, Centres { nodes, moments, .. }) = (self.needs.neighbours, centres);
        let found = &mut hop.neighbours;
        (found.roots, found.k) = (nodes.len(), k);
        found.count.resize(nodes.len(), 0);
        found.row.resize(nodes.len() * k, 0);
        found.event.resize(nodes.len() * k, 0);
        found.dt.resize(nodes.len() * k, 0.0);
        times.resize(nodes.len() * k, 0);
        hop.centres.clear();
        hop.centres.extend(nodes.iter().map(|node| node.0));
        hop.idle.clear();
        if self.needs.idle {
            let updated = |node| self.memory_time_at(node, present.shown_before);
            hop.idle.extend(nodes.iter().zip(moments).map(|(&node, moment)| moment.time().since(updated(node))));
        }
        hop.age.clear();
        if self.needs.age {
            hop.age.extend(moments.iter().map(|moment| moment.time().since(self.origin)));
        }
        if k == 0 {
            return found.count.fill(0);
        }
        let slots = CENTRES_A_TASK * k;
        let found = found
            .row
            .par_chunks_mut(slots)
            .zip(found.event.par_chunks_mut(slots))
            .zip(found.dt.par_chunks_mut(slots))
            .zip(times.par_chunks_mut(slots))
            .zip(found.count.par_chunks_mut(CENTRES_A_TASK));
        let centres = nodes.par_chunks(CENTRES_A_TASK).zip(moments.par_chunks(CENTRES_A_TASK));
        centres.zip(found).for_each(|((nodes, moments), ((((row, event), dt), time), count))| {
            let slots = row
                .chunks_mut(k)
                .zip(event.chunks_mut(k))
                .zip(dt.chunks_mut(k))
                .zip(time.chunks_mut(k))
                .map(|(((row, event), dt), time)| NeighbourSlots { row, event, dt, time });
            for (((&node, &moment), mut slots), count) in nodes.iter().zip(moments).zip(slots).zip(count) {
                let found = match self.needs.sampler {
                    Sampler::Recent => self.last_before(node, moment, present, &mut slots),
                    Sampler::Uniform => {
                        self.drawn_before(node, moment, Timestamp(i64::MIN), present, chance, &mut slots)
                    }
                    Sampler::Window(ticks) => {
                        let from = Timestamp(moment.time().0.saturating_sub(ticks));
                        self.drawn_before(node, moment, from, present, chance, &mut slots)
                    }
                };
                slots.blank(found);
                *count = found as u32;
            }
        });
    }

    /// Fills the slots with the newest links before `moment`, newest first, and returns their number.
    fn last_before(
        &self,
        node: NodeId,
        moment: Moment,
        present: &PendingIndex,
        slots: &mut NeighbourSlots<'_>,
    ) -> usize {
        let mut count = 0;
        // `for_each` instead of `for`, so that a chain of iterators is compiled to one loop for each link of the
        // chain.
        self.newest_links(node, moment, present).take(self.needs.neighbours).for_each(|link| {
            slots.put(count, link, self.delta(link, moment, present));
            count += 1;
        });
        count
    }

    /// The links of `node` before `moment`, newest first.
    pub(crate) fn newest_links<'a>(
        &'a self,
        node: NodeId,
        moment: Moment,
        present: &'a PendingIndex,
    ) -> impl Iterator<Item = &'a Link> {
        self.all_links(node, moment, present).filter(|link| self.leads_to_current_node(link))
    }

    /// As `newest_links`, but with links to forgotten nodes.
    pub(crate) fn all_links<'a>(
        &'a self,
        node: NodeId,
        moment: Moment,
        present: &'a PendingIndex,
    ) -> impl Iterator<Item = &'a Link> {
        let all = self.adjacency.all_before(node, moment).iter().rev().filter(|link| link.direction != 0);
        let last = (!self.adjacency.keeps_all()).then(|| self.adjacency.newest_first(node));
        let last = last.into_iter().flatten().skip_while(move |link| !moment.sees(link));
        present.before(node, moment).iter().rev().chain(all).chain(last)
    }

    /// Draws a link for each slot, with replacement, from those between `from` and `moment`; newest first.
    fn drawn_before(
        &self,
        node: NodeId,
        moment: Moment,
        from: Timestamp,
        present: &PendingIndex,
        chance: PurposeDraw,
        slots: &mut NeighbourSlots<'_>,
    ) -> usize {
        let [settled, fresh] =
            [self.adjacency.all_before(node, moment), present.before(node, moment)].map(|links| since(links, from));
        let all = settled.len() + fresh.len();
        if all == 0 {
            return 0;
        }
        // Each draw is a distance back from the newest link; in ascending order they are newest first.
        let mut draw = chance.at(node.0, moment.time().0 as u64);
        slots.row.iter_mut().for_each(|back| *back = draw.below(all as u32));
        slots.row.sort_unstable();
        for slot in 0..slots.row.len() {
            let at = all - 1 - slots.row[slot] as usize;
            let link = settled.get(at).unwrap_or_else(|| &fresh[at - settled.len()]);
            slots.put(slot, link, self.delta(link, moment, present));
        }
        slots.row.len()
    }

    /// The time difference shown with a neighbour.
    pub(crate) fn delta(&self, link: &Link, moment: Moment, present: &PendingIndex) -> f32 {
        match self.needs.delta {
            Delta::SinceEvent => moment.time().since(link.time),
            Delta::SinceUpdate => self.memory_time_at(link.node, present.shown_before).since(link.time),
        }
    }

    /// Replaces the rows of `hop` by centres of the hop below it: its own centres at the same moments, and their
    /// neighbours at those or, where the model needs that, at the events, which were at `times`.
    fn index_next_hop(&self, hop: &mut Hop, moments: &[Moment], times: &[i64], below: &mut Centres) {
        for (row, &moment) in hop.centres.iter_mut().zip(moments) {
            *row = below.row(NodeId(*row), moment);
        }
        let (found, k) = (&mut hop.neighbours, self.needs.neighbours.max(1));
        let slots = found.row.chunks_mut(k).zip(found.event.chunks(k).zip(times.chunks(k)));
        for (((row, (event, time)), &count), &moment) in slots.zip(&found.count).zip(moments) {
            for (slot, row) in row[..count as usize].iter_mut().enumerate() {
                let moment = match moment {
                    _ if !self.needs.before_events => moment,
                    Moment::Time(_) => Moment::Time(Timestamp(time[slot])),
                    Moment::Position(..) => Moment::Position(Timestamp(time[slot]), EventId(event[slot])),
                };
                *row = below.row(NodeId(*row), moment);
            }
        }
    }
}

/// The centres of `hop` and their neighbours, repeats included.
fn slots_of(hop: &mut Hop) -> impl Iterator<Item = &mut u32> {
    let found = &mut hop.neighbours;
    let neighbours =
        found.row.chunks_mut(found.k.max(1)).zip(&found.count).flat_map(|(row, &count)| &mut row[..count as usize]);
    hop.centres.iter_mut().chain(neighbours)
}
