//! A history in the memory of a device.
#[cfg(feature = "cube")]
pub(crate) mod placed;
#[cfg(feature = "cube")]
pub(crate) mod resident;
#[cfg(feature = "cube")]
pub(crate) mod sent;
