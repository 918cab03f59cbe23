//! A TGN on a device: the passes of [`Tgn`], forward and backward, as kernels one after the other, with history and optimiser beside it.
//! Weights have the names and shapes of [`Tgn`]'s.
//!
//! Differs: roots are not gathered into distinct centres first, so dropout falls on other slots than on the host.
mod decoder;
mod layer;
mod places;

use tempograph_framework::{Batch, EventLog, History, Needs, Parameters, PurposeDraw, Queries, ResidentHistory, ResidentModel, weights};
use tempograph_kernels::cube::{DeviceCell, Matrix, REMEMBERED, TooLarge, Weights, link_loss};
use tempograph_kernels::tensor::{Cpu, CubeRuntime};
use tempograph_kernels::{AdamStep, Dropout};

use super::spec::{Embedding, TgnSpec};
use super::{FeatureWidths, Tgn};
use crate::disttgl::Wiring;
use decoder::Decoder;
use layer::Layer;

/// A [`Tgn`] that trains on a device, together with its history and its optimiser.
pub struct DeviceTgn<R: CubeRuntime> {
    spec: TgnSpec,
    /// Names and shapes; the numbers are on the device.
    parameters: Parameters,
    weights: Weights<R>,
    cell: DeviceCell<R>,
    /// Farthest hop first.
    layers: Vec<Layer<R>>,
    decoder: Decoder<R>,
    history: ResidentHistory<R>,
}

/// Why a model cannot train on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOnDevice {
    /// It reads or keeps something that kernels for devices do not know.
    Unknown(&'static str),
    /// Its history is too large.
    TooLarge(TooLarge),
}

impl std::fmt::Display for NotOnDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotOnDevice::Unknown(what) => write!(f, "kernels on a device know no {what}"),
            NotOnDevice::TooLarge(TooLarge { bytes, room }) => write!(f, "its history takes {bytes} bytes, and there is room for {room}"),
        }
    }
}

/// Says what of `spec` cannot train on a device.
fn check(spec: &TgnSpec, features: FeatureWidths) -> Result<(), NotOnDevice> {
    let unknown = |what| Err(NotOnDevice::Unknown(what));
    if features.node > 0 {
        return unknown("node features");
    }
    if spec.static_memory.on().is_some() {
        return unknown("static memory");
    }
    if spec.message != super::Message::Identity {
        return unknown("message maps");
    }
    if spec.static_memory.how != Wiring::Off {
        return unknown("static memory");
    }
    if spec.embedding != Embedding::Attention {
        return unknown("embeddings but attention");
    }
    spec.needs().on_device().map_err(NotOnDevice::Unknown)
}

impl<R: CubeRuntime> DeviceTgn<R> {
    /// A model with fresh weights, the same as [`Tgn::new`] draws from `seed`, and a history of what `history` will see of `log`. `room` are the
    /// bytes of the device that the history may take.
    ///
    /// # Errors
    /// What keeps it from the device.
    pub fn new(
        spec: &TgnSpec,
        features: FeatureWidths,
        seed: u64,
        device: &R::Device,
        (history, log): (&History, &EventLog),
        room: u64,
    ) -> Result<Self, NotOnDevice> {
        check(spec, features)?;
        let host = Tgn::<Cpu>::new(spec, features, seed, &Default::default());
        let parameters = Parameters::from_store(weights(&host)).unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
        let sizes: Vec<usize> = parameters.parts().iter().map(|part| part.range.len()).collect();
        let mut weights = Weights::new(device, &sizes);
        weights.set_values(parameters.values());
        let places = places::Places { spec, parameters: &parameters, weights: &weights };
        let (cell, layers, decoder) = (places.cell(), places.layers(), places.decoder());
        let history = ResidentHistory::new(device, history, log, room).map_err(NotOnDevice::TooLarge)?;
        Ok(Self { spec: spec.clone(), cell, layers, decoder, parameters, weights, history })
    }

    /// Whether all it reads is on the device, so that a step waits for nothing.
    pub fn is_resident(&self) -> bool {
        self.history.device.is_resident()
    }

    fn dropout(&self, depth: usize, seed: u64) -> Option<Dropout> {
        (self.spec.dropout > 0.0).then(|| Dropout { rate: self.spec.dropout, seed: seed.wrapping_add(depth as u64) })
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

    fn enter(&mut self, history: &History, log: &EventLog) {
        self.history.enter(history, log);
    }

    fn history(&self, log: &EventLog) -> History {
        self.history.leave(log)
    }

    fn train(&mut self, batch: &Batch<'_>, queries: &Queries, chance: PurposeDraw, dropout: u64, step: &AdamStep, clip: f32) {
        let past = self.history.look(queries, batch, chance);
        let (memory, read) = self.cell.forward(&past);
        let mut tables: Vec<Matrix<R>> = vec![memory.clone()];
        let mut kept = Vec::with_capacity(self.layers.len());
        for (depth, (layer, hop)) in self.layers.iter().zip(past.hops()).enumerate() {
            let (embedded, work) = layer.forward(hop, &tables[depth], &self.cell.time, self.dropout(depth, dropout));
            tables.push(embedded);
            kept.push(work);
        }
        let (scores, asked) = self.decoder.forward(&tables[self.layers.len()], queries);
        let (loss, slopes) = link_loss(&scores, queries.positives());

        self.weights.clear_gradients();
        let mut grad = self.decoder.backward(&asked, &slopes);
        for (depth, (layer, hop)) in self.layers.iter().zip(past.hops()).enumerate().rev() {
            grad = layer.backward(hop, &tables[depth], &self.cell.time, &kept[depth], &grad);
        }
        self.cell.backward(&read, &grad);
        self.weights.step(&loss, step, clip);
        self.history.observe(batch, &past, &memory);
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
