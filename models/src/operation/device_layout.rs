//! The layout of a program's parameters on a device: concatenated in the blocks that products read.

use tempograph_kernels::cube::{Block, TimeBlock, WeightLayout, with_one};

use crate::operation::{Declarations, Map, Param, ParameterLayout};

/// Index of a time encoding of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeSlot(pub usize);

/// Lays out the blocks of a program's operations, one operation after the other.
pub(crate) struct LayoutBuilder<'a> {
    declarations: &'a Declarations,
    parameters: &'a ParameterLayout,
    pub layout: WeightLayout,
    times: Vec<(Param, TimeBlock)>,
    /// Whether a parameter is assigned, in the order of declaration.
    laid: Vec<bool>,
}

impl<'a> LayoutBuilder<'a> {
    pub fn new(declarations: &'a Declarations, parameters: &'a ParameterLayout) -> LayoutBuilder<'a> {
        let laid = vec![false; declarations.len()];
        LayoutBuilder { declarations, parameters, layout: WeightLayout::default(), times: Vec::new(), laid }
    }

    /// The offset of a parameter among the numbers of all. The caller has to assign it.
    pub fn offset(&mut self, param: Param) -> usize {
        self.laid[param.index()] = true;
        self.parameters.of(param).start
    }

    /// Numbers of a parameter.
    pub fn len(&self, param: Param) -> usize {
        self.parameters.of(param).len()
    }

    /// The offsets of weight and bias of a map.
    ///
    /// # Panics
    /// If it has no bias.
    pub fn weight_and_bias(&mut self, map: &Map) -> [usize; 2] {
        let bias = map.bias.unwrap_or_else(|| unreachable!("the map has a bias"));
        [map.weight, bias].map(|param| self.offset(param))
    }

    /// A block for a map, with its bias as the last column.
    pub fn map(&mut self, map: &Map) -> Block {
        let block = self.layout.block(map.outputs, with_one(map.inputs));
        self.assign(block, map, 0, map.inputs);
        block
    }

    /// Assigns a map to `block`, from row `row` on, with its bias in column `one`.
    pub fn assign(&mut self, block: Block, map: &Map, row: usize, one: usize) {
        let from = self.offset(map.weight);
        self.layout.assign(block, [row, 0], [map.outputs, map.inputs], from);
        if let Some(bias) = map.bias {
            let from = self.offset(bias);
            self.layout.assign(block, [row, one], [map.outputs, 1], from);
        }
    }

    /// The slot of a time encoding of `width` columns, which operations share.
    pub fn time(&mut self, [freq, phase]: [Param; 2], width: usize) -> TimeSlot {
        if let Some(i) = self.times.iter().position(|(known, _)| *known == freq) {
            return TimeSlot(i);
        }
        let from = [freq, phase].map(|param| self.offset(param));
        let block = TimeBlock::allocate(&mut self.layout, width, from);
        self.times.push((freq, block));
        TimeSlot(self.times.len() - 1)
    }

    /// The layout and the time encodings. Parameters that no operation reads come last.
    pub fn finish(mut self) -> (WeightLayout, Vec<TimeBlock>) {
        let unread: Vec<Param> = self.declarations.params().filter(|param| !self.laid[param.index()]).collect();
        for param in unread {
            let place = self.parameters.of(param);
            let block = self.layout.block(1, place.len());
            self.layout.assign(block, [0, 0], [1, place.len()], place.start);
        }
        (self.layout, self.times.into_iter().map(|(_, block)| block).collect())
    }
}
