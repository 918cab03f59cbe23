//! Tests the operations on a Vulkan device, such as Mesa's software device, against their slow twins.
mod common;
mod suite;

use tempograph_kernels::tensor::{Wgpu, WgpuTape, vulkan};

type Plain = Wgpu;
type Tape = WgpuTape;

fn absent() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}
