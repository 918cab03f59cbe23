//! Rows of nodes besides their memory: constant rows, mapped and added to it or concatenated with it.
use crate::Rows;
use crate::cube::array::layout::{Block, WeightLayout};
use crate::cube::array::matrix::Matrix;
use crate::cube::array::weights::{Weight, Weights};
use crate::cube::history::past::DeviceView;
use crate::cube::history::sampling::{RandomStream, RandomStreamLaunch, random_word};
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, UploadBuffer, units};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Constant rows of nodes, `columns` wide.
#[derive(Clone, Debug)]
pub struct NodeRows<R: CubeRuntime> {
    /// `[N, columns]` on the device; if `None`, each past carries those of its nodes.
    table: Option<DeviceBuffer<R>>,
    columns: usize,
}

impl<R: CubeRuntime> NodeRows<R> {
    /// Sends the rows of `nodes` nodes.
    pub fn send(device: &R::Device, rows: &dyn Rows, nodes: usize) -> Self {
        let mut upload = UploadBuffer::default();
        upload.floats((0..nodes as u64).flat_map(|node| rows.row(node).iter().copied()));
        Self { table: Some(Device::<R>::new(device).send(upload)), columns: rows.width() }
    }

    /// Rows of zeros.
    pub fn zeros(device: &R::Device, nodes: usize, columns: usize) -> Self {
        Self { table: Some(Device::<R>::new(device).filled(nodes * columns, 0)), columns }
    }

    /// Rows that are not on the device: each past carries those of its nodes.
    pub fn streamed(columns: usize) -> Self {
        Self { table: None, columns }
    }
}

/// Constants at the compilation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// Columns of memory, or of the zeros instead of it.
    d: usize,
    /// Whether there is memory.
    remembers: bool,
    /// Columns of features, which are added.
    features: usize,
    /// Columns of vectors.
    vectors: usize,
    /// Whether vectors are concatenated with the memory and not added.
    concat: bool,
    /// Columns of 1, one for each bias.
    ones: usize,
    /// Columns of what the map reads.
    read: usize,
    hiding: bool,
    /// Whether constant rows are those of the past's rows, and not of all nodes.
    streamed: bool,
}

impl Shape {
    /// Columns of vectors among those that the map reads.
    fn added(&self) -> usize {
        if self.concat { 0 } else { self.vectors }
    }

    fn width(&self) -> usize {
        self.d + if self.concat { self.vectors } else { 0 }
    }
}

/// The nodes of the rows.
#[derive(CubeType, CubeLaunch)]
struct Nodes {
    nodes: Array<u32>,
    /// The last number is the number of rows.
    starts: Array<u32>,
    /// Share of the nodes whose vectors are hidden.
    hidden: f32,
    /// Number of nodes with a correction: they are the first ones.
    corrected: u32,
    chance: RandomStream,
}

/// Constant rows by node, and their corrections.
#[derive(CubeType, CubeLaunch)]
struct Constants {
    features: Array<f32>,
    vectors: Array<f32>,
    correction: Array<f32>,
}

/// Whether a node's vector is hidden in this step.
#[cube]
fn hides(nodes: &Nodes, node: u32, #[comptime] shape: Shape) -> bool {
    let mut hides = false;
    if comptime!(shape.hiding) {
        // 2^-24
        hides = f32::cast_from(random_word(&nodes.chance, 0u32, node, 0u32) >> 8) * 5.960_464_5e-8f32 < nodes.hidden;
    }
    hides
}

/// The index of a row's constant row.
#[cube]
fn constant(nodes: &Nodes, row: usize, #[comptime] shape: Shape) -> usize {
    if comptime!(shape.streamed) { row } else { nodes.nodes[row] as usize }
}

/// Column of the vector of a row's node.
#[cube]
fn vector(nodes: &Nodes, constants: &Constants, row: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    let node = nodes.nodes[row];
    let mut value = 0.0f32;
    if !hides(nodes, node, shape) {
        value = constants.vectors[constant(nodes, row, shape) * comptime!(shape.vectors) + column];
        if node < nodes.corrected {
            value += constants.correction[node as usize * comptime!(shape.vectors) + column];
        }
    }
    value
}

/// The input of the map, `[rows, read]`: `[features | vector | 1 .. | 0]`.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube(launch)]
fn read_kernel(nodes: &Nodes, constants: &Constants, out: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let row = i / comptime!(shape.read);
        let column = i % comptime!(shape.read);
        let f = comptime!(shape.features);
        let all = comptime!(shape.features + shape.added());
        let mut value = select(column >= all && column < all + comptime!(shape.ones), 1.0f32, 0.0f32);
        if (row as u32) < nodes.starts[nodes.starts.len() - 1] {
            if column < f {
                value = constants.features[constant(nodes, row, shape) * f + column];
            } else if comptime!(shape.added() > 0) {
                if column < all {
                    value = vector(nodes, constants, row, column - f, shape);
                }
            }
        }
        out[i] = value;
    }
}

/// `[rows, W]`: memory plus the mapped inputs, followed by the vector if concatenated.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube(launch)]
fn join_kernel(
    nodes: &Nodes,
    constants: &Constants,
    memory: &Array<f32>,
    mapped: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let d = comptime!(shape.d);
        let row = i / comptime!(shape.width());
        let column = i % comptime!(shape.width());
        let mut value = 0.0f32;
        if column < d {
            if comptime!(shape.remembers) {
                value = memory[row * d + column];
            }
            if comptime!(shape.read > 0) {
                value += mapped[row * d + column];
            }
        } else if comptime!(shape.concat) {
            if (row as u32) < nodes.starts[nodes.starts.len() - 1] {
                value = vector(nodes, constants, row, column - d, shape);
            }
        }
        out[i] = value;
    }
}

/// Gradients of corrections: those of the vectors shown, which begin at column `first` of rows of `stride`.
#[cube(launch)]
fn correct_kernel(
    nodes: &Nodes,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
    #[comptime] stride: usize,
    #[comptime] first: usize,
) {
    let row = ABSOLUTE_POS / comptime!(shape.vectors);
    let column = ABSOLUTE_POS % comptime!(shape.vectors);
    if row < nodes.nodes.len() && (row as u32) < nodes.starts[nodes.starts.len() - 1] {
        let node = nodes.nodes[row];
        if node < nodes.corrected && !hides(nodes, node, shape) {
            out[node as usize * comptime!(shape.vectors) + column] = grad[row * stride + first + column];
        }
    }
}

/// Widths of a memory and of the inputs besides it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeInputWidths {
    /// Of the memory, `D`, or of the zeros instead of it.
    pub memory: usize,
    /// Whether there is memory.
    pub remembers: bool,
    /// Of features, which a map adds to the memory; 0 for none.
    pub features: usize,
    /// Of vectors; 0 for none.
    pub vectors: usize,
    /// Whether vectors are concatenated with the memory, and are not added by a map.
    pub concat: bool,
}

/// The offsets of these weights among the numbers of all: of weight and bias.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeInputOffsets {
    /// `[D, features]` and `[D]`.
    pub features: [usize; 2],
    /// `[D, vectors]` and `[D]`, where vectors are added.
    pub vectors: [usize; 2],
    /// `[nodes, vectors]` corrections of the first nodes' vectors: their offset and the number of nodes.
    pub correction: Option<(usize, usize)>,
}

/// The positions of the weights of a node's inputs besides its memory.
#[derive(Clone, Copy, Debug)]
pub struct NodeInputBlocks {
    shape: Shape,
    map: Option<Block>,
    correction: Option<Block>,
}

impl NodeInputBlocks {
    /// Allocates the weights for these widths.
    pub fn allocate(layout: &mut WeightLayout, widths: NodeInputWidths, from: &NodeInputOffsets) -> Self {
        let NodeInputWidths { memory: d, remembers, features, vectors, concat } = widths;
        let ones = usize::from(features > 0) + usize::from(vectors > 0 && !concat);
        let mut shape =
            Shape { d, remembers, features, vectors, concat, ones, read: 0, hiding: false, streamed: false };
        shape.read = if ones > 0 { (features + shape.added() + ones).next_multiple_of(4) } else { 0 };
        let map = (ones > 0).then(|| layout.block(d, shape.read));
        let mut one = features + shape.added();
        let parts = [(features, 0, from.features), (shape.added(), features, from.vectors)];
        for ((columns, column, [weight, bias]), map) in
            parts.into_iter().zip([map; 2]).filter(|((columns, ..), _)| *columns > 0)
        {
            let Some(map) = map else { continue };
            layout.assign(map, [0, column], [d, columns], weight);
            layout.assign(map, [0, one], [d, 1], bias);
            one += 1;
        }
        let correction = from.correction.map(|(from, nodes)| {
            let block = layout.block(nodes, vectors);
            layout.assign(block, [0, 0], [nodes, vectors], from);
            block
        });
        Self { shape, map, correction }
    }
}

/// The inputs of nodes besides their memory, on a device.
#[derive(Clone, Debug)]
pub struct NodeInputs<R: CubeRuntime> {
    shape: Shape,
    map: Option<Weight<R>>,
    correction: Option<Weight<R>>,
    features: Option<NodeRows<R>>,
    vectors: Option<NodeRows<R>>,
}

/// The nodes whose vectors a step hides: a share of them, drawn with this key.
#[derive(Clone, Copy, Debug)]
pub struct VectorDropout {
    /// Between 0 and 1.
    pub share: f32,
    /// Key of the draws.
    pub key: u64,
}

/// Saved arrays of a forward pass.
pub struct SavedNodeInputs<R: CubeRuntime> {
    hidden: Option<VectorDropout>,
    /// `[rows, read]`
    read: Matrix<R>,
}

impl<R: CubeRuntime> NodeInputs<R> {
    /// The inputs with the weights at `blocks` and constant rows of these widths. Both kinds of rows are on the device,
    /// or neither is.
    ///
    /// # Panics
    /// If their widths differ.
    pub fn at(weights: &Weights<R>, blocks: NodeInputBlocks, [features, vectors]: [Option<NodeRows<R>>; 2]) -> Self {
        let columns = |rows: &Option<NodeRows<R>>| rows.as_ref().map_or(0, |rows| rows.columns);
        let streamed = [&features, &vectors].into_iter().flatten().any(|rows| rows.table.is_none());
        let shape = Shape { streamed, ..blocks.shape };
        assert_eq!(
            [columns(&features), columns(&vectors)],
            [shape.features, shape.vectors],
            "columns of constant rows"
        );
        let [map, correction] = [blocks.map, blocks.correction].map(|block| block.map(|block| weights.at(block)));
        Self { shape, map, correction, features, vectors }
    }

    fn shape(&self, hidden: Option<VectorDropout>) -> Shape {
        Shape { hiding: hidden.is_some(), ..self.shape }
    }

    fn nodes(&self, past: &DeviceView<R>, hidden: Option<VectorDropout>) -> NodesLaunch<R> {
        let (share, key) = hidden.map_or((0.0, 0), |hidden| (hidden.share, hidden.key));
        let chance = RandomStreamLaunch::new(key as u32, (key >> 32) as u32, 0, 0, 0);
        let corrected = self.correction.as_ref().map_or(0, |weight| weight.rows as u32);
        NodesLaunch::new(past.nodes.arg(), past.starts.arg(), share, corrected, chance)
    }

    fn constants(&self, past: &DeviceView<R>) -> ConstantsLaunch<R> {
        let nothing = past.device.empty(0);
        let [features, vectors] = [0, 1].map(|i| {
            let here = [&self.features, &self.vectors][i].as_ref().and_then(|rows| rows.table.as_ref());
            here.or(past.node_rows.as_ref().map(|streamed| &streamed[i])).unwrap_or(&nothing).arg()
        });
        let correction = self.correction.as_ref().map_or(&nothing, |weight| &weight.value).arg();
        ConstantsLaunch::new(features, vectors, correction)
    }

    /// Rows of the nodes of `past`, `[rows, W]`, from their memory `[rows, D]`, if they have any.
    pub fn forward(
        &self,
        past: &DeviceView<R>,
        memory: Option<&Matrix<R>>,
        hidden: Option<VectorDropout>,
    ) -> (Matrix<R>, SavedNodeInputs<R>) {
        let (device, dim, shape, rows) = (&past.device, CubeDim::new_1d(UNITS), self.shape(hidden), past.capacity);
        let read = Matrix::new(device, rows, shape.read);
        let mapped = self.map.as_ref().map(|map| {
            let (nodes, constants) = (self.nodes(past, hidden), self.constants(past));
            read_kernel::launch::<R>(
                &device.client,
                units(read.buffer.len()),
                dim,
                nodes,
                constants,
                read.buffer.arg(),
                shape,
            );
            map.forward(&read)
        });
        let out = Matrix::new(device, rows, shape.width());
        let (nodes, constants, count) = (self.nodes(past, hidden), self.constants(past), units(out.buffer.len()));
        let memory = memory.map_or_else(|| out.buffer.clone(), |memory| memory.buffer.clone());
        let mapped = mapped.map_or_else(|| memory.clone(), |mapped| mapped.buffer);
        join_kernel::launch::<R>(
            &device.client,
            count,
            dim,
            nodes,
            constants,
            memory.arg(),
            mapped.arg(),
            out.buffer.arg(),
            shape,
        );
        (out, SavedNodeInputs { hidden, read })
    }

    /// Writes the gradients of maps and corrections, given that of the rows. Its first columns are the gradient of the
    /// memory.
    pub fn backward(&self, past: &DeviceView<R>, shown: &SavedNodeInputs<R>, grad: &Matrix<R>) {
        if let Some(map) = &self.map {
            map.backward(&shown.read, grad);
        }
        let Some(correction) = &self.correction else { return };
        let shape = self.shape(shown.hidden);
        let (of_vectors, first) = match &self.map {
            Some(map) if !shape.concat => (map.backward_input(grad), shape.features),
            _ => (grad.clone(), shape.d),
        };
        correction.clear_gradient();
        let (client, count, dim) = (&past.device.client, units(past.capacity * shape.vectors), CubeDim::new_1d(UNITS));
        let (nodes, stride) = (self.nodes(past, shown.hidden), of_vectors.columns());
        correct_kernel::launch::<R>(
            client,
            count,
            dim,
            nodes,
            of_vectors.buffer.arg(),
            correction.gradient.arg(),
            shape,
            stride,
            first,
        );
    }
}
