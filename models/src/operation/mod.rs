//! What operations are written with: their trait, the tables between them, parameters, contexts, and the builder that
//! records them. An operation is a whole stage of a model.
mod builder;
#[cfg(feature = "cube")]
mod device;
#[cfg(feature = "cube")]
mod device_layout;
mod sizes;
mod table;
mod tensors;
mod weights;

use std::any::Any;
use std::fmt::Debug;

use tempograph_framework::{Queries, View};
use tempograph_kernels::cpu::PaddedRows;
use tempograph_kernels::tensor::{CpuTape, Tensor};

pub use builder::{Builder, FeatureWidths, Inputs, NeighbourSettings, Step};
#[cfg(feature = "cube")]
pub(crate) use device::{BackwardFn, DeviceContext, DeviceStage, TimeGradients, linear_backward};
#[cfg(feature = "cube")]
pub(crate) use device_layout::{LayoutBuilder, TimeSlot};
pub use sizes::{HopSizes, Products, StepSizes};
pub use table::{Axis, Shape, Value};
pub use tensors::TensorContext;
pub(crate) use tensors::{Slot, TensorParameters};
pub use weights::{Declarations, Gradients, Map, Param, ParameterLayout, Weights};

/// With fewer rows than this, independent parts run one after the other: a server's single event enters no thread pool.
pub(crate) const MIN_PARALLEL_ROWS: usize = 64;

/// A whole stage of a model: a memory update, an attention layer, a sum of neighbours.
///
/// It reads tables and gives one. Its parameters were declared with the [`Builder`]. Its
/// [`Stage`] computes it on slices of host memory, and [`on_tape`](Self::on_tape) computes it on tensors. `on_tape` is
/// the slow twin: tests compare the stage with it.
pub trait Operation: Any + Debug + Send + Sync {
    /// A short description: its name and settings.
    fn describe(&self) -> String;

    /// Working memory and passes on slices. Each caller has its own stage, which keeps its memory from call to call.
    fn stage(&self) -> Box<dyn Stage>;

    /// Heads of its attention to neighbours, whose weights can explain answers. `None` if it does not attend.
    fn attention_heads(&self) -> Option<usize> {
        None
    }

    /// Whether its table differs between a training step with dropout (or hidden static memory) and a step without.
    fn has_dropout(&self) -> bool {
        false
    }

    /// Adds its matrix products to `products`: the arithmetic that every implementation needs. The default adds
    /// nothing.
    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let _ = (sizes, products);
    }

    /// Its table on tensors, computed from the tables it reads.
    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2>;
}

/// What a stage reads besides tables.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The queried pairs.
    pub queries: &'a Queries,
    /// The past of the queries.
    pub view: &'a View,
    /// Seed of the dropout of a training step. `None`: nothing is dropped.
    pub dropout: Option<u64>,
    /// All parameters.
    pub weights: Weights<'a>,
}

impl<'a> Context<'a> {
    /// Both ends of each pair, `[P]`: rows of the roots' table, [`Axis::Centres(0)`](crate::Axis::Centres). An
    /// operation that gives rows of pairs gives one row per pair, in this order.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = [u32; 2]> + Clone + 'a {
        self.view.pair_rows(self.queries)
    }
}

/// An operation on slices of host memory: its passes and the memory they are computed in.
///
/// Both passes give the same bits for any number of threads. They allocate no memory once the largest batch has been
/// seen.
pub trait Stage: Debug + Send {
    /// Writes its table into `out`, replacing the old contents.
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows);

    /// Writes the gradients of its parameters and of the tables it reads. `grad` is the gradient of its own table; the
    /// call may overwrite it. Called after [`forward`](Self::forward) with the same context and tables. Gradients of
    /// shared parameters are added; all others are overwritten.
    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    );

    /// Attention weights of the last forward pass, `[C, H, K]`. Empty for an operation that does not attend.
    fn attention(&self) -> &[f32] {
        &[]
    }
}

/// The tables an operation reads.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    pub(crate) tables: &'a [PaddedRows],
    pub(crate) values: &'a [Value],
}

impl<'a> Tables<'a> {
    /// Whether it reads no table.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of tables it reads.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The `i`-th table.
    pub fn table(&self, i: usize) -> &'a PaddedRows {
        &self.tables[self.values[i].index()]
    }
}

/// The buffers for the gradients of the tables that an operation reads.
#[derive(Debug)]
pub struct TableGradients<'a> {
    pub(crate) tables: &'a mut [PaddedRows],
    pub(crate) values: &'a [Value],
}

impl TableGradients<'_> {
    /// The gradient of the `i`-th table, in the shape of `table`. The caller must overwrite all of it.
    pub fn table(&mut self, i: usize, table: &PaddedRows) -> &mut PaddedRows {
        let gradient = &mut self.tables[self.values[i].index()];
        gradient.resize_like(table);
        gradient
    }
}
