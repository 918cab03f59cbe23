//! The `tempograph` binary: the command line with the kinds of models that Tempograph has.

use std::process::ExitCode;

use tempograph_experiments::Registry;
use tempograph_experiments::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    tempograph_experiments::run(Registry::default())
}
