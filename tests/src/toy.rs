//! A model small enough to check by hand, written twice: on slices with its own gradients, and on tensors.
//!
//! ```text
//! h_u     = tanh(cell_0 s_u + cell_1)                                                       what observing writes
//! p(u, v) = link_0 h_u h_v + link_1 keep ln(1 + count(u, v)) + link_2 + mean of rows[v]     keep: 0 or 2 in training, else 1
//! ```

use burn::module::{Module, Param};
use burn::tensor::Int;
use tempograph_framework::{
    Forward, ForwardOutput, Model, Needs, Parameters, Queries, SliceModel, Store, Update, View, values, with_weights,
};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};

/// Nodes share this many rows.
const ROWS: usize = 8;

/// The model on slices.
#[derive(Clone, Debug)]
pub struct Toy {
    parameters: Parameters,
}

/// What a pass over a [`Toy`] works in.
#[derive(Debug, Default)]
pub struct ToyWork {
    answer: ForwardOutput,
    /// The fact about each pair, dropped out, `[P]`.
    facts: Vec<f32>,
    /// Derivative of the loss in each `h`, `[U]`.
    slopes: Vec<f32>,
}

impl AsRef<ForwardOutput> for ToyWork {
    fn as_ref(&self) -> &ForwardOutput {
        &self.answer
    }
}

fn needs() -> Needs {
    Needs { memory: 1, pairs: true, ..Needs::nothing() }
}

fn fresh(width: usize) -> Store {
    let mut store = Store::default();
    store.put("cell", [2], vec![0.8, 0.3]);
    store.put("link", [3], vec![0.5, -0.2, 0.1]);
    store.put("rows", [ROWS, width], (0..ROWS * width).map(|i| (i as f32).sin()).collect());
    store
}

/// Nodes of the ends of each pair, as rows of the view.
fn ends<'a>(queries: &'a Queries, view: &'a View) -> impl Iterator<Item = [usize; 2]> + 'a {
    queries.pairs().iter().map(|pair| [pair.src, pair.dst].map(|root| view.roots[root as usize] as usize))
}

fn row_of(view: &View, node: usize) -> usize {
    view.nodes[node].index() % ROWS
}

fn facts(view: &View, dropout: Option<u64>) -> impl Iterator<Item = f32> {
    let keep = move |pair: usize| match dropout {
        Some(seed) => (2 * ((seed ^ pair as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63)) as f32,
        None => 1.0,
    };
    view.pairs.iter().enumerate().map(move |(pair, fact)| keep(pair) * (fact.count as f32).ln_1p())
}

impl Toy {
    /// A model whose rows are `width` wide, the same each time.
    pub fn new(width: usize) -> Toy {
        Toy { parameters: Parameters::from_store(fresh(width)).unwrap() }
    }

    fn part(&self, name: &str) -> std::ops::Range<usize> {
        self.parameters.find(name).unwrap().range.clone()
    }

    fn weights(&self, name: &str) -> &[f32] {
        &self.parameters.values()[self.part(name)]
    }
}

impl SliceModel for Toy {
    type Work = ToyWork;

    fn needs(&self) -> Needs {
        needs()
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>, work: &mut ToyWork) {
        self.advance(queries, view, work);
        let (link, rows) = (self.weights("link"), self.weights("rows"));
        let width = rows.len() / ROWS;
        let ToyWork { answer: ForwardOutput { scores, update, .. }, facts: kept, .. } = work;
        kept.clear();
        kept.extend(facts(view, dropout));
        scores.clear();
        scores.extend(ends(queries, view).zip(&*kept).map(|([src, dst], fact)| {
            let row = &rows[row_of(view, dst) * width..][..width];
            let mean = row.iter().sum::<f32>() / width as f32;
            link[0] * update.memory[src] * update.memory[dst] + link[1] * fact + link[2] + mean
        }));
    }

    fn advance(&self, _: &Queries, view: &View, work: &mut ToyWork) {
        let (cell, update) = (self.weights("cell"), &mut work.answer.update);
        update.nodes.clone_from(&view.nodes);
        update.memory.clear();
        update.memory.extend(view.mail.memory().iter().map(|s| (cell[0] * s + cell[1]).tanh()));
    }

    fn backward(&self, queries: &Queries, view: &View, scores: &[f32], gradients: &mut [f32], work: &mut ToyWork) {
        gradients.fill(0.0);
        let (link, rows) = (self.part("link"), self.part("rows"));
        let width = rows.len() / ROWS;
        let (h, slopes) = (&work.answer.update.memory, &mut work.slopes);
        slopes.clear();
        slopes.resize(h.len(), 0.0);
        for (([src, dst], fact), slope) in ends(queries, view).zip(&work.facts).zip(scores) {
            for (gradient, by) in gradients[link.clone()].iter_mut().zip([h[src] * h[dst], *fact, 1.0]) {
                *gradient += slope * by;
            }
            let row = &mut gradients[rows.clone()][row_of(view, dst) * width..][..width];
            row.iter_mut().for_each(|gradient| *gradient += slope / width as f32);
            let weight = self.weights("link")[0];
            slopes[src] += slope * weight * h[dst];
            slopes[dst] += slope * weight * h[src];
        }
        let cell = &mut gradients[self.part("cell")];
        for ((slope, h), s) in slopes.iter().zip(h).zip(view.mail.memory()) {
            let inner = slope * (1.0 - h * h);
            cell[0] += inner * s;
            cell[1] += inner;
        }
    }
}

/// The model on tensors.
#[derive(Module, Debug)]
pub struct ToyModule<B: Backend> {
    cell: Param<Tensor<B, 1>>,
    link: Param<Tensor<B, 1>>,
    rows: Param<Tensor<B, 2>>,
}

impl<B: Backend> ToyModule<B> {
    /// With the weights of [`Toy::new`].
    pub fn new(width: usize, device: &B::Device) -> ToyModule<B> {
        let module = ToyModule {
            cell: Param::from_tensor(Tensor::zeros([2], device)),
            link: Param::from_tensor(Tensor::zeros([3], device)),
            rows: Param::from_tensor(Tensor::zeros([ROWS, width], device)),
        };
        with_weights::<B, _>(module, fresh(width)).unwrap()
    }

    fn cell(&self, view: &View) -> Tensor<B, 1> {
        let (cell, memory) = (self.cell.val(), view.mail.memory().to_vec());
        let memory = Tensor::from_data(TensorData::new(memory, [view.nodes.len()]), &cell.device());
        (memory * cell.clone().slice(0..1) + cell.slice(1..2)).tanh()
    }
}

impl<B: Backend> Model<B> for ToyModule<B> {
    fn needs(&self) -> Needs {
        needs()
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>) -> Forward<B> {
        let (h, link) = (self.cell(view), self.link.val());
        let (device, pairs) = (link.device(), queries.pairs().len());
        let places = |of: &dyn Fn([usize; 2]) -> usize| {
            let places: Vec<i64> = ends(queries, view).map(|ends| of(ends) as i64).collect();
            Tensor::<B, 1, Int>::from_data(TensorData::new(places, [pairs]), &device)
        };
        let facts = Tensor::from_data(TensorData::new(facts(view, dropout).collect::<Vec<f32>>(), [pairs]), &device);
        let together = h.clone().select(0, places(&|[src, _]| src)) * h.clone().select(0, places(&|[_, dst]| dst));
        let means = self.rows.val().select(0, places(&|[_, dst]| row_of(view, dst))).mean_dim(1).reshape([pairs]);
        let weight = |i: usize| link.clone().slice(i..i + 1);
        let scores = together * weight(0) + facts * weight(1) + weight(2) + means;
        Forward { scores, outputs: None, embeddings: None, update: update(view, h) }
    }

    fn advance(&self, _: &Queries, view: &View) -> Update {
        update(view, self.cell(view))
    }
}

fn update<B: Backend>(view: &View, memory: Tensor<B, 1>) -> Update {
    Update { nodes: view.nodes.clone(), memory: values(memory), mail: Vec::new() }
}
