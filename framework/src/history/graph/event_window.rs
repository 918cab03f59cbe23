//! `Graph::fill_window`: how the events of a window are looked up.

use rayon::prelude::*;

use crate::history::graph::sample::CENTRES_A_TASK;
use crate::history::view::Hop;
use crate::history::view::needs::{Sampler, WindowSpec};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::history::view::window::{Window, WindowPart};
use crate::{Graph, NodeId, Timestamp};

impl Graph {
    /// Fills the event windows of the centres of the first `hop`, whose neighbours' events were at `times`. Rows hold
    /// node numbers until they are known.
    ///
    /// If the neighbours are the newest events, the window begins with them and goes on from there.
    pub(crate) fn fill_window(
        &self,
        look: WindowSpec,
        (nodes, moments): (&[NodeId], &[Moment]),
        present: &PendingIndex,
        (hop, times): (&Hop, &[i64]),
        parts: &mut Vec<WindowPart>,
        window: &mut Window,
    ) {
        let tasks = nodes.len().div_ceil(CENTRES_A_TASK);
        parts.resize_with(parts.len().max(tasks), WindowPart::default);
        let centres = nodes.par_chunks(CENTRES_A_TASK).zip(moments.par_chunks(CENTRES_A_TASK));
        centres.zip(&mut parts[..tasks]).enumerate().for_each(|(task, ((nodes, moments), part))| {
            part.clear();
            for (i, (&node, &moment)) in nodes.iter().zip(moments).enumerate() {
                let before = part.node.len();
                self.fill_window_of(look, (node, moment), present, (hop, times, task * CENTRES_A_TASK + i), part);
                part.counts.push((part.node.len() - before) as u32);
            }
        });
        window.starts.push(0);
        parts[..tasks].iter().for_each(|part| window.append(part));
    }

    /// Fills the window of one centre, which is at `row` of the first hop.
    fn fill_window_of(
        &self,
        look: WindowSpec,
        (node, moment): (NodeId, Moment),
        present: &PendingIndex,
        (hop, times, row): (&Hop, &[i64], usize),
        part: &mut WindowPart,
    ) {
        let from = Timestamp(look.ticks.map_or(i64::MIN, |ticks| moment.time().0.saturating_sub(ticks)));
        let (found, shared) = (&hop.neighbours, self.needs.sampler == Sampler::Recent);
        let known = if shared { found.count[row] as usize } else { 0 };
        let slots = row * found.k..row * found.k + known.min(look.neighbours);
        for slot in slots.clone() {
            if times[slot] < from.0 {
                return;
            }
            part.put(found.row[slot], found.event[slot], found.dt[slot]);
        }
        // Fewer neighbours than slots means that there are no more events.
        if slots.len() == look.neighbours || shared && known < found.k {
            return;
        }
        let more = self.newest_links(node, moment, present).take(look.neighbours).skip(slots.len());
        for link in more.take_while(|link| link.time >= from) {
            part.put(link.node.0, link.event.0, self.delta(link, moment, present));
        }
    }
}
