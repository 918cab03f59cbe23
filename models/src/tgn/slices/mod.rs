//! A TGN on slices: the passes of [`Tgn`], forward and backward, written as calls of the CPU's kernels one after the other, without
//! a tensor library and without asking for memory. Weights have the names and shapes of [`Tgn`]'s.

mod decoder;
mod embedding;
mod places;
mod serving;

use tempograph_framework::{Answer, MailView, Needs, Parameters, Queries, SliceModel, View, weights};
use tempograph_kernels::cpu::{self, CellGradients, CellWeights, LinearWeights, MemoryUpdate, PaddedRows, TimeWeights, add};
use tempograph_kernels::tensor::Cpu;
use tempograph_kernels::{Cell, MailPlan};

use super::spec::{TgnSpec, Updater};
use super::{FeatureWidths, Tgn};
use decoder::DecoderWork;
use embedding::LayerWork;
use places::{Map, Places, split, weight_and_bias};

/// A [`Tgn`] that computes on slices of host memory: what trains and serves on the CPU.
#[derive(Clone, Debug)]
pub struct SliceTgn {
    spec: TgnSpec,
    parameters: Parameters,
    places: Places,
}

/// Working memory of one caller of a [`SliceTgn`].
#[derive(Debug, Default)]
pub struct SliceWork {
    answer: Answer,
    /// Seed of the last forward pass.
    dropout: Option<u64>,
    memory: MemoryUpdate,
    features: FeatureWork,
    layers: Vec<LayerWork>,
    /// `[C, O]` what roots are embedded as.
    embeddings: PaddedRows,
    embeddings_gradient: PaddedRows,
    decoder: DecoderWork,
    /// `[U, D]` gradient of the hidden rows.
    hidden_gradient: Vec<f32>,
}

/// Node features mapped into the memory's width.
#[derive(Debug, Default)]
struct FeatureWork {
    map: cpu::Linear,
    /// `[U, F]`
    rows: PaddedRows,
    /// `[U, D]`
    mapped: PaddedRows,
    /// `[U, D]` memory and mapped features together.
    hidden: Vec<f32>,
}

impl AsRef<Answer> for SliceWork {
    fn as_ref(&self) -> &Answer {
        &self.answer
    }
}

impl SliceTgn {
    /// A model with fresh weights, the same as [`Tgn::new`] draws from `seed`; `None` for settings that only [`Tgn`] has: message maps,
    /// means of mails, sum embeddings.
    pub fn new(spec: &TgnSpec, features: FeatureWidths, seed: u64) -> Option<SliceTgn> {
        SliceTgn::of(&Tgn::<Cpu>::new(spec, features, seed, &Default::default()))
    }

    /// The same model on slices, if it can be one.
    pub fn of(model: &Tgn<Cpu>) -> Option<SliceTgn> {
        let spec = model.spec();
        if !spec.on_slices() {
            return None;
        }
        let parameters = Parameters::from_store(weights(model)).unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
        let places = Places::of(spec, &parameters);
        Some(SliceTgn { spec: spec.clone(), parameters, places })
    }

    /// The settings it was built from.
    pub fn spec(&self) -> &TgnSpec {
        &self.spec
    }

    fn time(&self) -> TimeWeights<'_> {
        let [freq, phase] = self.places.time.each_ref().map(|range| self.values(range));
        TimeWeights { freq, phase }
    }

    fn cell(&self) -> Cell {
        match self.spec.updater {
            Updater::Gru => Cell::Gru,
            Updater::Rnn => Cell::Rnn,
        }
    }

    fn values(&self, range: &std::ops::Range<usize>) -> &[f32] {
        &self.parameters.values()[range.clone()]
    }

    fn weights(&self, map: &Map) -> LinearWeights<'_> {
        let bias = map.bias.as_ref().map(|bias| self.values(bias));
        LinearWeights { weight: self.values(&map.weight), bias, version: self.parameters.version(), precision: self.spec.precision.into() }
    }

    /// Reads waiting mail into memory: the update of the answer.
    fn read_mail(&self, view: &View, work: &mut SliceWork) {
        let [w_ih, w_hh, b_ih, b_hh] = self.places.cell.each_ref().map(|range| self.values(range));
        let update = &mut work.answer.update;
        update.nodes.clear();
        update.nodes.extend_from_slice(&view.nodes);
        let plan = mail_plan(view);
        let (version, precision) = (self.parameters.version(), self.spec.precision.into());
        let weights = CellWeights { w_ih, w_hh, b_ih, b_hh, version, precision };
        update.memory.resize(plan.memory.len(), 0.0);
        work.memory.forward(plan, self.cell(), weights, self.time(), &mut update.memory);
    }

    /// Adds mapped node features to the memory, where there are any.
    fn add_features(&self, view: &View, work: &mut SliceWork) {
        let (Some(places), Some(rows)) = (&self.places.node_features, &view.node_features) else { return };
        let FeatureWork { map, rows: gathered, mapped, hidden } = &mut work.features;
        gathered.zeros(view.nodes.len(), rows.width());
        for (i, node) in view.nodes.iter().enumerate() {
            gathered.row_mut(i).copy_from_slice(rows.row(u64::from(node.0)));
        }
        map.forward(gathered, self.weights(places), cpu::Activation::None, mapped);
        hidden.clear();
        hidden.extend_from_slice(&work.answer.update.memory);
        for (i, row) in hidden.chunks_exact_mut(self.spec.memory).enumerate() {
            add(row, mapped.row(i));
        }
    }
}

impl SliceModel for SliceTgn {
    type Work = SliceWork;

    fn needs(&self) -> Needs {
        self.spec.needs()
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>, work: &mut SliceWork) {
        work.dropout = dropout;
        self.read_mail(view, work);
        self.add_features(view, work);
        self.embed(view, work);
        self.score(queries, view, work);
        let embeddings = &mut work.answer.embeddings;
        embeddings.clear();
        if dropout.is_none() {
            (0..work.embeddings.rows()).for_each(|row| embeddings.extend_from_slice(work.embeddings.row(row)));
        }
    }

    fn advance(&self, view: &View, work: &mut SliceWork) {
        self.read_mail(view, work);
    }

    fn backward(&self, queries: &Queries, view: &View, scores: &[f32], gradients: &mut [f32], work: &mut SliceWork) {
        assert_eq!(gradients.len(), self.parameters.values().len(), "a gradient for each weight");
        self.places.summed().for_each(|range| gradients[range.clone()].fill(0.0));
        assert_eq!(scores.len(), queries.pairs().len(), "a derivative for each score");
        self.score_backward(scores, gradients, work);
        self.embed_backward(view, gradients, work);
        self.features_backward(view, gradients, work);
        let ([w_ih, w_hh, b_ih, b_hh], [freq, phase]) = (&self.places.cell, &self.places.time);
        let [w_ih, w_hh, b_ih, b_hh, freq, phase] = split(gradients, [w_ih, w_hh, b_ih, b_hh, freq, phase]);
        let cell = CellGradients { w_ih, w_hh, b_ih, b_hh };
        work.memory.backward(mail_plan(view), self.cell(), self.time(), &work.hidden_gradient, cell, [freq, phase]);
    }
}

impl SliceTgn {
    fn features_backward(&self, view: &View, gradients: &mut [f32], work: &mut SliceWork) {
        let (Some(place), Some(_)) = (&self.places.node_features, &view.node_features) else { return };
        let FeatureWork { map, rows, mapped, .. } = &mut work.features;
        for (i, gradient) in work.hidden_gradient.chunks_exact(self.spec.memory).enumerate() {
            mapped.row_mut(i).copy_from_slice(gradient);
        }
        let parts = weight_and_bias(gradients, place);
        map.backward(rows, self.values(&place.weight), mapped, parts, cpu::InputGradient::Unwanted);
    }
}

fn mail_plan(view: &View) -> &MailPlan {
    match &view.mail {
        MailView::Last(plan) => plan,
        MailView::Many(_) => unreachable!("a model on slices asks for the last mail"),
    }
}
