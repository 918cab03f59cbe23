//! Operations that make embeddings.
pub(crate) mod attention;
pub(crate) mod mixer;
pub(crate) mod projection;
pub(crate) mod sum;
pub(crate) mod window;
