//! A model as a short list of coarse operations, recorded once when it is built.
//!
//! Everything else follows from the list: what a history has to keep ([`Needs`]), the parameters and their names, the
//! cost of a step, which executors can run the model and why others cannot, and what a server may cache.

mod builder;
mod cost;
mod weights;

use std::ops::Range;
use std::sync::Arc;

use tempograph_framework::Needs;

pub use builder::{Builder, FeatureWidths, Inputs, NeighbourSettings, Outputs};
pub use cost::{HopSizes, Products, StepCost, StepSizes};
pub use weights::{Declarations, Gradients, Map, Param, ParameterLayout, Weights};

use crate::ops::{Head, LinkDecoder, MailPayload, Op};
use crate::registry::ModelSpec;
use crate::settings::Precision;
use crate::static_memory::StaticSpec;

/// A table of rows that an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(u32);

impl Value {
    pub(crate) fn new(index: usize) -> Value {
        Value(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The distinct nodes of a view, `U`.
    Nodes,
    /// The centres of a hop, `C`. Hop 0 has the roots themselves.
    Centres(usize),
    /// The scored pairs, `P`: rows of a source and a candidate together. Only operations on pairs and the decoder read
    /// them.
    Pairs,
}

impl std::fmt::Display for Axis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Axis::Nodes => f.write_str("nodes"),
            Axis::Centres(0) => f.write_str("roots"),
            Axis::Centres(hop) => write!(f, "centres of hop {hop}"),
            Axis::Pairs => f.write_str("pairs"),
        }
    }
}

/// Rows and columns of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The meaning of its rows.
    pub axis: Axis,
    /// Columns.
    pub width: usize,
}

/// One operation of a program.
#[derive(Clone, Debug)]
pub struct Step {
    /// The purpose of the operation; the names of its parameters begin with it.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The tables it reads.
    pub reads: Vec<Value>,
    /// The table it gives.
    pub gives: Value,
    /// Its parameters, in the order of declaration.
    pub params: Range<usize>,
    /// Whether memories or mail depend on it.
    pub updates: bool,
    /// Whether memories of nodes depend on it. An update contains the memories of all nodes of a view, whatever the
    /// queries are.
    pub updates_nodes: bool,
    /// Whether embeddings or the decoder depend on it.
    pub embeds: bool,
    /// Whether its table differs between a training step with dropout and one without. A step that an update depends on
    /// is then computed a second time without dropout.
    pub has_dropout: bool,
}

impl Step {
    /// Whether an update needs it. `ends` says whether the batch's ends are among the roots.
    pub(crate) fn updates_with(&self, ends: bool) -> bool {
        self.updates_nodes || self.updates && ends
    }
}

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
        builder.finish(spec.clone(), outputs).map(Arc::new)
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

    /// Its settings of static memory, if it reads any.
    pub fn static_memory(&self) -> Option<&StaticSpec> {
        self.steps.iter().find_map(|step| match &step.op {
            Op::Rows(rows) => rows.vectors.as_ref().map(|part| &part.spec),
            _ => None,
        })
    }

    /// Whether a score follows from the embeddings of both ends alone. It does not if the decoder reads facts or rows
    /// of pairs.
    pub fn scores_from_embeddings(&self) -> bool {
        self.head.links().is_some_and(|decoder| decoder.facts.is_none() && decoder.pairs.is_none())
    }

    /// The steps of attention layers, lowest layer first.
    pub fn attending(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().enumerate().filter(|(_, step)| step.op.attends()).map(|(i, _)| i)
    }

    /// Heads of its attention layers; `None` if it has none.
    pub fn attention_heads(&self) -> Option<usize> {
        self.steps.iter().find_map(|step| match &step.op {
            Op::Attention(layer) => Some(layer.settings.heads),
            _ => None,
        })
    }

    /// Operations of one step of the program, forward and backward.
    pub fn step_cost(&self, step: &Step, sizes: &StepSizes) -> Products {
        let mut products = Products::default();
        step.op.operation().cost(sizes, &mut products);
        products.flops()
    }

    /// Operations of the head, forward and backward.
    pub fn head_cost(&self, sizes: &StepSizes) -> Products {
        let mut products = Products::default();
        self.head.cost(sizes, &mut products);
        products.flops()
    }

    /// Checks that it can train on a device.
    ///
    /// # Errors
    /// The first obstacle, in a sentence that names its setting.
    pub fn check_device_support(&self) -> Result<(), String> {
        if self.memory.is_some() && !self.updates_nodes() {
            return Err("kernels on a device know no memories that are rows of the roots".into());
        }
        let neighbours = self.needs.neighbours > 0 || self.attending().next().is_none();
        let looks = if neighbours { Ok(()) } else { Err("attention to nobody (model.neighbours = 0)".into()) };
        let known = self.steps.iter().fold(looks, |known, step| known.and_then(|()| step.op.check_device_support()));
        let known = known.and_then(|()| self.head.check_device_support());
        let kept = || self.needs.on_device().map_err(String::from);
        known.and_then(|()| kept()).map_err(|what| format!("kernels on a device know no {what}"))
    }

    /// The description of its first custom operation, if it has one. Such a program runs on the CPU only, on slices and
    /// on the tape.
    pub fn custom_operation(&self) -> Option<String> {
        self.steps.iter().find(|step| matches!(step.op, Op::Custom(_))).map(|step| step.op.operation().describe())
    }

    /// Cost of a training step of these sizes: the sum over its operations.
    pub fn cost(&self, sizes: &StepSizes) -> StepCost {
        cost::step_cost(self, sizes)
    }
}
