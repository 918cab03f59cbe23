//! A model as a short list of coarse operations, recorded once when it is built.
//!
//! Everything else follows from the list: what a history has to keep ([`Needs`]), the parameters and their names, the
//! cost of a step, which executors can run the model and why others cannot, and what a server may cache.

mod cost;
mod outputs;
mod spec;

use std::any::Any;
use std::sync::Arc;

use tempograph_framework::Needs;

pub use cost::StepCost;
pub use outputs::{MailPayload, MailRows, Outputs};
pub use spec::{ModelKind, ModelSpec};

use crate::operation::{Axis, Builder, Declarations, Inputs, ParameterLayout, Products, Shape, Step, StepSizes, Value};
use crate::ops::pairs::decoder::LinkDecoder;
use crate::ops::pairs::head::Head;
use crate::ops::tables::rows::NodeRows;
use crate::settings::{Precision, StaticSpec};

/// A model as a list of operations. See the module.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) spec: ModelSpec,
    pub(crate) steps: Vec<Step>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) head: Head,
    pub(crate) memory: Option<Value>,
    pub(crate) embedding: Value,
    pub(crate) mail_payload: Option<MailPayload>,
    pub(crate) needs: Needs,
    pub(crate) precision: Precision,
    pub(crate) time: usize,
    pub(crate) inputs: Inputs,
    pub(crate) declarations: Declarations,
    pub(crate) layout: ParameterLayout,
}

impl Program {
    /// Records the program of `spec` for data of these widths.
    ///
    /// # Errors
    /// A sentence that says what does not fit together.
    pub(crate) fn record(spec: &ModelSpec, inputs: Inputs) -> Result<Arc<Program>, String> {
        let mut builder = Builder::new(inputs);
        let outputs = spec.build(&mut builder);
        outputs::finish(builder, spec.clone(), outputs).map(Arc::new)
    }

    /// The settings it was recorded from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Columns of the time encoding; 0 if it has none.
    pub fn time_width(&self) -> usize {
        self.time
    }

    /// What a history has to keep for it.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Its operations, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Rows and columns of a table.
    pub fn shape(&self, value: Value) -> Shape {
        self.shapes[value.index()]
    }

    /// What makes its outputs.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its link decoder.
    ///
    /// # Errors
    /// A sentence that names the kind, if the program has another head.
    pub fn links(&self) -> Result<&LinkDecoder, String> {
        self.head.links().ok_or_else(|| {
            let (kind, head) = (self.spec.kind(), self.head.describe());
            format!("model.kind = \"{kind}\" has a {head} where a link decoder is needed")
        })
    }

    /// Its parameters.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Width of an embedding.
    pub fn embedding_width(&self) -> usize {
        self.shape(self.embedding).width
    }

    /// The precision of the inputs of its matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The data it was recorded for.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Whether new memories are rows of nodes, one per node of a view.
    pub(crate) fn updates_nodes(&self) -> bool {
        self.memory.is_some_and(|memory| self.shape(memory).axis == Axis::Nodes)
    }

    /// The operation that combines what is known of a node, if it has one.
    pub(crate) fn node_rows(&self) -> Option<&NodeRows> {
        self.steps.iter().find_map(|step| (&*step.op as &dyn Any).downcast_ref())
    }

    /// Its settings of static memory, if it reads any.
    pub fn static_memory(&self) -> Option<&StaticSpec> {
        self.node_rows().and_then(|rows| rows.vectors.as_ref()).map(|part| &part.spec)
    }

    /// Whether a score follows from the embeddings of both ends alone. It does not if the decoder reads facts or rows
    /// of pairs.
    pub fn scores_from_embeddings(&self) -> bool {
        self.head.links().is_some_and(|decoder| decoder.facts.is_none() && decoder.pairs.is_none())
    }

    /// The steps of attention layers, lowest layer first.
    pub fn attending(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().enumerate().filter(|(_, step)| step.op.attention_heads().is_some()).map(|(i, _)| i)
    }

    /// Heads of its attention layers; `None` if it has none.
    pub fn attention_heads(&self) -> Option<usize> {
        self.steps.iter().find_map(|step| step.op.attention_heads())
    }

    /// Operations of one step of the program, forward and backward.
    pub fn step_cost(&self, step: &Step, sizes: &StepSizes) -> Products {
        let mut products = Products::default();
        step.op.cost(sizes, &mut products);
        products.flops()
    }

    /// Operations of the head, forward and backward.
    pub fn head_cost(&self, sizes: &StepSizes) -> Products {
        let mut products = Products::default();
        self.head.cost(sizes, &mut products);
        products.flops()
    }

    /// Cost of a training step of these sizes: the sum over its operations.
    pub fn cost(&self, sizes: &StepSizes) -> StepCost {
        cost::step_cost(self, sizes)
    }
}
