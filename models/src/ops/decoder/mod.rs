//! The link decoder: how likely a source turns to a destination.
//!
//! ```text
//! p(u, v) = w . relu(Ws z_u + Wd z_v [+ Wp2 relu(Wp1 known(u, v) + bp)] + b) + w_0
//! ```
//!
//! `known` are facts about the pair, walk features of its ends, or both one behind the other.
//!
//! It is TGN's merge layer with its first map split by ends, so that a source asked about with many candidates is mapped once.
#[cfg(feature = "cube")]
mod device;
mod facts;
mod slices;
mod tensors;
mod walks;

#[cfg(feature = "cube")]
pub(crate) use device::DeviceDecoder;
pub(crate) use facts::PAIR_COLUMNS;
pub use slices::{DecoderStage, ShownPairs};
use walks::walk_columns;

use std::ops::Range;

use tempograph_framework::WalkRule;

use crate::program::{Builder, Declarations, Map, Products, StepSizes};

/// What a link decoder reads of a pair besides the embeddings of its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// Whether it reads facts about the pair ([`PairFact`](tempograph_framework::PairFact)).
    pub pairs: bool,
    /// Rows of temporal walks of each end that it reads the products of, if it reads any.
    pub walks: Option<WalkRule>,
}

impl Known {
    /// Columns of both, facts first; 0 where it reads nothing.
    pub(crate) fn columns(self) -> usize {
        self.columns_of_facts() + self.walks.map_or(0, walk_columns)
    }

    /// Columns of the facts.
    pub(crate) fn columns_of_facts(self) -> usize {
        if self.pairs { PAIR_COLUMNS } else { 0 }
    }
}

/// A link decoder.
#[derive(Clone, Copy, Debug)]
pub struct LinkDecoder {
    /// Whether a row is that of a root as a source and, behind it, as a destination. Else both ends read all of it.
    pub(crate) roles: bool,
    pub(crate) src: Map,
    pub(crate) dst: Map,
    /// What it reads of pairs.
    pub(crate) known: Known,
    /// Of what it reads of pairs, where it reads anything.
    pub(crate) facts: Option<[Map; 2]>,
    pub(crate) last: Map,
}

impl LinkDecoder {
    /// Declares a decoder of embeddings of `input` columns, `width` wide inside; `known` says what it reads of pairs.
    pub fn declare(
        parameters: &mut Declarations,
        prefix: &str,
        [input, width]: [usize; 2],
        known: Known,
    ) -> LinkDecoder {
        let mut map =
            |part: &str, inputs, outputs, bias| parameters.linear(&format!("{prefix}{part}"), inputs, outputs, bias);
        LinkDecoder {
            roles: false,
            known,
            src: map("lin_src", input, width, true),
            dst: map("lin_dst", input, width, true),
            facts: (known.columns() > 0)
                .then(|| [map("lin_pair.0", known.columns(), width, true), map("lin_pair.1", width, width, false)]),
            last: map("lin_final", width, 1, true),
        }
    }

    /// Columns of the embeddings it reads.
    pub fn input(&self) -> usize {
        if self.roles { self.src.inputs + self.dst.inputs } else { self.src.inputs }
    }

    /// The columns that a source and a destination are read from.
    pub(crate) fn columns(&self) -> [Range<usize>; 2] {
        let Map { inputs, .. } = self.src;
        [0..inputs, if self.roles { inputs..2 * inputs } else { 0..inputs }]
    }

    /// Its maps: of sources, of destinations, of facts where it reads them, and the last.
    pub fn maps(&self) -> impl Iterator<Item = Map> {
        [self.src, self.dst].into_iter().chain(self.facts.into_iter().flatten()).chain([self.last])
    }

    /// Columns inside.
    pub fn width(&self) -> usize {
        self.src.outputs
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        let facts = self.known.pairs.then(|| "facts about pairs".to_string());
        let walks = self.known.walks.map(|rule| format!("walks of up to {} events", rule.layers));
        let known: Vec<String> = facts.into_iter().chain(walks).collect();
        if known.is_empty() { "link decoder".into() } else { format!("link decoder with {}", known.join(" and ")) }
    }

    pub(crate) fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let (input, width) = (self.src.inputs, self.src.outputs);
        products.map(sizes.sources + sizes.destinations, input, width, input);
        if self.facts.is_some() {
            products.map(sizes.pairs, self.known.columns(), width, 0);
            products.map(sizes.pairs, width, width, width);
        }
        if let Some(rule) = self.known.walks {
            products.forward += sizes.pairs * (walk_columns(rule) * rule.width) as f64;
        }
        products.map(sizes.pairs, width, 1, width);
    }
}

impl Builder {
    /// A link decoder of embeddings of `input` columns, `width` wide inside. With `facts` it reads facts about pairs: recency, repetition,
    /// popularity. Where the program has [walks](Builder::walks) it reads their features.
    pub fn link_decoder(&mut self, input: usize, width: usize, facts: bool) -> LinkDecoder {
        self.check(width > 0, || "model.width is 0; it must be at least 1".into());
        if facts {
            self.needs.pairs = true;
            self.look(0);
        }
        let known = Known { pairs: facts, walks: self.needs.walks };
        let decoder = LinkDecoder::declare(&mut self.parameters, "decoder.", [input, width], known);
        self.declared_since();
        decoder
    }

    /// The same for rows that are embeddings of `input` columns of a root as a source and, behind them, as many as a destination.
    pub fn link_decoder_of_roles(&mut self, input: usize, width: usize, facts: bool) -> LinkDecoder {
        LinkDecoder { roles: true, ..self.link_decoder(input, width, facts) }
    }
}
