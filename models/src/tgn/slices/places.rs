//! Where the weights of a TGN stand in the one array of them.

use std::ops::Range;

use tempograph_framework::Parameters;

use crate::tgn::spec::{Attention, Embedding, TgnSpec};

/// Where a linear map stands.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
}

impl Map {
    /// Where its bias stands; an empty range where it has none.
    fn bias_range(&self) -> Range<usize> {
        self.bias.clone().unwrap_or_default()
    }
}

/// Where all weights stand.
#[derive(Clone, Debug)]
pub(in crate::tgn) struct Places {
    /// `w_ih`, `w_hh`, `b_ih`, `b_hh`.
    pub cell: [Range<usize>; 4],
    /// Frequencies and phases.
    pub time: [Range<usize>; 2],
    pub node_features: Option<Map>,
    pub static_memory: StaticPlaces,
    pub layers: Vec<LayerPlaces>,
    pub decoder: DecoderPlaces,
}

/// Where the weights of an embedding layer stand.
#[derive(Clone, Debug)]
pub(in crate::tgn) enum LayerPlaces {
    Paper { query: Map, key: Map, value: Map, out: Map, fc1: Map, fc2: Map },
    Conv { query: Map, key: Map, value: Map, edge: Map, skip: Map },
    Time { drift: Range<usize> },
}

/// Where the weights of static memory stand: its map, and the `[N, S]` differences to the frozen vectors.
#[derive(Clone, Debug)]
pub(in crate::tgn) struct StaticPlaces {
    pub map: Option<Map>,
    pub correction: Option<Range<usize>>,
}

/// Where the weights of the decoder stand.
#[derive(Clone, Debug)]
pub(crate) struct DecoderPlaces {
    pub src: Map,
    pub dst: Map,
    pub pair: Option<[Map; 2]>,
    pub last: Map,
}

/// Finds weights by their names.
#[derive(Clone, Copy)]
struct Names<'a>(&'a Parameters);

impl Names<'_> {
    fn find(self, name: &str) -> Option<Range<usize>> {
        self.0.find(name).map(|part| part.range.clone())
    }

    fn range(self, name: &str) -> Range<usize> {
        self.find(name).unwrap_or_else(|| unreachable!("a model has the weight `{name}`"))
    }

    fn map(self, name: &str) -> Map {
        Map { weight: self.range(&format!("{name}.weight")), bias: self.find(&format!("{name}.bias")) }
    }

    /// A map that not every model has.
    fn maybe(self, name: &str) -> Option<Map> {
        self.find(&format!("{name}.weight")).map(|_| self.map(name))
    }
}

impl Places {
    pub fn of(spec: &TgnSpec, parameters: &Parameters) -> Places {
        let names = Names(parameters);
        let layer = |depth: usize| {
            let part = |name: &str| names.map(&format!("embedding.layers.{depth}.{name}"));
            match (spec.embedding, spec.attention) {
                (Embedding::Attention, Attention::Paper) => LayerPlaces::Paper {
                    query: part("query"),
                    key: part("key"),
                    value: part("value"),
                    out: part("out"),
                    fc1: part("fc1"),
                    fc2: part("fc2"),
                },
                (Embedding::Attention, Attention::TransformerConv) => LayerPlaces::Conv {
                    query: part("lin_query"),
                    key: part("lin_key"),
                    value: part("lin_value"),
                    edge: part("lin_edge"),
                    skip: part("lin_skip"),
                },
                _ => LayerPlaces::Time { drift: names.range(&format!("embedding.layers.{depth}.drift")) },
            }
        };
        let depth = match spec.embedding {
            Embedding::Attention | Embedding::Sum => spec.layers,
            Embedding::Time => 1,
            Embedding::Identity => 0,
        };
        Places {
            cell: ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
                .map(|name| names.range(&format!("memory.cell.{name}"))),
            time: ["freq", "phase"].map(|name| names.range(&format!("memory.time.{name}"))),
            node_features: names.maybe("node_features"),
            static_memory: StaticPlaces {
                map: names.maybe("static_memory.map"),
                correction: names.find("static_memory.correction"),
            },
            layers: (0..depth).map(layer).collect(),
            decoder: DecoderPlaces::of(parameters, "decoder."),
        }
    }
}

impl DecoderPlaces {
    /// Of the decoder whose weights' names begin with `prefix`.
    pub fn of(parameters: &Parameters, prefix: &str) -> DecoderPlaces {
        let names = Names(parameters);
        let [first, second] = ["lin_pair.0", "lin_pair.1"].map(|name| names.maybe(&format!("{prefix}{name}")));
        let [src, dst, last] = ["lin_src", "lin_dst", "lin_final"].map(|name| names.map(&format!("{prefix}{name}")));
        DecoderPlaces { src, dst, pair: first.zip(second).map(<[Map; 2]>::from), last }
    }
}

impl Places {
    /// Where gradients are sums of several parts; all others are written whole.
    pub fn summed(&self) -> impl Iterator<Item = &Range<usize>> {
        let of_layers = self.layers.iter().flat_map(|layer| {
            let maps = match layer {
                LayerPlaces::Conv { key, value, edge, .. } => [Some(key), Some(value), Some(edge)],
                LayerPlaces::Paper { key, value, .. } => [Some(key), Some(value), None],
                LayerPlaces::Time { .. } => [None, None, None],
            };
            let drift = if let LayerPlaces::Time { drift } = layer { Some(drift) } else { None };
            maps.into_iter().flatten().flat_map(|map| std::iter::once(&map.weight).chain(&map.bias)).chain(drift)
        });
        self.time.iter().chain(of_layers).chain(&self.static_memory.correction)
    }
}

/// Some of the gradients, all at once.
pub(super) fn split<'a, const N: usize>(gradients: &'a mut [f32], places: [&Range<usize>; N]) -> [&'a mut [f32]; N] {
    gradients
        .get_disjoint_mut(places.map(Range::clone))
        .unwrap_or_else(|error| unreachable!("weights do not overlap: {error}"))
}

/// The gradients of a linear map; that of a bias it does not have is empty.
pub(super) fn weight_and_bias<'a>(gradients: &'a mut [f32], map: &Map) -> [&'a mut [f32]; 2] {
    split(gradients, [&map.weight, &map.bias_range()])
}

/// The gradients of two linear maps.
pub(super) fn weights_and_biases<'a>(gradients: &'a mut [f32], [one, other]: [&Map; 2]) -> [[&'a mut [f32]; 2]; 2] {
    let [weight, bias, weight_of_other, bias_of_other] =
        split(gradients, [&one.weight, &one.bias_range(), &other.weight, &other.bias_range()]);
    [[weight, bias], [weight_of_other, bias_of_other]]
}
