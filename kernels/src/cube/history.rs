//! What has happened, kept on a device: node memories, waiting mail, neighbours and edge features.
//!
//! A step sends what is asked and what happens in one transfer, and waits for nothing: how many distinct nodes there are stays on the device,
//! where every array has room for as many as there can be. Only edge features that did not fit are asked for and sent in every step.
use super::Matrix;
use super::features::Features;
use super::grouping::group;
use super::neighbours::{Asked, Drawing, EndSpans, Lookup, Neighbourhoods, Settled, own_rows, spread};
use super::past::{DevicePast, Hop};
use super::plans::{AttentionSpans, NONE};
use super::settle::{FateSpans, foretell, settle};
use super::span::{Device, Parcel, Places, Span, padded};
use super::state::{Rule, States};
use super::unique::unique;
use crate::Rows;
use burn_cubecl::CubeRuntime;
use std::sync::Arc;

/// What a history on a device keeps and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRules {
    /// Width of a node's memory, at least 1.
    pub memory: usize,
    /// Neighbours of a root, at least 1.
    pub neighbours: usize,
    /// Hops of neighbours, 1 or 2.
    pub layers: usize,
    /// Which neighbours.
    pub sampler: DeviceSampler,
    /// Whether a message has the other end's memory as it is when the mail is read, and not as it was at the event.
    pub other_at_read: bool,
    /// Whether nodes without mail go through the updater with a zero message.
    pub update_without_mail: bool,
    /// Whether a neighbour's time difference is to its last memory update, and not to the query.
    pub since_update: bool,
}

/// Which neighbours of a root are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceSampler {
    /// The most recent ones.
    Recent,
    /// Drawn with replacement from those of the last so many ticks.
    Drawn {
        /// Ticks; `i64::MAX` is all of them.
        window: i64,
    },
}

/// What a history on a device is told once.
#[derive(Clone, Debug)]
pub struct DeviceWorld<'a> {
    /// `N`
    pub nodes: usize,
    /// The time memories count from.
    pub origin: i64,
    /// Edge features by event.
    pub features: Option<Arc<dyn Rows>>,
    /// Events of the whole log.
    pub events: usize,
    /// The log by node, which draws need.
    pub log: Option<DeviceLog<'a>>,
    /// Bytes there are on the device for all of it.
    pub room: u64,
}

/// A log by node, each node's events in order.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLog<'a> {
    /// `[N + 1]` where the events of each node begin.
    pub starts: &'a [u32],
    /// The other ends.
    pub node: &'a [u32],
    /// Times in ticks.
    pub time: &'a [i64],
    /// Places in the log.
    pub event: &'a [u32],
}

/// A history that is too large for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes it takes, edge features not counted.
    pub bytes: u64,
    /// Bytes there are.
    pub room: u64,
}

/// Events in the order of the log.
#[derive(Clone, Copy, Debug)]
pub struct DeviceEvents<'a> {
    /// `[B]`
    pub src: &'a [u32],
    /// `[B]`
    pub dst: &'a [u32],
    /// `[B]` ticks, ascending.
    pub time: &'a [i64],
    /// Number of the first event in the log.
    pub first: u64,
}

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRoots<'a> {
    /// `[R]`
    pub node: &'a [u32],
    /// `[R]` ticks.
    pub time: &'a [i64],
    /// `[R]` where given, events of the root's very time are seen as well if they stand before this place in the log.
    pub place: Option<&'a [u64]>,
    /// Whether events of the batch in hand are seen.
    pub sees_batch: bool,
    /// Key of the draws of neighbours.
    pub key: u64,
}

/// Node memories, mail, neighbours and edge features on a device.
pub struct DeviceHistory<R: CubeRuntime> {
    pub(super) device: Device<R>,
    pub(super) nodes: usize,
    pub(super) origin: i64,
    pub(super) rules: DeviceRules,
    pub(super) states: States<R>,
    pub(super) neighbourhoods: Neighbourhoods<R>,
    /// `[N]` the first name of every node in the lookup at hand; [`NONE`] of all nodes between two of them.
    first: Span<R>,
    /// `[N]` how often rows are named in the lookup at hand; zeros between two of them.
    counts: Span<R>,
    features: Features<R>,
    /// Ends of the events of the newest tick, which have not settled.
    pub(super) pending: Vec<End>,
}

/// An event as one of its ends sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) node: u32,
    pub(super) other: u32,
    pub(super) time: u32,
    pub(super) event: u32,
}

/// Where names stand: centres of the farthest hop, then the nodes of the batch in hand, then the slots of that hop. Each part begins where a
/// part of an array may.
struct Layout {
    roots: usize,
    /// Centres of the farthest hop.
    centres: usize,
    touched: usize,
    /// Where the slots of the first hop begin among the centres of the second.
    inner: usize,
    /// Where touched nodes and slots begin.
    starts: [usize; 2],
    names: usize,
    /// Most distinct nodes there can be.
    capacity: usize,
}

impl Layout {
    fn new(rules: &DeviceRules, nodes: usize, roots: usize, touched: usize) -> Self {
        let k = rules.neighbours;
        let inner = if rules.layers == 2 { padded(roots) } else { roots };
        let centres = if rules.layers == 2 { inner + roots * k } else { roots };
        let starts = [padded(centres), padded(centres) + padded(touched)];
        let capacity = (centres + touched + centres * k).min(nodes).max(1);
        Self { roots, centres, touched, inner, starts, names: starts[1] + centres * k, capacity }
    }
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// An empty history. Edge features stay in host memory where there is no room for them.
    ///
    /// # Errors
    /// [`TooLarge`] where there is no room for the rest.
    ///
    /// # Panics
    /// Where `rules` ask for no memory or no neighbours, or for draws without a log.
    pub fn new(device: &R::Device, rules: DeviceRules, world: &DeviceWorld<'_>) -> Result<Self, TooLarge> {
        assert!(rules.memory > 0 && rules.neighbours > 0, "a history on a device keeps memories and neighbours");
        assert!((1..=2).contains(&rules.layers), "{} hops of neighbours", rules.layers);
        let (device, nodes, room) = (Device::new(device), world.nodes, world.room);
        let bytes = bytes_of(&rules, world);
        if bytes > room {
            return Err(TooLarge { bytes, room });
        }
        let features = Features::new(&device, world.features.clone(), world.events, room - bytes);
        let tick = |time: i64| u32::try_from(time - world.origin).expect("a log of fewer than 2^32 ticks");
        let sent = |numbers: &mut dyn Iterator<Item = u32>| {
            let mut parcel = Parcel::default();
            parcel.integers(numbers);
            device.send(parcel)
        };
        let settled = match (rules.sampler, &world.log) {
            (DeviceSampler::Recent, _) => {
                let [node, time, event] = [(); 3].map(|()| device.filled(nodes * rules.neighbours, 0));
                Settled::Rings { node, time, event }
            }
            (DeviceSampler::Drawn { .. }, Some(log)) => Settled::ByNode {
                starts: sent(&mut log.starts.iter().copied()),
                node: sent(&mut log.node.iter().copied()),
                time: sent(&mut log.time.iter().map(|&time| tick(time))),
                event: sent(&mut log.event.iter().copied()),
            },
            (DeviceSampler::Drawn { .. }, None) => panic!("draws need a log by node"),
        };
        Ok(Self {
            nodes,
            origin: world.origin,
            rules,
            states: States::new(&device, nodes, rules.rule()),
            neighbourhoods: Neighbourhoods { degree: device.filled(nodes, 0), settled },
            first: device.filled(nodes, NONE),
            counts: device.filled(nodes, 0),
            features,
            pending: Vec::new(),
            device,
        })
    }

    /// Whether edge features are on the device, so that a step waits for nothing.
    pub fn is_resident(&self) -> bool {
        self.features.are_resident()
    }

    /// Forgets everything that happened.
    pub fn reset(&mut self) {
        self.states = States::new(&self.device, self.nodes, self.rules.rule());
        self.neighbourhoods.degree = self.device.filled(self.nodes, 0);
        self.pending.clear();
    }

    /// Reads the past of `roots` while `during` is in hand. Nothing is waited for, unless features did not fit.
    ///
    /// # Panics
    /// Where a node is not below the number of nodes, or a time is further than `2^31` ticks from the origin.
    pub fn look(&self, roots: &DeviceRoots<'_>, during: &DeviceEvents<'_>) -> DevicePast<R> {
        let mut all_ends = self.pending.clone();
        let unsettled = all_ends.len();
        all_ends.extend(self.ends(during));
        let named = roots.node.iter().chain(all_ends.iter().map(|end| &end.node));
        assert!({ named }.all(|&node| (node as usize) < self.nodes), "a node is not below {}", self.nodes);
        let layout = Layout::new(&self.rules, self.nodes, roots.node.len(), all_ends.len() - unsettled);
        let visible = if roots.sees_batch { all_ends.len() } else { unsettled };
        let asked = self.send(roots, &all_ends, unsettled, &layout);
        let find = |count: usize, skipped: usize, others| self.find(&asked, visible, count, (skipped, others), roots.key);
        let inner = (self.rules.layers == 2).then(|| {
            let found = find(layout.roots, layout.inner, None);
            spread(&self.device, [&asked.time, &asked.place], layout.roots, layout.inner, self.rules.neighbours);
            found
        });
        let outer = find(layout.centres, layout.starts[1], Some([layout.starts[0], layout.touched]));
        self.assemble(&layout, asked, outer, inner, (all_ends, unsettled))
    }

    /// Sends what is asked and what is in hand, in one transfer.
    fn send(&self, roots: &DeviceRoots<'_>, ends: &[End], unsettled: usize, layout: &Layout) -> Sent<R> {
        let Layout { centres, starts, names, .. } = *layout;
        let behind = |len: usize| std::iter::repeat_n(0, len - roots.node.len());
        let mut parcel = Parcel::default();
        parcel.integers(ends.iter().map(|end| end.node));
        parcel.integers(ends.iter().map(|end| end.other));
        parcel.integers(ends.iter().map(|end| end.time));
        parcel.integers(ends.iter().map(|end| end.event));
        foretell(&mut parcel, ends, settled(ends), unsettled, self.rules.neighbours);
        parcel.integers(roots.time.iter().map(|&time| self.tick(time)).chain(behind(centres)));
        let place = |root: usize| roots.place.map_or(0, |place| u32::try_from(place[root]).unwrap_or(u32::MAX));
        parcel.integers((0..roots.node.len()).map(place).chain(behind(centres)));
        let mut named = vec![NONE; names];
        named[..roots.node.len()].copy_from_slice(roots.node);
        named[starts[0]..].iter_mut().zip(&ends[unsettled..]).for_each(|(name, end)| *name = end.node);
        parcel.integers(named);
        let sent = self.device.send(parcel);

        let mut places = Places::default();
        let mut next = |len: usize| sent.part(places.next(len), len);
        let [node, other, time, event] = [(); 4].map(|()| next(ends.len()));
        let fates = FateSpans::of([(); 3].map(|()| next(ends.len())));
        let ends = EndSpans { node, other, time, event };
        let [time, place, named] = [centres, centres, names].map(next);
        Sent { ends, fates, time, place, named }
    }

    /// The neighbours of the first `count` names, whose slots stand behind `skipped` names. Where it is said which are the others, all names claim
    /// their nodes.
    fn find(&self, asked: &Sent<R>, visible: usize, count: usize, (skipped, others): (usize, Option<[usize; 2]>), key: u64) -> Found<R> {
        let k = self.rules.neighbours;
        let [counts, event, dt] = [count, count * k, count * k].map(|len| self.device.empty(len).part(0, len));
        if count > 0 || others.is_some() {
            let window = if let DeviceSampler::Drawn { window } = self.rules.sampler { window } else { 0 };
            let asked = Asked {
                roots: [&asked.named, &asked.time, &asked.place],
                others: others.unwrap_or_default(),
                ends: &asked.ends,
                visible,
                clock: [&self.states.updated, &self.states.event, &self.states.time],
                found: [&counts, &asked.named, &event, &dt, &self.first],
                skipped,
            };
            let lookup = Lookup { k, since_update: self.rules.since_update, claims: others.is_some() };
            self.neighbourhoods.look(&self.device, &asked, Drawing { key, origin: self.origin, window }, lookup);
        }
        Found { counts, event, dt }
    }

    /// Gives distinct nodes a row each, reads their state, and groups what names them by row.
    fn assemble(
        &self,
        layout: &Layout,
        asked: Sent<R>,
        outer: Found<R>,
        inner: Option<Found<R>>,
        (all_ends, unsettled): (Vec<End>, usize),
    ) -> DevicePast<R> {
        let Layout { centres, touched, inner: first, starts, capacity, .. } = *layout;
        let (device, k) = (&self.device, self.rules.neighbours);
        let rows = unique(device, &asked.named, &self.first, &self.counts, capacity);
        let groups = group(device, &rows.rows, &self.counts, capacity);
        let mut mail = self.states.read(device, &rows, &self.first, self.rules.rule());
        let hop = |found: Found<R>, (rows, groups): (&Span<R>, [Span<R>; 2]), first_slot: usize, below: usize| {
            let count = found.counts.len();
            let row = rows.part(first_slot, count * k);
            let nothing = device.empty(0).part(0, 0);
            let attention =
                AttentionSpans { count: found.counts, row, dt: found.dt, groups, first_slot, feature: found.event, table: nothing };
            Hop { device: device.clone(), centres: rows.part(0, count), attention, neighbours: k, features: self.features.width(), below }
        };
        let mut hops = vec![hop(outer, (&rows.rows, groups), starts[1], capacity)];
        if let Some(found) = inner {
            let (own, groups) = own_rows(device, &found.counts, first, k);
            hops.push(hop(found, (&own, groups), first, centres));
        }
        self.features.find(device, &mut mail, &mut hops);
        DevicePast {
            device: device.clone(),
            capacity,
            starts: rows.starts,
            nodes: rows.nodes,
            touched_rows: rows.rows.part(starts[0], touched),
            mail,
            features: self.features.width(),
            hops,
            ends: asked.ends,
            fates: asked.fates,
            all_ends,
            unsettled,
        }
    }

    /// Lets the batch happen that `past` was read for. `memory` `[rows, D]` are the rows' new memories. Nothing is waited for.
    ///
    /// # Panics
    /// Where `memory` has not a row for each of the past's.
    pub fn observe(&mut self, past: &DevicePast<R>, memory: &Matrix<R>) {
        assert_eq!([memory.rows(), memory.columns()], [past.capacity, self.rules.memory], "new memories");
        let all = (&self.states, &self.neighbourhoods);
        let happens = (&past.ends, &past.fates, past.unsettled);
        settle(&self.device, all, happens, (&past.touched_rows, &memory.span), self.rules.rule(), self.rules.neighbours);
        self.pending = past.all_ends[settled(&past.all_ends)..].to_vec();
    }

    pub(super) fn tick(&self, time: i64) -> u32 {
        let ticks = time - self.origin;
        assert!((0..1 << 31).contains(&ticks), "time {time} is not within 2^31 ticks after {}", self.origin);
        ticks as u32
    }

    /// Both ends of every event; a self-loop is one event of its node.
    pub(super) fn ends(&self, events: &DeviceEvents<'_>) -> impl Iterator<Item = End> {
        (0..events.src.len()).flat_map(move |i| {
            let event = u32::try_from(events.first + i as u64).expect("fewer than 2^32 events");
            let (src, dst, time) = (events.src[i], events.dst[i], self.tick(events.time[i]));
            let from = End { node: src, other: dst, time, event };
            std::iter::once(from).chain((src != dst).then_some(End { node: dst, other: src, ..from }))
        })
    }
}

/// How many of `ends` settle when the newest of them happen: all that are earlier.
fn settled(ends: &[End]) -> usize {
    let newest = ends.last().map(|end| end.time);
    ends.partition_point(|end| Some(end.time) != newest)
}

/// What was sent for a lookup.
struct Sent<R: CubeRuntime> {
    ends: EndSpans<R>,
    fates: FateSpans<R>,
    /// Of the centres of the farthest hop.
    time: Span<R>,
    place: Span<R>,
    named: Span<R>,
}

/// What a lookup found.
struct Found<R: CubeRuntime> {
    /// `[C]`
    counts: Span<R>,
    /// `[C, K]`
    event: Span<R>,
    /// `[C, K]`
    dt: Span<R>,
}

impl DeviceRules {
    pub(super) fn rule(&self) -> Rule {
        Rule { d: self.memory, other_at_read: self.other_at_read, update_without_mail: self.update_without_mail }
    }
}

/// Bytes a history takes, edge features not counted.
fn bytes_of(rules: &DeviceRules, world: &DeviceWorld<'_>) -> u64 {
    let carried = if rules.other_at_read { 0 } else { rules.memory };
    let neighbours = match &world.log {
        Some(log) if rules.sampler != DeviceSampler::Recent => 3 * log.node.len() + world.nodes,
        _ => 3 * world.nodes * rules.neighbours,
    };
    // memory, what mail carries, the five numbers of mail and update, degree and two of working memory
    4 * (world.nodes * (rules.memory + carried + 8) + neighbours) as u64
}
