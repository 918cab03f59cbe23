//! The link decoder on slices.

use tempograph_framework::{Pair, PairFact, Queries, View};
use tempograph_kernels::cpu::{Activation, InputGradient, Linear, PaddedRows, PairGradients, PairInputs, PairScores, add, mask};

use super::places::{Map, weight_and_bias};
use super::{SliceTgn, SliceWork};
use crate::tgn::decoder::pair_row;

/// Working memory of the decoder.
#[derive(Debug, Default)]
pub(super) struct DecoderWork {
    src: EndWork,
    dst: EndWork,
    pairs: PairScores,
    facts: FactWork,
}

/// One end of the pairs: its distinct rows of the top table, mapped.
#[derive(Debug, Default)]
struct EndWork {
    map: Linear,
    /// Distinct rows of the top table, in order of first appearance.
    rows: Vec<u32>,
    /// Of each pair the place among them.
    place: Vec<u32>,
    /// `[C]` place of each row of the top table, where it has one.
    place_of: Vec<u32>,
    /// `[rows, O]`
    embedded: PaddedRows,
    /// `[rows, O]`
    mapped: PaddedRows,
    gradient: PaddedRows,
    embedded_gradient: PaddedRows,
}

/// Facts about pairs: two linear maps with a ReLU between.
#[derive(Debug, Default)]
struct FactWork {
    maps: [Linear; 2],
    facts: PaddedRows,
    rectified: PaddedRows,
    mapped: PaddedRows,
    gradient: PaddedRows,
}

/// No place yet.
const NOWHERE: u32 = u32::MAX;

impl EndWork {
    /// Finds the distinct rows of one end. Repeats are mapped once.
    fn gather(&mut self, pairs: &[Pair], end: impl Fn(&Pair) -> u32, table: &PaddedRows) {
        self.place_of.clear();
        self.place_of.resize(table.rows(), NOWHERE);
        self.rows.clear();
        self.place.clear();
        for pair in pairs {
            let row = end(pair);
            let place = &mut self.place_of[row as usize];
            if *place == NOWHERE {
                *place = self.rows.len() as u32;
                self.rows.push(row);
            }
            self.place.push(*place);
        }
        self.embedded.gather(&table.values, table.stride(), table.columns(), &self.rows);
    }

    /// Hands the gradient of the mapped rows on to the top table's.
    fn backward(&mut self, model: &SliceTgn, map: &Map, gradients: &mut [f32], table: &mut PaddedRows) {
        let into = InputGradient::Replace(&mut self.embedded_gradient);
        self.map.backward(&self.embedded, model.values(&map.weight), &self.gradient, weight_and_bias(gradients, map), into);
        for (i, &row) in self.rows.iter().enumerate() {
            add(table.row_mut(row as usize), self.embedded_gradient.row(i));
        }
    }
}

impl SliceTgn {
    /// Logits of the asked pairs, from the embeddings.
    pub(super) fn score(&self, queries: &Queries, view: &View, work: &mut SliceWork) {
        self.score_rows(queries.pairs(), |root| view.roots[root as usize], &view.pairs, work);
    }

    /// Logits of pairs whose ends are the rows of the embeddings that `row` names, from these and the pairs' facts.
    pub(super) fn score_rows(&self, asked: &[Pair], row: impl Fn(u32) -> u32, told: &[PairFact], work: &mut SliceWork) {
        let (places, DecoderWork { src, dst, pairs, facts }) = (&self.places.decoder, &mut work.decoder);
        let scores = &mut work.answer.scores;
        scores.resize(asked.len(), 0.0);
        if scores.is_empty() {
            return;
        }
        src.gather(asked, |pair| row(pair.src), &work.embeddings);
        dst.gather(asked, |pair| row(pair.dst), &work.embeddings);
        src.map.forward(&src.embedded, self.weights(&places.src), Activation::None, &mut src.mapped);
        dst.map.forward(&dst.embedded, self.weights(&places.dst), Activation::None, &mut dst.mapped);
        if let Some([first, second]) = &places.pair {
            facts.facts.zeros(told.len(), crate::tgn::decoder::PAIR_COLUMNS);
            told.iter().enumerate().for_each(|(pair, fact)| pair_row(fact, facts.facts.row_mut(pair)));
            let [of_first, of_second] = &mut facts.maps;
            of_first.forward(&facts.facts, self.weights(first), Activation::Relu, &mut facts.rectified);
            of_second.forward(&facts.rectified, self.weights(second), Activation::None, &mut facts.mapped);
        }
        let bias = places.last.bias.as_ref().map_or(0.0, |bias| self.values(bias)[0]);
        pairs.forward(self.pair_inputs(src, dst, facts), bias, scores);
    }

    fn pair_inputs<'a>(&'a self, src: &'a EndWork, dst: &'a EndWork, facts: &'a FactWork) -> PairInputs<'a> {
        let places = &self.places.decoder;
        let c = places.pair.is_some().then_some(&facts.mapped);
        PairInputs { a: &src.mapped, b: &dst.mapped, i: &src.place, j: &dst.place, c, weight: self.values(&places.last.weight) }
    }

    /// Gradients of the decoder's weights and of the embeddings.
    pub(super) fn score_backward(&self, scores: &[f32], gradients: &mut [f32], work: &mut SliceWork) {
        let table = &mut work.embeddings_gradient;
        table.resize_apart(work.embeddings.rows(), work.embeddings.columns(), work.embeddings.stride());
        table.values.fill(0.0);
        let (places, DecoderWork { src, dst, pairs, facts }) = (&self.places.decoder, &mut work.decoder);
        if scores.is_empty() {
            let maps = [&places.src, &places.dst, &places.last].into_iter().chain(places.pair.iter().flatten());
            maps.for_each(|map| weight_and_bias(gradients, map).into_iter().for_each(|gradient| gradient.fill(0.0)));
            return;
        }
        let [weight, bias] = weight_and_bias(gradients, &places.last);
        let (mut a, mut b) = (std::mem::take(&mut src.gradient), std::mem::take(&mut dst.gradient));
        pairs.backward(self.pair_inputs(src, dst, facts), scores, PairGradients { a: &mut a, b: &mut b, weight, bias });
        (src.gradient, dst.gradient) = (a, b);
        src.backward(self, &places.src, gradients, table);
        dst.backward(self, &places.dst, gradients, table);
        if let Some([first, second]) = &places.pair {
            let ([of_first, of_second], gradient) = (&mut facts.maps, &mut facts.gradient);
            let parts = weight_and_bias(gradients, second);
            of_second.backward(&facts.rectified, self.values(&second.weight), pairs.hidden(), parts, InputGradient::Replace(gradient));
            mask(&mut gradient.values, &facts.rectified.values);
            let parts = weight_and_bias(gradients, first);
            of_first.backward(&facts.facts, self.values(&first.weight), gradient, parts, InputGradient::Unwanted);
        }
    }
}
