//! Arrays and matrices on the device, weights and their optimiser among them.
pub(crate) mod adam;
pub(crate) mod dropout;
pub(crate) mod layout;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod matrix;
pub(crate) mod products;
pub(crate) mod weights;
