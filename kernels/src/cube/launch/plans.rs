//! Plans as arrays on a device.
use crate::cube::launch::buffer::{Device, DeviceBuffer, OffsetAllocator, UploadBuffer};
use crate::{AttentionPlan, MailPlan, Neighbours, Rows};
use burn_cubecl::CubeRuntime;
use std::collections::HashMap;

/// Marks the index of a row whose message is the zero vector.
pub(crate) const EMPTY: u32 = 1 << 31;
/// Marks a node without mail.
pub(crate) const NONE: u32 = u32::MAX;

/// A [`MailPlan`] on a device.
pub(crate) struct MailBuffers<R: CubeRuntime> {
    /// `[U, D]`
    pub(crate) memory: DeviceBuffer<R>,
    /// `[M, said]`
    pub(crate) other: DeviceBuffer<R>,
    /// `[U]` the mail of each row, or [`NONE`].
    pub(crate) mail_of: DeviceBuffer<R>,
    /// `[M]` the row of each mail, marked [`EMPTY`] if the mail is empty.
    pub(crate) rows: DeviceBuffer<R>,
    /// `[M]`, 0 if the mail is empty.
    pub(crate) dt: DeviceBuffer<R>,
    /// `[M]` row of `table`.
    pub(crate) feature: DeviceBuffer<R>,
    /// `[.., E]`
    pub(crate) table: DeviceBuffer<R>,
}

impl<R: CubeRuntime> MailBuffers<R> {
    /// Uploads `plan`, with these widths of memories and payloads, in one transfer.
    pub(crate) fn send(device: &Device<R>, plan: &MailPlan, widths: [usize; 2]) -> Self {
        assert!(plan.unique < EMPTY as usize, "a plan of {} rows", plan.unique);
        let table = FeatureTable::new(plan.features.as_deref(), mail_events(plan));
        let mut upload = UploadBuffer::default();
        upload.floats(table.numbers());
        pack_mail(&mut upload, plan, &table.index);
        let sent = device.send(upload);
        let mut offsets = OffsetAllocator::default();
        let mut next = |len: usize| sent.part(offsets.next(len), len);
        let features = next(table.len());
        Self::unpack(plan, widths, table.index.len(), features, next)
    }

    /// The arrays packed by [`pack_mail`], one after the other; `index` is the number of mails with a row of `table`.
    pub(crate) fn unpack(
        plan: &MailPlan,
        [width, said]: [usize; 2],
        index: usize,
        table: DeviceBuffer<R>,
        mut next: impl FnMut(usize) -> DeviceBuffer<R>,
    ) -> Self {
        let mails = plan.rows.len();
        Self {
            memory: next(plan.unique * width),
            other: next(mails * said),
            mail_of: next(plan.unique),
            rows: next(mails),
            dt: next(mails),
            feature: next(index),
            table,
        }
    }
}

/// Adds the inputs of a memory update to `upload`; `index` has the rows of the mails' events.
pub(crate) fn pack_mail(upload: &mut UploadBuffer, plan: &MailPlan, index: &[u32]) {
    let mut mail_of = vec![NONE; plan.unique];
    plan.rows.iter().zip(0..).for_each(|(&row, mail)| mail_of[row as usize] = mail);
    upload.floats(plan.memory.iter().copied());
    upload.floats(plan.other.iter().copied());
    upload.integers(mail_of);
    upload.integers(plan.rows.iter().zip(&plan.empty).map(|(&row, &empty)| if empty { row | EMPTY } else { row }));
    upload.floats(plan.dt.iter().zip(&plan.empty).map(|(&dt, &empty)| if empty { 0.0 } else { dt }));
    upload.integers(index.iter().copied());
}

/// The event of every mail.
pub(crate) fn mail_events(plan: &MailPlan) -> impl Iterator<Item = Option<u64>> {
    plan.event.iter().zip(&plan.empty).map(|(&event, &empty)| (!empty).then_some(event))
}

/// An [`AttentionPlan`] on a device.
#[derive(Clone, Debug)]
pub(crate) struct NeighbourBuffers<R: CubeRuntime> {
    /// `[R]`
    pub(crate) count: DeviceBuffer<R>,
    /// `[R, K]`
    pub(crate) row: DeviceBuffer<R>,
    /// `[R, K]`
    pub(crate) dt: DeviceBuffer<R>,
    /// `[N + 1]`, and one entry per name: for every row of `hidden` the start of its group, and the names in it,
    /// ascending. Names are the valid slots, counted from `first_slot` on. If `first_slot` is not 0, they include the
    /// roots themselves.
    pub(crate) groups: [DeviceBuffer<R>; 2],
    pub(crate) first_slot: usize,
    /// `[R, K]` row of `table`.
    pub(crate) feature: DeviceBuffer<R>,
    /// `[.., E]`
    pub(crate) table: DeviceBuffer<R>,
}

impl<R: CubeRuntime> NeighbourBuffers<R> {
    /// Uploads `plan`, whose hidden state has `n` rows, in one transfer.
    pub(crate) fn send(device: &Device<R>, plan: &AttentionPlan, n: usize) -> Self {
        let neighbours = &plan.neighbours;
        let rows_fit = neighbours.valid_slots().all(|slot| (neighbours.row[slot as usize] as usize) < n);
        assert!(rows_fit, "a neighbour's row is not below {n}");
        let table = FeatureTable::new(plan.features.as_deref(), slot_events(neighbours));
        let groups = group(n, neighbours.valid_slots(), &neighbours.row);
        let mut upload = UploadBuffer::default();
        upload.floats(table.numbers());
        pack_neighbours(&mut upload, neighbours, &groups, &table.index);
        let sent = device.send(upload);
        let mut offsets = OffsetAllocator::default();
        let mut next = |len: usize| sent.part(offsets.next(len), len);
        let features = next(table.len());
        Self::unpack(neighbours, &groups, 0, table.index.len(), features, next)
    }

    /// The arrays packed by [`pack_neighbours`], one after the other; `index` is the number of slots with a row of
    /// `table`.
    pub(crate) fn unpack(
        neighbours: &Neighbours,
        (starts, names): &Groups,
        first_slot: usize,
        index: usize,
        table: DeviceBuffer<R>,
        mut next: impl FnMut(usize) -> DeviceBuffer<R>,
    ) -> Self {
        let slots = neighbours.row.len();
        Self {
            count: next(neighbours.roots),
            row: next(slots),
            dt: next(slots),
            groups: [next(starts.len()), next(names.len())],
            first_slot,
            feature: next(index),
            table,
        }
    }
}

/// Adds the inputs of attention to `upload`, with the [`group`]s of names by row; `index` has the rows of the slots'
/// events.
pub(crate) fn pack_neighbours(
    upload: &mut UploadBuffer,
    neighbours: &Neighbours,
    (starts, names): &Groups,
    index: &[u32],
) {
    upload.integers(neighbours.count.iter().copied());
    upload.integers(neighbours.row.iter().copied());
    upload.floats(neighbours.dt.iter().copied());
    upload.integers(starts.iter().copied());
    upload.integers(names.iter().copied());
    upload.integers(index.iter().copied());
}

/// The event of every slot.
pub(crate) fn slot_events(neighbours: &Neighbours) -> impl Iterator<Item = Option<u64>> {
    let valid = |slot: usize| slot % neighbours.k < neighbours.count[slot / neighbours.k] as usize;
    neighbours.event.iter().enumerate().map(move |(slot, &event)| valid(slot).then_some(event))
}

/// The feature rows of some events, each once.
#[derive(Default)]
pub(crate) struct FeatureTable<'a> {
    pub(crate) index: Vec<u32>,
    pub(crate) rows: Vec<&'a [f32]>,
    pub(crate) width: usize,
}

impl<'a> FeatureTable<'a> {
    /// Empty if there are no features; the row of a missing event is arbitrary.
    pub(crate) fn new(features: Option<&'a dyn Rows>, events: impl Iterator<Item = Option<u64>>) -> Self {
        let mut table = Self { index: Vec::new(), rows: Vec::new(), width: features.map_or(0, Rows::width) };
        let Some(features) = features.filter(|features| features.width() > 0) else { return table };
        let mut places = HashMap::new();
        for event in events {
            let place = event.map_or(0, |event| {
                *places.entry(event).or_insert_with(|| {
                    table.rows.push(features.row(event));
                    table.rows.len() as u32 - 1
                })
            });
            table.index.push(place);
        }
        table
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() * self.width
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = f32> {
        self.rows.iter().flat_map(|row| row.iter().copied())
    }
}

/// The start of each row's group, and the members of the groups, one after the other.
pub(crate) type Groups = (Vec<u32>, Vec<u32>);

/// For every row below `rows` the start of its group, and the positions group by group. Each group has the order of
/// `positions`.
pub(crate) fn group(rows: usize, positions: impl Iterator<Item = u32> + Clone, row_of: &[u32]) -> Groups {
    let mut starts = vec![0u32; rows + 1];
    positions.clone().for_each(|position| starts[row_of[position as usize] as usize + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let mut next = starts.clone();
    let mut grouped = vec![0; starts[rows] as usize];
    for position in positions {
        let next = &mut next[row_of[position as usize] as usize];
        grouped[*next as usize] = position;
        *next += 1;
    }
    (starts, grouped)
}
