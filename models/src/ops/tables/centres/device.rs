//! The rows of the roots on a device.

use tempograph_kernels::cube::{Hop, Matrix, at_centres, at_centres_backward};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::{BackwardFn, DeviceContext, DeviceStage, TimeGradients};
use crate::ops::tables::centres::Centres;

/// Gathers the rows of a table of nodes at the centres of the last of some hops, the farthest hop first.
pub(crate) fn gather_centre_rows<R: CubeRuntime>(hops: &[Hop<R>], table: &Matrix<R>) -> Matrix<R> {
    hops.iter().fold(table.clone(), |table, hop| at_centres(hop, &table))
}

/// The gradient of that table, from the columns of `grad` after the first `first`.
pub(crate) fn gather_centre_rows_backward<R: CubeRuntime>(
    hops: &[Hop<R>],
    grad: &Matrix<R>,
    first: usize,
    width: usize,
) -> Matrix<R> {
    let (mut grad, mut first) = (grad.clone(), first);
    for hop in hops.iter().rev() {
        grad = at_centres_backward(hop, &grad, std::mem::take(&mut first), width);
    }
    grad
}

impl<R: CubeRuntime> DeviceStage<R> for Centres {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>) {
        let (hops, width) = (cx.past.hops(), reads[0].columns());
        let back =
            move |grad: &Matrix<R>, _: &mut TimeGradients<R>| vec![gather_centre_rows_backward(hops, grad, 0, width)];
        (gather_centre_rows(hops, &reads[0]), Box::new(back))
    }
}
