//! Copies a whole history to the host, and back.
use crate::cube::history::DeviceHistory;
use crate::cube::history::inputs::DeviceEvents;
use crate::cube::history::neighbours::NeighbourStore;
use crate::cube::launch::buffer::{DeviceBuffer, UploadBuffer};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;

/// The contents of a history on a device, in host memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceState {
    /// `[N, D]`
    pub memory: Vec<f32>,
    /// `[N]` time of each memory's last update.
    pub updated: Vec<i64>,
    /// `[N]` waiting mail.
    pub mail: Vec<Option<StateMail>>,
    /// `[N, D]` payloads of the mails; empty if mail has none.
    pub others: Vec<f32>,
    /// `[N]` events ever settled.
    pub degree: Vec<u32>,
    /// `[N, K]` the newest settled events, slot `i % K` holding a node's `i`-th: other end, time and event. Nothing
    /// where a log by node has them.
    pub ring: Vec<StateLink>,
    /// Events of the newest tick, which have not settled: positions in the log.
    pub pending: Vec<u64>,
}

/// Mail that waits at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateMail {
    /// Its event.
    pub event: u64,
    /// The other end.
    pub other: u32,
    /// Time of the event.
    pub time: i64,
    /// The receiver's last update before it.
    pub since: i64,
}

/// An event as one of its ends sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateLink {
    /// The other end.
    pub node: u32,
    /// Its time.
    pub time: i64,
    /// Its position in the log.
    pub event: u64,
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// All stored memories, `[N, D]`. Waits for the device.
    pub fn memory(&self) -> Vec<f32> {
        self.device.floats(&self.states.memory)
    }

    /// The whole state. Waits for the device.
    pub fn state(&self) -> DeviceState {
        let integers = |buffer: &DeviceBuffer<R>| self.device.integers(buffer);
        let time = |tick: u32| self.origin + i64::from(tick);
        let states = &self.states;
        let [event, node, times, since] = [&states.event, &states.node, &states.time, &states.since].map(integers);
        let mail = |n: usize| {
            let mail =
                StateMail { event: u64::from(event[n]), other: node[n], time: time(times[n]), since: time(since[n]) };
            (event[n] != NONE).then_some(mail)
        };
        let ring = match &self.neighbourhoods.settled {
            NeighbourStore::Rings { node, time: times, event } => {
                let [node, times, event] = [node, times, event].map(integers);
                let link = |i: usize| StateLink { node: node[i], time: time(times[i]), event: u64::from(event[i]) };
                (0..node.len()).map(link).collect()
            }
            NeighbourStore::ByNode { .. } => Vec::new(),
        };
        let mut pending: Vec<u64> = self.pending.iter().map(|end| u64::from(end.event)).collect();
        pending.dedup();
        DeviceState {
            memory: self.memory(),
            updated: integers(&states.updated).into_iter().map(time).collect(),
            mail: (0..self.nodes).map(mail).collect(),
            others: self.device.floats(&states.other),
            degree: integers(&self.neighbourhoods.degree),
            ring,
            pending,
        }
    }

    /// Restores [`state`](DeviceHistory::state); `pending` are the events that had not settled.
    ///
    /// # Panics
    /// If the state is of a history with other nodes or widths.
    pub fn restore(&mut self, state: &DeviceState, pending: &DeviceEvents<'_>) {
        let write = |buffer: &DeviceBuffer<R>, numbers: &mut dyn ExactSizeIterator<Item = u32>| {
            assert_eq!(numbers.len(), buffer.len(), "numbers of a history's state");
            let mut upload = UploadBuffer::default();
            upload.integers(numbers);
            if buffer.len() > 0 {
                self.device.copy_to(&self.device.send(upload), 0, buffer);
            }
        };
        let (states, tick) = (&self.states, |time: i64| self.tick(time));
        let of_mail = |number: &dyn Fn(&StateMail) -> u32, none: u32| -> Vec<u32> {
            state.mail.iter().map(|mail| mail.as_ref().map_or(none, number)).collect()
        };
        write(&states.memory, &mut state.memory.iter().map(|x| x.to_bits()));
        write(&states.updated, &mut state.updated.iter().map(|&time| tick(time)));
        write(&states.event, &mut of_mail(&|mail| mail.event as u32, NONE).into_iter());
        write(&states.node, &mut of_mail(&|mail| mail.other, 0).into_iter());
        write(&states.time, &mut of_mail(&|mail| tick(mail.time), 0).into_iter());
        write(&states.since, &mut of_mail(&|mail| tick(mail.since), 0).into_iter());
        write(&states.other, &mut state.others.iter().map(|x| x.to_bits()));
        write(&self.neighbourhoods.degree, &mut state.degree.iter().copied());
        if let NeighbourStore::Rings { node, time, event } = &self.neighbourhoods.settled {
            write(node, &mut state.ring.iter().map(|link| link.node));
            // unused slots have no time
            write(
                time,
                &mut state
                    .ring
                    .iter()
                    .map(|link| link.time.checked_sub(self.origin).map_or(0, |ticks| ticks.max(0) as u32)),
            );
            write(event, &mut state.ring.iter().map(|link| link.event as u32));
        }
        let pending = self.ends(pending).collect();
        self.pending = pending;
    }
}
