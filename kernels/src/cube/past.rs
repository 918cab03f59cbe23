//! The past of some roots on a device, and what is computed from it.
use super::Matrix;
use super::gather::gather_span;
use super::history::{DeviceHistory, End};
use super::linear::Map;
use super::memory::{self, Shape};
use super::memory_backward;
use super::neighbours::EndSpans;
use super::plans::{AttentionSpans, EMPTY, MailSpans, NONE};
use super::span::{Device, Span};
use super::weights::Weight;
use crate::Cell;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

/// The past of some roots, as it lies on the device.
pub struct DevicePast<R: CubeRuntime> {
    pub(super) device: Device<R>,
    /// Most rows there can be.
    pub(super) capacity: usize,
    /// `[P + 1]`, the number of rows last.
    pub(super) starts: Span<R>,
    pub(super) nodes: Span<R>,
    /// Rows of the ends of the batch in hand.
    pub(super) touched_rows: Span<R>,
    pub(super) mail: MailSpans<R>,
    /// Columns of edge features.
    pub(super) features: usize,
    /// Farthest first.
    pub(super) hops: Vec<Hop<R>>,
    pub(super) ends: EndSpans<R>,
    pub(super) all_ends: Vec<End>,
    pub(super) unsettled: usize,
}

/// Centres and their neighbours, as rows of the table below: the memories of a past, or what the hop below was embedded as.
#[derive(Clone)]
pub struct Hop<R: CubeRuntime> {
    pub(super) device: Device<R>,
    /// `[C]` rows of the table below; of a hop below another, centres that nobody asks about have none.
    pub(super) centres: Span<R>,
    pub(super) attention: AttentionSpans<R>,
    /// Slots of a centre.
    pub(super) neighbours: usize,
    /// Columns of edge features.
    pub(super) features: usize,
    /// Rows of the table below.
    pub(super) below: usize,
}

/// A memory module on a device.
#[derive(Clone, Debug)]
pub struct DeviceCell<R: CubeRuntime> {
    /// Which cell.
    pub cell: Cell,
    /// `W_ih` and `b_ih`.
    pub input: Map<R>,
    /// `W_hh` and `b_hh`.
    pub recurrent: Map<R>,
    /// Frequencies and phases of the time encoding, `[T]`.
    pub time: [Weight<R>; 2],
}

/// What a memory update keeps for its backward pass.
pub struct UpdateKept<R: CubeRuntime> {
    shape: Shape,
    weights: [CubeTensor<R>; 6],
    kept: memory::Kept<R>,
}

impl<R: CubeRuntime> DeviceCell<R> {
    fn biases(&self) -> [&Weight<R>; 2] {
        [&self.input, &self.recurrent].map(|map| map.bias.as_ref().expect("a recurrent cell has biases"))
    }

    /// New memory `[rows, D]` of every row of `past`.
    ///
    /// # Panics
    /// Where the weights do not fit the past.
    pub fn forward(&self, past: &DevicePast<R>) -> (Matrix<R>, UpdateKept<R>) {
        let device = &past.device;
        let width = past.mail.memory.len() / past.capacity;
        let gates = self.cell.gates() * width;
        let matrix = |weight: &Weight<R>| device.tensor(weight.value(), [gates, weight.len() / gates]);
        let vector = |weight: &Weight<R>| device.tensor(weight.value(), [weight.len()]);
        let [b_ih, b_hh] = self.biases().map(vector);
        let [freq, phase] = self.time.each_ref().map(vector);
        let weights = [matrix(&self.input.weight), matrix(&self.recurrent.weight), b_ih, b_hh, freq, phase];
        let shape = Shape::of(past.capacity, past.features, self.cell, &weights);
        let (new, kept) = memory::update(device, &shape, &past.mail, past.capacity, &weights);
        (Matrix::from_tensor(&new, past.capacity, width), UpdateKept { shape, weights, kept })
    }

    /// Writes the gradients of the cell and adds to those of the time encoding, from that of the new memory.
    pub fn backward(&self, kept: &UpdateKept<R>, grad: &Matrix<R>) {
        let [b_ih, b_hh] = self.biases().map(|bias| bias.gradient().clone());
        let written = [self.input.weight.gradient().clone(), self.recurrent.weight.gradient().clone(), b_ih, b_hh];
        let UpdateKept { shape, weights, kept } = kept;
        let [freq, phase] = memory_backward::gradients(&grad.device, shape, weights, kept, &grad.span, &written);
        self.time[0].add_gradient(&grad.device, &freq);
        self.time[1].add_gradient(&grad.device, &phase);
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

    /// The centres' rows of `table`, `[C, W]`; 0 where nobody is asked about.
    ///
    /// # Panics
    /// Where `table` is not the table below.
    pub fn gather(&self, table: &Matrix<R>) -> Matrix<R> {
        assert_eq!(table.rows(), self.below, "rows of the table below");
        let tensor = gather_span(&self.device, &table.span, &self.centres, table.columns());
        Matrix::from_tensor(&tensor, self.len(), table.columns())
    }

    /// Clears the rows `[C, ..]` of centres without neighbours.
    pub fn mask(&self, rows: &Matrix<R>) {
        rows.mask(&self.attention.count);
    }
}

impl<R: CubeRuntime> DevicePast<R> {
    /// Its hops, the farthest first; the centres of the last are the roots.
    pub fn hops(&self) -> &[Hop<R>] {
        &self.hops
    }

    /// The rows' stored memories, `[rows, D]`.
    pub fn memory(&self) -> Matrix<R> {
        let width = self.mail.memory.len() / self.capacity;
        Matrix::of(&self.device, self.mail.memory.clone(), self.capacity, width)
    }

    /// As many numbers as the rows' memories have, put on the device: new memories that no model computed.
    ///
    /// # Panics
    /// Where there are not as many.
    pub fn new_memory(&self, values: &[f32]) -> Matrix<R> {
        let memory = self.memory();
        assert_eq!(values.len(), memory.rows() * memory.columns(), "numbers of new memories");
        let mut parcel = super::span::Parcel::default();
        parcel.floats(values.iter().copied());
        Matrix::of(&self.device, self.device.send(parcel), memory.rows(), memory.columns())
    }
}

/// The mail of a node, copied to the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostMail {
    /// Whether the message is the zero vector; then the rest means nothing.
    pub empty: bool,
    /// Its event.
    pub event: u32,
    /// Time from the receiver's last update to the event.
    pub dt: f32,
    /// Memory of the other end, `[D]`.
    pub other: Vec<f32>,
}

/// [`DevicePast`] copied to the host, with the farthest hop's neighbours: what tests look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostPast {
    /// `[U]` the node of every row, as first named.
    pub nodes: Vec<u32>,
    /// `[U, D]`
    pub memory: Vec<f32>,
    /// `[U]` what every row reads, if anything.
    pub mail: Vec<Option<HostMail>>,
    /// `[C]` row of every centre; `u32::MAX` where nobody is asked about.
    pub roots: Vec<u32>,
    /// `[C]` for every centre its neighbours, newest first: row, event and time difference.
    pub neighbours: Vec<Vec<(u32, u32, f32)>>,
    /// `[U]` for every row the slots that name it.
    pub slots: Vec<Vec<u32>>,
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// Copies a past to the host. Waits for the device.
    pub fn fetch(&self, past: &DevicePast<R>) -> HostPast {
        let (integers, floats) = (|span: &Span<R>| self.device.integers(span), |span: &Span<R>| self.device.floats(span));
        let (d, k) = (self.rules.memory, self.rules.neighbours);
        let unique = *integers(&past.starts).last().expect("the number of rows") as usize;
        let (marks, events, times, others) =
            (integers(&past.mail.rows), integers(&past.mail.feature), floats(&past.mail.dt), floats(&past.mail.other));
        let mail = |row: usize| {
            let other = others[row * d..][..d].to_vec();
            let empty = marks[row] & EMPTY != 0;
            (marks[row] != NONE).then(|| HostMail { empty, event: events[row], dt: times[row], other })
        };
        let (hop, attention) = (&past.hops[0], &past.hops[0].attention);
        let (rows, counts, event, dt) =
            (integers(&attention.row), integers(&attention.count), integers(&attention.feature), floats(&attention.dt));
        let neighbour = |slot: usize| (rows[slot], event[slot], dt[slot]);
        let ([starts, names], first) = (attention.groups.each_ref().map(integers), attention.first_slot as u32);
        let group =
            |row: usize| names[starts[row] as usize..starts[row + 1] as usize].iter().filter_map(|name| name.checked_sub(first)).collect();
        HostPast {
            nodes: integers(&past.nodes)[..unique].to_vec(),
            memory: floats(&past.mail.memory)[..unique * d].to_vec(),
            mail: (0..unique).map(mail).collect(),
            roots: integers(&hop.centres),
            neighbours: (0..counts.len()).map(|root| (root * k..root * k + counts[root] as usize).map(neighbour).collect()).collect(),
            slots: (0..unique).map(group).collect(),
        }
    }
}
