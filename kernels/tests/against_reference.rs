//! The operations on the CPU against their slow twins.
mod common;
mod suite;

use tempograph_kernels::tensor::{Cpu, CpuTape};

type Plain = Cpu;
type Tape = CpuTape;

fn absent() -> bool {
    false
}
