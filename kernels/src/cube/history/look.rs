//! Reads the past on a device: one transfer, the neighbours of one or two hops, a row for each distinct node, and its
//! state.
use crate::cube::history::apply::{EndEffectBuffers, pack_end_effects};
use crate::cube::history::inputs::{DeviceEvents, DeviceRoots, DeviceRules, DeviceSampler};
use crate::cube::history::neighbours::{
    EndBuffers, Lookup, NeighbourQuery, UniformSampling, broadcast_root_times, idle, own_rows, pad,
};
use crate::cube::history::past::{CurrentBatch, DeviceView, EndRows, Hop};
use crate::cube::history::{DeviceHistory, End, count_observable};
use crate::cube::launch::buffer::{DeviceBuffer, OffsetAllocator, UploadBuffer, padded};
use crate::cube::launch::grouping::group;
use crate::cube::launch::plans::{NONE, NeighbourBuffers};
use crate::cube::launch::unique::unique;
use burn_cubecl::CubeRuntime;

/// Positions of names: centres of the farthest hop, then the nodes of the current batch, then the slots of that hop.
/// Each part begins at an aligned offset.
struct LookupLayout {
    roots: usize,
    /// Centres of the farthest hop.
    centres: usize,
    touched: usize,
    /// Position of the first hop's slots among the centres of the second.
    inner: usize,
    /// Positions of touched nodes and of slots.
    starts: [usize; 2],
    names: usize,
    /// Maximum number of distinct nodes.
    capacity: usize,
}

impl LookupLayout {
    fn new(rules: &DeviceRules, nodes: usize, roots: usize, touched: usize) -> Self {
        let k = rules.neighbours;
        let inner = if rules.layers == 2 { padded(roots) } else { roots };
        let centres = if rules.layers == 2 { inner + roots * k } else { roots };
        let starts = [padded(centres), padded(centres) + padded(touched)];
        let capacity = (centres + touched + centres * k).min(nodes).max(1);
        Self { roots, centres, touched, inner, starts, names: starts[1] + centres * k, capacity }
    }
}

/// The uploaded inputs of a lookup.
struct UploadedLookup<R: CubeRuntime> {
    ends: EndBuffers<R>,
    end_effects: EndEffectBuffers<R>,
    /// Times of the centres of the farthest hop.
    time: DeviceBuffer<R>,
    place: DeviceBuffer<R>,
    named: DeviceBuffer<R>,
}

/// The result of a lookup.
struct SampledNeighbours<R: CubeRuntime> {
    /// `[C]`
    counts: DeviceBuffer<R>,
    /// `[C, K]`
    event: DeviceBuffer<R>,
    /// `[C, K]`
    dt: DeviceBuffer<R>,
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// Reads the past of `roots` while `during` is the current batch. It waits for nothing, unless edge features are in
    /// host memory.
    ///
    /// # Panics
    /// If a node is not below the number of nodes, or a time is further than `2^31` ticks from the origin.
    pub fn look(&self, roots: &DeviceRoots<'_>, during: &DeviceEvents<'_>) -> DeviceView<R> {
        let mut all_ends = self.pending.clone();
        let unsettled = all_ends.len();
        all_ends.extend(self.ends(during));
        let named = roots.node.iter().chain(all_ends.iter().map(|end| &end.node));
        assert!({ named }.all(|&node| (node as usize) < self.nodes), "a node is not below {}", self.nodes);
        let layout = LookupLayout::new(&self.rules, self.nodes, roots.node.len(), all_ends.len() - unsettled);
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
            broadcast_root_times(
                &self.device,
                [&asked.time, &asked.place],
                layout.roots,
                layout.inner,
                self.rules.neighbours,
            );
            found
        });
        let outer = find(layout.centres, layout.starts[1], Some([layout.starts[0], layout.touched]));
        let ends = EndRows::From(roots.ends.start, roots.ends.len());
        DeviceView { ends, ..self.assemble(&layout, asked, outer, inner, (all_ends, unsettled)) }
    }

    /// Uploads the queries and the current batch, in one transfer.
    fn send(
        &self,
        roots: &DeviceRoots<'_>,
        ends: &[End],
        unsettled: usize,
        layout: &LookupLayout,
    ) -> UploadedLookup<R> {
        let LookupLayout { centres, starts, names, .. } = *layout;
        let behind = |len: usize| std::iter::repeat_n(0, len - roots.node.len());
        let mut upload = UploadBuffer::default();
        upload.integers(ends.iter().map(|end| end.node));
        upload.integers(ends.iter().map(|end| end.other));
        upload.integers(ends.iter().map(|end| end.time));
        upload.integers(ends.iter().map(|end| end.event));
        pack_end_effects(&mut upload, ends, count_observable(ends), unsettled, self.rules.neighbours);
        upload.integers(roots.time.iter().map(|&time| self.tick(time)).chain(behind(centres)));
        let place = |root: usize| roots.place.map_or(0, |place| u32::try_from(place[root]).unwrap_or(u32::MAX));
        upload.integers((0..roots.node.len()).map(place).chain(behind(centres)));
        let mut named = vec![NONE; names];
        named[..roots.node.len()].copy_from_slice(roots.node);
        named[starts[0]..].iter_mut().zip(&ends[unsettled..]).for_each(|(name, end)| *name = end.node);
        upload.integers(named);
        let sent = self.device.send(upload);

        let mut offsets = OffsetAllocator::default();
        let mut next = |len: usize| sent.part(offsets.next(len), len);
        let [node, other, time, event] = [(); 4].map(|()| next(ends.len()));
        let end_effects = EndEffectBuffers::of([(); 3].map(|()| next(ends.len())));
        let ends = EndBuffers { node, other, time, event };
        let [time, place, named] = [centres, centres, names].map(next);
        UploadedLookup { ends, end_effects, time, place, named }
    }

    /// The neighbours of the first `count` names, whose slots follow `skipped` names. If the other names are given, all
    /// names claim their nodes.
    fn find(
        &self,
        asked: &UploadedLookup<R>,
        visible: usize,
        count: usize,
        (skipped, others): (usize, Option<[usize; 2]>),
        (key, ordered): (u64, bool),
    ) -> SampledNeighbours<R> {
        let k = self.rules.neighbours;
        let [counts, event, dt] = [count, count * k, count * k].map(|len| self.device.empty(len).part(0, len));
        if count > 0 || others.is_some() {
            let asked = NeighbourQuery {
                roots: [&asked.named, &asked.time, &asked.place],
                others: others.unwrap_or_default(),
                ends: &asked.ends,
                visible,
                memory_times: self.memory_times(),
                found: [&counts, &asked.named, &event, &dt, &asked.time, &asked.place, &self.first],
                skipped,
            };
            let dates = self.rules.before_events && others.is_none();
            let lookup = Lookup { k, since_update: self.rules.since_update, claims: others.is_some(), dates, ordered };
            let drawing = match self.rules.sampler {
                DeviceSampler::Recent => None,
                DeviceSampler::Drawn { window } => Some(UniformSampling { key, origin: self.origin, window }),
            };
            self.neighbourhoods.sample(&self.device, &asked, drawing, lookup);
        }
        if self.rules.pads {
            pad(&self.device, [&asked.named, &asked.time], [&counts, &event, &dt], k);
        }
        SampledNeighbours { counts, event, dt }
    }

    /// Times of memory updates, and event and time of waiting mail.
    fn memory_times(&self) -> [&DeviceBuffer<R>; 3] {
        [&self.states.updated, &self.states.event, &self.states.time]
    }

    /// Assigns a row to each distinct node, reads its state, and groups the names by row.
    fn assemble(
        &self,
        layout: &LookupLayout,
        asked: UploadedLookup<R>,
        outer: SampledNeighbours<R>,
        inner: Option<SampledNeighbours<R>>,
        (all_ends, unsettled): (Vec<End>, usize),
    ) -> DeviceView<R> {
        let LookupLayout { centres, touched, inner: first, starts, capacity, .. } = *layout;
        let (device, k) = (&self.device, self.rules.neighbours);
        let rows = unique(device, &asked.named, &self.first, &self.counts, capacity);
        let groups = group(device, &rows.rows, &self.counts, capacity);
        let mut mail = self.states.read(device, &rows, &self.first, self.rules.rule());
        let hop = |found: SampledNeighbours<R>,
                   (rows, groups): (&DeviceBuffer<R>, [DeviceBuffer<R>; 2]),
                   first_slot: usize,
                   below: usize| {
            let count = found.counts.len();
            let nothing = device.empty(0).part(0, 0);
            let row = if k > 0 { rows.part(first_slot, count * k) } else { nothing.clone() };
            let attention = NeighbourBuffers {
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
            hop.idle = Some(idle(device, [&asked.named, &asked.time], self.memory_times(), layout.roots));
        }
        self.features.find(device, &mut mail, &mut hops);
        DeviceView {
            device: device.clone(),
            capacity,
            widths: [self.rules.memory, self.rules.mail_width],
            ends: EndRows::From(0, 0),
            starts: rows.starts,
            nodes: rows.nodes,
            touched_rows: rows.rows.part(starts[0], touched),
            mail,
            features: self.features.width(),
            hops,
            node_rows: None,
            current_batch: Some(CurrentBatch { ends: asked.ends, end_effects: asked.end_effects, all_ends, unsettled }),
        }
    }
}
