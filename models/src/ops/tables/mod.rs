//! Operations on the rows of tables.
pub(crate) mod centres;
pub(crate) mod dropout;
pub(crate) mod map;
pub(crate) mod norm;
pub(crate) mod rows;
pub(crate) mod time;
