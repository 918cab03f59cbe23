//! Applies a batch on a device: new memories, new mail, new neighbours.
use crate::cube::history::End;
use crate::cube::history::neighbours::{EndBuffers, Ends, NeighbourStore, Neighbourhoods};
use crate::cube::history::state::{Mail, MailConfig, NodeStates};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, UploadBuffer, units};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;
use std::collections::HashMap;

/// The effects of every end, as computed on the host.
#[derive(CubeType, CubeLaunch)]
struct EndEffects {
    /// Number of earlier ends of its node that settle with it; [`NONE`] if it does not settle, or if so many follow it
    /// that it leaves the ring at once.
    before: Array<u32>,
    /// For the last end of a node that settles: how many settle with it; 0 for the others.
    counted: Array<u32>,
    /// 1 if it is its node's last end in the batch.
    last: Array<u32>,
}

/// Rings, as the kernel writes them.
#[derive(CubeType, CubeLaunch)]
struct Ring {
    degree: Array<u32>,
    node: Array<u32>,
    time: Array<u32>,
    event: Array<u32>,
}

/// Writes the memories of the nodes touched by the ends from `first` on, `rows` of `new`, and the times of the mails
/// they have read. Puts settled events into the rings.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube(launch)]
fn write_kernel(
    ends: &Ends,
    end_effects: &EndEffects,
    first: u32,
    rows: &Array<u32>,
    new: &Array<f32>,
    memory: &mut Array<f32>,
    mail: &Mail,
    updated: &mut Array<u32>,
    ring: &mut Ring,
    #[comptime] rule: MailConfig,
    #[comptime] k: usize,
) {
    let i = ABSOLUTE_POS;
    let d = comptime!(rule.d);
    let (j, column) = (i / comptime!(rule.width()), i % comptime!(rule.width()));
    let end = first as usize + j;
    if end < end_effects.last.len() && end_effects.last[end] == 1 {
        let node = ends.node[end] as usize;
        if comptime!(rule.d > 0) {
            if column < d {
                memory[node * d + column] = new[rows[j] as usize * d + column];
            }
        }
        if comptime!(rule.d > 0) && column == 0 && mail.event[node] != NONE {
            updated[node] = mail.time[node];
        }
    }
    if comptime!(k > 0) {
        if i < end_effects.before.len() && end_effects.before[i] != NONE {
            let node = ends.node[i] as usize;
            let at = node * k + ((ring.degree[node] + end_effects.before[i]) % k as u32) as usize;
            ring.node[at] = ends.other[i];
            ring.time[at] = ends.time[i];
            ring.event[at] = ends.event[i];
        }
    }
}

/// Delivers the mail of its last event to every touched node, and counts settled events. The payload is `given`, or is
/// the other end's memory: row `2 e` is the payload from the source of event `e`.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube(launch)]
fn deliver_kernel(
    ends: &Ends,
    end_effects: &EndEffects,
    first: u32,
    memory: &Array<f32>,
    given: &Array<f32>,
    updated: &Array<u32>,
    mail: &mut Mail,
    degree: &mut Array<u32>,
    #[comptime] rule: MailConfig,
) {
    let i = ABSOLUTE_POS;
    let d = comptime!(rule.d);
    let said = comptime!(rule.mail_width);
    let (j, column) = (i / comptime!(rule.width()), i % comptime!(rule.width()));
    let end = first as usize + j;
    if end < end_effects.last.len() && end_effects.last[end] == 1 {
        let node = ends.node[end] as usize;
        let other = ends.other[end];
        if comptime!(rule.given) {
            if column < said {
                // of an event with two ends the source is first
                let is_source = j == 0 || ends.event[usize::max(end, 1) - 1] != ends.event[end];
                let says = 2 * (ends.event[end] - ends.event[first as usize]) + select(is_source, 1u32, 0u32);
                mail.other[node * said + column] = given[says as usize * said + column];
            }
        } else if comptime!(rule.mail_width > 0 && !rule.other_at_read) {
            if column < d {
                mail.other[node * d + column] = memory[other as usize * d + column];
            }
        }
        if comptime!(rule.d > 0) && column == 0 {
            mail.event[node] = ends.event[end];
            mail.node[node] = other;
            mail.time[node] = ends.time[end];
            mail.since[node] = updated[node];
        }
    }
    if i < end_effects.counted.len() && end_effects.counted[i] > 0 {
        let node = ends.node[i] as usize;
        degree[node] += end_effects.counted[i];
    }
}

/// The effects of ends, on a device.
pub(crate) struct EndEffectBuffers<R: CubeRuntime> {
    before: DeviceBuffer<R>,
    counted: DeviceBuffer<R>,
    last: DeviceBuffer<R>,
}

/// Adds the effects of `ends` to `upload`: three arrays. The first `settled` ends settle; those from `unsettled` on
/// belong to the batch.
pub(crate) fn pack_end_effects(upload: &mut UploadBuffer, ends: &[End], settled: usize, unsettled: usize, k: usize) {
    let mut after: HashMap<u32, u32> = HashMap::new();
    let (mut before, mut counted) = (vec![NONE; ends.len()], vec![0; ends.len()]);
    for (end, before) in ends[..settled].iter().zip(&mut before) {
        let count = after.entry(end.node).or_default();
        *before = *count;
        *count += 1;
    }
    let totals = after.clone();
    after.clear();
    for (i, end) in ends[..settled].iter().enumerate().rev() {
        let follow = after.entry(end.node).or_default();
        if *follow == 0 {
            counted[i] = totals[&end.node];
        }
        if *follow as usize >= k {
            before[i] = NONE;
        }
        *follow += 1;
    }
    let mut last = vec![0; ends.len()];
    let newest: HashMap<u32, usize> = (unsettled..ends.len()).map(|i| (ends[i].node, i)).collect();
    newest.values().for_each(|&i| last[i] = 1);
    [before, counted, last].into_iter().for_each(|numbers| upload.integers(numbers));
}

impl<R: CubeRuntime> EndEffectBuffers<R> {
    /// The arrays added by [`pack_end_effects`].
    pub(crate) fn of([before, counted, last]: [DeviceBuffer<R>; 3]) -> Self {
        Self { before, counted, last }
    }

    fn arg(&self) -> EndEffectsLaunch<R> {
        EndEffectsLaunch::new(self.before.arg(), self.counted.arg(), self.last.arg())
    }
}

/// Applies `ends` and `end_effects`, those of the batch from `first` on. `rows` of `new` are the new memories of the
/// batch's ends; `given` is the payload of their mail, if the model makes it.
pub(crate) fn apply_batch<R: CubeRuntime>(
    device: &Device<R>,
    (states, neighbourhoods): (&NodeStates<R>, &Neighbourhoods<R>),
    (ends, end_effects, first): (&EndBuffers<R>, &EndEffectBuffers<R>, usize),
    (rows, new, given): (&DeviceBuffer<R>, &DeviceBuffer<R>, &DeviceBuffer<R>),
    rule: MailConfig,
    k: usize,
) {
    let touched = ends.node.len() - first;
    let count = (touched * rule.width()).max(ends.node.len());
    if count == 0 {
        return;
    }
    let (client, dim, first, degree) = (&device.client, CubeDim::new_1d(UNITS), first as u32, &neighbourhoods.degree);
    let nothing = device.empty(0);
    let ring = |node: &DeviceBuffer<R>, time: &DeviceBuffer<R>, event: &DeviceBuffer<R>| {
        RingLaunch::new(degree.arg(), node.arg(), time.arg(), event.arg())
    };
    let (ring, k) = match &neighbourhoods.settled {
        NeighbourStore::Rings { node, time, event } => (ring(node, time, event), k),
        NeighbourStore::ByNode { .. } => (ring(&nothing, &nothing, &nothing), 0),
    };
    write_kernel::launch::<R>(
        client,
        units(count),
        dim,
        ends.arg(),
        end_effects.arg(),
        first,
        rows.arg(),
        new.arg(),
        states.memory.arg(),
        states.mail(),
        states.updated.arg(),
        ring,
        rule,
        k,
    );
    deliver_kernel::launch::<R>(
        client,
        units(count),
        dim,
        ends.arg(),
        end_effects.arg(),
        first,
        states.memory.arg(),
        given.arg(),
        states.updated.arg(),
        states.mail(),
        degree.arg(),
        rule,
    );
}
