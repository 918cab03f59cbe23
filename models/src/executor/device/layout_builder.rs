//! Where the parameters of a program stand on a device: side by side in the blocks that products read.

use tempograph_kernels::cube::{Block, TimeBlock, WeightLayout, with_one};

use crate::ops::TimeEncoding;
use crate::program::{Map, Param, Program};

/// Which time encoding of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeSlot(pub usize);

/// Lays the blocks of a program's operations out, one operation after the other.
pub(crate) struct LayoutBuilder<'a> {
    program: &'a Program,
    pub layout: WeightLayout,
    times: Vec<(Param, TimeBlock)>,
    /// By declaration, whether it has a place.
    laid: Vec<bool>,
}

impl<'a> LayoutBuilder<'a> {
    pub fn new(program: &'a Program) -> LayoutBuilder<'a> {
        let laid = vec![false; program.declarations.len()];
        LayoutBuilder { program, layout: WeightLayout::default(), times: Vec::new(), laid }
    }

    /// The number at which a parameter begins among those of all. Whoever asks has to give it a place.
    pub fn offset(&mut self, param: Param) -> usize {
        self.laid[param.index()] = true;
        self.program.layout.of(param).start
    }

    /// Numbers of a parameter.
    pub fn len(&self, param: Param) -> usize {
        self.program.layout.of(param).len()
    }

    /// The numbers at which weight and bias of a map begin.
    ///
    /// # Panics
    /// If it has no bias.
    pub fn weight_and_bias(&mut self, map: &Map) -> [usize; 2] {
        let bias = map.bias.unwrap_or_else(|| unreachable!("the map has a bias"));
        [map.weight, bias].map(|param| self.offset(param))
    }

    /// A block for a map, its bias behind its columns.
    pub fn map(&mut self, map: &Map) -> Block {
        let block = self.layout.block(map.outputs, with_one(map.inputs));
        self.assign(block, map, 0, map.inputs);
        block
    }

    /// Puts a map into `block`, from row `row` on, its bias in column `one`.
    pub fn assign(&mut self, block: Block, map: &Map, row: usize, one: usize) {
        let from = self.offset(map.weight);
        self.layout.assign(block, [row, 0], [map.outputs, map.inputs], from);
        if let Some(bias) = map.bias {
            let from = self.offset(bias);
            self.layout.assign(block, [row, one], [map.outputs, 1], from);
        }
    }

    /// The place of a time encoding, which operations share.
    pub fn time(&mut self, time: &TimeEncoding) -> TimeSlot {
        if let Some(i) = self.times.iter().position(|(freq, _)| *freq == time.freq) {
            return TimeSlot(i);
        }
        let from = [time.freq, time.phase].map(|param| self.offset(param));
        let block = TimeBlock::allocate(&mut self.layout, time.width, from);
        self.times.push((time.freq, block));
        TimeSlot(self.times.len() - 1)
    }

    /// The layout and the time encodings. What no operation reads stands behind all else.
    pub fn finish(mut self) -> (WeightLayout, Vec<TimeBlock>) {
        let unread: Vec<Param> = self.program.declarations.params().filter(|param| !self.laid[param.index()]).collect();
        for param in unread {
            let place = self.program.layout.of(param);
            let block = self.layout.block(1, place.len());
            self.layout.assign(block, [0, 0], [1, place.len()], place.start);
        }
        (self.layout, self.times.into_iter().map(|(_, block)| block).collect())
    }
}
