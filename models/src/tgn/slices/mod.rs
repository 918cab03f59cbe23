//! A TGN on slices: the passes of [`Tgn`], forward and backward, written as calls of the CPU's kernels one after the other, without
//! a tensor library and without asking for memory. Weights have the names and shapes of [`Tgn`]'s.

mod decoder;
mod embedding;
mod hidden;
pub(super) mod places;
mod serving;

use std::ops::Range;

use tempograph_framework::{Answer, MailView, Needs, Parameters, Queries, SliceModel, View, weights};
use tempograph_kernels::cpu::{
    CellGradients, CellWeights, LinearWeights, MemoryUpdate, PaddedRows, Precision, TimeWeights,
};
use tempograph_kernels::tensor::Cpu;
use tempograph_kernels::{Cell, MailPlan};

use super::spec::{TgnSpec, Updater};
use super::{FeatureWidths, Tgn};
use embedding::LayerWork;
use hidden::HiddenWork;
use places::{Map, Places, split};

pub(crate) use decoder::{Decoder, DecoderWork};
pub(crate) use places::DecoderPlaces;

/// With fewer rows than these, what stands side by side is done one after the other: a server's event enters no thread pool.
const SHARED: usize = 64;

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
    hidden: HiddenWork,
    layers: Vec<LayerWork>,
    /// `[C, O]` what roots are embedded as.
    embeddings: PaddedRows,
    embeddings_gradient: PaddedRows,
    decoder: DecoderWork,
    /// `[U, W]` gradient of the hidden rows.
    hidden_gradient: Vec<f32>,
}

/// Weights in the one array of them, with what products read of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub parameters: &'a Parameters,
    pub precision: Precision,
}

impl<'a> Weights<'a> {
    /// The numbers that stand in `range`.
    pub fn values(self, range: &Range<usize>) -> &'a [f32] {
        &self.parameters.values()[range.clone()]
    }

    /// Those of a linear map.
    pub fn of(self, map: &Map) -> LinearWeights<'a> {
        let bias = map.bias.as_ref().map(|bias| self.values(bias));
        LinearWeights {
            weight: self.values(&map.weight),
            bias,
            version: self.parameters.version(),
            precision: self.precision,
        }
    }
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
        spec.on_slices().ok()?;
        let parameters =
            Parameters::from_store(weights(model)).unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
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

    fn values(&self, range: &Range<usize>) -> &[f32] {
        self.weights().values(range)
    }

    fn weights(&self) -> Weights<'_> {
        Weights { parameters: &self.parameters, precision: self.spec.precision.into() }
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder { places: &self.places.decoder, weights: self.weights() }
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
        self.put_together(view, work);
        self.embed(view, work);
        self.score(queries, view, work);
        let embeddings = &mut work.answer.embeddings;
        embeddings.clear();
        if dropout.is_none() {
            (0..work.embeddings.rows()).for_each(|row| embeddings.extend_from_slice(work.embeddings.row(row)));
        }
    }

    fn advance(&self, _: &Queries, view: &View, work: &mut SliceWork) {
        self.read_mail(view, work);
    }

    fn backward(&self, queries: &Queries, view: &View, scores: &[f32], gradients: &mut [f32], work: &mut SliceWork) {
        assert_eq!(gradients.len(), self.parameters.values().len(), "a gradient for each weight");
        self.places.summed().for_each(|range| gradients[range.clone()].fill(0.0));
        assert_eq!(scores.len(), queries.pairs().len(), "a derivative for each score");
        let (embeddings, table) = (&work.embeddings, &mut work.embeddings_gradient);
        table.resize_apart(embeddings.rows(), embeddings.columns(), embeddings.stride());
        table.values.fill(0.0);
        work.decoder.backward(self.decoder(), scores, gradients, table);
        self.embed_backward(view, gradients, work);
        self.hidden_backward(view, gradients, work);
        let ([w_ih, w_hh, b_ih, b_hh], [freq, phase]) = (&self.places.cell, &self.places.time);
        let [w_ih, w_hh, b_ih, b_hh, freq, phase] = split(gradients, [w_ih, w_hh, b_ih, b_hh, freq, phase]);
        let cell = CellGradients { w_ih, w_hh, b_ih, b_hh };
        work.memory.backward(
            mail_plan(view),
            self.cell(),
            self.time(),
            work.hidden.of_memory(&work.hidden_gradient),
            cell,
            [freq, phase],
        );
    }
}

impl SliceTgn {
    /// Logits of the asked pairs, from the embeddings.
    fn score(&self, queries: &Queries, view: &View, work: &mut SliceWork) {
        let SliceWork { answer: Answer { scores, .. }, embeddings, decoder, .. } = work;
        scores.resize(queries.pairs().len(), 0.0);
        let rows = queries.pairs().iter().map(|pair| [pair.src, pair.dst].map(|root| view.roots[root as usize]));
        decoder.score(self.decoder(), rows, &view.pairs, embeddings, scores);
    }
}

fn mail_plan(view: &View) -> &MailPlan {
    match &view.mail {
        MailView::Last(plan) => plan,
        MailView::Many(_) => unreachable!("a model on slices asks for the last mail"),
    }
}
