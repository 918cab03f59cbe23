//! The link decoder on slices.

use tempograph_framework::PairFact;
use tempograph_kernels::cpu::{
    Activation, InputGradient, Linear, PaddedRows, PairGradients, PairInputs, PairScores, add, join_if, mask,
};

use super::places::{DecoderPlaces, Map, weight_and_bias, weights_and_biases};
use super::{SHARED, Weights};
use crate::tgn::decoder::{PAIR_COLUMNS, pair_row};

/// A link decoder: where its weights stand, and they themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a> {
    pub places: &'a DecoderPlaces,
    pub weights: Weights<'a>,
}

/// Working memory of a decoder.
#[derive(Debug, Default)]
pub(crate) struct DecoderWork {
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
    fn gather(&mut self, rows: impl Iterator<Item = u32>, table: &PaddedRows) {
        self.place_of.clear();
        self.place_of.resize(table.rows(), NOWHERE);
        self.rows.clear();
        self.place.clear();
        for row in rows {
            let place = &mut self.place_of[row as usize];
            if *place == NOWHERE {
                *place = self.rows.len() as u32;
                self.rows.push(row);
            }
            self.place.push(*place);
        }
        self.embedded.gather(&table.values, table.stride(), table.columns(), &self.rows);
    }

    /// Maps the distinct rows of one end.
    fn forward(&mut self, rows: impl Iterator<Item = u32>, table: &PaddedRows, weights: Weights<'_>, map: &Map) {
        self.gather(rows, table);
        self.map.forward(&self.embedded, weights.of(map), Activation::None, &mut self.mapped);
    }

    /// The gradients of the map's weights, and that of the distinct rows.
    fn backward(&mut self, weights: Weights<'_>, map: &Map, of_map: [&mut [f32]; 2]) {
        let into = InputGradient::Replace(&mut self.embedded_gradient);
        self.map.backward(&self.embedded, weights.values(&map.weight), &self.gradient, of_map, into);
    }

    /// Hands the gradient of the distinct rows on to the top table's.
    fn hand_on(&self, table: &mut PaddedRows) {
        for (i, &row) in self.rows.iter().enumerate() {
            add(table.row_mut(row as usize), self.embedded_gradient.row(i));
        }
    }
}

impl DecoderWork {
    /// Logits of pairs of rows of `table`, `[P]`, with a fact of each where the decoder reads them.
    pub fn score(
        &mut self,
        decoder: Decoder<'_>,
        rows: impl Iterator<Item = [u32; 2]> + Clone + Send,
        known: &[PairFact],
        table: &PaddedRows,
        scores: &mut [f32],
    ) {
        if scores.is_empty() {
            return;
        }
        let (Decoder { places, weights }, DecoderWork { src, dst, pairs, facts }) = (decoder, self);
        let of_src = rows.clone().map(|[src, _]| src);
        let of_dst = rows.map(|[_, dst]| dst);
        let worth = scores.len() >= SHARED;
        join_if(
            worth,
            || src.forward(of_src, table, weights, &places.src),
            || dst.forward(of_dst, table, weights, &places.dst),
        );
        if let Some([first, second]) = &places.pair {
            facts.facts.zeros(known.len(), PAIR_COLUMNS);
            known.iter().enumerate().for_each(|(pair, fact)| pair_row(fact, facts.facts.row_mut(pair)));
            let [of_first, of_second] = &mut facts.maps;
            of_first.forward(&facts.facts, weights.of(first), Activation::Relu, &mut facts.rectified);
            of_second.forward(&facts.rectified, weights.of(second), Activation::None, &mut facts.mapped);
        }
        let bias = places.last.bias.as_ref().map_or(0.0, |bias| weights.values(bias)[0]);
        pairs.forward(decoder.inputs(src, dst, facts), bias, scores);
    }

    /// Maps all rows of `table` as sources and as destinations.
    pub fn map_ends(&mut self, Decoder { places, weights }: Decoder<'_>, table: &PaddedRows) {
        self.src.map.forward(table, weights.of(&places.src), Activation::None, &mut self.src.mapped);
        self.dst.map.forward(table, weights.of(&places.dst), Activation::None, &mut self.dst.mapped);
    }

    /// The rows that were mapped last, as sources and as destinations.
    pub fn ends(&self) -> [&PaddedRows; 2] {
        [&self.src.mapped, &self.dst.mapped]
    }

    /// Logits of pairs of rows of `ends`, `[P]`: the first of each was mapped as a source, the second as a destination.
    pub fn score_ends(
        &mut self,
        decoder: Decoder<'_>,
        ends: &PaddedRows,
        rows: impl Iterator<Item = [u32; 2]> + Clone,
        scores: &mut [f32],
    ) {
        let (Decoder { places, weights }, DecoderWork { src, dst, pairs, .. }) = (decoder, self);
        src.place.clear();
        src.place.extend(rows.clone().map(|[src, _]| src));
        dst.place.clear();
        dst.place.extend(rows.map(|[_, dst]| dst));
        let weight = weights.values(&places.last.weight);
        let bias = places.last.bias.as_ref().map_or(0.0, |bias| weights.values(bias)[0]);
        pairs.forward(PairInputs { a: ends, b: ends, i: &src.place, j: &dst.place, c: None, weight }, bias, scores);
    }

    /// Gradients of the decoder's weights, written over, and of the rows of the table, added, from the derivative of the loss in each score.
    pub fn backward(&mut self, decoder: Decoder<'_>, scores: &[f32], gradients: &mut [f32], table: &mut PaddedRows) {
        let (Decoder { places, weights }, DecoderWork { src, dst, pairs, facts }) = (decoder, self);
        if scores.is_empty() {
            let maps = [&places.src, &places.dst, &places.last].into_iter().chain(places.pair.iter().flatten());
            maps.for_each(|map| weight_and_bias(gradients, map).into_iter().for_each(|gradient| gradient.fill(0.0)));
            return;
        }
        let [weight, bias] = weight_and_bias(gradients, &places.last);
        let (mut a, mut b) = (std::mem::take(&mut src.gradient), std::mem::take(&mut dst.gradient));
        pairs.backward(decoder.inputs(src, dst, facts), scores, PairGradients { a: &mut a, b: &mut b, weight, bias });
        (src.gradient, dst.gradient) = (a, b);
        let [of_src, of_dst] = weights_and_biases(gradients, [&places.src, &places.dst]);
        let worth = scores.len() >= SHARED;
        join_if(worth, || src.backward(weights, &places.src, of_src), || dst.backward(weights, &places.dst, of_dst));
        [&*src, dst].into_iter().for_each(|end| end.hand_on(table));
        if let Some([first, second]) = &places.pair {
            let ([of_first, of_second], gradient) = (&mut facts.maps, &mut facts.gradient);
            let parts = weight_and_bias(gradients, second);
            of_second.backward(
                &facts.rectified,
                weights.values(&second.weight),
                pairs.hidden(),
                parts,
                InputGradient::Replace(gradient),
            );
            mask(&mut gradient.values, &facts.rectified.values);
            let parts = weight_and_bias(gradients, first);
            of_first.backward(&facts.facts, weights.values(&first.weight), gradient, parts, InputGradient::Unwanted);
        }
    }
}

impl<'a> Decoder<'a> {
    fn inputs(self, src: &'a EndWork, dst: &'a EndWork, facts: &'a FactWork) -> PairInputs<'a> {
        let c = self.places.pair.is_some().then_some(&facts.mapped);
        PairInputs {
            a: &src.mapped,
            b: &dst.mapped,
            i: &src.place,
            j: &dst.place,
            c,
            weight: self.weights.values(&self.places.last.weight),
        }
    }
}
