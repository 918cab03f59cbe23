//! Changes of a history besides observing: reads of an earlier moment, retraction, forgetting, and observing several
//! events at once.
pub(crate) mod change_detector;
pub(crate) mod forget;
pub(crate) mod retract;
pub(crate) mod undo;
pub(crate) mod waves;
