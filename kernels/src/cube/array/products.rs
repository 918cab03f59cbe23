//! Matrix products: the tensor library's, at the chosen precision.
use crate::cube::launch::buffer::{Device, count_launch, zeros};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;
use std::sync::atomic::{AtomicU8, Ordering};

static PRODUCTS: AtomicU8 = AtomicU8::new(ProductPrecision::F32 as u8);

/// The precision of the inputs of matrix products on devices; sums are in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProductPrecision {
    /// Single precision: inputs are not rounded.
    F32,
    /// 10 bits after the binary point, if the GPU has faster units for that.
    Tf32,
    /// 7 bits after the binary point.
    Bf16,
}

/// Sets the precision of matrix products in this crate's operations, for the whole program. The default is
/// [`F32`](ProductPrecision::F32).
pub fn set_product_precision(products: ProductPrecision) {
    PRODUCTS.store(products as u8, Ordering::Relaxed);
}

/// The precision of products. By default the library would use TF32 wherever it is available.
fn chosen() -> (Strategy, MatmulElems) {
    let float = DType::F32.into();
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: float, rhs: float, out: float });
    match PRODUCTS.load(Ordering::Relaxed) {
        products if products == ProductPrecision::Tf32 as u8 => (Strategy::Auto, types),
        products if products == ProductPrecision::Bf16 as u8 => {
            let short = DType::BF16.into();
            (types.lhs_stage, types.rhs_stage, types.lhs_register, types.rhs_register) = (short, short, short, short);
            (Strategy::Auto, types)
        }
        _ => (Strategy::SimpleUnit(Default::default()), types),
    }
}

/// `left [.., n, m]` times `right [.., m, k]`, written to `out` `[.., n, k]`. If one side has a single block, it is
/// multiplied with each block of the other. No size is 0.
#[track_caller]
pub(crate) fn product<R: CubeRuntime>(left: CubeTensor<R>, right: CubeTensor<R>, out: CubeTensor<R>) {
    count_launch();
    let float = DType::F32.into();
    let (strategy, mut types) = chosen();
    let client = out.client.clone();
    let [left, right] = [left, right].map(|matrix| InputBinding::new(matrix.binding(), float));
    launch_ref(&strategy, &client, left, right, out.binding(), &mut types).expect("a product of two matrices that fit");
}

/// `left` `[.., n, m]` times `right` `[.., m, k]`, with equal numbers of blocks; sizes may be 0.
pub(crate) fn batched_product<R: CubeRuntime>(left: &CubeTensor<R>, right: &CubeTensor<R>) -> CubeTensor<R> {
    let (mut shape, of_right, axes) = (left.shape(), right.shape(), left.shape().num_dims());
    let (inner, rows, columns) = (shape[axes - 1], of_right[axes - 2], of_right[axes - 1]);
    assert_eq!((inner, &shape[..axes - 2]), (rows, &of_right[..axes - 2]), "a product of {shape:?} and {of_right:?}");
    shape[axes - 1] = columns;
    let device = Device::of(left);
    let out = device.tensor(&device.empty(shape.num_elements()), shape);
    if inner == 0 || out.shape().num_elements() == 0 {
        return zeros(&out);
    }
    product(left.clone(), right.clone(), out.clone());
    out
}
