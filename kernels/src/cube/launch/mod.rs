//! Kernel launches and their common parts: plans on the device, sums, scans, groups.
pub(crate) mod buffer;
pub(crate) mod gather;
pub(crate) mod grouping;
pub(crate) mod plans;
pub(crate) mod reduce;
pub(crate) mod scan;
pub(crate) mod unique;
pub(crate) mod wide;
