//! One step: a batch is asked about, viewed, answered, learned from and observed.
pub(crate) mod adam;
pub(crate) mod evaluate;
pub(crate) mod learner;
pub(crate) mod record;
pub(crate) mod walk;
