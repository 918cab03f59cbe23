//! Heads: the last stage of a program. A link decoder scores pairs; a row head gives numbers for each root.
//!
//! ```text
//! y_r = W2 relu(W1 z_r + b1) + b2        row head: K numbers of each root
//! ```
//!
//! The loss defines the meaning of the numbers: logits of classes or of a distribution, or predicted numbers.
mod builder;
mod slices;
mod tensors;

pub(crate) use slices::RowStage;

use crate::operation::{HopSizes, Map, Products, StepSizes, Value};
use crate::ops::pairs::decoder::LinkDecoder;

/// The last stage of a program.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// Scores pairs, `[P]`.
    Links(LinkDecoder),
    /// Gives numbers for each root, `[R, K]`.
    Rows(RowHead),
}

/// Gives `K` numbers for each root, from its embedding by two linear maps with a ReLU between.
#[derive(Clone, Copy, Debug)]
pub struct RowHead {
    pub(crate) maps: [Map; 2],
}

impl RowHead {
    /// Numbers of a root, `K`.
    pub fn outputs(&self) -> usize {
        self.maps[1].outputs
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let HopSizes { centres, .. } = sizes.hop(0);
        let rows = if sizes.hops.is_empty() { sizes.nodes } else { centres };
        self.maps.iter().for_each(|map| products.map(rows, map.inputs, map.outputs, map.inputs));
    }
}

impl Head {
    /// The link decoder, if it is one.
    pub fn links(&self) -> Option<&LinkDecoder> {
        if let Head::Links(decoder) = self { Some(decoder) } else { None }
    }

    /// The row head, if it is one.
    pub fn rows(&self) -> Option<&RowHead> {
        if let Head::Rows(head) = self { Some(head) } else { None }
    }

    /// Columns of the embeddings it reads; `None` if it reads none.
    pub fn input(&self) -> Option<usize> {
        match self {
            Head::Links(decoder) => decoder.ends.map(|_| decoder.input()),
            Head::Rows(head) => Some(head.maps[0].inputs),
        }
    }

    /// Width inside.
    pub fn width(&self) -> usize {
        match self {
            Head::Links(decoder) => decoder.width(),
            Head::Rows(head) => head.maps[1].inputs,
        }
    }

    /// The rows of pairs it reads, if any.
    pub fn pairs(&self) -> Option<Value> {
        self.links().and_then(LinkDecoder::pairs)
    }

    /// Its maps, the last one last.
    pub fn maps(&self) -> Vec<Map> {
        match self {
            Head::Links(decoder) => decoder.maps().collect(),
            Head::Rows(head) => head.maps.to_vec(),
        }
    }

    /// A short description.
    pub fn describe(&self) -> String {
        match self {
            Head::Links(decoder) => decoder.describe(),
            Head::Rows(head) => format!("row head of {} outputs", head.outputs()),
        }
    }

    /// Checks that it can run on a device. The error names the setting.
    pub(crate) fn check_device_support(&self) -> Result<(), String> {
        match self {
            Head::Links(decoder) => decoder.check_device_support(),
            Head::Rows(_) => Err("heads that give numbers for each root".into()),
        }
    }

    pub(crate) fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        match self {
            Head::Links(decoder) => decoder.cost(sizes, products),
            Head::Rows(head) => head.cost(sizes, products),
        }
    }
}
