//! Learns static memory: a table of vectors and a link decoder, and nothing between them.

use tempograph_framework::{Draw, NodeId, Parameters, Purpose};
use tempograph_kernels::AdamStep;
use tempograph_kernels::cpu::{PaddedRows, Precision, adam_step};

use crate::operation::{Declarations, Gradients, ParameterLayout, Weights};
use crate::ops::pairs::decoder::{
    DecoderGradients, DecoderInputs, DecoderStage, LinkDecoder, PairFeatures, ShownPairs,
};

/// Initial vectors are uniform in ± this bound. It is small compared with learned vectors, so a node that was trained
/// once is nearly unknown.
const BOUND: f32 = 0.05;

/// A vector for each node, `[N, S]`, learned with the link decoder of the model (see the top of
/// `static_memory/mod.rs`).
///
/// ```
/// use tempograph_framework::NodeId;
/// use tempograph_models::StaticMemoryTrainer;
///
/// let mut graph = StaticMemoryTrainer::new(4, 8, 8, 1);
/// let pairs = [[NodeId(0), NodeId(2)], [NodeId(0), NodeId(3)]];
/// let apart = |scores: &[f32]| scores[0] - scores[1];
/// let before = apart(graph.score_pairs(&pairs));
/// for _ in 0..50 {
///     graph.train_step(&pairs, 1e-2, 0.0, |_, score_grads| score_grads.extend([-0.5, 0.5]));
/// }
/// assert!(apart(graph.score_pairs(&pairs)) > before + 0.1);
/// assert_eq!(graph.vectors()[8..16], [0.0; 8], "nobody named node 1");
/// ```
#[derive(Debug)]
pub struct StaticMemoryTrainer {
    width: usize,
    /// `[N, S]`, and its moments.
    vectors: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// `[N]` number of steps that trained each node.
    steps: Vec<u32>,
    decoder: DecoderState,
    work: Work,
}

/// The decoder with its optimiser.
#[derive(Debug)]
struct DecoderState {
    decoder: LinkDecoder,
    parameters: Parameters,
    layout: ParameterLayout,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
}

#[derive(Debug, Default)]
struct Work {
    /// `[U]` distinct nodes of the pairs, ascending.
    nodes: Vec<u32>,
    /// `[N]` index of each node in `nodes`.
    index: Vec<u32>,
    /// `[P]` ends of the pairs, as rows of `embedded`.
    rows: Vec<[u32; 2]>,
    /// `[U, S]`
    embedded: PaddedRows,
    embedded_gradient: PaddedRows,
    decoder: DecoderStage,
    /// Gradients of the decoder's weights.
    gradients: Vec<f32>,
    scores: Vec<f32>,
    score_grads: Vec<f32>,
}

impl StaticMemoryTrainer {
    /// Initial vectors of `width` for `nodes`, and an initial decoder whose inner width is `decoder`, drawn from
    /// `seed`.
    pub fn new(nodes: usize, width: usize, decoder: usize, seed: u64) -> StaticMemoryTrainer {
        let draw = Draw::new(seed).of(Purpose::Init);
        let row = |node: usize| {
            let mut chance = draw.at(u32::MAX, node as u64);
            (0..width).map(move |_| (2.0 * chance.uniform() - 1.0) * BOUND)
        };
        StaticMemoryTrainer {
            width,
            vectors: (0..nodes).flat_map(row).collect(),
            first: vec![0.0; nodes * width],
            second: vec![0.0; nodes * width],
            steps: vec![0; nodes],
            decoder: DecoderState::new(width, decoder, seed),
            work: Work { index: vec![0; nodes], ..Work::default() },
        }
    }

    /// Whether the node was trained.
    pub fn is_trained(&self, node: NodeId) -> bool {
        self.steps[node.index()] > 0
    }

    /// Logits of pairs of nodes, `[P]`. An untrained node has a vector of zeros.
    ///
    /// # Panics
    /// If a pair names a node that has no row.
    pub fn score_pairs(&mut self, pairs: &[[NodeId; 2]]) -> &[f32] {
        self.gather(pairs);
        let Work { nodes, embedded, .. } = &mut self.work;
        for (row, &node) in nodes.iter().enumerate() {
            if self.steps[node as usize] == 0 {
                embedded.row_mut(row).fill(0.0);
            }
        }
        self.score();
        &self.work.scores
    }

    /// Makes one step of Adam. `loss` reads the logits of the pairs, `[P]`, and appends its derivative with respect to
    /// each. Returns the result of `loss`.
    ///
    /// # Panics
    /// If a pair names a node that has no row, or if `loss` appends a wrong number of derivatives.
    pub fn train_step<L>(
        &mut self,
        pairs: &[[NodeId; 2]],
        lr: f64,
        weight_decay: f64,
        loss: impl FnOnce(&[f32], &mut Vec<f32>) -> L,
    ) -> L {
        self.gather(pairs);
        self.score();
        let Work { nodes, embedded, embedded_gradient, decoder, gradients, scores, score_grads, .. } = &mut self.work;
        score_grads.clear();
        let loss = loss(scores, score_grads);
        embedded_gradient.zeros(embedded.rows(), embedded.columns());
        gradients.resize(self.decoder.parameters.values().len(), 0.0);
        let part = &self.decoder;
        let mut of_decoder = Gradients { values: gradients, layout: &part.layout };
        let read = DecoderInputs { embeddings: embedded, shown: ShownPairs::default(), pairs: None };
        let into = DecoderGradients { embeddings: embedded_gradient, pairs: None };
        decoder.backward(&part.decoder, part.weights(), read, score_grads, &mut of_decoder, into);
        let adam = |step| AdamStep {
            lr: lr as f32,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: weight_decay as f32,
            step,
        };
        self.decoder.step(gradients, adam);
        for (row, &node) in nodes.iter().enumerate() {
            let numbers = node as usize * self.width..(node as usize + 1) * self.width;
            let steps = &mut self.steps[node as usize];
            *steps += 1;
            let moments = (&mut self.first[numbers.clone()], &mut self.second[numbers.clone()]);
            adam_step(
                &mut self.vectors[numbers],
                embedded_gradient.row(row),
                moments.0,
                moments.1,
                &adam(u64::from(*steps)),
            );
        }
        loss
    }

    /// The vectors, `[N, S]`, divided by the root of their mean square; zeros for untrained nodes.
    pub fn vectors(&self) -> Vec<f32> {
        let rows = || self.vectors.chunks_exact(self.width).zip(&self.steps);
        let known = rows().filter(|(_, steps)| **steps > 0).count();
        let squares: f64 =
            rows().filter(|(_, steps)| **steps > 0).flat_map(|(row, _)| row).map(|x| f64::from(x * x)).sum();
        let size = (squares / (known * self.width).max(1) as f64).sqrt();
        let scale = if size > 0.0 { (1.0 / size) as f32 } else { 1.0 };
        rows().flat_map(|(row, &steps)| row.iter().map(move |x| if steps > 0 { x * scale } else { 0.0 })).collect()
    }

    /// Copies the vectors of the distinct nodes of `pairs`.
    fn gather(&mut self, pairs: &[[NodeId; 2]]) {
        let Work { nodes, index, rows, embedded, .. } = &mut self.work;
        nodes.clear();
        nodes.extend(pairs.iter().flatten().map(|node| node.0));
        nodes.sort_unstable();
        nodes.dedup();
        nodes.iter().enumerate().for_each(|(row, &node)| index[node as usize] = row as u32);
        rows.clear();
        rows.extend(pairs.iter().map(|ends| ends.map(|node| index[node.index()])));
        embedded.gather(&self.vectors, self.width, self.width, nodes);
    }

    fn score(&mut self) {
        let Work { rows, embedded, decoder, scores, .. } = &mut self.work;
        scores.resize(rows.len(), 0.0);
        let read = DecoderInputs { embeddings: embedded, shown: ShownPairs::default(), pairs: None };
        decoder.score(&self.decoder.decoder, self.decoder.weights(), rows.iter().copied(), read, scores);
    }
}

impl DecoderState {
    fn new(input: usize, width: usize, seed: u64) -> DecoderState {
        let mut declarations = Declarations::default();
        let decoder = LinkDecoder::declare(&mut declarations, "", [input, width], PairFeatures::default());
        let (parameters, layout) = (declarations.initial_parameters(seed), declarations.layout());
        let size = parameters.values().len();
        DecoderState { decoder, layout, first: vec![0.0; size], second: vec![0.0; size], steps: 0, parameters }
    }

    fn weights(&self) -> Weights<'_> {
        Weights { parameters: &self.parameters, layout: &self.layout, precision: Precision::F32 }
    }

    fn step(&mut self, gradients: &[f32], adam: impl Fn(u64) -> AdamStep) {
        self.steps += 1;
        adam_step(self.parameters.values_mut(), gradients, &mut self.first, &mut self.second, &adam(self.steps));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sum of ln(1 + exp(-y))` of the first half of the pairs and `ln(1 + exp(y))` of the second. Appends its
    /// derivatives to `score_grads`.
    fn loss(scores: &[f32], score_grads: &mut Vec<f32>) -> f32 {
        let sign = |pair: usize| if pair < scores.len() / 2 { -1.0f32 } else { 1.0 };
        score_grads.extend(scores.iter().enumerate().map(|(pair, y)| sign(pair) / (1.0 + (-sign(pair) * y).exp())));
        scores.iter().enumerate().map(|(pair, y)| (sign(pair) * y).exp().ln_1p()).sum()
    }

    #[test]
    fn it_learns_who_meets_whom_and_says_nothing_of_whom_it_never_met() {
        // Nodes 0 to 3 meet those nodes of 4 to 7 that have the same parity; node 8 meets no node.
        let ends = |same: u32| {
            (0..4).flat_map(move |u| (4..8).filter(move |v| (u + v) % 2 == same).map(move |v| [NodeId(u), NodeId(v)]))
        };
        let pairs: Vec<_> = ends(0).chain(ends(1)).collect();
        let mut graph = StaticMemoryTrainer::new(9, 6, 8, 3);
        let losses: Vec<f32> = (0..300).map(|_| graph.train_step(&pairs, 1e-2, 0.0, loss)).collect();
        assert!(losses[299] < 0.1 * losses[0], "{} after {}", losses[299], losses[0]);
        let scores = graph.score_pairs(&pairs).to_vec();
        assert!(scores[..8].iter().all(|y| *y > 1.0) && scores[8..].iter().all(|y| *y < -1.0), "{scores:?}");
        let vectors = graph.vectors();
        assert_eq!(vectors[8 * 6..], [0.0; 6]);
        let size = vectors.iter().map(|x| x * x).sum::<f32>() / 48.0;
        assert!((size - 1.0).abs() < 1e-4, "components of known nodes have the mean square {size}");
    }

    #[test]
    fn a_step_moves_nobody_it_does_not_name() {
        let mut graph = StaticMemoryTrainer::new(5, 4, 4, 3);
        let before = graph.vectors.clone();
        graph.train_step(&[[NodeId(1), NodeId(3)], [NodeId(1), NodeId(4)]], 1e-2, 0.1, loss);
        for node in 0..5 {
            let row = 4 * node..4 * node + 4;
            assert_eq!(graph.vectors[row.clone()] == before[row], [0, 2].contains(&node), "node {node}");
        }
    }
}
