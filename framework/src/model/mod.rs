//! The contract of every model, baselines included.
pub(crate) mod executor;
pub(crate) mod parameters;
pub(crate) mod resident;
pub(crate) mod slices;
pub(crate) mod weights;

use tempograph_kernels::tensor::{Backend, Tensor};

use crate::history::view::update::Update;
use crate::{Needs, Queries, View};

/// A model scores queries from a view of the past and computes the update that the batch causes.
///
/// Both methods are pure: same weights, queries, view and draw give the same answer, and a pair's score does not
/// depend on the other pairs of the queries.
pub trait Model<B: Backend> {
    /// What the model needs of the past.
    fn needs(&self) -> Needs;

    /// Scores the pairs of `queries`. `dropout` is the seed of a training step's dropout; without it nothing is
    /// dropped.
    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>) -> Forward<B>;

    /// Computes the update alone: memories with the waiting mail read, and the rows of new mail. No pair is scored.
    /// `queries` are those the view was read for: with the [ends](Queries::ends) of the batch where the model
    /// [needs](Needs::ends) them, and [none](Queries::none) where nothing is queried, so that the update has no mail
    /// rows.
    fn advance(&self, queries: &Queries, view: &View) -> Update;
}

/// The output of a forward pass.
#[derive(Debug)]
pub struct Forward<B: Backend> {
    /// Logits of the pairs, `[P]`. Empty for a model without a link decoder.
    pub scores: Tensor<B, 1>,
    /// Outputs of a head for each root, `[R, K]`, for a model with such a head.
    pub outputs: Option<Tensor<B, 2>>,
    /// Embeddings of the roots, `[R, O]`, of models that embed.
    pub embeddings: Option<Tensor<B, 2>>,
    /// What observing the batch will write.
    pub update: Update,
}
