//! Tests the operations on an NVIDIA GPU, if there is one, against their slow twins.
mod common;
mod suite;

use std::sync::OnceLock;
use tempograph_kernels::gpus;
use tempograph_kernels::tensor::{Cuda, CudaTape};

type Plain = Cuda;
type Tape = CudaTape;

fn absent() -> bool {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    let why = WHY.get_or_init(|| match gpus() {
        Ok(names) if names.is_empty() => Some("the CUDA driver shows no GPU".into()),
        Ok(_) => None,
        Err(why) => Some(why),
    });
    why.iter().for_each(|why| println!("skipped: {why}"));
    why.is_some()
}
