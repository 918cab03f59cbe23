//! Where the weights of a TGN stand among those on a device.

use tempograph_framework::Parameters;
use tempograph_kernels::Cell;
use tempograph_kernels::cube::{DeviceCell, Map, PairDecoder, Weight, Weights};
use tempograph_kernels::tensor::CubeRuntime;

use super::decoder::Decoder;
use super::layer::{Conv, Layer, Paper};
use crate::tgn::spec::{Attention, TgnSpec, Updater};

/// Weights by name.
pub(super) struct Places<'a, R: CubeRuntime> {
    pub spec: &'a TgnSpec,
    pub parameters: &'a Parameters,
    pub weights: &'a Weights<R>,
}

impl<R: CubeRuntime> Places<'_, R> {
    fn find(&self, name: &str) -> Option<Weight<R>> {
        let place = self.parameters.parts().iter().position(|part| part.name == name)?;
        Some(self.weights.weight(place))
    }

    fn weight(&self, name: &str) -> Weight<R> {
        self.find(name).unwrap_or_else(|| unreachable!("a TGN has the weight `{name}`"))
    }

    fn map(&self, name: &str) -> Map<R> {
        Map { weight: self.weight(&format!("{name}.weight")), bias: self.find(&format!("{name}.bias")) }
    }

    pub fn cell(&self) -> DeviceCell<R> {
        let part = |name: &str| self.weight(&format!("memory.cell.{name}"));
        DeviceCell {
            cell: if self.spec.updater == Updater::Gru { Cell::Gru } else { Cell::Rnn },
            input: Map { weight: part("weight_ih"), bias: Some(part("bias_ih")) },
            recurrent: Map { weight: part("weight_hh"), bias: Some(part("bias_hh")) },
            time: ["memory.time.freq", "memory.time.phase"].map(|name| self.weight(name)),
        }
    }

    pub fn layers(&self) -> Vec<Layer<R>> {
        (0..self.spec.layers).map(|depth| self.layer(depth)).collect()
    }

    fn layer(&self, depth: usize) -> Layer<R> {
        let part = |name: &str| self.map(&format!("embedding.layers.{depth}.{name}"));
        let heads = self.spec.heads;
        match self.spec.attention {
            Attention::Paper => {
                let (query, key, value) = (part("query"), part("key"), part("value"));
                Layer::Paper(Paper { query, key, value, out: part("out"), fc1: part("fc1"), fc2: part("fc2"), heads })
            }
            Attention::TransformerConv => Layer::Conv(Conv {
                query: part("lin_query"),
                key: part("lin_key"),
                value: part("lin_value"),
                edge: self.weight(&format!("embedding.layers.{depth}.lin_edge.weight")),
                skip: part("lin_skip"),
                heads,
            }),
        }
    }

    pub fn decoder(&self) -> Decoder<R> {
        let [weight, bias] = ["weight", "bias"].map(|name| self.weight(&format!("decoder.lin_final.{name}")));
        Decoder { ends: ["src", "dst"].map(|end| self.map(&format!("decoder.lin_{end}"))), last: PairDecoder { weight, bias } }
    }
}
