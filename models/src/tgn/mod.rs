//! TGN: "Temporal Graph Networks for Deep Learning on Dynamic Graphs", Rossi et al., 2020 (arXiv:2006.10637).
//!
//! ```text
//! m_u(t)  = msg(s_u(t-), s_v(t-), e_uv, phi(t - t_u))          message of an event at one end        eq. 1, 2
//! m_u     = agg(m_u(t_1), ..., m_u(t_b))                       mail combiner: last, mean             eq. 3
//! s_u(t)  = mem(m_u, s_u(t-))                                  updater: GRU, RNN                     eq. 3
//! z_u(t)  = emb(s_u, {s_v, e_uv, phi(t - t_e)} of N_u(t))      attention, sum, time, identity        eq. 4-9
//! phi(dt) = cos(dt w + b)                                      time encoding, as in TGAT
//! p(u, v) = f2 relu(f1 [z_u | z_v])                            link decoder
//! ```
//!
//! Differs:
//! - the attention's inner width is that of the embedding, not `D + T`;
//! - node features enter through a learned map into the memory's width instead of having to be as wide;
//! - messages have no columns for features the log does not have;
//! - the decoder may also read facts about the pair ([`PairFact`](tempograph_framework::PairFact)), which the paper does not have;
//! - `attention = "transformer-conv"` is PyG's example: a skip connection instead of the merge layer;
//! - `attention_scores = "leaky-relu"` is TGL's and DistTGL's: `LeakyReLU(q . k)` instead of `q . k / sqrt(O / H)`;
//! - embeddings may start from static memory as well (`disttgl/`).
mod cost;
mod decoder;
#[cfg(feature = "cube")]
mod device;
mod embedding;
mod memory;
mod slices;
mod spec;

pub use cost::{HopSizes, StepCost, StepSizes, step_cost};
pub(crate) use decoder::LinkDecoder;
#[cfg(feature = "cube")]
pub use device::{DeviceTgn, NotOnDevice};
pub(crate) use slices::{Decoder, DecoderPlaces, DecoderWork, Weights};
pub use slices::{SliceTgn, SliceWork};
pub use spec::{Attention, AttentionScores, Embedding, Message, Precision, TgnSpec, TimeInit, Updater};

use burn::module::Module;
use tempograph_framework::{Forward, Model, Needs, Queries, Update, View, values};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{Rows, TemporalOps, gather_rows};

use crate::disttgl::StaticMemory;
use crate::layers::{Init, Linear};
use embedding::Embedder;
use memory::MemoryUpdater;

/// Widths of the constant features a model reads; 0 where a set has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FeatureWidths {
    /// Edge features `E`.
    pub edge: usize,
    /// Node features `F`.
    pub node: usize,
}

/// A temporal graph network with memory.
#[derive(Module, Debug)]
pub struct Tgn<B: Backend> {
    memory: MemoryUpdater<B>,
    node_features: Option<Linear<B>>,
    embedding: Embedder<B>,
    decoder: LinkDecoder<B>,
    static_memory: Option<StaticMemory<B>>,
    #[module(skip)]
    spec: TgnSpec,
}

impl<B: Backend> Tgn<B> {
    /// A model with fresh weights, drawn from `seed`.
    pub fn new(spec: &TgnSpec, features: FeatureWidths, seed: u64, device: &B::Device) -> Tgn<B> {
        let init = &mut Init::new(seed, device);
        Tgn {
            memory: MemoryUpdater::new(spec, features.edge, init),
            node_features: (features.node > 0).then(|| Linear::new(init, features.node, spec.memory, true)),
            embedding: Embedder::new(spec, features.edge, init),
            decoder: LinkDecoder::new(spec.embedding_width(), spec.width, spec.pair_features, init),
            static_memory: spec.static_memory.on().map(|part| StaticMemory::new(part, spec.memory, init)),
            spec: spec.clone(),
        }
    }

    /// The settings it was built from.
    pub fn spec(&self) -> &TgnSpec {
        &self.spec
    }
}

impl<B: TemporalOps> Tgn<B> {
    /// What embeddings start from: the memory, plus the mapped node features, `[U, D]`, with static memory added to it or behind it.
    fn hidden(&self, memory: Tensor<B, 2>, view: &View, dropout: Option<u64>) -> Tensor<B, 2> {
        let hidden = match (&self.node_features, &view.node_features) {
            (Some(map), Some(rows)) => {
                let device = memory.device();
                memory
                    + map.forward(feature_rows(rows.as_ref(), view.nodes.iter().map(|node| u64::from(node.0)), &device))
            }
            _ => memory,
        };
        match &self.static_memory {
            Some(part) => part.join(hidden, view, dropout),
            None => hidden,
        }
    }
}

impl<B: TemporalOps> Model<B> for Tgn<B> {
    fn needs(&self) -> Needs {
        self.spec.needs()
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>) -> Forward<B> {
        let memory = self.memory.forward(view);
        let update = update(view, memory.clone());
        let hidden = self.hidden(memory, view, dropout);
        let embeddings = self.embedding.forward(hidden, &self.memory.time, view, dropout);
        let scores = self.decoder.forward(embeddings.clone(), queries, view);
        Forward { scores, embeddings: Some(gather_rows(embeddings, view.roots.clone())), update }
    }

    fn advance(&self, _: &Queries, view: &View) -> Update {
        update(view, self.memory.forward(view))
    }
}

fn update<B: Backend>(view: &View, memory: Tensor<B, 2>) -> Update {
    Update { nodes: view.nodes.clone(), memory: values(memory) }
}

/// Constant feature rows gathered into a tensor, `[ids, width]`.
fn feature_rows<B: Backend>(rows: &dyn Rows, ids: impl Iterator<Item = u64>, device: &B::Device) -> Tensor<B, 2> {
    let mut values = Vec::new();
    ids.for_each(|id| values.extend_from_slice(rows.row(id)));
    let shape = [values.len() / rows.width().max(1), rows.width()];
    Tensor::from_data(TensorData::new(values, shape), device)
}
