//! What was learned: the contract every model keeps, heuristics included.

use tempograph_kernels::tensor::{Backend, Tensor};

use crate::{Needs, NodeId, Queries, View};

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
    /// Logits of the pairs, `[P]`. Empty of a model that has no link decoder.
    pub scores: Tensor<B, 1>,
    /// What a head gives for each root, `[R, K]`, of a model that has such a head.
    pub outputs: Option<Tensor<B, 2>>,
    /// Embeddings of the roots, `[R, O]`, of models that embed.
    pub embeddings: Option<Tensor<B, 2>>,
    /// What observing the batch will write.
    pub update: Update,
}

/// New memories, to be written by [`History::observe`](crate::History::observe) for the nodes a batch touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Nodes the rows belong to, ascending.
    pub nodes: Vec<NodeId>,
    /// `[nodes, D]`.
    pub memory: Vec<f32>,
    /// What mail of the batch says, `[2 B, width]`, where a model [gives](crate::Says::Given) it: row `2 e` is what the source of event `e`
    /// says, row `2 e + 1` what its destination says. Each goes to the other end. Empty where mail says memory.
    pub mail: Vec<f32>,
}

impl Update {
    /// Nothing changes but the neighbourhood: for models without memory.
    pub fn none() -> Update {
        Update::default()
    }
}
