//! The operations on a Vulkan device, Mesa's software device for one, against their slow twins.
mod common;
mod suite;

use std::panic::catch_unwind;
use std::sync::OnceLock;
use tempograph_kernels::tensor::{Tensor, Wgpu, WgpuTape};

type Plain = Wgpu;
type Tape = WgpuTape;

fn absent() -> bool {
    static ABSENT: OnceLock<bool> = OnceLock::new();
    // the first use of a device panics where there is none
    let absent = *ABSENT.get_or_init(|| catch_unwind(|| Tensor::<Wgpu, 1>::zeros([1], &Default::default()).into_data()).is_err());
    if absent {
        println!("skipped: there is no Vulkan device");
    }
    absent
}
