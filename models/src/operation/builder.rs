//! Records programs and checks that axes and widths agree.

use std::ops::Range;
use std::sync::Arc;

use tempograph_framework::{Delta, Lookup, Needs, Sampler};

use crate::operation::{Axis, Declarations, Operation, Shape, Value};
use crate::settings::{Precision, WalkSpec};

/// Widths of the constant features a model reads; 0 if a data set has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FeatureWidths {
    /// Edge features `E`.
    pub edge: usize,
    /// Node features `F`.
    pub node: usize,
}

/// The data a program is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Widths of the data's features.
    pub features: FeatureWidths,
}

/// How a model reads the past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeighbourSettings {
    /// Neighbours `K` per centre.
    pub neighbours: usize,
    /// Which of a node's earlier events are its neighbours.
    pub sampler: Sampler,
    /// Whether later queries of a batch see the batch's own earlier events.
    pub lookup: Lookup,
    /// The time difference that comes with each neighbour.
    pub delta: Delta,
}

/// One operation of a program.
#[derive(Clone, Debug)]
pub struct Step {
    /// The purpose of the operation; the names of its parameters begin with it.
    pub name: String,
    /// The operation.
    pub op: Arc<dyn Operation>,
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

/// Records a program: operations in order, the tables between them and their parameters.
///
/// The first mismatch is the error of `finish`. Whatever is recorded after it is ignored.
#[derive(Debug)]
pub struct Builder {
    pub(crate) inputs: Inputs,
    pub(crate) steps: Vec<Step>,
    pub(crate) shapes: Vec<Shape>,
    /// Index of the first parameter of the current operation.
    declared: usize,
    /// What the operations need from a history.
    pub(crate) needs: Needs,
    pub(crate) precision: Precision,
    past: Option<NeighbourSettings>,
    /// Columns of the time encoding.
    pub(crate) time: usize,
    pub(crate) error: Option<String>,
    /// The parameters declared so far.
    pub parameters: Declarations,
}

impl Builder {
    pub(crate) fn new(inputs: Inputs) -> Builder {
        Builder {
            inputs,
            steps: Vec::new(),
            shapes: Vec::new(),
            declared: 0,
            needs: Needs::nothing(),
            precision: Precision::F32,
            past: None,
            time: 0,
            error: None,
            parameters: Declarations::default(),
        }
    }

    /// Columns of the edge features.
    pub fn edge_width(&self) -> usize {
        self.inputs.features.edge
    }

    /// Columns of the node features.
    pub fn node_width(&self) -> usize {
        self.inputs.features.node
    }

    /// Sets how the model reads the past.
    pub fn neighbours(&mut self, past: NeighbourSettings) {
        (self.needs.sampler, self.needs.lookup, self.needs.delta) = (past.sampler, past.lookup, past.delta);
        self.past = Some(past);
    }

    /// Sets which events of its own batch a query sees, for a model that reads no neighbours but delivers mail to them.
    pub fn lookup(&mut self, lookup: Lookup) {
        self.needs.lookup = lookup;
    }

    /// Requires that a neighbour's own neighbours are those before the event that shows it. Needed if rows are of a
    /// node at a time.
    pub fn sample_before_events(&mut self) {
        self.needs.before_events = true;
    }

    /// Sets the precision of the inputs of matrix products.
    pub fn precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Columns of a table.
    pub fn width(&self, value: Value) -> usize {
        self.shapes[value.index()].width
    }

    /// The meaning of a table's rows.
    pub fn axis(&self, value: Value) -> Axis {
        self.shapes[value.index()].axis
    }

    /// Records a mismatch. The first sentence is the error of the whole program.
    pub fn fail(&mut self, sentence: impl Into<String>) {
        self.error.get_or_insert(sentence.into());
    }

    /// Calls [`fail`](Self::fail) unless `fits`.
    pub fn check(&mut self, fits: bool, sentence: impl FnOnce() -> String) {
        if !fits {
            self.fail(sentence());
        }
    }

    /// Requires neighbours down to `hop`.
    pub fn require_neighbours(&mut self, hop: usize) {
        match self.past {
            Some(past) => self.needs.neighbours = past.neighbours,
            None => {
                self.fail("an operation reads neighbours, and the program does not say which (Builder::neighbours)")
            }
        }
        self.require_hop(hop);
    }

    /// Requires a table of its own for the roots, and for each deeper hop down to `hop`.
    pub fn require_hop(&mut self, hop: usize) {
        self.needs.layers = self.needs.layers.max(hop + 1);
    }

    /// Requires the idle times of the roots: how long their memories have not been updated.
    pub fn require_idle_times(&mut self) {
        self.needs.idle = true;
        self.require_hop(0);
    }

    /// The shape of a table.
    pub fn shape(&self, value: Value) -> Shape {
        self.shapes[value.index()]
    }

    /// Appends an operation, whose table has shape `gives`. Its parameters are those declared since the last operation.
    pub fn push(&mut self, name: &str, op: impl Operation, reads: &[Value], gives: Shape) -> Value {
        let of_pairs = reads.iter().any(|&read| self.axis(read) == Axis::Pairs);
        self.check(!of_pairs || gives.axis == Axis::Pairs, || {
            format!(
                "{name} gives rows of {}; rows of pairs are read by operations on pairs and by the decoder",
                gives.axis
            )
        });
        let value = Value::new(self.shapes.len());
        self.shapes.push(gives);
        let params = self.take_declared();
        let noisy = |read: &Value| self.steps.iter().any(|step| step.gives == *read && step.has_dropout);
        let has_dropout = op.has_dropout() || reads.iter().any(noisy);
        let (name, op, reads) = (name.into(), Arc::new(op), reads.to_vec());
        let [updates, updates_nodes, embeds] = [false; 3];
        self.steps.push(Step { name, op, reads, gives: value, params, updates, updates_nodes, embeds, has_dropout });
        value
    }

    /// The parameters declared since the last call.
    pub(crate) fn take_declared(&mut self) -> Range<usize> {
        let begin = std::mem::replace(&mut self.declared, self.parameters.len());
        begin..self.declared
    }

    /// Marks the operations that these tables depend on.
    pub(crate) fn mark(&mut self, tables: impl IntoIterator<Item = Value>, mark: fn(&mut Step) -> &mut bool) {
        let mut wanted: Vec<Value> = tables.into_iter().collect();
        while let Some(value) = wanted.pop() {
            for step in self.steps.iter_mut().filter(|step| step.gives == value) {
                if !std::mem::replace(mark(step), true) {
                    wanted.extend(&step.reads);
                }
            }
        }
    }

    /// Makes the link decoder read walk features of each pair. Call it before the decoder is recorded. Without settings
    /// it does nothing.
    pub fn walks(&mut self, walks: Option<&WalkSpec>) {
        self.needs.walks = walks.map(WalkSpec::rule);
    }
}
