//! What was learned: the contract every model keeps, heuristics included.
pub(crate) mod executor;
pub(crate) mod parameters;
pub(crate) mod resident;
pub(crate) mod slices;
pub(crate) mod weights;

use tempograph_kernels::tensor::{Backend, Tensor};

use crate::history::view::update::Update;
use crate::{Needs, Queries, View};

/// A model answers queries from a view of the past and says what the batch will have changed.
///
/// Both methods are pure: same weights, queries, view and draw give the same answer, and a pair's score does not depend on the
/// other pairs asked with it.
pub trait Model<B: Backend> {
    /// What the model must be told of the past.
    fn needs(&self) -> Needs;

    /// Scores the pairs of `queries`. `dropout` is the seed a training step drops out under; without it nothing is dropped.
    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>) -> Forward<B>;

    /// The update alone: memories with the waiting mail read, and what mail will say. `queries` are those the view was read for, with the
    /// [ends](Queries::ends) of the batch where the model [needs](Needs::ends) them and [nothing](Queries::none) where nothing is asked, so that
    /// nothing is said; no pair of them is scored.
    fn advance(&self, queries: &Queries, view: &View) -> Update;
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward<B: Backend> {
    /// Logits of the asked pairs, `[P]`.
    pub scores: Tensor<B, 1>,
    /// Embeddings of the roots, `[R, O]`, of models that embed.
    pub embeddings: Option<Tensor<B, 2>>,
    /// What observing the batch will write.
    pub update: Update,
}
