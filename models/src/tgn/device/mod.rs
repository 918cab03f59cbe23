//! A TGN on a device: the passes of [`Tgn`], forward and backward, as kernels one after the other, with the optimiser beside it, and the history
//! where there is room for it. Weights have the names and shapes of [`Tgn`]'s.
//!
//! Differs: with the history on the device roots are not gathered into distinct centres first, so dropout falls on other slots than on the host.
mod decoder;
mod layer;
mod places;

use tempograph_framework::{
    Batch, Draw, EventLog, History, Needs, PairFact, Parameters, PlacedHistory, Placement, Purpose, PurposeDraw, Queries, ResidentModel,
    weights,
};
use tempograph_kernels::cube::{Beside, DeviceCell, DevicePast, Hidden, Hop, Matrix, REMEMBERED, Shown, TimeEncoding, TimeShares, Weights};
use tempograph_kernels::tensor::{Cpu, CubeRuntime};
use tempograph_kernels::{AdamStep, Dropout};

use super::spec::{Embedding, TgnSpec};
use super::{FeatureWidths, Tgn};
use layer::{Below, Kept};
use places::Blocks;

/// A [`Tgn`] that trains on a device, together with its optimiser and, where there is room, its history.
pub struct DeviceTgn<R: CubeRuntime> {
    spec: TgnSpec,
    /// Names and shapes; the numbers are on the device.
    parameters: Parameters,
    weights: Weights<R>,
    blocks: Blocks,
    time: TimeEncoding<R>,
    cell: DeviceCell<R>,
    /// What nodes show beside their memory.
    beside: Option<Beside<R>>,
    history: PlacedHistory<R>,
}

/// What kernels for devices do not know that a model reads or keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOnDevice(pub &'static str);

impl std::fmt::Display for NotOnDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kernels on a device know no {}", self.0)
    }
}

/// Says what of `spec` cannot train on a device.
fn check(spec: &TgnSpec) -> Result<(), NotOnDevice> {
    if spec.message != super::Message::Identity {
        return Err(NotOnDevice("message maps (model.message = \"mlp\")"));
    }
    if spec.embedding != Embedding::Attention {
        return Err(NotOnDevice("embeddings but model.embedding = \"attention\""));
    }
    spec.needs().on_device().map_err(NotOnDevice)
}

impl<R: CubeRuntime> DeviceTgn<R> {
    /// A model with fresh weights, the same as [`Tgn::new`] draws from `seed`, to train with what `history` will see of `log`. `room` are the bytes of
    /// the device that the history and all features may take.
    ///
    /// # Errors
    /// What kernels on devices do not know.
    pub fn new(
        spec: &TgnSpec,
        features: FeatureWidths,
        seed: u64,
        device: &R::Device,
        (history, log): (&History, &EventLog),
        room: u64,
    ) -> Result<Self, NotOnDevice> {
        check(spec)?;
        let host = Tgn::<Cpu>::new(spec, features, seed, &Default::default());
        let parameters = Parameters::from_store(weights(&host)).unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
        let columns = [features.node, spec.static_memory.on().map_or(0, |spec| spec.width)];
        let placed = PlacedHistory::new(device, history, log, columns, room);

        let (blocks, layout) = Blocks::of(spec, features, &parameters);
        let mut weights = Weights::new(device, layout);
        weights.set_values(parameters.values());
        let time = TimeEncoding::at(&weights, blocks.time);
        let cell = DeviceCell::at(&weights, blocks.cell, &time);
        let beside = blocks.beside.map(|blocks| Beside::at(&weights, blocks, placed.node_rows(device, history, columns)));
        Ok(Self { spec: spec.clone(), parameters, weights, blocks, time, cell, beside, history: placed })
    }

    /// Where what it reads is.
    pub fn placement(&self) -> Placement {
        self.history.placement()
    }

    fn dropout(&self, depth: usize, seed: u64) -> Option<Dropout> {
        (self.spec.dropout > 0.0).then(|| Dropout { rate: self.spec.dropout, seed: seed.wrapping_add(depth as u64) })
    }

    /// Which nodes' static memory is hidden: those of [`Hiding`](crate::disttgl::Hiding).
    fn hidden(&self, seed: u64) -> Option<Hidden> {
        let share = self.spec.static_memory.on().map_or(0.0, |spec| spec.hide);
        (share > 0.0).then(|| Hidden { share, key: Draw::new(seed).of(Purpose::Dropout).key() })
    }

    /// What the layers start from: the memories, with what nodes show beside them.
    fn shown(&self, past: &DevicePast<R>, memory: &Matrix<R>, seed: u64) -> (Matrix<R>, Option<Shown<R>>) {
        let Some(beside) = &self.beside else { return (memory.clone(), None) };
        let (table, shown) = beside.forward(past, memory, self.hidden(seed));
        (table, Some(shown))
    }

    fn below<'a>(&'a self, past: &'a DevicePast<R>, table: &'a Matrix<R>, depth: usize, seed: u64) -> Below<'a, R> {
        let (hop, activation, dropout) = (&past.hops()[depth], self.spec.score_activation(), self.dropout(depth, seed));
        Below { weights: &self.weights, hop, table, time: &self.time, activation, dropout }
    }

    /// Embeddings of the roots, above the tables of all layers, and what these keep.
    fn embed(&self, past: &DevicePast<R>, table: Matrix<R>, seed: u64) -> (Vec<Matrix<R>>, Vec<Kept<R>>) {
        let (mut tables, mut kept) = (vec![table], Vec::with_capacity(self.blocks.layers.len()));
        for (depth, layer) in self.blocks.layers.iter().enumerate() {
            let (embedded, work) = layer.forward(&self.below(past, &tables[depth], depth, seed));
            tables.push(embedded);
            kept.push(work);
        }
        (tables, kept)
    }
}

impl<R: CubeRuntime> ResidentModel for DeviceTgn<R> {
    fn needs(&self) -> Needs {
        self.spec.needs()
    }

    fn parameters(&self) -> Parameters {
        let mut parameters = self.parameters.clone();
        parameters.values_mut().copy_from_slice(&self.weights.values());
        parameters
    }

    fn set_parameters(&mut self, values: &[f32]) {
        self.weights.set_values(values);
    }

    fn moments(&self) -> (u64, [Vec<f32>; 2]) {
        self.weights.moments()
    }

    fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]) {
        self.weights.set_moments(steps, moments);
    }

    fn enter(&mut self, history: History, log: &EventLog) {
        self.history.enter(history, log);
    }

    fn leave(&mut self, log: &EventLog) -> History {
        self.history.leave(log)
    }

    fn train(&mut self, batch: &Batch<'_>, queries: &Queries, chance: PurposeDraw, dropout: u64, step: &AdamStep, clip: f32) {
        let past = self.history.look(queries, batch, chance);
        let (memory, read) = self.cell.forward(&past);
        let arriving = self.history.ask(&past, &memory);
        let (table, shown) = self.shown(&past, &memory, dropout);
        let (tables, kept) = self.embed(&past, table, dropout);
        let embeddings = &tables[kept.len()];
        let pairs = (&self.history.pairs(queries), queries.positives());
        // told on the host while the device computes what comes before
        let facts: &[PairFact] = self.history.facts(queries, batch, chance);
        let asked = decoder::forward(&self.weights, &self.blocks, embeddings, pairs, facts);

        let (loss, mut grad) = decoder::backward(&self.weights, &self.blocks, &asked, embeddings);
        let rows = past.mails() + past.hops().iter().map(Hop::len).sum::<usize>();
        let mut time = TimeShares::new(&self.time, rows);
        for (depth, layer) in self.blocks.layers.iter().enumerate().rev() {
            grad = layer.backward(&self.below(&past, &tables[depth], depth, dropout), &kept[depth], &grad, &mut time);
        }
        if let (Some(beside), Some(shown)) = (&self.beside, &shown) {
            beside.backward(&past, shown, &grad);
        }
        self.cell.backward(&read, &grad, &mut time);
        time.sum();
        self.weights.step(&loss, step, clip);
        self.history.observe(batch, &past, &memory, arriving);
    }

    fn room(&self) -> usize {
        REMEMBERED - self.weights.recorded()
    }

    fn steps(&self) -> u64 {
        self.weights.steps()
    }

    fn learned(&mut self) -> Vec<[f32; 2]> {
        self.weights.learned().into_iter().map(|step| [step.loss, step.gradient_norm]).collect()
    }
}
