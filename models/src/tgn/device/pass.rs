//! One pass on a device, forward and backward.

use tempograph_framework::{Draw, PairFact, Purpose};
use tempograph_kernels::cube::{
    Beside, DeviceCell, DevicePast, Hidden, Hop, Matrix, NodeRows, Shown, TimeEncoding, TimeShares, UpdateKept, Weights,
};
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::{Dropout, PairPlan};

use super::decoder;
use super::layer::{Below, Kept};
use super::places::Blocks;
use crate::tgn::spec::TgnSpec;

/// The modules of a TGN at some weights, whose gradients it writes.
pub(super) struct Pass<'a, R: CubeRuntime> {
    spec: &'a TgnSpec,
    blocks: &'a Blocks,
    weights: &'a Weights<R>,
    time: TimeEncoding<R>,
    cell: DeviceCell<R>,
    /// What nodes show beside their memory.
    beside: Option<Beside<R>>,
    /// Seed of what is dropped.
    dropout: u64,
}

/// The rows of a past with their mail read.
pub(super) struct Updated<R: CubeRuntime> {
    /// `[rows, D]`
    pub memory: Matrix<R>,
    kept: UpdateKept<R>,
}

/// Embeddings of the roots.
pub(super) struct Embedded<R: CubeRuntime> {
    /// What each layer reads, and above them the embeddings.
    tables: Vec<Matrix<R>>,
    kept: Vec<Kept<R>>,
    shown: Option<Shown<R>>,
}

impl<'a, R: CubeRuntime> Pass<'a, R> {
    /// Of the weights that stand at `blocks`; `node_rows` are features and vectors of the nodes.
    pub fn at(
        spec: &'a TgnSpec,
        blocks: &'a Blocks,
        weights: &'a Weights<R>,
        node_rows: &[Option<NodeRows<R>>; 2],
        dropout: u64,
    ) -> Pass<'a, R> {
        let time = TimeEncoding::at(weights, blocks.time);
        let cell = DeviceCell::at(weights, blocks.cell, &time);
        let beside = blocks.beside.map(|blocks| Beside::at(weights, blocks, node_rows.clone()));
        Pass { spec, blocks, weights, time, cell, beside, dropout }
    }

    /// Reads the mail of the past's rows.
    pub fn update(&self, past: &DevicePast<R>) -> Updated<R> {
        let (memory, kept) = self.cell.forward(past);
        Updated { memory, kept }
    }

    /// Embeds the roots, from the new memories of the past's rows.
    pub fn embed(&self, past: &DevicePast<R>, memory: &Matrix<R>) -> Embedded<R> {
        let (table, shown) = self.shown(past, memory);
        let (mut tables, mut kept) = (vec![table], Vec::with_capacity(self.blocks.layers.len()));
        for (depth, layer) in self.blocks.layers.iter().enumerate() {
            let (embedded, work) = layer.forward(&self.below(past, &tables[depth], depth));
            tables.push(embedded);
            kept.push(work);
        }
        Embedded { tables, kept, shown }
    }

    /// Scores the pairs, of which the first `positives` happened, and goes back to the weights. Gives the loss, `[1, 1]`.
    pub fn back(
        &self,
        past: &DevicePast<R>,
        updated: &Updated<R>,
        embedded: &Embedded<R>,
        (pairs, positives): (&PairPlan, usize),
        facts: &[PairFact],
    ) -> Matrix<R> {
        let Embedded { tables, kept, shown } = embedded;
        let embeddings = &tables[kept.len()];
        let asked = decoder::forward(self.weights, self.blocks, embeddings, (pairs, positives), facts);
        let (loss, mut grad) = decoder::backward(self.weights, self.blocks, &asked, embeddings);
        let rows = past.mails() + past.hops().iter().map(Hop::len).sum::<usize>();
        let mut time = TimeShares::new(&self.time, rows);
        for (depth, layer) in self.blocks.layers.iter().enumerate().rev() {
            grad = layer.backward(&self.below(past, &tables[depth], depth), &kept[depth], &grad, &mut time);
        }
        if let (Some(beside), Some(shown)) = (&self.beside, shown) {
            beside.backward(past, shown, &grad);
        }
        self.cell.backward(&updated.kept, &grad, &mut time);
        time.sum();
        loss
    }

    /// What the layers start from: the memories, with what nodes show beside them.
    fn shown(&self, past: &DevicePast<R>, memory: &Matrix<R>) -> (Matrix<R>, Option<Shown<R>>) {
        let Some(beside) = &self.beside else { return (memory.clone(), None) };
        let (table, shown) = beside.forward(past, memory, self.hidden());
        (table, Some(shown))
    }

    /// Which nodes' static memory is hidden: those of [`Hiding`](crate::disttgl::Hiding).
    fn hidden(&self) -> Option<Hidden> {
        let share = self.spec.static_memory.on().map_or(0.0, |spec| spec.hide);
        (share > 0.0).then(|| Hidden { share, key: Draw::new(self.dropout).of(Purpose::Dropout).key() })
    }

    fn below<'b>(&'b self, past: &'b DevicePast<R>, table: &'b Matrix<R>, depth: usize) -> Below<'b, R> {
        let seed = self.dropout.wrapping_add(depth as u64);
        let dropout = (self.spec.dropout > 0.0).then_some(Dropout { rate: self.spec.dropout, seed });
        Below {
            weights: self.weights,
            hop: &past.hops()[depth],
            table,
            time: &self.time,
            activation: self.spec.score_activation(),
            dropout,
        }
    }
}
