//! Models that compute on slices of host memory, without a tensor library.

use crate::{Needs, Parameters, Queries, Update, View};

/// A model whose forward and backward passes are written by hand on slices, with memory that is kept from call to
/// call. It trains and serves on the CPU.
///
/// Both passes give the same bits for any number of threads. Neither allocates once it has seen the largest batch. A
/// model that is also written for a tensor library ([`Model`](crate::Model)) agrees with this one up to rounding.
pub trait SliceModel: Clone + Send + Sync + 'static {
    /// Working memory of one caller: the output, and what the backward pass needs of the forward pass.
    type Work: AsRef<ForwardOutput> + Default + Send;

    /// What the model needs of the past.
    fn needs(&self) -> Needs;

    /// The weights.
    fn parameters(&self) -> &Parameters;

    /// The weights, for writing in place.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Scores the pairs of `queries`. `dropout` is the seed of a training step's dropout; without it nothing is
    /// dropped.
    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>, work: &mut Self::Work);

    /// Computes the update alone: memories with the waiting mail read, and the rows of new mail. No pair is scored.
    /// `queries` are those of [`Model::advance`](crate::Model::advance).
    fn advance(&self, queries: &Queries, view: &View, work: &mut Self::Work);

    /// Computes the gradients of the weights, in their order, and overwrites `gradients`. `outputs` is the derivative
    /// of the loss in each output: each score, `[P]`, or each number of the roots, `[R, K]`. `work` must be as
    /// [`forward`](SliceModel::forward) left it, called with the same queries, view and dropout.
    fn backward(&self, queries: &Queries, view: &View, outputs: &[f32], gradients: &mut [f32], work: &mut Self::Work);
}

/// The output of a forward pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardOutput {
    /// Logits of the pairs, `[P]`. Empty for a model without a link decoder.
    pub scores: Vec<f32>,
    /// Outputs of a head for each root, `[R, K]`. Empty for a model without such a head.
    pub outputs: Vec<f32>,
    /// Embeddings of the rows of the view's top table, `[C, O]`: root `r` is row `view.roots[r]`. Empty with dropout:
    /// a training step does not use them.
    pub embeddings: Vec<f32>,
    /// What observing the batch will write.
    pub update: Update,
}
