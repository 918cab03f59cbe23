//! The model as it is served: on slices of host memory where it can be, else on tensors.

use tempograph_framework::{
    Answer, Forward, MailView, Model, Pair, Queries, SliceModel, Store, Update, View, values, weights,
};
use tempograph_kernels::cpu::PaddedRows;
use tempograph_kernels::tensor::Cpu;
use tempograph_models::{SliceTgn, SliceWork, Tgn, TgnSpec};

/// What computes answers and updates: the kernels that train, on slices, or for settings that have none the tensor library.
#[derive(Debug)]
pub(crate) enum Served {
    Slices(Box<SliceTgn>),
    Tensors(Box<Tgn<Cpu>>),
}

/// One pass at a time: what is asked, what is shown of the past, and what comes of it, in memory that is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub queries: Queries,
    pub view: View,
    slices: SliceWork,
    /// What a model on tensors gave, brought to the host.
    tensors: Option<Answer>,
}

impl Served {
    pub fn of(model: Tgn<Cpu>) -> Served {
        match SliceTgn::of(&model) {
            Some(slices) => Served::Slices(Box::new(slices)),
            None => Served::Tensors(Box::new(model)),
        }
    }

    /// The settings it was built from.
    pub fn spec(&self) -> &TgnSpec {
        match self {
            Served::Slices(model) => model.spec(),
            Served::Tensors(model) => model.spec(),
        }
    }

    /// The weights under their dotted names.
    pub fn weights(&self) -> Store {
        match self {
            Served::Slices(model) => model.parameters().to_store(),
            Served::Tensors(model) => weights::<Cpu, _>(&**model),
        }
    }

    /// Answers what the pass asks of what it is shown.
    pub fn forward(&self, pass: &mut Pass) {
        match self {
            Served::Slices(model) => model.forward(&pass.queries, &pass.view, None, &mut pass.slices),
            Served::Tensors(model) => {
                let Forward { scores, embeddings, update } = model.forward(&pass.queries, &pass.view, None);
                let embeddings = embeddings.map(values).unwrap_or_default();
                pass.tensors = Some(Answer { scores: values(scores), embeddings, update });
            }
        }
    }

    /// Maps what the pass embedded as the decoder maps the ends of pairs.
    pub fn map_ends(&self, pass: &mut Pass) {
        match self {
            Served::Slices(model) => model.map_ends(&mut pass.slices),
            Served::Tensors(_) => unreachable!("embeddings of a model on tensors are not kept"),
        }
    }

    /// Logits of pairs of rows of `ends`, which were mapped as sources and destinations.
    pub fn score_ends(&self, ends: &PaddedRows, pairs: &[Pair], pass: &mut Pass) {
        match self {
            Served::Slices(model) => model.score_ends(ends, pairs, &mut pass.slices),
            Served::Tensors(_) => unreachable!("embeddings of a model on tensors are not kept"),
        }
    }

    /// How the centres of an embedding layer, the lowest first, weighed their neighbours in the pass, `[C, H, K]`, where that is known.
    pub fn attention<'p>(&self, layer: usize, pass: &'p Pass) -> &'p [f32] {
        match self {
            Served::Slices(model) => model.attention(layer, &pass.slices),
            Served::Tensors(_) => &[],
        }
    }

    /// The update alone: memories with the waiting mail read.
    pub fn advance(&self, pass: &mut Pass) {
        match self {
            Served::Slices(model) => model.advance(&pass.queries, &pass.view, &mut pass.slices),
            Served::Tensors(model) => {
                pass.tensors = Some(Answer { update: model.advance(&pass.queries, &pass.view), ..Answer::default() })
            }
        }
    }
}

impl Pass {
    fn answer(&self) -> &Answer {
        self.tensors.as_ref().unwrap_or(self.slices.as_ref())
    }

    /// Logits of the asked pairs.
    pub fn scores(&self) -> &[f32] {
        &self.answer().scores
    }

    /// The embedding of the only node asked about.
    pub fn embedding(&self) -> &[f32] {
        debug_assert_eq!(self.queries.len(), 1, "several roots may share a row");
        &self.answer().embeddings
    }

    /// Memories that mail was read into for it.
    pub fn mails_read(&self) -> usize {
        match &self.view.mail {
            MailView::Last(plan) => plan.rows.len(),
            MailView::Many(mails) => mails.rows.len(),
        }
    }

    /// The embedding of a root, `[O]`, and what the decoder [maps](Served::map_ends) it to as a source and as a destination.
    pub fn parts_of(&self, root: usize, width: usize) -> [&[f32]; 3] {
        let row = self.view.roots[root] as usize;
        let [src, dst] = self.slices.ends().map(|ends| ends.row(row));
        [&self.answer().embeddings[row * width..][..width], src, dst]
    }

    /// What observing writes.
    pub fn update(&self) -> &Update {
        &self.answer().update
    }
}
