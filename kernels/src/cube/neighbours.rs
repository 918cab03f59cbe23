//! Recent neighbours: a ring for each node, and the events that have not settled into it.
use super::plans::NONE;
use super::span::{Device, Span, UNITS, units};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// What a lookup is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lookup {
    /// Neighbours of a root.
    pub(super) k: usize,
    /// Whether a neighbour's time counts from its last update and not from the query.
    pub(super) since_update: bool,
}

/// Events as their ends see them, oldest first.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Ends {
    pub(super) node: Array<u32>,
    pub(super) other: Array<u32>,
    pub(super) time: Array<u32>,
    pub(super) event: Array<u32>,
}

/// The newest settled events of every node, `[N, K]`: slot `i % K` holds the `i`-th.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Ring {
    /// Events ever settled, `[N]`.
    degree: Array<u32>,
    node: Array<u32>,
    time: Array<u32>,
    event: Array<u32>,
}

/// Who is asked about, and when: an event is seen that is earlier, or of that very time and before that place in the log.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Roots {
    node: Array<u32>,
    time: Array<u32>,
    place: Array<u32>,
}

/// When the memory of each node is from, `[N]`: without its waiting mail, and the mail's event and time.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Clock {
    updated: Array<u32>,
    mail_event: Array<u32>,
    mail_time: Array<u32>,
}

/// What is found: how many, then in each slot node, event and time difference.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Found {
    count: Array<u32>,
    /// Starts with the roots and all the touched nodes; the slots come behind.
    named: Array<u32>,
    event: Array<u32>,
    dt: Array<f32>,
}

/// `a - b` of times, which lie less than `2^31` apart.
#[cube]
pub(super) fn since(a: u32, b: u32) -> f32 {
    f32::cast_from(i32::reinterpret(a - b))
}

#[cube]
fn put(found: &mut Found, clock: &Clock, slot: usize, skipped: usize, link: (u32, u32, u32), now: u32, #[comptime] lookup: Lookup) {
    let (node, event, time) = link;
    let mut then = now;
    if comptime!(lookup.since_update) {
        let n = node as usize;
        then = select(clock.mail_event[n] == NONE, clock.updated[n], clock.mail_time[n]);
    }
    found.named[skipped + slot] = node;
    found.event[slot] = event;
    found.dt[slot] = since(then, time);
}

/// The newest events each root sees, newest first: of the first `visible` ends, then of the ring.
#[cube(launch)]
fn look_kernel(
    roots: &Roots,
    ends: &Ends,
    visible: u32,
    ring: &Ring,
    clock: &Clock,
    found: &mut Found,
    skipped: u32,
    #[comptime] lookup: Lookup,
) {
    let root = ABSOLUTE_POS;
    if root < roots.node.len() {
        let k = comptime!(lookup.k);
        let node = roots.node[root];
        let time = roots.time[root];
        let place = roots.place[root];
        let mut count = 0u32;
        for back in 0..visible {
            let j = (visible - 1 - back) as usize;
            let end = ends.time[j];
            let seen = end < time || (end == time && ends.event[j] < place);
            if ends.node[j] == node && seen && count < k as u32 {
                let link = (ends.other[j], ends.event[j], end);
                put(found, clock, root * k + count as usize, skipped as usize, link, time, lookup);
                count += 1;
            }
        }
        let degree = ring.degree[node as usize];
        for back in 0..u32::min(degree, k as u32) {
            let j = node as usize * k + ((degree - 1 - back) % k as u32) as usize;
            let end = ring.time[j];
            let seen = end < time || (end == time && ring.event[j] < place);
            if seen && count < k as u32 {
                let link = (ring.node[j], ring.event[j], end);
                put(found, clock, root * k + count as usize, skipped as usize, link, time, lookup);
                count += 1;
            }
        }
        found.count[root] = count;
        for slot in count..k as u32 {
            found.named[skipped as usize + root * k + slot as usize] = NONE.runtime();
        }
    }
}

/// Puts the first `settled` ends into the rings. Of a node that has more than the ring holds the newest are put.
#[cube(launch)]
fn insert_kernel(ends: &Ends, settled: u32, ring: &mut Ring, #[comptime] k: usize) {
    let j = ABSOLUTE_POS;
    if j < settled as usize {
        let node = ends.node[j];
        let mut before = 0u32;
        let mut after = 0u32;
        for i in 0..settled {
            if ends.node[i as usize] == node {
                before += select((i as usize) < j, 1u32, 0u32);
                after += select((i as usize) > j, 1u32, 0u32);
            }
        }
        if after < k as u32 {
            let at = node as usize * k + ((ring.degree[node as usize] + before) % k as u32) as usize;
            ring.node[at] = ends.other[j];
            ring.time[at] = ends.time[j];
            ring.event[at] = ends.event[j];
        }
    }
}

/// Counts the first `settled` ends: the last of each node counts for all of them.
#[cube(launch)]
fn degree_kernel(ends: &Ends, settled: u32, degree: &mut Array<u32>) {
    let j = ABSOLUTE_POS;
    if j < settled as usize {
        let node = ends.node[j];
        let mut count = 0u32;
        let mut last = true;
        for i in 0..settled {
            if ends.node[i as usize] == node {
                count += 1;
                if i as usize > j {
                    last = false;
                }
            }
        }
        if last {
            degree[node as usize] += count;
        }
    }
}

/// Events as their ends see them, on a device.
pub(super) struct EndSpans<R: CubeRuntime> {
    pub(super) node: Span<R>,
    pub(super) other: Span<R>,
    pub(super) time: Span<R>,
    pub(super) event: Span<R>,
}

impl<R: CubeRuntime> EndSpans<R> {
    pub(super) fn arg(&self) -> EndsLaunch<R> {
        EndsLaunch::new(self.node.arg(), self.other.arg(), self.time.arg(), self.event.arg())
    }
}

/// The rings of all nodes.
pub(super) struct Rings<R: CubeRuntime> {
    pub(super) degree: Span<R>,
    pub(super) node: Span<R>,
    pub(super) time: Span<R>,
    pub(super) event: Span<R>,
}

impl<R: CubeRuntime> Rings<R> {
    pub(super) fn arg(&self) -> RingLaunch<R> {
        RingLaunch::new(self.degree.arg(), self.node.arg(), self.time.arg(), self.event.arg())
    }

    /// Lets the first `settled` of `ends` settle.
    pub(super) fn insert(&self, device: &Device<R>, ends: &EndSpans<R>, settled: usize, k: usize) {
        if settled * k == 0 {
            return;
        }
        let (count, dim) = (|| units(settled), CubeDim::new_1d(UNITS));
        insert_kernel::launch::<R>(&device.client, count(), dim, ends.arg(), settled as u32, self.arg(), k);
        degree_kernel::launch::<R>(&device.client, count(), dim, ends.arg(), settled as u32, self.degree.arg());
    }
}

/// Fills `found`, whose slots come behind `skipped` names, with what `roots` `[R]` see of the first `visible` ends and the rings.
#[allow(clippy::too_many_arguments)]
pub(super) fn look<R: CubeRuntime>(
    device: &Device<R>,
    [node, time, place]: [&Span<R>; 3],
    ends: &EndSpans<R>,
    visible: usize,
    rings: &Rings<R>,
    [updated, mail_event, mail_time]: [&Span<R>; 3],
    [count, named, event, dt]: [&Span<R>; 4],
    skipped: usize,
    lookup: Lookup,
) {
    look_kernel::launch::<R>(
        &device.client,
        units(node.len()),
        CubeDim::new_1d(UNITS),
        RootsLaunch::new(node.arg(), time.arg(), place.arg()),
        ends.arg(),
        visible as u32,
        rings.arg(),
        ClockLaunch::new(updated.arg(), mail_event.arg(), mail_time.arg()),
        FoundLaunch::new(count.arg(), named.arg(), event.arg(), dt.arg()),
        skipped as u32,
        lookup,
    );
}
