//! The trait of an operation's stage on a device.

use std::fmt::Debug;

use tempograph_kernels::cube::{
    DeviceView, Hop, Matrix, NodeRows, TimeEncoding, TimeGradientPartials, Weight, Weights,
};
use tempograph_kernels::tensor::CubeRuntime;

use crate::operation::TimeSlot;

/// What a stage reads besides tables.
pub(crate) struct DeviceContext<'a, R: CubeRuntime> {
    /// All parameters. Stages write their gradients.
    pub weights: &'a Weights<R>,
    pub past: &'a DeviceView<R>,
    /// Features and static memory of the nodes.
    pub node_rows: &'a [Option<NodeRows<R>>; 2],
    pub times: &'a [TimeEncoding<R>],
    /// Seed of the dropout. `None`: nothing is dropped.
    pub dropout: Option<u64>,
}

impl<R: CubeRuntime> Clone for DeviceContext<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: CubeRuntime> Copy for DeviceContext<'_, R> {}

impl<'a, R: CubeRuntime> DeviceContext<'a, R> {
    /// A time encoding.
    pub fn time(&self, TimeSlot(i): TimeSlot) -> &'a TimeEncoding<R> {
        &self.times[i]
    }

    /// The centres of a hop; hop 0 has the roots. `None` if roots are rows of the nodes.
    pub fn hop(&self, hop: usize) -> Option<&'a Hop<R>> {
        self.past.hops().iter().nth_back(hop)
    }
}

/// Partial gradients of the time encodings from all operations, summed once at the end of a pass.
pub(crate) struct TimeGradients<R: CubeRuntime>(Vec<TimeGradientPartials<R>>);

impl<R: CubeRuntime> TimeGradients<R> {
    /// Allocates as many rows for each encoding as the `stages` need.
    pub fn new(cx: &DeviceContext<'_, R>, stages: &[Box<dyn DeviceStage<R>>]) -> TimeGradients<R> {
        let mut rows = vec![0; cx.times.len()];
        let wanted = stages.iter().filter_map(|stage| stage.time_gradient_rows(cx));
        wanted.for_each(|(TimeSlot(i), more)| rows[i] += more);
        TimeGradients(cx.times.iter().zip(rows).map(|(time, rows)| TimeGradientPartials::new(time, rows)).collect())
    }

    /// The partial gradients of one encoding.
    pub fn of(&mut self, TimeSlot(i): TimeSlot) -> &mut TimeGradientPartials<R> {
        &mut self.0[i]
    }

    /// Writes the gradients.
    pub fn sum(self) {
        self.0.into_iter().for_each(TimeGradientPartials::sum);
    }
}

/// The backward pass of an operation. It writes the gradients of its parameters. From the gradient of its own table it
/// returns those of the tables it read, in their order. All of these may have meaningless extra columns after those of
/// the tables.
pub(crate) type BackwardFn<'a, R> = Box<dyn FnOnce(&Matrix<R>, &mut TimeGradients<R>) -> Vec<Matrix<R>> + 'a>;

/// An operation on a device, with the positions of its parameters.
pub(crate) trait DeviceStage<R: CubeRuntime>: Debug + Send + Sync {
    /// Launches the kernels of its table. Returns the table and the backward function.
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>);

    /// Number of rows that its backward pass adds to the gradient of a time encoding.
    fn time_gradient_rows(&self, cx: &DeviceContext<'_, R>) -> Option<(TimeSlot, usize)> {
        let _ = cx;
        None
    }
}

/// Writes the gradient of a map. Returns the gradient of its input.
pub(crate) fn linear_backward<R: CubeRuntime>(map: &Weight<R>, read: &Matrix<R>, grad: &Matrix<R>) -> Matrix<R> {
    map.backward(read, grad);
    map.backward_input(grad)
}
