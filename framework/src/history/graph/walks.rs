//! Temporal walk matrices, kept small by a random projection: state of nodes that follows from the events alone.
//!
//! TPNet: "Improving Temporal Link Prediction via Temporal Walk Matrix Projection", Lu et al., NeurIPS 2024
//! (arXiv:2410.04013), theorem 1 and algorithm 1.
//!
//! ```text
//! A^l_u(t) [w] = sum over walks u -> .. -> w of l events, at t > t_1 > .. > t_l, of exp(-lambda (t - t_1)) .. exp(-lambda (t - t_l))
//! P^l_u(t)     = A^l_u(t) P^0                     the rows that are kept, d numbers each; P^0 is Gaussian of variance 1 / d
//! event (u, v) at t:   P^l_u += P^(l-1)_v,   P^l_v += P^(l-1)_u,   each from before the event
//! between events:      P^l_u(t + dt) = exp(-lambda l dt) P^l_u(t)
//! ```
//!
//! Differs:
//! - the authors' code updates a batch at a time, from the rows before the batch; here a row depends on the events
//!   only, however they are batched;
//! - as in the paper, events of one time are never steps of the same walk; with [`Lookup::Ordered`] the position in
//!   the log counts as well;
//! - an event of a node with itself is one step and not two.

use std::ops::Range;

use rayon::prelude::*;

use crate::history::view::pending_index::{ENDS, Moment, PendingIndex};
use crate::history::view::scratch::WalkScratch;
use crate::log::link::Link;
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{Draw, Event, EventId, Graph, Lookup, NodeId, Purpose, Queries, Timestamp, WalkRule};

/// Roots whose rows one task shows.
const ROOTS_A_TASK: usize = 64;
/// Nodes whose first row one task draws. Fewer are drawn without tasks.
const NODES_A_TASK: usize = 1024;
/// Position of a row that is not needed.
const NOWHERE: u32 = u32::MAX;

/// The rows of every node, as of its newest settled event.
#[derive(Clone, Debug)]
pub(crate) struct Walks {
    rule: WalkRule,
    origin: Timestamp,
    /// `[N, (L + 1) d]`: row 0 of a node, which never changes, then rows 1 to `L`.
    rows: Buffer<f32>,
    /// `[N]` the time rows 1 to `L` are of: that of the node's newest settled event.
    at: Buffer<Timestamp>,
}

/// The rows that a node had, saved for an undo log.
#[derive(Debug)]
pub(crate) struct SavedWalks {
    rows: Vec<f32>,
    at: Timestamp,
}

/// Rows 1 to `L` of a node at some time.
#[derive(Clone, Copy)]
struct WalkRows<'a> {
    rows: &'a [f32],
    at: Timestamp,
}

impl Walks {
    /// Rows of `nodes` nodes without events.
    pub fn new(nodes: usize, rule: WalkRule, origin: Timestamp) -> Walks {
        let mut walks = Walks { rule, origin, rows: Buffer::default(), at: Buffer::default() };
        walks.grow(nodes);
        walks
    }

    /// Grows the tables to hold node numbers below `nodes` and draws the new nodes' first rows; existing values stay.
    pub fn grow(&mut self, nodes: usize) {
        let before = self.at.len();
        self.rows.resize(nodes * self.rule.numbers(), 0.0);
        self.at.resize(nodes, self.origin);
        self.draw(before, false);
    }

    /// Forgets all events; the allocated tables stay. First rows are drawn where there are none yet, and with `again`
    /// where numbers were reused.
    pub fn reset(&mut self, again: bool) {
        let Walks { rule, rows, at, origin } = self;
        rows.chunks_exact_mut(rule.numbers()).for_each(|rows| rows[rule.width..].fill(0.0));
        at.fill(*origin);
        self.draw(0, again);
    }

    /// Draws the first rows of the nodes from `from` on that have none, or with `again` of all.
    fn draw(&mut self, from: usize, again: bool) {
        let (rule, numbers) = (self.rule, self.rule.numbers());
        let all = &mut self.rows[from * numbers..];
        let each = |(n, rows): (usize, &mut [f32])| {
            let row = &mut rows[..rule.width];
            if again || row.iter().all(|&number| number == 0.0) {
                draw_row(&rule, NodeId((from + n) as u32), EventId(0), row);
            }
        };
        match all.len() <= NODES_A_TASK * numbers {
            true => all.chunks_exact_mut(numbers).enumerate().for_each(each),
            false => all.par_chunks_exact_mut(numbers).with_min_len(NODES_A_TASK).enumerate().for_each(each),
        }
    }

    /// Its tables, each with the number of entries for a node.
    pub fn tables(&mut self) -> [(&mut dyn AnyBuffer, usize); 2] {
        let numbers = self.rule.numbers();
        [(&mut self.rows, numbers), (&mut self.at, 1)]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * self.rows.len() + 8 * self.at.len()
    }

    /// Applies events of which each sees those before it.
    pub fn apply_in_order(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.apply(std::slice::from_ref(event)));
    }

    /// Applies events of one time, of which none sees another.
    pub fn apply(&mut self, events: &[Event]) {
        for event in events {
            [event.src, event.dst].into_iter().for_each(|node| self.decay_to(node, event.time));
        }
        let (numbers, width) = (self.rule.numbers(), self.rule.width);
        // From the last row down: row `l` is computed from row `l - 1` as it was before the event.
        for layer in (1..=self.rule.layers).rev() {
            for event in events {
                let [src, dst] = [event.src, event.dst].map(|node| node.index() * numbers + layer * width);
                add(&mut self.rows, src, dst - width, width);
                if event.src != event.dst {
                    add(&mut self.rows, dst, src - width, width);
                }
            }
        }
    }

    /// Decays the rows of `node` to `time`; the node has no later event before that time.
    fn decay_to(&mut self, node: NodeId, time: Timestamp) {
        let (numbers, width) = (self.rule.numbers(), self.rule.width);
        let at = std::mem::replace(&mut self.at[node.index()], time);
        if at == time {
            return;
        }
        let rows = &mut self.rows[node.index() * numbers..][..numbers];
        for (row, factor) in rows[width..].chunks_exact_mut(width).zip(decay_factors(self.rule.decay, at, time)) {
            row.iter_mut().for_each(|number| *number *= factor);
        }
    }

    /// Resets the rows of `node` to those of a new node, whose first event is `first` or later: walks that ended at
    /// the old node do not end at it.
    pub fn forget(&mut self, node: NodeId, first: EventId) {
        self.redraw_row(node, first);
        let rule = self.rule;
        self.rows[node.index() * rule.numbers()..][..rule.numbers()][rule.width..].fill(0.0);
        self.at[node.index()] = self.origin;
    }

    /// Draws the first row of a node whose number was reused at event `first`.
    pub fn redraw_row(&mut self, node: NodeId, first: EventId) {
        let rule = self.rule;
        draw_row(&rule, node, first, &mut self.rows[node.index() * rule.numbers()..][..rule.width]);
    }

    /// A copy of all state of `node`, before it changes.
    pub fn save(&self, node: NodeId) -> SavedWalks {
        let numbers = self.rule.numbers();
        SavedWalks { rows: self.rows[node.index() * numbers..][..numbers].to_vec(), at: self.at[node.index()] }
    }

    /// Swaps the state of `node` with a saved one.
    pub fn swap(&mut self, node: NodeId, kept: &mut SavedWalks) {
        let numbers = self.rule.numbers();
        self.rows[node.index() * numbers..][..numbers].swap_with_slice(&mut kept.rows);
        std::mem::swap(&mut self.at[node.index()], &mut kept.at);
    }

    /// Numbers of a node that are stored, `L d`: row 0 follows from the seed.
    pub fn stored(&self) -> usize {
        self.rule.layers * self.rule.width
    }

    /// Rows 1 to `L` of `nodes`, and the times they are of.
    pub fn store(&self, nodes: Range<usize>) -> (Vec<f32>, &[Timestamp]) {
        let rows = nodes.clone().flat_map(|node| self.changing(node)).copied().collect();
        (rows, &self.at[nodes])
    }

    /// Restores what [`store`](Walks::store) returned for all nodes.
    pub fn restore(&mut self, rows: &[f32], at: impl Iterator<Item = Timestamp>) {
        let (numbers, stored) = (self.rule.numbers(), self.stored());
        if stored > 0 {
            let held = self.rows.chunks_exact_mut(numbers).zip(rows.chunks_exact(stored));
            held.for_each(|(held, rows)| held[numbers - stored..].copy_from_slice(rows));
        }
        self.at.iter_mut().zip(at).for_each(|(held, at)| *held = at);
    }

    /// Row 0 of a node, `[d]`.
    fn fixed(&self, node: NodeId) -> &[f32] {
        &self.rows[node.index() * self.rule.numbers()..][..self.rule.width]
    }

    /// Rows 1 to `L` of a node, `[L, d]`.
    fn changing(&self, node: usize) -> &[f32] {
        &self.rows[node * self.rule.numbers()..][..self.rule.numbers()][self.rule.width..]
    }

    /// The settled rows of `node`, if all its settled events came before `moment`. `settled` is the number of the
    /// first event that has not settled. Earlier rows are not known any more.
    fn before(&self, node: NodeId, moment: Moment, settled: EventId) -> Option<WalkRows<'_>> {
        let at = self.at[node.index()];
        let known = match moment {
            Moment::Time(time) => at < time,
            Moment::Position(time, place) => at < time || at == time && place >= settled,
        };
        known.then(|| WalkRows { rows: self.changing(node.index()), at })
    }
}

/// The factors of rows 1, 2, .. from `at` to `time`.
fn decay_factors(decay: f64, at: Timestamp, time: Timestamp) -> impl Iterator<Item = f32> {
    let ticks = time.0.saturating_sub(at.0).max(0) as f64;
    let step = (-decay * ticks).exp();
    std::iter::successors(Some(step), move |all| Some(all * step)).map(|all| all as f32)
}

fn draw_row(rule: &WalkRule, node: NodeId, first: EventId, row: &mut [f32]) {
    let mut chance = Draw::new(rule.seed).of(Purpose::Walks).at(node.0, first.0);
    let scale = 1.0 / (rule.width as f64).sqrt();
    row.iter_mut().for_each(|number| *number = (scale * chance.normal()) as f32);
}

/// Adds `width` numbers starting at `from` to those starting at `to`; they do not overlap.
fn add(rows: &mut [f32], to: usize, from: usize, width: usize) {
    let (low, high) = rows.split_at_mut(to.max(from));
    let (sum, addend) =
        if to < from { (&mut low[to..][..width], &high[..width]) } else { (&mut high[..width], &low[from..][..width]) };
    sum.iter_mut().zip(addend).for_each(|(sum, number)| *sum += number);
}

impl Graph {
    /// Applies the pending events to the rows of walks, if these are kept.
    pub(crate) fn flush_pending_walks(&mut self) {
        let Some(walks) = &mut self.walks else { return };
        match self.needs.lookup {
            Lookup::Ordered => walks.apply_in_order(&self.pending),
            Lookup::Exact | Lookup::Batch => walks.apply(&self.pending),
        }
    }

    /// Overwrites `shown` with the rows of each root at its moment, `[R, (L + 1) d]`, if the model needs them: settled
    /// rows, updated by the pending events before the moment.
    pub(crate) fn fill_walks(
        &self,
        queries: &Queries,
        present: &PendingIndex,
        work: &mut WalkScratch,
        shown: &mut Vec<f32>,
    ) {
        let (Some(walks), false) = (&self.walks, queries.is_empty()) else { return shown.clear() };
        let numbers = walks.rule.numbers();
        shown.resize(queries.len() * numbers, 0.0);
        let reader = Reader { graph: self, walks, present, settled: self.first_pending() };
        work.find(&reader, queries);
        work.fill(&reader);
        let work = &*work;
        shown.par_chunks_mut(ROOTS_A_TASK * numbers).enumerate().for_each(|(task, rows)| {
            for (i, rows) in rows.chunks_exact_mut(numbers).enumerate() {
                let root = task * ROOTS_A_TASK + i;
                reader.show(work, queries.nodes()[root], self.moment(queries, root), rows);
            }
        });
    }

    /// Number of the first event that has not settled, or of the next to come.
    pub(crate) fn first_pending(&self) -> EventId {
        self.pending.first().map_or(EventId(self.seen), |event| event.id)
    }
}

/// Reads rows as of moments.
struct Reader<'a> {
    graph: &'a Graph,
    walks: &'a Walks,
    present: &'a PendingIndex,
    settled: EventId,
}

impl Reader<'_> {
    /// The last pending link of `node` that a query at `moment` sees: its row is the node's row then. Without an
    /// ordered lookup, all events of one time are seen or none.
    fn last_link(&self, node: NodeId, moment: Moment) -> Option<usize> {
        let links = self.present.places_before(node, moment);
        (!links.is_empty()).then(|| links.end - 1)
    }

    /// The moment up to which an event, `link` for its owner, sees.
    fn moment_of(&self, link: &Link) -> Moment {
        match self.graph.needs.lookup {
            Lookup::Ordered => Moment::Position(link.time, link.event),
            Lookup::Exact | Lookup::Batch => Moment::Time(link.time),
        }
    }

    /// The links of `owner` that are applied together and end with `last`, and the moment up to which they see.
    fn group(&self, owner: NodeId, last: usize) -> (Moment, &[Link]) {
        let links = self.present.links();
        let moment = self.moment_of(&links[last]);
        let first = self.present.places_before(owner, moment).end;
        (moment, &links[first.min(last)..=last])
    }

    /// Rows 1 to `L` of `node` at the newest of its events before `moment`. `done` are the rows after pending links,
    /// at the positions in `place`.
    fn rows<'a>(&'a self, (place, done): (&[u32], &'a [f32]), node: NodeId, moment: Moment) -> Option<WalkRows<'a>> {
        let stored = self.walks.stored();
        match self.last_link(node, moment) {
            None => self.walks.before(node, moment, self.settled),
            Some(link) => {
                let rows = &done[place[link] as usize * stored..][..stored];
                Some(WalkRows { rows, at: self.present.links()[link].time })
            }
        }
    }

    /// Writes all rows of `node` at `moment`, `[(L + 1) d]`.
    fn show(&self, work: &WalkScratch, node: NodeId, moment: Moment, shown: &mut [f32]) {
        let (fixed, changing) = shown.split_at_mut(self.walks.rule.width);
        fixed.copy_from_slice(self.walks.fixed(node));
        self.write_decayed(self.rows((&work.place, &work.rows), node, moment), moment.time(), changing);
    }

    /// Writes rows 1 to `L` decayed to `time`; unknown rows are zeros.
    fn write_decayed(&self, found: Option<WalkRows<'_>>, time: Timestamp, into: &mut [f32]) {
        let Some(WalkRows { rows, at }) = found else { return into.fill(0.0) };
        let (width, factors) = (self.walks.rule.width, decay_factors(self.walks.rule.decay, at, time));
        for ((into, row), factor) in into.chunks_exact_mut(width).zip(rows.chunks_exact(width)).zip(factors) {
            into.iter_mut().zip(row).for_each(|(into, number)| *into = number * factor);
        }
    }
}

impl WalkScratch {
    /// Finds the pending links after which rows are needed, in the order of the log: those that roots see, and those
    /// that these depend on.
    fn find(&mut self, reader: &Reader<'_>, queries: &Queries) {
        let links = reader.present.links();
        self.place.clear();
        self.place.reserve(ENDS);
        self.place.resize(links.len(), NOWHERE);
        self.needed.clear();
        self.needed.reserve(ENDS);
        if links.is_empty() {
            return;
        }
        for (root, &node) in queries.nodes().iter().enumerate() {
            self.need(reader, node, reader.graph.moment(queries, root));
        }
        let mut next = 0;
        while let Some(&(link, owner)) = self.needed.get(next) {
            let (moment, group) = reader.group(owner, link as usize);
            self.need(reader, owner, moment);
            group.iter().for_each(|link| self.need(reader, link.node, moment));
            next += 1;
        }
        self.needed.sort_unstable_by_key(|&(link, owner)| {
            let Link { time, event, .. } = links[link as usize];
            (time, event, owner)
        });
        self.needed.iter().enumerate().for_each(|(place, &(link, _))| self.place[link as usize] = place as u32);
    }

    fn need(&mut self, reader: &Reader<'_>, node: NodeId, moment: Moment) {
        if let Some(link) = reader.last_link(node, moment)
            && self.place[link] == NOWHERE
        {
            self.place[link] = self.needed.len() as u32;
            self.needed.push((link as u32, node));
        }
    }

    /// Computes the needed rows, by the same operations that `apply` uses.
    fn fill(&mut self, reader: &Reader<'_>) {
        let WalkScratch { place, needed, rows } = self;
        let (walks, width, stored) = (reader.walks, reader.walks.rule.width, reader.walks.stored());
        rows.reserve((ENDS * stored).saturating_sub(rows.len()));
        rows.resize(needed.len() * stored, 0.0);
        for (at, &(link, owner)) in needed.iter().enumerate() {
            let (moment, group) = reader.group(owner, link as usize);
            let (done, rest) = rows.split_at_mut(at * stored);
            let (done, own) = ((&**place, &*done), &mut rest[..stored]);
            reader.write_decayed(reader.rows(done, owner, moment), moment.time(), own);
            for link in group {
                // Row 0 of the other end does not decay.
                let (first, higher) = own.split_at_mut(width.min(stored));
                first.iter_mut().zip(walks.fixed(link.node)).for_each(|(sum, number)| *sum += number);
                let Some(WalkRows { rows, at }) = reader.rows(done, link.node, moment) else { continue };
                let lower = rows.chunks_exact(width).zip(decay_factors(walks.rule.decay, at, moment.time()));
                for (sum, (row, factor)) in higher.chunks_exact_mut(width).zip(lower) {
                    sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number * factor);
                }
            }
        }
    }
}
