//! Output to the user while a command works, and how it is stopped.
pub(crate) mod interrupt;
pub(crate) mod own_file;
pub(crate) mod print;
pub(crate) mod progress;
pub(crate) mod tables;
