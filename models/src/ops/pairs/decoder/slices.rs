//! The link decoder on slices.

use std::ops::Range;

use tempograph_framework::{Pair, PairFact, Queries, View, WalkRule};
use tempograph_kernels::cpu::{
    Activation, InputGradient, Linear, PaddedRows, PairGradients, PairInputs, PairScores, add, join_if, relu_backward,
};

use crate::operation::{Gradients, MIN_PARALLEL_ROWS, Map, Weights};
use crate::ops::pairs::decoder::facts::pair_row;
use crate::ops::pairs::decoder::walks::walk_row;
use crate::ops::pairs::decoder::{LinkDecoder, PairFeatures};
use crate::ops::tables::rows::take_columns;

/// A decoder on slices: its working memory.
#[derive(Debug, Default)]
pub struct DecoderStage {
    src: EndWork,
    dst: EndWork,
    pairs: PairScores,
    facts: FactWork,
    rows: RowWork,
}

/// The inputs of pair scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderInputs<'a> {
    /// The table of the ends, `[C, O]`.
    pub embeddings: &'a PaddedRows,
    /// Facts and walks of the pairs in a view, if the decoder reads them.
    pub shown: ShownPairs<'a>,
    /// Rows of pairs, `[P, W]`, if the decoder reads them.
    pub pairs: Option<&'a PaddedRows>,
}

/// The buffers for the gradients of [`DecoderInputs`].
#[derive(Debug)]
pub(crate) struct DecoderGradients<'a> {
    /// The gradient of the ends is added here.
    pub embeddings: &'a mut PaddedRows,
    /// The gradient of rows of pairs is written here.
    pub pairs: Option<&'a mut PaddedRows>,
}

/// One end of the pairs: its distinct rows of the top table, mapped.
#[derive(Debug, Default)]
struct EndWork {
    map: Linear,
    /// Distinct rows of the top table, in order of first appearance.
    rows: Vec<u32>,
    /// `[P]` index of each pair's row in `rows`.
    index: Vec<u32>,
    /// `[C]` index of each row of the top table in `rows`, if it is there.
    index_of: Vec<u32>,
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

/// Rows of pairs, mapped.
#[derive(Debug, Default)]
struct RowWork {
    map: Linear,
    /// `[P, O]`, including the mapped facts about the pairs.
    mapped: PaddedRows,
}

/// The features in a view of the scored pairs, besides the embeddings of their ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShownPairs<'a> {
    facts: &'a [PairFact],
    /// Facts by root.
    pairs: &'a [Pair],
    /// `[R, numbers]`.
    walks: &'a [f32],
    numbers: usize,
}

impl<'a> ShownPairs<'a> {
    /// The features of the pairs of `queries` in `view`, which was read for them.
    pub fn of(queries: &'a Queries, view: &'a View) -> ShownPairs<'a> {
        let numbers = view.walks.len().checked_div(queries.len()).unwrap_or(0);
        ShownPairs { facts: &view.pairs, pairs: queries.pairs(), walks: &view.walks, numbers }
    }

    /// Rows of walks of a root.
    fn walks_of(&self, root: u32) -> &'a [f32] {
        &self.walks[root as usize * self.numbers..][..self.numbers]
    }
}

impl FactWork {
    /// Writes the features of `pairs` pairs as numbers.
    fn load(&mut self, pair_features: PairFeatures, shown: ShownPairs<'_>, pairs: usize) {
        let first = pair_features.fact_columns();
        self.facts.zeros(pairs, pair_features.columns());
        if pair_features.pairs {
            let facts = shown.facts.iter().enumerate();
            facts.for_each(|(pair, fact)| pair_row(fact, &mut self.facts.row_mut(pair)[..first]));
        }
        let Some(WalkRule { width, .. }) = pair_features.walks else { return };
        self.facts.for_each_row(pairs >= MIN_PARALLEL_ROWS, |pair, row| {
            let Pair { src, dst } = shown.pairs[pair];
            walk_row(shown.walks_of(src), shown.walks_of(dst), width, &mut row[first..]);
        });
    }
}

/// No index yet.
const UNASSIGNED: u32 = u32::MAX;

impl EndWork {
    /// Finds the distinct rows of one end and gathers these columns of them. A repeated row is mapped once.
    fn gather(&mut self, rows: impl Iterator<Item = u32>, table: &PaddedRows, columns: Range<usize>) {
        self.index_of.clear();
        self.index_of.resize(table.rows(), UNASSIGNED);
        self.rows.clear();
        self.index.clear();
        for row in rows {
            let index = &mut self.index_of[row as usize];
            if *index == UNASSIGNED {
                *index = self.rows.len() as u32;
                self.rows.push(row);
            }
            self.index.push(*index);
        }
        let from = columns.start.min(table.values.len());
        self.embedded.gather(&table.values[from..], table.stride(), columns.len(), &self.rows);
    }

    /// Maps the distinct rows of one end.
    fn forward(
        &mut self,
        rows: impl Iterator<Item = u32>,
        (table, columns): (&PaddedRows, Range<usize>),
        weights: Weights<'_>,
        map: &Map,
    ) {
        self.gather(rows, table, columns);
        self.map.forward(&self.embedded, weights.linear(map), Activation::None, &mut self.mapped);
    }

    /// The gradients of the map's weights, and that of the distinct rows.
    fn backward(&mut self, weights: Weights<'_>, map: &Map, of_map: [&mut [f32]; 2]) {
        let into = InputGradient::Replace(&mut self.embedded_gradient);
        self.map.backward(&self.embedded, weights.values(map.weight), &self.gradient, of_map, into);
    }

    /// Uses one row of zeros as the end of each pair: the decoder reads no embeddings.
    fn fill_zeros(&mut self, pairs: usize, width: usize) {
        self.index.clear();
        self.index.resize(pairs, 0);
        self.mapped.zeros(1, width);
    }

    /// Adds the gradient of the distinct rows to that of the top table.
    fn scatter_gradient(&self, table: &mut PaddedRows, columns: Range<usize>) {
        for (i, &row) in self.rows.iter().enumerate() {
            add(&mut table.row_mut(row as usize)[columns.clone()], self.embedded_gradient.row(i));
        }
    }
}

impl DecoderStage {
    /// Logits of pairs, `[P]`: `rows` are those of their ends.
    pub fn score(
        &mut self,
        decoder: &LinkDecoder,
        weights: Weights<'_>,
        rows: impl Iterator<Item = [u32; 2]> + Clone + Send,
        read: DecoderInputs<'_>,
        scores: &mut [f32],
    ) {
        if scores.is_empty() {
            return;
        }
        let DecoderStage { src, dst, pairs, facts, rows: of_pairs } = self;
        let DecoderInputs { embeddings: table, shown, pairs: pair_rows } = read;
        match &decoder.ends {
            Some([as_src, as_dst]) => {
                let of_src = rows.clone().map(|[src, _]| src);
                let of_dst = rows.map(|[_, dst]| dst);
                let (worth, [src_columns, dst_columns]) = (scores.len() >= MIN_PARALLEL_ROWS, decoder.columns());
                join_if(
                    worth,
                    || src.forward(of_src, (table, src_columns), weights, as_src),
                    || dst.forward(of_dst, (table, dst_columns), weights, as_dst),
                );
            }
            None => [&mut *src, &mut *dst].into_iter().for_each(|end| end.fill_zeros(scores.len(), decoder.width())),
        }
        if let Some([first, second]) = &decoder.facts {
            facts.load(decoder.pair_features, shown, scores.len());
            let [of_first, of_second] = &mut facts.maps;
            of_first.forward(&facts.facts, weights.linear(first), Activation::Relu, &mut facts.rectified);
            of_second.forward(&facts.rectified, weights.linear(second), Activation::None, &mut facts.mapped);
        }
        if let (Some((_, map)), Some(read)) = (&decoder.pairs, pair_rows) {
            of_pairs.map.forward(read, weights.linear(map), Activation::None, &mut of_pairs.mapped);
            if decoder.facts.is_some() {
                add(&mut of_pairs.mapped.values, &facts.mapped.values);
            }
        }
        let bias = decoder.last.bias.map_or(0.0, |bias| weights.values(bias)[0]);
        pairs.forward(inputs(decoder, weights, [src, dst], facts, of_pairs), bias, scores);
    }

    /// Maps all rows of `table` as sources and as destinations.
    pub fn map_ends(&mut self, decoder: &LinkDecoder, weights: Weights<'_>, table: &PaddedRows) {
        let Some([as_src, as_dst]) = &decoder.ends else { return };
        let ends = [(&mut self.src, as_src), (&mut self.dst, as_dst)];
        for ((end, map), columns) in ends.into_iter().zip(decoder.columns()) {
            let rows = match columns.len() == table.columns() {
                true => table,
                false => {
                    take_columns(&mut end.embedded, table, columns);
                    &end.embedded
                }
            };
            end.map.forward(rows, weights.linear(map), Activation::None, &mut end.mapped);
        }
    }

    /// The rows of the last [`map_ends`](Self::map_ends), as sources and as destinations.
    pub fn ends(&self) -> [&PaddedRows; 2] {
        [&self.src.mapped, &self.dst.mapped]
    }

    /// Logits of pairs of rows of `ends`, `[P]`: the first was mapped as a source, the second as a destination.
    pub fn score_ends(
        &mut self,
        decoder: &LinkDecoder,
        weights: Weights<'_>,
        ends: &PaddedRows,
        rows: impl Iterator<Item = [u32; 2]> + Clone,
        scores: &mut [f32],
    ) {
        let DecoderStage { src, dst, pairs, .. } = self;
        src.index.clear();
        src.index.extend(rows.clone().map(|[src, _]| src));
        dst.index.clear();
        dst.index.extend(rows.map(|[_, dst]| dst));
        let weight = weights.values(decoder.last.weight);
        let bias = decoder.last.bias.map_or(0.0, |bias| weights.values(bias)[0]);
        pairs.forward(PairInputs { a: ends, b: ends, i: &src.index, j: &dst.index, c: None, weight }, bias, scores);
    }

    /// Writes the gradients of the decoder's weights and of its inputs, given the derivative of the loss with respect
    /// to each score. `read` are the inputs of [`score`](Self::score).
    pub fn backward(
        &mut self,
        decoder: &LinkDecoder,
        weights: Weights<'_>,
        read: DecoderInputs<'_>,
        scores: &[f32],
        gradients: &mut Gradients<'_>,
        into: DecoderGradients<'_>,
    ) {
        let DecoderStage { src, dst, pairs, facts, rows: of_pairs } = self;
        if scores.is_empty() {
            if let (Some(gradient), Some(rows)) = (into.pairs, read.pairs) {
                gradient.zeros(rows.rows(), rows.columns());
            }
            return decoder.maps().for_each(|map| gradients.zero(map.params()));
        }
        let [weight, bias] = gradients.map(&decoder.last);
        let (mut a, mut b) = (std::mem::take(&mut src.gradient), std::mem::take(&mut dst.gradient));
        let scored = inputs(decoder, weights, [src, dst], facts, of_pairs);
        pairs.backward(scored, scores, PairGradients { a: &mut a, b: &mut b, weight, bias });
        (src.gradient, dst.gradient) = (a, b);
        if let Some([as_src, as_dst]) = &decoder.ends {
            let [of_src, of_dst] = gradients.maps([as_src, as_dst]);
            let worth = scores.len() >= MIN_PARALLEL_ROWS;
            join_if(worth, || src.backward(weights, as_src, of_src), || dst.backward(weights, as_dst, of_dst));
            let ends = [&*src, dst].into_iter().zip(decoder.columns());
            ends.for_each(|(end, columns)| end.scatter_gradient(into.embeddings, columns));
        }
        if let (Some((_, map)), Some(rows), Some(gradient)) = (&decoder.pairs, read.pairs, into.pairs) {
            let (parts, replace) = (gradients.map(map), InputGradient::Replace(gradient));
            of_pairs.map.backward(rows, weights.values(map.weight), pairs.hidden(), parts, replace);
        }
        if let Some([first, second]) = &decoder.facts {
            let ([of_first, of_second], gradient) = (&mut facts.maps, &mut facts.gradient);
            let parts = gradients.map(second);
            of_second.backward(
                &facts.rectified,
                weights.values(second.weight),
                pairs.hidden(),
                parts,
                InputGradient::Replace(gradient),
            );
            relu_backward(&mut gradient.values, &facts.rectified.values);
            let parts = gradients.map(first);
            of_first.backward(&facts.facts, weights.values(first.weight), gradient, parts, InputGradient::Unwanted);
        }
    }
}

/// The inputs of the last map.
fn inputs<'a>(
    decoder: &LinkDecoder,
    weights: Weights<'a>,
    [src, dst]: [&'a EndWork; 2],
    facts: &'a FactWork,
    rows: &'a RowWork,
) -> PairInputs<'a> {
    // rows of pairs already contain the mapped facts
    let of_facts = decoder.facts.map(|_| &facts.mapped);
    PairInputs {
        a: &src.mapped,
        b: &dst.mapped,
        i: &src.index,
        j: &dst.index,
        c: decoder.pairs.map(|_| &rows.mapped).or(of_facts),
        weight: weights.values(decoder.last.weight),
    }
}
