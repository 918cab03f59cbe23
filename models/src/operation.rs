//! What an operation is: a whole stage of a model.

use std::fmt::Debug;

use tempograph_framework::{Queries, View};
use tempograph_kernels::cpu::PaddedRows;
use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::executor::TensorContext;
use crate::program::{Gradients, Products, StepSizes, Value, Weights};

/// With fewer rows than these, what stands side by side is done one after the other: a server's event enters no thread pool.
pub(crate) const MIN_PARALLEL_ROWS: usize = 64;

/// A whole stage of a model: a memory update, an attention layer, a sum of neighbours.
///
/// It reads tables and gives one. Its parameters were declared with the [`Builder`](crate::program::Builder). It is computed by its
/// [`Stage`] on slices of host memory, and by [`on_tape`](Self::on_tape) on tensors: that is its slow twin, which tests hold the other to.
pub trait Operation: Debug + Send + Sync + 'static {
    /// Its name and settings, in a few words.
    fn describe(&self) -> String;

    /// What it computes with on slices. A caller has one of its own, which keeps its memory from call to call.
    fn stage(&self) -> Box<dyn Stage>;

    /// Whether its table is another in a training step that drops out or hides than in one that does not.
    fn has_dropout(&self) -> bool {
        false
    }

    /// Adds its matrix products to `products`: arithmetic that no implementation can do without. What has none says nothing.
    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let _ = (sizes, products);
    }

    /// Its table on tensors, from the tables it reads.
    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2>;
}

/// What a stage reads besides tables.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The pairs asked about.
    pub queries: &'a Queries,
    /// Their past.
    pub view: &'a View,
    /// Seed of what a training step drops out. Nothing is dropped without one.
    pub dropout: Option<u64>,
    /// All parameters.
    pub weights: Weights<'a>,
}

impl<'a> Context<'a> {
    /// Both ends of each pair, `[P]`: rows of the roots' table, [`Axis::Centres(0)`](crate::Axis::Centres). An operation that gives rows of
    /// pairs gives one for each, in this order.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = [u32; 2]> + Clone + 'a {
        self.view.pair_rows(self.queries)
    }
}

/// An operation on slices of host memory: its passes and the memory they are computed in.
///
/// Both passes give the same bits for any number of threads and ask for no memory once the largest batch has been seen.
pub trait Stage: Debug + Send {
    /// Writes the table it gives, over what `out` held.
    fn forward(&mut self, cx: &Context<'_>, reads: InputTables<'_>, out: &mut PaddedRows);

    /// Writes the gradients of its parameters and of the tables it reads, given `grad`, that of its table, which it may use up. Called after
    /// [`forward`](Self::forward) with the same context and tables. Gradients of shared parameters are added, all others written over.
    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: InputTables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    );

    /// How the last forward pass weighed neighbours, `[C, H, K]`. Nothing for an operation that does not attend.
    fn attention(&self) -> &[f32] {
        &[]
    }
}

/// The tables an operation reads.
#[derive(Clone, Copy, Debug)]
pub struct InputTables<'a> {
    pub(crate) tables: &'a [PaddedRows],
    pub(crate) values: &'a [Value],
}

impl<'a> InputTables<'a> {
    /// Whether it reads no table.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many it reads.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The `i`-th of them.
    pub fn table(&self, i: usize) -> &'a PaddedRows {
        &self.tables[self.values[i].index()]
    }
}

/// Where the gradients of the tables go that an operation reads.
#[derive(Debug)]
pub struct TableGradients<'a> {
    pub(crate) tables: &'a mut [PaddedRows],
    pub(crate) values: &'a [Value],
}

impl TableGradients<'_> {
    /// That of the `i`-th table, which is like `table`: to be written over whole.
    pub fn table(&mut self, i: usize, table: &PaddedRows) -> &mut PaddedRows {
        let gradient = &mut self.tables[self.values[i].index()];
        gradient.resize_like(table);
        gradient
    }
}
