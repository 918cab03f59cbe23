//! A history on a device: node memories, waiting mail, neighbours and edge features.
//!
//! A step uploads its queries and events in one transfer and waits for nothing. The number of distinct nodes stays on
//! the device, where every array has room for the maximum. Only edge features in host memory are read back and uploaded
//! in every step.
pub(crate) mod apply;
pub(crate) mod features;
pub(crate) mod inputs;
pub(crate) mod look;
pub(crate) mod mail;
pub(crate) mod neighbours;
pub(crate) mod past;
pub(crate) mod sampling;
pub(crate) mod sent;
pub(crate) mod state;
pub(crate) mod transfer;

use crate::cube::array::matrix::Matrix;
use crate::cube::history::apply::apply_batch;
use crate::cube::history::features::Features;
use crate::cube::history::inputs::{DeviceDataset, DeviceEvents, DeviceRules, DeviceSampler, TooLarge, bytes_of};
use crate::cube::history::neighbours::{NeighbourStore, Neighbourhoods};
use crate::cube::history::past::{CurrentBatch, DeviceView};
use crate::cube::history::state::NodeStates;
use crate::cube::launch::buffer::{Device, DeviceBuffer, UploadBuffer};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;

/// Node memories, mail, neighbours and edge features on a device.
pub struct DeviceHistory<R: CubeRuntime> {
    pub(super) device: Device<R>,
    pub(super) nodes: usize,
    pub(super) origin: i64,
    pub(super) rules: DeviceRules,
    pub(super) states: NodeStates<R>,
    pub(super) neighbourhoods: Neighbourhoods<R>,
    /// `[N]` the first name of every node in the current lookup; [`NONE`] for all nodes between two lookups.
    pub(super) first: DeviceBuffer<R>,
    /// `[N]` how many names each row has in the current lookup; zeros between two lookups.
    pub(super) counts: DeviceBuffer<R>,
    pub(super) features: Features<R>,
    /// Ends of the events of the newest tick, which have not settled.
    pub(super) pending: Vec<End>,
}

/// An event as one of its ends sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(super) node: u32,
    pub(super) other: u32,
    pub(super) time: u32,
    pub(super) event: u32,
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// An empty history. Edge features stay in host memory if they do not fit.
    ///
    /// # Errors
    /// [`TooLarge`] if the rest does not fit.
    ///
    /// # Panics
    /// If `rules` have two hops without neighbours, or a sampler that draws without a log.
    pub fn new(device: &R::Device, rules: DeviceRules, dataset: &DeviceDataset<'_>) -> Result<Self, TooLarge> {
        let all = rules.sampler != DeviceSampler::Recent || rules.before_events && rules.layers > 1;
        assert!(!all || dataset.log.is_some(), "any event may be shown, and there is no log by node");
        let hops = if rules.neighbours > 0 { 1..=2 } else { 1..=1 };
        assert!(hops.contains(&rules.layers), "{} hops of {} neighbours", rules.layers, rules.neighbours);
        let (device, nodes, room) = (Device::new(device), dataset.nodes, dataset.room);
        let bytes = bytes_of(&rules, dataset);
        if bytes > room {
            return Err(TooLarge { bytes, room });
        }
        let features = Features::new(&device, dataset.features.clone(), dataset.events, room - bytes);
        let tick = |time: i64| u32::try_from(time - dataset.origin).expect("a log of fewer than 2^32 ticks");
        let sent = |numbers: &mut dyn Iterator<Item = u32>| {
            let mut upload = UploadBuffer::default();
            upload.integers(numbers);
            device.send(upload)
        };
        let settled = match &dataset.log {
            None => {
                let [node, time, event] = [(); 3].map(|()| device.filled(nodes * rules.neighbours, 0));
                NeighbourStore::Rings { node, time, event }
            }
            Some(log) => NeighbourStore::ByNode {
                starts: sent(&mut log.starts.iter().copied()),
                node: sent(&mut log.node.iter().copied()),
                time: sent(&mut log.time.iter().map(|&time| tick(time))),
                event: sent(&mut log.event.iter().copied()),
            },
        };
        Ok(Self {
            nodes,
            origin: dataset.origin,
            rules,
            states: NodeStates::new(&device, nodes, rules.rule()),
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

    /// Whether large uploads go through pinned memory, that is, whether the device's driver has it.
    pub fn uses_pinned_memory(&self) -> bool {
        self.device.uses_pinned_memory()
    }

    /// Clears the history.
    pub fn reset(&mut self) {
        self.states = NodeStates::new(&self.device, self.nodes, self.rules.rule());
        self.neighbourhoods.degree = self.device.filled(self.nodes, 0);
        self.pending.clear();
    }

    /// Applies the batch for which `past` was read. `memory` `[rows, D]` are the rows' new memories; `said` is the
    /// [payload of its mail](crate::cube::history::mail), if the model makes it. Waits for nothing.
    ///
    /// # Panics
    /// If `memory` does not have one row for each of the past's, if a payload is missing, or if another history read
    /// `past`.
    pub fn observe(&mut self, past: &DeviceView<R>, memory: &Matrix<R>, said: Option<&Matrix<R>>) {
        assert_eq!([memory.rows(), memory.columns()], [past.capacity, self.rules.memory], "new memories");
        assert!(
            !self.rules.given || said.is_some_and(|said| said.columns() == self.rules.mail_width),
            "what mail says"
        );
        let Some(CurrentBatch { ends, end_effects, all_ends, unsettled }) = &past.current_batch else {
            panic!("a past that the host has read")
        };
        let all = (&self.states, &self.neighbourhoods);
        let happens = (ends, end_effects, *unsettled);
        apply_batch(
            &self.device,
            all,
            happens,
            (&past.touched_rows, &memory.buffer, said.map_or(&memory.buffer, |said| &said.buffer)),
            self.rules.rule(),
            self.rules.neighbours,
        );
        self.pending = all_ends[count_observable(all_ends)..].to_vec();
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
pub(super) fn count_observable(ends: &[End]) -> usize {
    let newest = ends.last().map(|end| end.time);
    ends.partition_point(|end| Some(end.time) != newest)
}
