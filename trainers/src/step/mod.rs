//! One step: queries, view, forward and backward pass, optimiser step, observe.
pub(crate) mod adam;
pub(crate) mod audit;
pub(crate) mod evaluate;
pub(crate) mod learner;
pub(crate) mod record;
pub(crate) mod walk;
