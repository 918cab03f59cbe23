//! A history in the memory of a device.
#[cfg(feature = "cube")]
pub(crate) mod device_or_host;
#[cfg(feature = "cube")]
pub(crate) mod resident;
#[cfg(feature = "cube")]
pub(crate) mod view_upload;
