//! A second look at the past of each root.

use std::ops::Range;

use rayon::prelude::*;

use crate::look::CENTRES_A_TASK;
use crate::needs::{Sampler, WindowLook};
use crate::present::{Moment, Present};
use crate::view::Hop;
use crate::view_store::put;
use crate::{Graph, NodeId, Store, StoreError, Timestamp};

/// The second look at the past of `C` centres: as many events of each as there are, up to [`WindowLook::neighbours`], newest first.
///
/// The events of centre `c` stand at [`of(c)`](Window::of) in each array.
#[derive(Debug, Default, PartialEq)]
pub struct Window {
    /// `[C + 1]` where the events of each centre begin, and where the last ones end. Empty without a second look.
    pub starts: Vec<u32>,
    /// Rows of the view's distinct nodes: the other end of each event.
    pub row: Vec<u32>,
    /// The events.
    pub event: Vec<u64>,
    /// Time differences, as [`Delta`](crate::Delta) says.
    pub dt: Vec<f32>,
}

/// What one task finds.
#[derive(Default)]
pub(crate) struct WindowPart {
    counts: Vec<u32>,
    node: Vec<u32>,
    event: Vec<u64>,
    dt: Vec<f32>,
}

impl Window {
    /// Where the events of a centre stand.
    ///
    /// # Panics
    /// If there is no such centre, or no second look.
    pub fn of(&self, centre: usize) -> Range<usize> {
        self.starts[centre] as usize..self.starts[centre + 1] as usize
    }

    /// Centres it is shown for.
    pub fn centres(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Shows nothing any more; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.starts.clear();
        self.row.clear();
        self.event.clear();
        self.dt.clear();
    }

    fn append(&mut self, part: &WindowPart) {
        let mut end = self.row.len() as u32;
        self.starts.extend(part.counts.iter().map(|count| {
            end += count;
            end
        }));
        self.row.extend_from_slice(&part.node);
        self.event.extend_from_slice(&part.event);
        self.dt.extend_from_slice(&part.dt);
    }

    /// Puts it beside the other arrays of a view, if there is a second look.
    pub(crate) fn store(&self, store: &mut Store) {
        if !self.starts.is_empty() {
            put(store, "window.starts", self.starts.clone());
            put(store, "window.row", self.row.clone());
            put(store, "window.event", self.event.clone());
            put(store, "window.dt", self.dt.clone());
        }
    }

    /// What [`store`](Window::store) has put there.
    ///
    /// # Errors
    /// [`StoreError::Array`] naming an array that is missing or of another length.
    pub(crate) fn restore(store: &mut Store) -> Result<Window, StoreError> {
        if !store.names().any(|name| name == "window.starts") {
            return Ok(Window::default());
        }
        let starts = store.take::<u32>("window.starts")?.1;
        let count = starts.last().map_or(0, |&end| end as usize);
        let row = store.take_len("window.row", count)?;
        Ok(Window {
            starts,
            row,
            event: store.take_len("window.event", count)?,
            dt: store.take_len("window.dt", count)?,
        })
    }
}

impl Graph {
    /// Finds the second look of the centres of the first `hop`, whose neighbours were met at `times`. Rows are the nodes themselves as yet.
    ///
    /// Where the neighbours are the newest, they are the first events of the second look as well, and it goes on from there.
    pub(crate) fn look_again(
        &self,
        look: WindowLook,
        (nodes, moments): (&[NodeId], &[Moment]),
        present: &Present,
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
                self.see_window(look, (node, moment), present, (hop, times, task * CENTRES_A_TASK + i), part);
                part.counts.push((part.node.len() - before) as u32);
            }
        });
        window.starts.push(0);
        parts[..tasks].iter().for_each(|part| window.append(part));
    }

    /// Finds the second look of one centre, which stands at `row` of the first hop.
    fn see_window(
        &self,
        look: WindowLook,
        (node, moment): (NodeId, Moment),
        present: &Present,
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
        // Fewer neighbours than there was room for are all there are.
        if slots.len() == look.neighbours || shared && known < found.k {
            return;
        }
        let more = self.newest_links(node, moment, present).take(look.neighbours).skip(slots.len());
        for link in more.take_while(|link| link.time >= from) {
            part.put(link.node.0, link.event.0, self.delta(link, moment));
        }
    }
}

impl WindowPart {
    fn clear(&mut self) {
        self.counts.clear();
        self.node.clear();
        self.event.clear();
        self.dt.clear();
    }

    fn put(&mut self, node: u32, event: u64, dt: f32) {
        self.node.push(node);
        self.event.push(event);
        self.dt.push(dt);
    }
}
