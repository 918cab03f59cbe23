//! Models that compute on slices of host memory, without a tensor library.

use crate::{Needs, Parameters, Queries, Update, View};

/// A model whose forward and backward passes are written by hand on slices, with memory that is kept from call to call: what trains and
/// serves on the CPU.
///
/// Both passes give the same bits for any number of threads, and neither asks for memory once the largest batch has been seen. A model
/// that is also written for a tensor library ([`Model`](crate::Model)) agrees with itself to rounding.
pub trait SliceModel: Clone + Send + Sync + 'static {
    /// Working memory of one caller: the answer, and what the backward pass needs of the forward pass.
    type Work: AsRef<ForwardOutput> + Default + Send;

    /// What the model must be told of the past.
    fn needs(&self) -> Needs;

    /// The weights.
    fn parameters(&self) -> &Parameters;

    /// The weights, to be changed in place.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Scores the pairs of `queries`. `dropout` is the seed a training step drops out under; without it nothing is dropped.
    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>, work: &mut Self::Work);

    /// The update alone: memories with the waiting mail read, and what mail will say. `queries` are those the view was read for, as
    /// [`Model::advance`](crate::Model::advance) is told them; no pair of them is scored.
    fn advance(&self, queries: &Queries, view: &View, work: &mut Self::Work);

    /// Gradients of the weights, in their order, written over `gradients`, from the derivative of the loss in each output: each score, `[P]`, or
    /// each number of the roots, `[R, K]`. `work` is as [`forward`](SliceModel::forward) left it, called with the same queries, view and dropout.
    fn backward(&self, queries: &Queries, view: &View, outputs: &[f32], gradients: &mut [f32], work: &mut Self::Work);
}

/// What a forward pass gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardOutput {
    /// Logits of the pairs, `[P]`. Empty of a model that has no link decoder.
    pub scores: Vec<f32>,
    /// What a head gives for each root, `[R, K]`. Empty of a model that has no such head.
    pub outputs: Vec<f32>,
    /// Rows of the view's top table embedded, `[C, O]`: root `r` is row `view.roots[r]`. Left empty where something is dropped out: a
    /// training step has no use for them.
    pub embeddings: Vec<f32>,
    /// What observing the batch will write.
    pub update: Update,
}
