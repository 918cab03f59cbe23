//! The past of some roots on a device, and what is computed from it.
use crate::Cell;
use crate::cube::array::layout::{Block, WeightLayout, with_one};
use crate::cube::array::matrix::Matrix;
use crate::cube::array::weights::{Weight, Weights};
use crate::cube::history::End;
use crate::cube::history::apply::EndEffectBuffers;
use crate::cube::history::neighbours::EndBuffers;
use crate::cube::kernel::memory;
use crate::cube::kernel::memory::{CellWeights, Shape};
use crate::cube::kernel::memory_backward;
use crate::cube::kernel::memory_backward::CellGradientBuffers;
use crate::cube::kernel::time::{TimeEncoding, TimeGradientPartials};
use crate::cube::launch::buffer::{Device, DeviceBuffer, PendingRead};
use crate::cube::launch::gather::gather_buffer;
use crate::cube::launch::plans::{EMPTY, MailBuffers, NONE, NeighbourBuffers};
use burn_cubecl::CubeRuntime;

/// The past of some roots on the device.
pub struct DeviceView<R: CubeRuntime> {
    pub(crate) device: Device<R>,
    /// Maximum number of rows.
    pub(crate) capacity: usize,
    /// Widths of a memory and of a mail's payload.
    pub(crate) widths: [usize; 2],
    /// `[P + 1]`, the number of rows last.
    pub(crate) starts: DeviceBuffer<R>,
    pub(crate) nodes: DeviceBuffer<R>,
    /// Rows of the nodes that the current batch touches.
    pub(crate) touched_rows: DeviceBuffer<R>,
    pub(crate) mail: MailBuffers<R>,
    /// Columns of edge features.
    pub(crate) features: usize,
    /// Farthest first.
    pub(crate) hops: Vec<Hop<R>>,
    /// Rows of the roots' table that the batch's ends are, `[2 B]`: source and destination by turns.
    pub(crate) ends: EndRows<R>,
    /// Constant rows of the nodes, features and vectors, if those of all nodes are not on the device.
    pub(crate) node_rows: Option<[DeviceBuffer<R>; 2]>,
    /// The current batch, if a history on the device will apply it.
    pub(crate) current_batch: Option<CurrentBatch<R>>,
}

/// Positions of a batch's ends in the roots' table.
#[derive(Clone)]
pub(crate) enum EndRows<R: CubeRuntime> {
    /// One after the other: so many from this row on.
    From(usize, usize),
    /// In these rows.
    Listed(DeviceBuffer<R>),
}

/// The current batch, in the form a history on the device applies.
pub(crate) struct CurrentBatch<R: CubeRuntime> {
    pub(crate) ends: EndBuffers<R>,
    pub(crate) end_effects: EndEffectBuffers<R>,
    pub(crate) all_ends: Vec<End>,
    pub(crate) unsettled: usize,
}

/// Centres and their neighbours, as rows of the table below: the memories of a past, or the embeddings of the hop
/// below.
#[derive(Clone)]
pub struct Hop<R: CubeRuntime> {
    pub(crate) device: Device<R>,
    /// `[C]` rows of the table below. In a hop below another, unused centres have none.
    pub(crate) centres: DeviceBuffer<R>,
    pub(crate) attention: NeighbourBuffers<R>,
    /// Slots of a centre.
    pub(crate) neighbours: usize,
    /// Columns of edge features.
    pub(crate) features: usize,
    /// Rows of the table below.
    pub(crate) below: usize,
    /// `[C]` ticks since the centres' memories were updated, if shown.
    pub(crate) idle: Option<DeviceBuffer<R>>,
    /// Whether a centre without neighbours has one of zeros instead, met at the first event. It has no event, and no
    /// row unless the table has a row of zeros.
    pub(crate) pads: bool,
}

/// The positions of a memory module's weights: each gate's bias follows its row of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct CellBlocks {
    cell: Cell,
    /// Matrices of messages and of memories.
    matrices: [Block; 2],
}

/// The offsets of these weights among the numbers of all: of messages and of memories.
#[derive(Clone, Copy, Debug)]
pub struct CellOffsets {
    /// `[gates, width]` each.
    pub matrices: [usize; 2],
    /// `[gates]` each.
    pub biases: [usize; 2],
}

impl CellBlocks {
    /// Allocates the blocks for messages of width `message`, of which the last `time` columns are a time encoding, and
    /// memories of width `memory`. On the device the time encoding comes first.
    pub fn allocate(
        layout: &mut WeightLayout,
        cell: Cell,
        [message, time, memory]: [usize; 3],
        from: &CellOffsets,
    ) -> Self {
        let gates = cell.gates() * memory;
        let matrices = [message, memory].map(|width| layout.block(gates, with_one(width)));
        let [input, recurrent] = matrices;
        for gate in 0..gates {
            let row = from.matrices[0] + gate * message;
            layout.assign(input, [gate, time], [1, message - time], row);
            layout.assign(input, [gate, 0], [1, time], row + message - time);
        }
        layout.assign(recurrent, [0, 0], [gates, memory], from.matrices[1]);
        for (i, width) in [message, memory].into_iter().enumerate() {
            layout.assign(matrices[i], [0, width], [gates, 1], from.biases[i]);
        }
        Self { cell, matrices }
    }
}

/// A memory module on a device.
#[derive(Clone, Debug)]
pub struct DeviceCell<R: CubeRuntime> {
    cell: Cell,
    matrices: [Weight<R>; 2],
    time: TimeEncoding<R>,
}

/// The arrays that a memory update saves for its backward pass.
pub struct SavedMemoryUpdate<R: CubeRuntime> {
    shape: Shape,
    weights: CellWeights<R>,
    kept: memory::Saved<R>,
}

impl<R: CubeRuntime> DeviceCell<R> {
    /// The module at `blocks`, with its time encoding.
    pub fn at(weights: &Weights<R>, blocks: CellBlocks, time: &TimeEncoding<R>) -> Self {
        Self { cell: blocks.cell, matrices: blocks.matrices.map(|block| weights.at(block)), time: time.clone() }
    }

    /// New memory `[rows, D]` of every row of `past`.
    ///
    /// # Panics
    /// If the weights do not fit the past.
    pub fn forward(&self, past: &DeviceView<R>) -> (Matrix<R>, SavedMemoryUpdate<R>) {
        let device = &past.device;
        let ([d, o], e, t) = (past.widths, past.features, self.time.width());
        let shape = Shape { d, o, e, t, cell: self.cell, joint: true };
        let [input, recurrent] = &self.matrices;
        assert_eq!(
            [input.columns, recurrent.columns, input.rows],
            [shape.x(), shape.h(), shape.gates()],
            "a memory module of {shape:?}"
        );
        let [w_ih, w_hh] = [input, recurrent].map(|weight| weight.matrix().tensor());
        let weights = CellWeights { w_ih, w_hh, biases: None, freq: self.time.freq(), phase: self.time.phase() };
        let (new, kept) = memory::update(device, &shape, &past.mail, past.capacity, &weights);
        (Matrix::from_tensor(&new, past.capacity, d), SavedMemoryUpdate { shape, weights, kept })
    }

    /// Writes the gradients of the cell and passes `time` its partial gradients of the time encoding, given the
    /// gradient of the new memory: the first columns of `grad`.
    pub fn backward(&self, kept: &SavedMemoryUpdate<R>, grad: &Matrix<R>, time: &mut TimeGradientPartials<R>) {
        if kept.kept.rows.len() == 0 {
            self.matrices.iter().for_each(Weight::clear_gradient);
            return;
        }
        let [w_ih, w_hh] = self.matrices.each_ref().map(|weight| weight.gradient.clone());
        let written = CellGradientBuffers { w_ih, w_hh, biases: None };
        let SavedMemoryUpdate { shape, weights, kept } = kept;
        let shares = time.take(kept.rows.len());
        memory_backward::gradients(
            &grad.device,
            shape,
            weights,
            kept,
            (&grad.buffer, grad.columns()),
            &written,
            &shares,
        );
    }
}

impl<R: CubeRuntime> Hop<R> {
    /// Centres of the hop, `C`.
    pub fn len(&self) -> usize {
        self.centres.len()
    }

    /// Whether there are no centres.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R: CubeRuntime> DeviceView<R> {
    /// Maximum number of rows.
    pub fn rows(&self) -> usize {
        self.capacity
    }

    /// Number of mails, including those that no row reads.
    pub fn mails(&self) -> usize {
        self.mail.rows.len()
    }

    /// Requests the rows of `memory` `[rows, D]` whose nodes the current batch touches.
    pub fn read_touched_later(&self, memory: &Matrix<R>) -> PendingRead<'_> {
        let tensor = gather_buffer(&self.device, &memory.buffer, &self.touched_rows, memory.columns());
        self.device.read_later(&self.device.buffer(&tensor))
    }

    /// Requests the numbers of `matrix`.
    pub fn ask(&self, matrix: &Matrix<R>) -> PendingRead<'_> {
        self.device.read_later(&matrix.buffer)
    }

    /// Its hops, the farthest first; the centres of the last are the roots.
    pub fn hops(&self) -> &[Hop<R>] {
        &self.hops
    }

    /// The rows' stored memories, `[rows, D]`.
    pub fn memory(&self) -> Matrix<R> {
        Matrix::of(&self.device, self.mail.memory.clone(), self.capacity, self.widths[0])
    }

    /// New memories that no model computed, uploaded: as many numbers as the rows' memories have.
    ///
    /// # Panics
    /// If their number differs.
    pub fn new_memory(&self, values: &[f32]) -> Matrix<R> {
        assert_eq!(values.len(), self.capacity * self.widths[0], "numbers of new memories");
        self.rows_of(values, self.widths[0])
    }

    /// Uploads rows of `columns` numbers.
    pub fn rows_of(&self, values: &[f32], columns: usize) -> Matrix<R> {
        let mut upload = crate::cube::launch::buffer::UploadBuffer::default();
        upload.floats(values.iter().copied());
        let rows = values.len().checked_div(columns).unwrap_or(self.capacity);
        Matrix::of(&self.device, self.device.send(upload), rows, columns)
    }
}

/// The mail of a node, copied to the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedMail {
    /// Whether the message is the zero vector; the other fields are then meaningless.
    pub empty: bool,
    /// Its event.
    pub event: u32,
    /// Time from the receiver's last update to the event.
    pub dt: f32,
    /// Its payload.
    pub other: Vec<f32>,
}

/// [`DeviceView`] copied to the host, with the farthest hop's neighbours, for tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedView {
    /// `[U]` the node of every row, as first named.
    pub nodes: Vec<u32>,
    /// `[U, D]`
    pub memory: Vec<f32>,
    /// `[U]` the mail that each row reads, if any.
    pub mail: Vec<Option<FetchedMail>>,
    /// `[C]` row of every centre; `u32::MAX` for an unused centre.
    pub roots: Vec<u32>,
    /// `[C]` ticks since the centres' memories were updated, if shown.
    pub idle: Vec<f32>,
    /// `[C]` for every centre its neighbours, newest first: row, event and time difference.
    pub neighbours: Vec<Vec<(u32, u32, f32)>>,
    /// `[U]` for every row the slots that refer to it.
    pub slots: Vec<Vec<u32>>,
}

impl<R: CubeRuntime> DeviceView<R> {
    /// Copies it to the host. Waits for the device.
    pub fn fetch(&self) -> FetchedView {
        let (integers, floats) = (
            |buffer: &DeviceBuffer<R>| self.device.integers(buffer),
            |buffer: &DeviceBuffer<R>| self.device.floats(buffer),
        );
        let ([d, said], k) = (self.widths, self.hops[0].neighbours);
        let unique = *integers(&self.starts).last().expect("the number of rows") as usize;
        let (mail_of, marks, events) =
            (integers(&self.mail.mail_of), integers(&self.mail.rows), integers(&self.mail.feature));
        let (times, others) = (floats(&self.mail.dt), floats(&self.mail.other));
        let mail = |row: usize| {
            let at = mail_of[row] as usize;
            let context = || FetchedMail {
                empty: marks[at] & EMPTY != 0,
                event: events[at],
                dt: times[at],
                other: others[at * said..][..said].to_vec(),
            };
            (mail_of[row] != NONE).then(context)
        };
        let (hop, attention) = (&self.hops[0], &self.hops[0].attention);
        let (rows, counts, event, dt) =
            (integers(&attention.row), integers(&attention.count), integers(&attention.feature), floats(&attention.dt));
        let neighbour = |slot: usize| (rows[slot], event[slot], dt[slot]);
        let ([starts, names], first) = (attention.groups.each_ref().map(integers), attention.first_slot as u32);
        let group = |row: usize| {
            names[starts[row] as usize..starts[row + 1] as usize]
                .iter()
                .filter_map(|name| name.checked_sub(first))
                .collect()
        };
        FetchedView {
            nodes: integers(&self.nodes)[..unique].to_vec(),
            memory: floats(&self.mail.memory)[..unique * d].to_vec(),
            mail: (0..unique).map(mail).collect(),
            roots: integers(&hop.centres),
            idle: hop.idle.as_ref().map_or_else(Vec::new, floats),
            neighbours: (0..counts.len())
                .map(|root| (root * k..root * k + counts[root] as usize).map(neighbour).collect())
                .collect(),
            slots: (0..unique).map(group).collect(),
        }
    }
}
