//! Records programs and checks that axes and widths agree.

use std::sync::Arc;

use tempograph_framework::{Delta, Lookup, MailContent, Needs, Sampler};

use crate::operation::Operation;
use crate::ops::{Head, MailPayload, Op};
use crate::program::weights::Declarations;
use crate::program::{Axis, Program, Shape, Step, Value};
use crate::registry::ModelSpec;
use crate::settings::Precision;

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

/// The outputs of a program.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// New memories, `[U, D]`, or `[C, D]` if a node's new memory is its row at its last event; `None` for a model
    /// without memory.
    pub memory: Option<Value>,
    /// Embeddings of the roots, `[C, O]`.
    pub embedding: Value,
    /// Scores pairs of embeddings, or gives numbers for each embedding.
    pub decoder: Head,
    /// What mail carries if the model makes it; `None` if mail carries memories.
    pub mail_payload: Option<MailPayload>,
}

/// Records a program: operations in order, the tables between them and their parameters.
///
/// The first mismatch is the error of `finish`. Whatever is recorded after it is ignored.
#[derive(Debug)]
pub struct Builder {
    inputs: Inputs,
    steps: Vec<Step>,
    shapes: Vec<Shape>,
    /// Index of the first parameter of the current operation.
    declared: usize,
    /// What the operations need from a history.
    pub(crate) needs: Needs,
    precision: Precision,
    past: Option<NeighbourSettings>,
    /// Columns of the time encoding.
    pub(crate) time: usize,
    error: Option<String>,
    /// The parameters declared so far.
    pub parameters: Declarations,
}

impl Builder {
    pub(super) fn new(inputs: Inputs) -> Builder {
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

    /// Appends a custom operation, whose table has shape `gives`. Its parameters are those declared since the last
    /// operation.
    pub fn custom(&mut self, name: &str, op: impl Operation, reads: &[Value], gives: Shape) -> Value {
        self.push(name, Op::Custom(Arc::new(op)), reads, gives)
    }

    /// The shape of a table.
    pub fn shape(&self, value: Value) -> Shape {
        self.shapes[value.index()]
    }

    /// Appends an operation. Its parameters are those declared since the last operation.
    pub fn push(&mut self, name: &str, op: Op, reads: &[Value], gives: Shape) -> Value {
        let of_pairs = reads.iter().any(|&read| self.axis(read) == Axis::Pairs);
        self.check(!of_pairs || gives.axis == Axis::Pairs, || {
            format!(
                "{name} gives rows of {}; rows of pairs are read by operations on pairs and by the decoder",
                gives.axis
            )
        });
        let value = Value(self.shapes.len() as u32);
        self.shapes.push(gives);
        let params = self.take_declared();
        let noisy = |read: &Value| self.steps.iter().any(|step| step.gives == *read && step.has_dropout);
        let has_dropout = op.operation().has_dropout() || reads.iter().any(noisy);
        let (name, reads) = (name.into(), reads.to_vec());
        let [updates, updates_nodes, embeds] = [false; 3];
        self.steps.push(Step { name, op, reads, gives: value, params, updates, updates_nodes, embeds, has_dropout });
        value
    }

    /// The parameters declared since the last call.
    pub(crate) fn take_declared(&mut self) -> std::ops::Range<usize> {
        let begin = std::mem::replace(&mut self.declared, self.parameters.len());
        begin..self.declared
    }

    /// Marks the operations that these tables depend on.
    fn mark(&mut self, tables: impl IntoIterator<Item = Value>, mark: fn(&mut Step) -> &mut bool) {
        let mut wanted: Vec<Value> = tables.into_iter().collect();
        while let Some(value) = wanted.pop() {
            for step in self.steps.iter_mut().filter(|step| step.gives == value) {
                if !std::mem::replace(mark(step), true) {
                    wanted.extend(&step.reads);
                }
            }
        }
    }

    pub(super) fn finish(mut self, spec: ModelSpec, outputs: Outputs) -> Result<Program, String> {
        let Outputs { memory, embedding, decoder: head, mail_payload: says } = outputs;
        let top = self.shapes[embedding.index()];
        self.check(top.axis == Axis::Centres(0), || format!("embeddings are rows of the roots, not of {}", top.axis));
        if let Some(input) = head.input() {
            self.check(input == top.width, || {
                format!("the decoder reads {input} columns of embeddings of {}", top.width)
            });
        }
        if let Some(axis) = head.pairs().map(|pairs| self.axis(pairs)) {
            self.check(axis == Axis::Pairs, || {
                format!("the decoder reads rows of pairs, and was given rows of {axis}")
            });
        }
        if let Some(axis) = memory.map(|memory| self.axis(memory)) {
            let fits = matches!(axis, Axis::Nodes | Axis::Centres(0));
            self.check(fits, || format!("memories are rows of nodes or of the roots, not of {axis}"));
        }
        let given = says.map(|says| (self.shapes[says.value.index()], says));
        if let Some((Shape { axis, .. }, _)) = given {
            self.check(axis == Axis::Centres(0), || format!("mail says rows of the roots, not of {axis}"));
        }
        let features = |says: MailPayload| if says.features { self.inputs.features.edge } else { 0 };
        let said = given.map(|(Shape { width, .. }, says)| says.rows.columns(width) + features(says));
        let kept = if let MailContent::Given(width) = self.needs.mail.says { Some(width) } else { None };
        self.check(self.needs.memory == 0 || said == kept, || match (said, kept) {
            (Some(said), Some(kept)) => format!("the model gives mail {said} columns to say, and mail has {kept}"),
            (Some(said), None) => format!("the model gives mail {said} columns to say, and mail says memories"),
            _ => "mail says what the model gives, and the model gives nothing".into(),
        });
        let walks = head.links().and_then(|decoder| decoder.pair_features.walks);
        self.check(walks == self.needs.walks, || {
            "the program has walks, and its decoder was recorded before them (Builder::walks)".into()
        });
        if let Some(name) = self.parameters.repeated() {
            let sentence = format!("two parameters are called {name}");
            self.fail(sentence);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let of_nodes = memory.filter(|memory| self.shapes[memory.index()].axis == Axis::Nodes);
        self.needs.ends = says.is_some() || memory != of_nodes;
        self.mark(memory.into_iter().chain(says.map(|says| says.value)), |step| &mut step.updates);
        self.mark(of_nodes, |step| &mut step.updates_nodes);
        self.mark([embedding].into_iter().chain(head.pairs()), |step| &mut step.embeds);
        Ok(Program {
            spec,
            time: self.time,
            layout: self.parameters.layout(),
            steps: self.steps,
            shapes: self.shapes,
            head,
            memory,
            embedding,
            mail_payload: says,
            needs: self.needs,
            precision: self.precision,
            inputs: self.inputs,
            declarations: self.parameters,
        })
    }
}
