//! Neighbours sampled with replacement from a node's whole past: the same draws as on the host.
use crate::cube::history::neighbours::{
    Ends, Lookup, MemoryTimes, NeighbourSlots, Roots, absent, claim, put, seen, slots_left,
};
use crate::cube::launch::wide::{WideU64, wide_mul};
use cubecl::prelude::*;

/// A log by node, and the number of settled events.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct ByNode {
    /// `[N + 1]`
    starts: Array<u32>,
    node: Array<u32>,
    time: Array<u32>,
    event: Array<u32>,
    /// `[N]`
    degree: Array<u32>,
}

/// The random stream: the key, the time at which ticks begin, and the window of a draw.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct RandomStream {
    key_low: u32,
    key_high: u32,
    origin_low: u32,
    origin_high: u32,
    window: i32,
}

/// Random word number `i` of a node and tick: of Philox4x32-10, four words to a block, the last of each first.
#[cube]
pub(crate) fn random_word(chance: &RandomStream, node: u32, tick: u32, i: u32) -> u32 {
    let low = chance.origin_low + tick;
    let high = chance.origin_high + select(low < tick, 1u32, 0u32);
    let mut counter_0 = i / 4;
    let mut counter_1 = low;
    let mut counter_2 = high;
    let mut counter_3 = node;
    let mut key_0 = chance.key_low;
    let mut key_1 = chance.key_high;
    for _ in 0..10u32 {
        let first = wide_mul(WideU64 { high: 0u32, low: counter_0 }, 0u32, 0xd251_1f53u32);
        let second = wide_mul(WideU64 { high: 0u32, low: counter_2 }, 0u32, 0xcd9e_8d57u32);
        counter_0 = second.high ^ counter_1 ^ key_0;
        counter_1 = second.low;
        counter_2 = first.high ^ counter_3 ^ key_1;
        counter_3 = first.low;
        key_0 += 0x9e37_79b9u32;
        key_1 += 0xbb67_ae85u32;
    }
    let place = i % 4;
    let upper = select(place == 0, counter_3, counter_2);
    let lower = select(place == 2, counter_1, counter_0);
    select(place < 2, upper, lower)
}

/// Number of the links `first..end` that a query at `time` and `place` has seen: always the first ones.
#[cube]
fn seen_of(log: &ByNode, first: u32, end: u32, time: u32, place: u32) -> u32 {
    let mut low = first;
    let mut high = end;
    while low < high {
        let middle = (low + high) / 2;
        if seen(log.time[middle as usize], log.event[middle as usize], time, place) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - first
}

/// Number of the links `first..end` before time `from`.
#[cube]
fn before(log: &ByNode, first: u32, end: u32, from: i32) -> u32 {
    let mut low = first;
    let mut high = end;
    while low < high {
        let middle = (low + high) / 2;
        if i32::reinterpret(log.time[middle as usize]) < from {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - first
}

/// Draws `k` numbers below `n` into `out[start..]`, ascending.
#[cube]
fn draw(chance: &RandomStream, node: u32, tick: u32, n: u32, out: &mut Array<u32>, start: usize, #[comptime] k: usize) {
    let surplus = (0 - n) % n;
    let mut taken = 0u32;
    for slot in 0..k {
        let mut drawn = 0u32;
        let mut again = true;
        while again {
            let product = wide_mul(WideU64 { high: 0u32, low: random_word(chance, node, tick, taken) }, 0u32, n);
            taken += 1;
            drawn = product.high;
            again = product.low < surplus;
        }
        let mut at = slot;
        while at > 0 && out[start + usize::max(at, 1) - 1] > drawn {
            out[start + at] = out[start + at - 1];
            at -= 1;
        }
        out[start + at] = drawn;
    }
}

/// The newest events each root sees, newest first: of the first `visible` ends, then of all settled events.
#[cube(launch)]
pub(crate) fn newest_kernel(
    roots: &Roots,
    ends: &Ends,
    visible: u32,
    log: &ByNode,
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
        let first = log.starts[node as usize];
        let known = first + select(is_absent, 0u32, log.degree[node as usize]);
        let settled = seen_of(log, first, known, time, place);
        for back in 0..u32::min(settled, k as u32 - count) {
            let at = (first + settled - 1 - back) as usize;
            let link = (log.node[at], log.event[at], log.time[at]);
            put(found, memory_times, root * k + count as usize, skipped as usize, link, time, lookup);
            count += 1;
        }
        found.count[root] = count;
        slots_left(found, root, count, skipped, k);
    }
}

/// `k` draws for each root from the events it sees: the first `visible` ends, and the settled events. Newest first.
#[cube(launch)]
pub(crate) fn draw_kernel(
    roots: &Roots,
    ends: &Ends,
    visible: u32,
    log: &ByNode,
    memory_times: &MemoryTimes,
    found: &mut NeighbourSlots,
    skipped: u32,
    chance: &RandomStream,
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
        let from = i32::reinterpret(time) - chance.window;

        let first = log.starts[node as usize];
        let known = first + select(is_absent, 0u32, log.degree[node as usize]);
        let skip = before(log, first, known, from);
        let settled = seen_of(log, first + skip, known, time, place);
        let mut fresh = 0u32;
        for j in 0..visible {
            let end = ends.time[j as usize];
            if ends.node[j as usize] == node
                && seen(end, ends.event[j as usize], time, place)
                && i32::reinterpret(end) >= from
            {
                fresh += 1;
            }
        }
        let all = settled + fresh;
        let mut count = 0u32;
        if all > 0 {
            draw(chance, node, time, all, &mut found.event, root * k, k);
            // those of the first ends, as many steps back as they lie
            let mut back = 0u32;
            for i in 0..visible {
                let j = (visible - 1 - i) as usize;
                let end = ends.time[j];
                if ends.node[j] == node && seen(end, ends.event[j], time, place) && i32::reinterpret(end) >= from {
                    while count < k as u32 && found.event[root * k + u32::min(count, k as u32 - 1) as usize] == back {
                        let link = (ends.other[j], ends.event[j], end);
                        put(found, memory_times, root * k + count as usize, skipped as usize, link, time, lookup);
                        count += 1;
                    }
                    back += 1;
                }
            }
            while count < k as u32 {
                let slot = root * k + count as usize;
                let at = (first + skip + all - 1 - found.event[slot]) as usize;
                let link = (log.node[at], log.event[at], log.time[at]);
                put(found, memory_times, slot, skipped as usize, link, time, lookup);
                count += 1;
            }
        }
        found.count[root] = count;
        slots_left(found, root, count, skipped, k);
    }
}
