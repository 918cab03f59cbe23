//! Recent neighbours: a ring for each node, and the events that have not settled into it.
use crate::cube::history::sampling::{ByNodeLaunch, RandomStreamLaunch, draw_kernel, newest_kernel};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, units};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// The options of a lookup kernel, fixed when it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lookup {
    /// Neighbours per root.
    pub(crate) k: usize,
    /// Whether a neighbour's time counts from its last update and not from the query.
    pub(crate) since_update: bool,
    /// Whether all names claim their nodes.
    pub(crate) claims: bool,
    /// Whether slots get the times and positions of their events: the next hop is then queried before these.
    pub(crate) dates: bool,
    /// Whether events at exactly a root's time are seen if they are before its position.
    pub(crate) ordered: bool,
}

/// Events as their ends see them, oldest first.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Ends {
    pub(crate) node: Array<u32>,
    pub(crate) other: Array<u32>,
    pub(crate) time: Array<u32>,
    pub(crate) event: Array<u32>,
}

/// The newest settled events of every node, `[N, K]`: slot `i % K` holds the `i`-th event.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Ring {
    /// Number of events that settled so far, `[N]`.
    degree: Array<u32>,
    node: Array<u32>,
    time: Array<u32>,
    event: Array<u32>,
}

/// The queried nodes and times. An event is seen if it is earlier, or at the same time and before the position in the
/// log.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Roots {
    /// [`NONE`] for an empty root.
    pub(crate) node: Array<u32>,
    pub(crate) time: Array<u32>,
    pub(crate) place: Array<u32>,
    pub(crate) count: u32,
    /// Other names, at positions from `others_from` on.
    pub(crate) others_from: u32,
    pub(crate) others: u32,
}

/// Time of each node's memory, `[N]`, without its waiting mail, and the mail's event and time.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct MemoryTimes {
    pub(crate) updated: Array<u32>,
    pub(crate) mail_event: Array<u32>,
    pub(crate) mail_time: Array<u32>,
}

/// The results: counts, then node, event and time difference of each slot.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct NeighbourSlots {
    pub(crate) count: Array<u32>,
    /// The slots follow other names.
    pub(crate) named: Array<u32>,
    pub(crate) event: Array<u32>,
    pub(crate) dt: Array<f32>,
    /// Times and positions of the slots, if they are wanted, at the positions of the slots' names.
    pub(crate) time: Array<u32>,
    pub(crate) place: Array<u32>,
    /// `[N]` the first name of every node: the smallest that claims it.
    pub(crate) first: Array<Atomic<u32>>,
}

/// `a - b` of times, which differ by less than `2^31`.
#[cube]
pub(crate) fn since(a: u32, b: u32) -> f32 {
    f32::cast_from(i32::reinterpret(a - b))
}

/// Whether an event at this time with this number is before a query.
#[cube]
pub(crate) fn seen(end: u32, event: u32, time: u32, place: u32) -> bool {
    end < time || (end == time && event < place)
}

/// Whether a root is empty.
#[cube]
pub(crate) fn absent(roots: &Roots, root: usize) -> bool {
    roots.node[root] == NONE
}

/// Claims the nodes of a root and of one of the other names.
#[cube]
pub(crate) fn claim(found: &mut NeighbourSlots, roots: &Roots, at: usize, #[comptime] lookup: Lookup) {
    if comptime!(lookup.claims) {
        if at < roots.count as usize && roots.node[at] != NONE {
            found.first[roots.node[at] as usize].fetch_min(at as u32);
        }
        if at < roots.others as usize {
            let name = roots.others_from as usize + at;
            found.first[roots.node[name] as usize].fetch_min(name as u32);
        }
    }
}

/// Marks the empty slots of a root.
#[cube]
pub(crate) fn slots_left(found: &mut NeighbourSlots, root: usize, count: u32, skipped: u32, #[comptime] k: usize) {
    for slot in count..k as u32 {
        found.named[skipped as usize + root * k + slot as usize] = NONE.runtime();
    }
}

/// Fills a slot of `found` with `link`: node, event and time.
#[cube]
pub(crate) fn put(
    found: &mut NeighbourSlots,
    memory_times: &MemoryTimes,
    slot: usize,
    skipped: usize,
    link: (u32, u32, u32),
    now: u32,
    #[comptime] lookup: Lookup,
) {
    let (node, event, time) = link;
    let mut then = now;
    if comptime!(lookup.since_update) {
        let n = node as usize;
        then = select(memory_times.mail_event[n] == NONE, memory_times.updated[n], memory_times.mail_time[n]);
    }
    found.named[skipped + slot] = node;
    if comptime!(lookup.claims) {
        found.first[node as usize].fetch_min((skipped + slot) as u32);
    }
    found.event[slot] = event;
    found.dt[slot] = since(then, time);
    if comptime!(lookup.dates) {
        found.time[skipped + slot] = time;
        let mut place = 0u32;
        if comptime!(lookup.ordered) {
            place = event;
        }
        found.place[skipped + slot] = place;
    }
}

/// Shows no neighbours to any root.
#[cube(launch)]
fn no_neighbours_kernel(roots: &Roots, found: &mut NeighbourSlots, #[comptime] lookup: Lookup) {
    claim(found, roots, ABSOLUTE_POS, lookup);
    if ABSOLUTE_POS < roots.count as usize {
        found.count[ABSOLUTE_POS] = 0;
    }
}

/// Gives centres without neighbours a neighbour of zeros: without event, met at the time from which ticks count.
#[cube(launch)]
fn pad_kernel(
    roots: &Roots,
    counts: &mut Array<u32>,
    event: &mut Array<u32>,
    dt: &mut Array<f32>,
    #[comptime] k: usize,
) {
    let root = ABSOLUTE_POS;
    if root < counts.len() && counts[root] == 0 {
        counts[root] = 1;
        event[root * k] = NONE.runtime();
        dt[root * k] = select(absent(roots, root), 0.0f32, f32::cast_from(roots.time[root]));
    }
}

/// Idle time of each root's memory.
#[cube(launch)]
fn idle_kernel(roots: &Roots, memory_times: &MemoryTimes, out: &mut Array<f32>) {
    let root = ABSOLUTE_POS;
    if root < out.len() {
        let node = select(absent(roots, root), 0u32, roots.node[root]) as usize;
        let then =
            select(memory_times.mail_event[node] == NONE, memory_times.updated[node], memory_times.mail_time[node]);
        out[root] = since(roots.time[root], then);
    }
}

/// The newest events each root sees, newest first: of the first `visible` ends, then of the ring.
#[cube(launch)]
fn look_kernel(
    roots: &Roots,
    ends: &Ends,
    visible: u32,
    ring: &Ring,
    memory_times: &MemoryTimes,
    found: &mut NeighbourSlots,
    skipped: u32,
    #[comptime] lookup: Lookup,
) {
    let root = ABSOLUTE_POS;
    claim(found, roots, root, lookup);
    if root < roots.count as usize {
        let k = comptime!(lookup.k);
        let is_absent = absent(roots, root);
        let node = select(is_absent, 0u32, roots.node[root]);
        let visible = select(is_absent, 0u32, visible);
        let time = roots.time[root];
        let place = roots.place[root];
        let mut count = 0u32;
        for back in 0..visible {
            let j = (visible - 1 - back) as usize;
            let end = ends.time[j];
            if ends.node[j] == node && seen(end, ends.event[j], time, place) && count < k as u32 {
                let link = (ends.other[j], ends.event[j], end);
                put(found, memory_times, root * k + count as usize, skipped as usize, link, time, lookup);
                count += 1;
            }
        }
        let degree = select(is_absent, 0u32, ring.degree[node as usize]);
        for back in 0..u32::min(degree, k as u32) {
            let j = node as usize * k + ((degree - 1 - back) % k as u32) as usize;
            let end = ring.time[j];
            if seen(end, ring.event[j], time, place) && count < k as u32 {
                let link = (ring.node[j], ring.event[j], end);
                put(found, memory_times, root * k + count as usize, skipped as usize, link, time, lookup);
                count += 1;
            }
        }
        found.count[root] = count;
        slots_left(found, root, count, skipped, k);
    }
}

/// Events as their ends see them, on a device.
pub(crate) struct EndBuffers<R: CubeRuntime> {
    pub(crate) node: DeviceBuffer<R>,
    pub(crate) other: DeviceBuffer<R>,
    pub(crate) time: DeviceBuffer<R>,
    pub(crate) event: DeviceBuffer<R>,
}

impl<R: CubeRuntime> EndBuffers<R> {
    pub(crate) fn arg(&self) -> EndsLaunch<R> {
        EndsLaunch::new(self.node.arg(), self.other.arg(), self.time.arg(), self.event.arg())
    }
}

/// Settled events, on a device.
pub(crate) enum NeighbourStore<R: CubeRuntime> {
    /// The newest events of every node, `[N, K]`.
    Rings { node: DeviceBuffer<R>, time: DeviceBuffer<R>, event: DeviceBuffer<R> },
    /// A log sorted by node. A node's settled events are the first ones, as many as its degree.
    ByNode { starts: DeviceBuffer<R>, node: DeviceBuffer<R>, time: DeviceBuffer<R>, event: DeviceBuffer<R> },
}

/// The settled neighbourhood of every node.
pub(crate) struct Neighbourhoods<R: CubeRuntime> {
    /// `[N]` number of events that settled so far.
    pub(crate) degree: DeviceBuffer<R>,
    pub(crate) settled: NeighbourStore<R>,
}

/// Sampling with replacement: the key, the time from which ticks count, and the window in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UniformSampling {
    pub(crate) key: u64,
    pub(crate) origin: i64,
    pub(crate) window: i64,
}

impl UniformSampling {
    fn arg<R: CubeRuntime>(self) -> RandomStreamLaunch<R> {
        let (key, origin) = (self.key, self.origin as u64);
        let window = self.window.clamp(0, i64::from(i32::MAX)) as i32;
        RandomStreamLaunch::new(key as u32, (key >> 32) as u32, origin as u32, (origin >> 32) as u32, window)
    }
}

/// The queried roots of a lookup, `[R]`, and its results: slots after `skipped` names.
pub(crate) struct NeighbourQuery<'a, R: CubeRuntime> {
    pub(crate) roots: [&'a DeviceBuffer<R>; 3],
    pub(crate) ends: &'a EndBuffers<R>,
    /// Other names: their position and their number.
    pub(crate) others: [usize; 2],
    /// Number of ends that may be seen.
    pub(crate) visible: usize,
    /// When memories were updated, and event and time of waiting mail.
    pub(crate) memory_times: [&'a DeviceBuffer<R>; 3],
    /// Counts, names, events, time differences, times, positions, and first names.
    pub(crate) found: [&'a DeviceBuffer<R>; 7],
    pub(crate) skipped: usize,
}

impl<R: CubeRuntime> Neighbourhoods<R> {
    /// Fills `found` with the neighbours of the roots among the visible ends and the settled events: the newest, or a
    /// sample.
    pub(crate) fn sample(
        &self,
        device: &Device<R>,
        asked: &NeighbourQuery<'_, R>,
        drawing: Option<UniformSampling>,
        lookup: Lookup,
    ) {
        let NeighbourQuery {
            roots: [name, at, before],
            others: [others_from, others],
            ends,
            visible,
            memory_times,
            found,
            skipped,
        } = asked;
        let [updated, mail_event, mail_time] = memory_times;
        let [counts, named, event, dt, time, place, first] = found;
        let (client, count, dim) = (&device.client, units(counts.len().max(*others)), CubeDim::new_1d(UNITS));
        let sizes = [counts.len(), *others_from, *others].map(|size| size as u32);
        let roots = RootsLaunch::new(name.arg(), at.arg(), before.arg(), sizes[0], sizes[1], sizes[2]);
        let found = NeighbourSlotsLaunch::new(
            counts.arg(),
            named.arg(),
            event.arg(),
            dt.arg(),
            time.arg(),
            place.arg(),
            first.arg(),
        );
        if lookup.k == 0 {
            return no_neighbours_kernel::launch::<R>(client, count, dim, roots, found, lookup);
        }
        let memory_times = MemoryTimesLaunch::new(updated.arg(), mail_event.arg(), mail_time.arg());
        let (visible, skipped) = (*visible as u32, *skipped as u32);
        match &self.settled {
            NeighbourStore::Rings { node, time, event } => {
                let ring = RingLaunch::new(self.degree.arg(), node.arg(), time.arg(), event.arg());
                look_kernel::launch::<R>(
                    client,
                    count,
                    dim,
                    roots,
                    ends.arg(),
                    visible,
                    ring,
                    memory_times,
                    found,
                    skipped,
                    lookup,
                );
            }
            NeighbourStore::ByNode { starts, node, time, event } => {
                let log = ByNodeLaunch::new(starts.arg(), node.arg(), time.arg(), event.arg(), self.degree.arg());
                let Some(drawing) = drawing else {
                    return newest_kernel::launch::<R>(
                        client,
                        count,
                        dim,
                        roots,
                        ends.arg(),
                        visible,
                        log,
                        memory_times,
                        found,
                        skipped,
                        lookup,
                    );
                };
                let chance = drawing.arg();
                draw_kernel::launch::<R>(
                    client,
                    count,
                    dim,
                    roots,
                    ends.arg(),
                    visible,
                    log,
                    memory_times,
                    found,
                    skipped,
                    chance,
                    lookup,
                );
            }
        }
    }
}

/// Gives each of the first names without neighbours a neighbour of zeros.
pub(crate) fn pad<R: CubeRuntime>(
    device: &Device<R>,
    [names, times]: [&DeviceBuffer<R>; 2],
    [counts, event, dt]: [&DeviceBuffer<R>; 3],
    k: usize,
) {
    if counts.len() > 0 {
        let (count, dim, all) = (units(counts.len()), CubeDim::new_1d(UNITS), counts.len() as u32);
        let roots = RootsLaunch::new(names.arg(), times.arg(), times.arg(), all, 0, 0);
        pad_kernel::launch::<R>(&device.client, count, dim, roots, counts.arg(), event.arg(), dt.arg(), k);
    }
}

/// `[R]` idle times of the first `R` names' memories at `times`.
pub(crate) fn idle<R: CubeRuntime>(
    device: &Device<R>,
    [names, times]: [&DeviceBuffer<R>; 2],
    [updated, mail_event, mail_time]: [&DeviceBuffer<R>; 3],
    count: usize,
) -> DeviceBuffer<R> {
    let (out, dim) = (device.empty(count).part(0, count), CubeDim::new_1d(UNITS));
    if count > 0 {
        let roots = RootsLaunch::new(names.arg(), times.arg(), times.arg(), count as u32, 0, 0);
        let memory_times = MemoryTimesLaunch::new(updated.arg(), mail_event.arg(), mail_time.arg());
        idle_kernel::launch::<R>(&device.client, units(count), dim, roots, memory_times, out.arg());
    }
    out
}

/// Appends to the times and positions of `roots`, `[C]`, those of their slots: each root's own.
#[cube(launch)]
fn broadcast_root_times_kernel(
    times: &mut Array<u32>,
    places: &mut Array<u32>,
    roots: u32,
    first: u32,
    #[comptime] k: usize,
) {
    let slot = ABSOLUTE_POS;
    if slot < roots as usize * k {
        let at = first as usize + slot;
        times[at] = times[slot / k];
        places[at] = places[slot / k];
    }
}

/// Gives the slots of `roots` roots, which begin at `first`, the roots' times and positions.
pub(crate) fn broadcast_root_times<R: CubeRuntime>(
    device: &Device<R>,
    [times, places]: [&DeviceBuffer<R>; 2],
    roots: usize,
    first: usize,
    k: usize,
) {
    let (count, dim) = (units(roots * k), CubeDim::new_1d(UNITS));
    broadcast_root_times_kernel::launch::<R>(
        &device.client,
        count,
        dim,
        times.arg(),
        places.arg(),
        roots as u32,
        first as u32,
        k,
    );
}

/// Rows of the table below in which every root and every slot has its own row: its own index, or [`NONE`] if the slot
/// is empty. Every row has one name only.
#[cube(launch)]
fn own_rows_kernel(
    counts: &Array<u32>,
    rows: &mut Array<u32>,
    starts: &mut Array<u32>,
    names: &mut Array<u32>,
    first: u32,
    #[comptime] k: usize,
) {
    let i = ABSOLUTE_POS;
    if i < rows.len() {
        let mut row = select(i < counts.len(), i as u32, NONE);
        if i >= first as usize {
            let slot = i - first as usize;
            let number = (slot % k) as u32;
            row = select(number < counts[slot / k], i as u32, NONE);
        }
        rows[i] = row;
        names[i] = i as u32;
    }
    if i <= rows.len() {
        starts[i] = i as u32;
    }
}

/// `[first + R * K]` rows, with the start and the members of the group of each: see the kernel.
pub(crate) fn own_rows<R: CubeRuntime>(
    device: &Device<R>,
    counts: &DeviceBuffer<R>,
    first: usize,
    k: usize,
) -> (DeviceBuffer<R>, [DeviceBuffer<R>; 2]) {
    let len = first + counts.len() * k;
    let [rows, starts, names] = [len, len + 1, len].map(|len| device.empty(len).part(0, len));
    let (count, dim) = (units(len + 1), CubeDim::new_1d(UNITS));
    own_rows_kernel::launch::<R>(
        &device.client,
        count,
        dim,
        counts.arg(),
        rows.arg(),
        starts.arg(),
        names.arg(),
        first as u32,
        k,
    );
    (rows, [starts, names])
}
