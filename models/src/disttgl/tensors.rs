//! Static memory on tensors.

use burn::module::{Module, Param};
use tempograph_framework::View;
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{TemporalOps, gather_rows};

use super::{Hiding, StaticSpec, Wiring};
use crate::layers::{Init, Linear};

/// Where static memory enters, and what of it is learned with the model.
#[derive(Module, Debug)]
pub(crate) struct StaticMemory<B: Backend> {
    /// `[D, S]`, of what is added.
    map: Option<Linear<B>>,
    /// `[N, S]` difference to the frozen vectors.
    correction: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    spec: StaticSpec,
}

impl<B: Backend> StaticMemory<B> {
    /// For a memory of width `memory`.
    pub fn new(spec: &StaticSpec, memory: usize, init: &mut Init<B>) -> StaticMemory<B> {
        let (nodes, width) = (spec.tuned(), spec.width);
        StaticMemory {
            map: (spec.how == Wiring::Add).then(|| Linear::new(init, width, memory, true)),
            correction: (nodes > 0).then(|| init.values(vec![0.0; nodes * width], [nodes, width])),
            spec: spec.clone(),
        }
    }
}

impl<B: TemporalOps> StaticMemory<B> {
    /// The hidden rows `[U, D]` with static memory added, or behind them, `[U, D + S]`. A training step hides some.
    pub fn join(&self, hidden: Tensor<B, 2>, view: &View, dropout: Option<u64>) -> Tensor<B, 2> {
        let hiding = Hiding::new(&self.spec, dropout);
        let shown: Vec<bool> = view.nodes.iter().map(|&node| !hiding.hides(node)).collect();
        let device = hidden.device();
        let mut vectors = self.frozen(view, &shown, &device);
        if let Some(correction) = &self.correction {
            vectors = vectors + self.corrections(correction.val(), view, &shown);
        }
        match &self.map {
            Some(map) => hidden + map.forward(vectors),
            None => Tensor::cat(vec![hidden, vectors], 1),
        }
    }

    fn frozen(&self, view: &View, shown: &[bool], device: &B::Device) -> Tensor<B, 2> {
        let width = self.spec.width;
        let mut values = vec![0.0; view.nodes.len() * width];
        if let Some(rows) = &view.static_memory {
            for ((row, node), _) in
                values.chunks_exact_mut(width).zip(&view.nodes).zip(shown).filter(|(_, shown)| **shown)
            {
                row.copy_from_slice(rows.row(u64::from(node.0)));
            }
        }
        Tensor::from_data(TensorData::new(values, [view.nodes.len(), width]), device)
    }

    /// Rows of the learned differences, zero for hidden nodes and those that have none.
    fn corrections(&self, correction: Tensor<B, 2>, view: &View, shown: &[bool]) -> Tensor<B, 2> {
        let (nodes, device) = (correction.dims()[0], correction.device());
        let known = view.nodes.iter().zip(shown).map(|(node, &shown)| shown && node.index() < nodes);
        let (rows, mask): (Vec<u32>, Vec<f32>) =
            known.zip(&view.nodes).map(|(known, node)| if known { (node.0, 1.0) } else { (0, 0.0) }).unzip();
        let mask = Tensor::from_data(TensorData::new(mask, [rows.len(), 1]), &device);
        gather_rows(correction, rows) * mask
    }
}
