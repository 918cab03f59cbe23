//! Edge features: all of them on the device or, if they do not fit, the rows that a step needs.
use crate::Rows;
use crate::cube::history::past::Hop;
use crate::cube::launch::buffer::{Device, DeviceBuffer, OffsetAllocator, UploadBuffer};
use crate::cube::launch::plans::{EMPTY, FeatureTable, MailBuffers, NONE};
use burn_cubecl::CubeRuntime;
use std::sync::Arc;

/// The location of edge features.
pub(crate) enum Features<R: CubeRuntime> {
    None,
    /// `[events, E]` on the device.
    Resident {
        table: DeviceBuffer<R>,
        width: usize,
    },
    /// In host memory: every step reads back which rows it needs, waits, and uploads them.
    Host(Arc<dyn Rows>),
}

impl<R: CubeRuntime> Features<R> {
    /// Uploads the features of `events` events if they need at most `room` bytes.
    pub(crate) fn new(device: &Device<R>, rows: Option<Arc<dyn Rows>>, events: usize, room: u64) -> Self {
        let Some(rows) = rows.filter(|rows| rows.width() > 0) else { return Self::None };
        let width = rows.width();
        if 4 * (events * width) as u64 > room {
            return Self::Host(rows);
        }
        let mut upload = UploadBuffer::default();
        upload.floats((0..events as u64).flat_map(|event| rows.row(event).iter().copied()));
        Self::Resident { table: device.send(upload), width }
    }

    pub(crate) fn are_resident(&self) -> bool {
        !matches!(self, Self::Host(_))
    }

    /// `E`
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Resident { width, .. } => *width,
            Self::Host(rows) => rows.width(),
        }
    }

    /// The table of all rows, if it is on the device.
    pub(crate) fn resident(&self) -> Option<DeviceBuffer<R>> {
        if let Self::Resident { table, .. } = self { Some(table.clone()) } else { None }
    }

    /// The feature table of these events: row indices, and the rows themselves if they are not on the device. In the
    /// table of all rows, the index is the event's number.
    pub(crate) fn table(&self, events: impl Iterator<Item = Option<u64>>) -> FeatureTable<'_> {
        match self {
            Self::None | Self::Resident { .. } => FeatureTable {
                index: events.map(|event| event.unwrap_or(0) as u32).collect(),
                ..FeatureTable::default()
            },
            Self::Host(rows) => FeatureTable::new(Some(rows.as_ref()), events),
        }
    }

    /// Gives mail and hops, which contain events, the rows of these events.
    pub(crate) fn find(&self, device: &Device<R>, mail: &mut MailBuffers<R>, hops: &mut [Hop<R>]) {
        match self {
            Self::None => {}
            Self::Resident { table, .. } => {
                mail.table = table.clone();
                hops.iter_mut().for_each(|hop| hop.attention.table = table.clone());
            }
            Self::Host(rows) => fetch(device, rows.as_ref(), mail, hops),
        }
    }
}

/// Reads back which events are needed and uploads their features, each once.
fn fetch<R: CubeRuntime>(device: &Device<R>, rows: &dyn Rows, mail: &mut MailBuffers<R>, hops: &mut [Hop<R>]) {
    let event = |number: u32, exists: bool| (exists && number != NONE).then_some(u64::from(number));
    let marks = device.integers(&mail.rows);
    let mut events: Vec<Option<u64>> = device
        .integers(&mail.feature)
        .into_iter()
        .zip(marks)
        .map(|(number, mark)| event(number, mark != NONE && mark & EMPTY == 0))
        .collect();
    let mut of_zeros = Vec::new();
    for hop in hops.iter() {
        if hop.neighbours == 0 {
            continue;
        }
        let (counts, k) = (device.integers(&hop.attention.count), hop.neighbours);
        let slots = device.integers(&hop.attention.feature).into_iter().enumerate();
        let shown = |slot: usize| ((slot % k) as u32) < counts[slot / k];
        let before = events.len();
        let mut zeros = |(slot, number): (usize, u32)| {
            if hop.pads && shown(slot) && number == NONE {
                of_zeros.push(before + slot);
            }
            event(number, shown(slot))
        };
        events.extend(slots.map(&mut zeros));
    }
    let mut table = FeatureTable::new(Some(rows), events.into_iter());
    of_zeros.into_iter().for_each(|at| table.index[at] = NONE);

    let lens: Vec<usize> =
        std::iter::once(mail.feature.len()).chain(hops.iter().map(|hop| hop.attention.feature.len())).collect();
    let (mut upload, mut rest) = (UploadBuffer::default(), &table.index[..]);
    for &len in &lens {
        let (own, after) = rest.split_at(len);
        upload.integers(own.iter().copied());
        rest = after;
    }
    upload.floats(table.numbers());
    let sent = device.send(upload);
    let mut offsets = OffsetAllocator::default();
    let mut next = |len: usize| sent.part(offsets.next(len), len);
    mail.feature = next(lens[0]);
    hops.iter_mut().zip(&lens[1..]).for_each(|(hop, &len)| hop.attention.feature = next(len));
    let table = next(table.len());
    mail.table = table.clone();
    hops.iter_mut().for_each(|hop| hop.attention.table = table.clone());
}
