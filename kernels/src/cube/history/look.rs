//! Reading the past on a device: one transfer, the neighbours of one or two hops, a row for each distinct node, and its state.
use crate::cube::history::neighbours::{Asked, Drawing, EndSpans, Lookup, idle, own_rows, pad, spread};
use crate::cube::history::past::{DevicePast, EndRows, Happening, Hop};
use crate::cube::history::settle::{FateSpans, foretell};
use crate::cube::history::world::{DeviceEvents, DeviceRoots, DeviceRules, DeviceSampler};
use crate::cube::history::{DeviceHistory, End, settled};
use crate::cube::launch::grouping::group;
use crate::cube::launch::plans::{AttentionSpans, NONE};
use crate::cube::launch::span::{Places, Span, UploadBuffer, padded};
use crate::cube::launch::unique::unique;
use burn_cubecl::CubeRuntime;

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

impl<R: CubeRuntime> DeviceHistory<R> {
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
        let find = |count: usize, skipped: usize, others| {
            self.find(&asked, visible, count, (skipped, others), (roots.key, roots.place.is_some()))
        };
        let inner = (self.rules.layers == 2).then(|| {
            let found = find(layout.roots, layout.inner, None);
            if self.rules.before_events {
                return found;
            }
            spread(&self.device, [&asked.time, &asked.place], layout.roots, layout.inner, self.rules.neighbours);
            found
        });
        let outer = find(layout.centres, layout.starts[1], Some([layout.starts[0], layout.touched]));
        let ends = EndRows::From(roots.ends.start, roots.ends.len());
        DevicePast { ends, ..self.assemble(&layout, asked, outer, inner, (all_ends, unsettled)) }
    }

    /// Sends what is asked and what is in hand, in one transfer.
    fn send(&self, roots: &DeviceRoots<'_>, ends: &[End], unsettled: usize, layout: &Layout) -> Sent<R> {
        let Layout { centres, starts, names, .. } = *layout;
        let behind = |len: usize| std::iter::repeat_n(0, len - roots.node.len());
        let mut upload = UploadBuffer::default();
        upload.integers(ends.iter().map(|end| end.node));
        upload.integers(ends.iter().map(|end| end.other));
        upload.integers(ends.iter().map(|end| end.time));
        upload.integers(ends.iter().map(|end| end.event));
        foretell(&mut upload, ends, settled(ends), unsettled, self.rules.neighbours);
        upload.integers(roots.time.iter().map(|&time| self.tick(time)).chain(behind(centres)));
        let place = |root: usize| roots.place.map_or(0, |place| u32::try_from(place[root]).unwrap_or(u32::MAX));
        upload.integers((0..roots.node.len()).map(place).chain(behind(centres)));
        let mut named = vec![NONE; names];
        named[..roots.node.len()].copy_from_slice(roots.node);
        named[starts[0]..].iter_mut().zip(&ends[unsettled..]).for_each(|(name, end)| *name = end.node);
        upload.integers(named);
        let sent = self.device.send(upload);

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
    fn find(
        &self,
        asked: &Sent<R>,
        visible: usize,
        count: usize,
        (skipped, others): (usize, Option<[usize; 2]>),
        (key, ordered): (u64, bool),
    ) -> Found<R> {
        let k = self.rules.neighbours;
        let [counts, event, dt] = [count, count * k, count * k].map(|len| self.device.empty(len).part(0, len));
        if count > 0 || others.is_some() {
            let asked = Asked {
                roots: [&asked.named, &asked.time, &asked.place],
                others: others.unwrap_or_default(),
                ends: &asked.ends,
                visible,
                clock: self.clock(),
                found: [&counts, &asked.named, &event, &dt, &asked.time, &asked.place, &self.first],
                skipped,
            };
            let dates = self.rules.before_events && others.is_none();
            let lookup = Lookup { k, since_update: self.rules.since_update, claims: others.is_some(), dates, ordered };
            let drawing = match self.rules.sampler {
                DeviceSampler::Recent => None,
                DeviceSampler::Drawn { window } => Some(Drawing { key, origin: self.origin, window }),
            };
            self.neighbourhoods.look(&self.device, &asked, drawing, lookup);
        }
        if self.rules.pads {
            pad(&self.device, [&asked.named, &asked.time], [&counts, &event, &dt], k);
        }
        Found { counts, event, dt }
    }

    /// When memories were updated, and event and time of waiting mail.
    fn clock(&self) -> [&Span<R>; 3] {
        [&self.states.updated, &self.states.event, &self.states.time]
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
            let nothing = device.empty(0).part(0, 0);
            let row = if k > 0 { rows.part(first_slot, count * k) } else { nothing.clone() };
            let attention = AttentionSpans {
                count: found.counts,
                row,
                dt: found.dt,
                groups,
                first_slot,
                feature: found.event,
                table: nothing,
            };
            Hop {
                device: device.clone(),
                centres: rows.part(0, count),
                attention,
                neighbours: k,
                features: self.features.width(),
                below,
                idle: None,
                pads: self.rules.pads,
            }
        };
        let mut hops = vec![hop(outer, (&rows.rows, groups), starts[1], capacity)];
        if let Some(found) = inner {
            let (own, groups) = own_rows(device, &found.counts, first, k);
            hops.push(hop(found, (&own, groups), first, centres));
        }
        if let (true, Some(hop)) = (self.rules.idle, hops.last_mut()) {
            hop.idle = Some(idle(device, [&asked.named, &asked.time], self.clock(), layout.roots));
        }
        self.features.find(device, &mut mail, &mut hops);
        DevicePast {
            device: device.clone(),
            capacity,
            widths: [self.rules.memory, self.rules.said],
            ends: EndRows::From(0, 0),
            starts: rows.starts,
            nodes: rows.nodes,
            touched_rows: rows.rows.part(starts[0], touched),
            mail,
            features: self.features.width(),
            hops,
            beside: None,
            happening: Some(Happening { ends: asked.ends, fates: asked.fates, all_ends, unsettled }),
        }
    }
}
