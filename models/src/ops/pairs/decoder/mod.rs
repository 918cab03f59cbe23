//! The link decoder: scores how likely a source acts on a destination.
//!
//! ```text
//! p(u, v) = w . relu(Ws z_u + Wd z_v [+ Wp2 relu(Wp1 pair_features(u, v) + bp)] [+ Wr y_uv] + b) + w_0
//! ```
//!
//! `pair_features` are facts about the pair, walk features of its ends, or both concatenated.
//!
//! It is TGN's merge layer with its first map split by ends, so that a source with many candidates is mapped once.
//! `y_uv` are rows of pairs, which operations on pairs make. A decoder may also read those alone, without the
//! embeddings of the ends.
#[cfg(feature = "cube")]
mod device;
mod facts;
mod slices;
mod tensors;
mod walks;

#[cfg(feature = "cube")]
pub(crate) use device::DeviceDecoder;
pub(crate) use facts::PAIR_COLUMNS;
pub(crate) use slices::{DecoderGradients, DecoderInputs, DecoderStage, ShownPairs};
use walks::walk_columns;

use std::ops::Range;

use tempograph_framework::WalkRule;

use crate::operation::{Declarations, Map, Products, StepSizes, Value};

/// The features of a pair that a link decoder reads besides the embeddings of its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairFeatures {
    /// Whether it reads facts about the pair ([`PairFact`](tempograph_framework::PairFact)).
    pub pairs: bool,
    /// The walks of each end whose inner products it reads, if any.
    pub walks: Option<WalkRule>,
}

impl PairFeatures {
    /// Columns of both, facts first; 0 if it reads none.
    pub(crate) fn columns(self) -> usize {
        self.fact_columns() + self.walks.map_or(0, walk_columns)
    }

    /// Columns of the facts.
    pub(crate) fn fact_columns(self) -> usize {
        if self.pairs { PAIR_COLUMNS } else { 0 }
    }
}

/// A link decoder.
#[derive(Clone, Copy, Debug)]
pub struct LinkDecoder {
    /// Whether a row is that of a root as a source, then as a destination. If not, both ends read the whole row.
    pub(crate) split_by_role: bool,
    /// Maps of the embeddings of sources and destinations, if it reads them.
    pub(crate) ends: Option<[Map; 2]>,
    /// The features of pairs it reads.
    pub(crate) pair_features: PairFeatures,
    /// Maps of the features of pairs, if it reads any.
    pub(crate) facts: Option<[Map; 2]>,
    /// Rows of pairs and their map, if it reads them.
    pub(crate) pairs: Option<(Value, Map)>,
    pub(crate) last: Map,
}

impl LinkDecoder {
    /// Declares a decoder of embeddings of `input` columns, `width` wide inside. `pair_features` are the features of
    /// pairs it reads.
    pub fn declare(
        parameters: &mut Declarations,
        prefix: &str,
        [input, width]: [usize; 2],
        pair_features: PairFeatures,
    ) -> LinkDecoder {
        let mut map =
            |part: &str, inputs, outputs, bias| parameters.linear(&format!("{prefix}{part}"), inputs, outputs, bias);
        LinkDecoder {
            split_by_role: false,
            pair_features,
            ends: Some(["lin_src", "lin_dst"].map(|part| map(part, input, width, true))),
            facts: (pair_features.columns() > 0).then(|| {
                [map("lin_pair.0", pair_features.columns(), width, true), map("lin_pair.1", width, width, false)]
            }),
            pairs: None,
            last: map("lin_final", width, 1, true),
        }
    }

    /// Columns of the embeddings it reads; 0 if it reads none.
    pub fn input(&self) -> usize {
        self.columns()[1].end
    }

    /// The columns of a source's row and of a destination's row that it reads.
    pub(crate) fn columns(&self) -> [Range<usize>; 2] {
        let inputs = self.ends.map_or(0, |[src, _]| src.inputs);
        [0..inputs, if self.split_by_role { inputs..2 * inputs } else { 0..inputs }]
    }

    /// Its maps: of sources and destinations, of facts, of rows of pairs (each only if read), and the last map.
    pub fn maps(&self) -> impl Iterator<Item = Map> {
        let of_pairs = self.pairs.map(|(_, map)| map);
        self.ends.into_iter().flatten().chain(self.facts.into_iter().flatten()).chain(of_pairs).chain([self.last])
    }

    /// Width inside.
    pub fn width(&self) -> usize {
        self.last.inputs
    }

    /// The rows of pairs it reads, if any.
    pub fn pairs(&self) -> Option<Value> {
        self.pairs.map(|(value, _)| value)
    }

    /// A short description of its inputs.
    pub fn describe(&self) -> String {
        let facts = self.pair_features.pairs.then(|| "facts about pairs".to_string());
        let walks = self.pair_features.walks.map(|rule| format!("walks of up to {} events", rule.layers));
        let rows = self.pairs.map(|_| "rows of pairs".to_string());
        let parts = facts.into_iter().chain(walks).chain(rows).collect::<Vec<_>>().join(" and ");
        match self.ends {
            Some(_) if parts.is_empty() => "link decoder".into(),
            Some(_) => format!("link decoder with {parts}"),
            None => format!("link decoder of {parts}"),
        }
    }

    /// Checks that it can run on a device. The error names the setting.
    pub(crate) fn check_device_support(&self) -> Result<(), String> {
        match self.pairs {
            Some(_) => Err("decoder of rows of pairs".into()),
            None => Ok(()),
        }
    }

    pub(crate) fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let width = self.width();
        if let Some([Map { inputs, .. }, _]) = self.ends {
            products.map(sizes.sources + sizes.destinations, inputs, width, inputs);
        }
        if let Some((_, Map { inputs, .. })) = self.pairs {
            products.map(sizes.pairs, inputs, width, inputs);
        }
        if self.facts.is_some() {
            products.map(sizes.pairs, self.pair_features.columns(), width, 0);
            products.map(sizes.pairs, width, width, width);
        }
        if let Some(rule) = self.pair_features.walks {
            products.forward += sizes.pairs * (walk_columns(rule) * rule.width) as f64;
        }
        products.map(sizes.pairs, width, 1, width);
    }
}
