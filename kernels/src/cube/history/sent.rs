//! The past of some roots as the host read it, sent to a device in one upload.
use crate::cube::history::features::Features;
use crate::cube::history::past::{DeviceView, EndRows, Hop};
use crate::cube::launch::buffer::{Device, DeviceBuffer, OffsetAllocator, UploadBuffer};
use crate::cube::launch::plans::{
    FeatureTable, Groups, MailBuffers, NONE, NeighbourBuffers, group, mail_events, pack_mail, pack_neighbours,
    slot_events,
};
use crate::{MailPlan, Neighbours, Rows};
use burn_cubecl::CubeRuntime;
use std::sync::Arc;

/// The past of some roots as the host read it.
#[derive(Clone, Copy, Debug)]
pub struct HostView<'a> {
    /// `[U]` distinct nodes.
    pub nodes: &'a [u32],
    /// Rows of the nodes that the current batch touches.
    pub touched: &'a [u32],
    /// Their memories and mail; its features are ignored.
    pub mail: &'a MailPlan,
    /// Neighbours by hop, farthest first.
    pub hops: &'a [HostHop<'a>],
    /// Rows of the batch's ends in the roots' table, `[2 B]`; empty if not needed.
    pub ends: &'a [u32],
}

/// Centres and their neighbours.
#[derive(Clone, Copy, Debug)]
pub struct HostHop<'a> {
    /// `[C]` rows of the table below: nodes, or centres of the hop before.
    pub centres: &'a [u32],
    /// Their neighbours in that table.
    pub neighbours: &'a Neighbours,
    /// `[C]` ticks since the centres' memories were updated, or empty.
    pub idle: &'a [f32],
    /// `[C]` ticks since the first event, or empty. If given, a centre without neighbours has one of zeros, met at the
    /// first event.
    pub age: &'a [f32],
}

/// Constant rows of all nodes in host memory.
#[derive(Clone, Debug)]
pub struct HostRows {
    /// By node; without them all are zeros.
    pub rows: Option<Arc<dyn Rows>>,
    /// Their width; 0 for none.
    pub columns: usize,
}

/// Uploads pasts that the host read. Edge features stay on the device if they fit.
pub struct ViewUploader<R: CubeRuntime> {
    device: Device<R>,
    /// Widths of a memory and of a mail's payload.
    widths: [usize; 2],
    features: Features<R>,
    /// Features and vectors of nodes, if those of all nodes do not fit.
    node_rows: Option<[HostRows; 2]>,
}

/// The event of a neighbour of zeros.
const NO_EVENT: u64 = u64::MAX;

/// A hop in which centres without neighbours have one of zeros; `None` if the hop is unchanged.
struct Padded(Option<(Vec<u32>, Neighbours)>);

impl Padded {
    /// The hops, farthest first. The last centre of a hop below another is one of zeros.
    fn of(hops: &[HostHop<'_>]) -> Vec<Padded> {
        let mut zeros = NONE;
        let last = hops.len().saturating_sub(1);
        let pad = |(depth, hop): (usize, &HostHop<'_>)| {
            let wanted = !hop.age.is_empty() && hop.neighbours.k > 0;
            wanted.then(|| Self::pad(hop, std::mem::replace(&mut zeros, hop.len() as u32), depth < last))
        };
        hops.iter().enumerate().map(pad).map(Padded).collect()
    }

    /// `zeros` is the row of zeros in the table below.
    fn pad(hop: &HostHop<'_>, zeros: u32, more: bool) -> (Vec<u32>, Neighbours) {
        let (mut centres, mut found, mut age) = (hop.centres.to_vec(), hop.neighbours.clone(), hop.age.to_vec());
        if more {
            centres.push(zeros);
            age.push(0.0);
            found.roots += 1;
            found.count.push(0);
            found.row.resize(found.roots * found.k, 0);
            found.event.resize(found.roots * found.k, 0);
            found.dt.resize(found.roots * found.k, 0.0);
        }
        for (centre, age) in age
            .into_iter()
            .enumerate()
            .filter(|(centre, _)| hop.neighbours.count.get(*centre).is_none_or(|&count| count == 0))
        {
            let slot = centre * found.k;
            (found.count[centre], found.row[slot], found.event[slot], found.dt[slot]) = (1, zeros, NO_EVENT, age);
        }
        (centres, found)
    }

    fn read<'a>(&'a self, hop: &HostHop<'a>) -> HostHop<'a> {
        match &self.0 {
            Some((centres, neighbours)) => HostHop { centres, neighbours, ..*hop },
            None => *hop,
        }
    }
}

impl HostRows {
    fn pack(&self, upload: &mut UploadBuffer, nodes: &[u32]) {
        match &self.rows {
            Some(rows) => upload.floats(nodes.iter().flat_map(|&node| rows.row(u64::from(node)).iter().copied())),
            None => upload.floats(std::iter::repeat_n(0.0, nodes.len() * self.columns)),
        }
    }
}

impl HostHop<'_> {
    /// The names of each of `below` rows: centres, then slots.
    fn groups(&self, below: usize) -> Groups {
        let count = self.centres.len() as u32;
        let rows: Vec<u32> = self.centres.iter().chain(&self.neighbours.row).copied().collect();
        let named = (0..count).chain(self.neighbours.valid_slots().map(|slot| count + slot));
        group(below, named.filter(|&name| rows[name as usize] != NONE), &rows)
    }

    /// Slots of neighbours of zeros.
    fn of_zeros(&self) -> impl Iterator<Item = usize> {
        let (k, lonely) = (self.neighbours.k, !self.age.is_empty());
        let first = move |slot: usize| lonely && slot.is_multiple_of(k);
        let events = self.neighbours.event.iter().enumerate();
        events.filter(move |&(slot, &event)| first(slot) && event == NO_EVENT).map(|(slot, _)| slot)
    }

    /// The event of every slot.
    fn events(&self) -> impl Iterator<Item = Option<u64>> {
        slot_events(self.neighbours).map(|event| event.filter(|&event| event != NO_EVENT))
    }

    /// The rows that a hop above it may name.
    fn len(&self) -> usize {
        self.centres.len()
    }
}

impl<R: CubeRuntime> ViewUploader<R> {
    /// An uploader for memories and mail of these `widths`, and for the `features` of the log's events, which may use
    /// `room` bytes of the device. If `node_rows` are given, these constant rows travel with the memory.
    pub fn new(
        device: &R::Device,
        widths: [usize; 2],
        (features, events): (Option<Arc<dyn Rows>>, usize),
        node_rows: Option<[HostRows; 2]>,
        room: u64,
    ) -> Self {
        let device = Device::new(device);
        Self { features: Features::new(&device, features, events, room), device, widths, node_rows }
    }

    /// Whether constant rows of nodes travel with the memory.
    pub fn streams_node_rows(&self) -> bool {
        self.node_rows.is_some()
    }

    /// Whether uploads go through pinned memory, that is, whether the device's driver has it.
    pub fn uses_pinned_memory(&self) -> bool {
        self.device.uses_pinned_memory()
    }

    /// Whether edge features are on the device.
    pub fn features_are_resident(&self) -> bool {
        self.features.are_resident()
    }

    /// Uploads a past. Waits for nothing.
    ///
    /// # Panics
    /// If its parts do not fit together.
    pub fn send(&self, past: &HostView<'_>) -> DeviceView<R> {
        let padded = Padded::of(past.hops);
        let hops: Vec<HostHop<'_>> = past.hops.iter().zip(&padded).map(|(hop, padded)| padded.read(hop)).collect();
        let past = &HostView { hops: &hops, ..*past };
        let HostView { nodes, mail, hops, .. } = *past;
        mail.check(self.widths);
        assert_eq!(mail.unique, nodes.len(), "rows of memory");
        hops.iter().for_each(|hop| hop.neighbours.check());
        let below: Vec<usize> = std::iter::once(nodes.len()).chain(hops.iter().map(HostHop::len)).collect();
        let groups: Vec<Groups> = hops.iter().zip(&below).map(|(hop, &below)| hop.groups(below)).collect();
        let events = mail_events(mail).chain(hops.iter().flat_map(|hop| hop.events()));
        let mut table = self.features.table(events);
        let (mut first, named) = (mail.rows.len(), table.index.len());
        for hop in hops {
            let slots = hop.of_zeros().map(|slot| first + slot);
            slots.filter(|&at| at < named).for_each(|at| table.index[at] = NONE);
            first += hop.neighbours.row.len();
        }
        let sent = self.device.send_overlapped(self.pack(past, &groups, &table));
        self.unpack(past, &groups, &below, table.len(), &sent)
    }

    fn pack(&self, past: &HostView<'_>, groups: &[Groups], table: &FeatureTable<'_>) -> UploadBuffer {
        let HostView { nodes, touched, mail, hops, ends } = *past;
        let mut upload = UploadBuffer::default();
        upload.floats(table.numbers());
        upload.integers([nodes.len() as u32]);
        upload.integers(nodes.iter().copied());
        upload.integers(touched.iter().copied());
        upload.integers(ends.iter().copied());
        self.node_rows.iter().flatten().for_each(|rows| rows.pack(&mut upload, nodes));
        let (of_mail, mut rest) = table.index.split_at(mail.rows.len());
        pack_mail(&mut upload, mail, of_mail);
        for (hop, groups) in hops.iter().zip(groups) {
            let (of_hop, behind) = rest.split_at(hop.neighbours.row.len());
            upload.integers(hop.centres.iter().copied());
            upload.floats(hop.idle.iter().copied());
            pack_neighbours(&mut upload, hop.neighbours, groups, of_hop);
            rest = behind;
        }
        upload
    }

    /// The past whose arrays [`pack`](ViewUploader::pack) has packed, with a table of `features` numbers.
    fn unpack(
        &self,
        past: &HostView<'_>,
        groups: &[Groups],
        below: &[usize],
        features: usize,
        sent: &DeviceBuffer<R>,
    ) -> DeviceView<R> {
        let HostView { nodes, touched, mail, hops, ends } = *past;
        let mut offsets = OffsetAllocator::default();
        let mut next = |len: usize| sent.part(offsets.next(len), len);
        let of_step = next(features);
        let (table, device) = (self.features.resident().unwrap_or(of_step), &self.device);
        // in the order in which they were packed
        let [starts, nodes_of_rows, touched_rows, ends] = [1, nodes.len(), touched.len(), ends.len()].map(&mut next);
        let node_rows =
            self.node_rows.as_ref().map(|rows| rows.each_ref().map(|rows| next(nodes.len() * rows.columns)));
        let of_mail = MailBuffers::unpack(mail, self.widths, mail.rows.len(), table.clone(), &mut next);
        let hops = hops.iter().zip(groups).zip(below).map(|((hop, groups), &below)| {
            let (centres, count, slots) = (next(hop.len()), hop.len(), hop.neighbours.row.len());
            let idle = next(hop.idle.len());
            let attention = NeighbourBuffers::unpack(hop.neighbours, groups, count, slots, table.clone(), &mut next);
            Hop {
                device: device.clone(),
                centres,
                attention,
                neighbours: hop.neighbours.k,
                features: self.features.width(),
                below,
                idle: (idle.len() > 0).then_some(idle),
                pads: !hop.age.is_empty(),
            }
        });
        DeviceView {
            hops: hops.collect(),
            device: device.clone(),
            capacity: nodes.len(),
            widths: self.widths,
            ends: EndRows::Listed(ends),
            starts,
            nodes: nodes_of_rows,
            touched_rows,
            node_rows,
            mail: of_mail,
            features: self.features.width(),
            current_batch: None,
        }
    }
}
