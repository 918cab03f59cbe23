//! The rows of the roots on a device.

use tempograph_kernels::cube::{Matrix, at_centres, at_centres_backward};
use tempograph_kernels::tensor::CubeRuntime;

use super::Centres;
use crate::executor::{Back, DeviceContext, DeviceStage, Shares};

impl<R: CubeRuntime> DeviceStage<R> for Centres {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, Back<'a, R>) {
        let (table, width) = (&reads[0], reads[0].columns());
        match cx.hop(0) {
            Some(hop) => {
                let back = move |grad: &Matrix<R>, _: &mut Shares<R>| vec![at_centres_backward(hop, grad, width)];
                (at_centres(hop, table), Box::new(back))
            }
            None => (table.clone(), Box::new(|grad: &Matrix<R>, _: &mut Shares<R>| vec![grad.clone()])),
        }
    }
}
