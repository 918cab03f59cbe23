//! Where the weights of a TGN stand in the one array of them.

use std::ops::Range;

use tempograph_framework::Parameters;

use crate::tgn::spec::{Attention, Embedding, TgnSpec};

/// Where a linear map stands.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
}

/// Where all weights stand.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// `w_ih`, `w_hh`, `b_ih`, `b_hh`.
    pub cell: [Range<usize>; 4],
    /// Frequencies and phases.
    pub time: [Range<usize>; 2],
    pub node_features: Option<Map>,
    pub layers: Vec<LayerPlaces>,
    pub decoder: DecoderPlaces,
}

/// Where the weights of an embedding layer stand.
#[derive(Clone, Debug)]
pub(super) enum LayerPlaces {
    Paper { query: Map, key: Map, value: Map, out: Map, fc1: Map, fc2: Map },
    Conv { query: Map, key: Map, value: Map, edge: Map, skip: Map },
    Time { drift: Range<usize> },
}

/// Where the weights of the decoder stand.
#[derive(Clone, Debug)]
pub(super) struct DecoderPlaces {
    pub src: Map,
    pub dst: Map,
    pub pair: Option<[Map; 2]>,
    pub last: Map,
}

impl Places {
    pub fn of(spec: &TgnSpec, parameters: &Parameters) -> Places {
        let find = |name: &str| parameters.find(name).map(|part| part.range.clone());
        let range = |name: &str| find(name).unwrap_or_else(|| unreachable!("a TGN has the weight `{name}`"));
        let map = |name: &str| Map { weight: range(&format!("{name}.weight")), bias: find(&format!("{name}.bias")) };
        let layer = |depth: usize| {
            let part = |name: &str| map(&format!("embedding.layers.{depth}.{name}"));
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
                _ => LayerPlaces::Time { drift: range(&format!("embedding.layers.{depth}.drift")) },
            }
        };
        let depth = match spec.embedding {
            Embedding::Attention | Embedding::Sum => spec.layers,
            Embedding::Time => 1,
            Embedding::Identity => 0,
        };
        let [first, second] = ["decoder.lin_pair.0", "decoder.lin_pair.1"].map(|name| find(&format!("{name}.weight")).map(|_| map(name)));
        Places {
            cell: ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| range(&format!("memory.cell.{name}"))),
            time: ["freq", "phase"].map(|name| range(&format!("memory.time.{name}"))),
            node_features: find("node_features.weight").map(|_| map("node_features")),
            layers: (0..depth).map(layer).collect(),
            decoder: DecoderPlaces {
                src: map("decoder.lin_src"),
                dst: map("decoder.lin_dst"),
                pair: first.zip(second).map(<[Map; 2]>::from),
                last: map("decoder.lin_final"),
            },
        }
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
        self.time.iter().chain(of_layers)
    }
}

/// Some of the gradients, all at once.
pub(super) fn split<'a, const N: usize>(gradients: &'a mut [f32], places: [&Range<usize>; N]) -> [&'a mut [f32]; N] {
    gradients.get_disjoint_mut(places.map(Range::clone)).unwrap_or_else(|error| unreachable!("weights do not overlap: {error}"))
}

/// The gradients of a linear map; that of a bias it does not have is empty.
pub(super) fn weight_and_bias<'a>(gradients: &'a mut [f32], map: &Map) -> [&'a mut [f32]; 2] {
    match &map.bias {
        Some(bias) => split(gradients, [&map.weight, bias]),
        None => [&mut gradients[map.weight.clone()], &mut []],
    }
}
