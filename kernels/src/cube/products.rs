//! Matrix products: the tensor library's, at the precision asked for.
use super::span::count_launch;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;
use std::sync::atomic::{AtomicBool, Ordering};

static TF32: AtomicBool = AtomicBool::new(false);

/// Whether matrix products of this crate's operations may round their inputs to TF32 (10 bits after the binary point) where a GPU then has
/// faster units for them; sums stay in f32. Off unless asked for; for the whole program.
pub fn allow_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

/// The library left to choose would take TF32 wherever it is to be had.
fn strategy() -> Strategy {
    if TF32.load(Ordering::Relaxed) { Strategy::Auto } else { Strategy::SimpleUnit(Default::default()) }
}

/// `left [.., n, m]` times `right [.., m, k]`, written to `out` `[.., n, k]`. No size is 0.
pub(super) fn product<R: CubeRuntime>(left: CubeTensor<R>, right: CubeTensor<R>, out: CubeTensor<R>) {
    count_launch();
    let float = DType::F32.into();
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: float, rhs: float, out: float });
    let client = out.client.clone();
    let [left, right] = [left, right].map(|matrix| InputBinding::new(matrix.binding(), float));
    launch_ref(&strategy(), &client, left, right, out.binding(), &mut types).expect("a product of two matrices that fit");
}
