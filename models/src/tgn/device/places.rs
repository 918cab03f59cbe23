//! Where the weights of a TGN stand on a device: side by side in the blocks that products read.

use tempograph_framework::Parameters;
use tempograph_kernels::Cell;
use tempograph_kernels::cube::{
    BesideBlocks, BesideNumbers, BesideWidths, Block, CellBlocks, CellNumbers, DecoderBlocks, DecoderNumbers, Layout,
    TimeBlock, with_one,
};

use super::decoder::Facts;
use super::layer::{Conv, Layer, Paper};
use crate::disttgl::Wiring;
use crate::tgn::FeatureWidths;
use crate::tgn::decoder::PAIR_COLUMNS;
use crate::tgn::slices::places::{LayerPlaces, Map, Places};
use crate::tgn::spec::{TgnSpec, Updater};

/// Where all weights stand.
pub(super) struct Blocks {
    pub cell: CellBlocks,
    pub time: TimeBlock,
    /// Where nodes show more than their memory.
    pub beside: Option<BesideBlocks>,
    /// Farthest hop first.
    pub layers: Vec<Layer>,
    pub decoder: DecoderBlocks,
    pub facts: Option<Facts>,
}

/// Lays blocks out.
struct Laying<'a> {
    spec: &'a TgnSpec,
    features: FeatureWidths,
    places: Places,
    layout: Layout,
}

/// The number at which weight and bias of a map begin.
fn both(map: &Map) -> [usize; 2] {
    let bias = map.bias.as_ref().unwrap_or_else(|| unreachable!("the map has a bias"));
    [map.weight.start, bias.start]
}

impl Blocks {
    /// Those of a model with these weights, and how they are laid out.
    pub fn of(spec: &TgnSpec, features: FeatureWidths, parameters: &Parameters) -> (Blocks, Layout) {
        let mut laying = Laying { spec, features, places: Places::of(spec, parameters), layout: Layout::default() };
        let blocks = Blocks {
            cell: laying.cell(),
            time: TimeBlock::stand(
                &mut laying.layout,
                spec.time,
                laying.places.time.each_ref().map(|range| range.start),
            ),
            beside: laying.beside(),
            layers: (0..laying.places.layers.len()).map(|depth| laying.layer(depth)).collect(),
            decoder: laying.decoder(),
            facts: laying.facts(),
        };
        (blocks, laying.layout)
    }
}

impl Laying<'_> {
    fn cell(&mut self) -> CellBlocks {
        let [w_ih, w_hh, b_ih, b_hh] = self.places.cell.each_ref().map(|range| range.start);
        let from = CellNumbers { matrices: [w_ih, w_hh], biases: [b_ih, b_hh] };
        let message = 2 * self.spec.memory + self.features.edge + self.spec.time;
        let cell = if self.spec.updater == Updater::Gru { Cell::Gru } else { Cell::Rnn };
        CellBlocks::stand(&mut self.layout, cell, [message, self.spec.time, self.spec.memory], &from)
    }

    fn beside(&mut self) -> Option<BesideBlocks> {
        let (vectors, places) = (self.spec.static_memory.on(), &self.places);
        if vectors.is_none() && places.node_features.is_none() {
            return None;
        }
        let behind = self.spec.static_memory.how == Wiring::Concat;
        let columns = vectors.map_or(0, |spec| spec.width);
        let widths = BesideWidths { memory: self.spec.memory, features: self.features.node, vectors: columns, behind };
        let maps = [&places.node_features, &places.static_memory.map].map(|map| map.as_ref().map_or([0, 0], both));
        let correction = places.static_memory.correction.as_ref().map(|range| (range.start, range.len() / columns));
        let from = BesideNumbers { features: maps[0], vectors: maps[1], correction };
        Some(BesideBlocks::stand(&mut self.layout, widths, &from))
    }

    /// A block for a map of `inputs` columns, its bias behind them.
    fn map(&mut self, map: &Map, outputs: usize, inputs: usize) -> Block {
        let block = self.layout.block(outputs, with_one(inputs));
        self.stand(block, map, [0, 0], [outputs, inputs], inputs);
        block
    }

    /// Puts a map into `block`, its bias in column `one`.
    fn stand(&mut self, block: Block, map: &Map, [row, column]: [usize; 2], [outputs, inputs]: [usize; 2], one: usize) {
        self.layout.stand(block, [row, column], [outputs, inputs], map.weight.start);
        if let Some(bias) = &map.bias {
            self.layout.stand(block, [row, one], [outputs, 1], bias.start);
        }
    }

    fn layer(&mut self, depth: usize) -> Layer {
        let TgnSpec { width, time, heads, .. } = *self.spec;
        let input = if depth == 0 { self.spec.hidden_width() } else { width };
        let seen = input + self.features.edge + time;
        match self.places.layers[depth].clone() {
            LayerPlaces::Paper { query, key, value, out, fc1, fc2 } => Layer::Paper(Paper {
                query: self.map(&query, width, input + time),
                key: self.map(&key, width, seen),
                value: self.map(&value, width, seen),
                out: self.map(&out, width, width),
                fc1: self.map(&fc1, width, width + input),
                fc2: self.map(&fc2, width, width),
                heads,
            }),
            LayerPlaces::Conv { query, key, value, edge, skip } => {
                let asking = self.layout.block(2 * width, with_one(input));
                self.stand(asking, &query, [0, 0], [width, input], input);
                self.stand(asking, &skip, [width, 0], [width, input], input);
                let mut projection = |map: &Map| {
                    let block = self.layout.block(width, with_one(seen));
                    self.stand(block, map, [0, 0], [width, input], seen);
                    block
                };
                let (key, value) = (projection(&key), projection(&value));
                let edges = self.layout.block(width, seen - input);
                self.layout.stand(edges, [0, 0], [width, seen - input], edge.weight.start);
                Layer::Conv(Conv { asking, key, value, edge: edges, heads })
            }
            LayerPlaces::Time { .. } => unreachable!("a model on a device attends to neighbours"),
        }
    }

    fn decoder(&mut self) -> DecoderBlocks {
        let places = &self.places.decoder;
        let [src, dst, last] = [&places.src, &places.dst, &places.last].map(both);
        let from = DecoderNumbers { ends: [src[0], dst[0]], biases: [src[1], dst[1]], last };
        DecoderBlocks::stand(&mut self.layout, self.spec.embedding_width(), self.spec.width, &from)
    }

    fn facts(&mut self) -> Option<Facts> {
        let [first, second] = self.places.decoder.pair.clone()?;
        let width = self.spec.width;
        Some(Facts { first: self.map(&first, width, PAIR_COLUMNS), second: self.map(&second, width, width) })
    }
}
