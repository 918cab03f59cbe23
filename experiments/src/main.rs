//! The `tempograph` binary: the command line with the kinds of models that Tempograph has.

use std::process::ExitCode;

use tempograph_experiments::Registry;
use tempograph_experiments::allocations::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    tempograph_experiments::run(Registry::default())
}
