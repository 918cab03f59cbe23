//! Runs programs on slices of host memory. The CPU trains, evaluates and serves with it.

use std::sync::Arc;

use tempograph_framework::{ForwardOutput, Needs, Pair, Parameters, Queries, SliceModel, View};
use tempograph_kernels::cpu::{PaddedRows, add};

use crate::executor::update::{write_mail, write_memories};
use crate::operation::{Context, Gradients, Stage, Step, TableGradients, Tables, Value, Weights};
use crate::ops::pairs::decoder::{DecoderGradients, DecoderInputs, DecoderStage, ShownPairs};
use crate::ops::pairs::head::{Head, RowStage};
use crate::program::{ModelSpec, Program};

/// A program with its parameters on slices of host memory. It records no tape and allocates no memory once it is warm.
#[derive(Clone, Debug)]
pub struct SliceProgram {
    program: Arc<Program>,
    parameters: Parameters,
}

/// Working memory of one caller of a [`SliceProgram`]. It adapts to the first program that uses it.
#[derive(Debug, Default)]
pub struct SliceWork {
    program: Option<Arc<Program>>,
    answer: ForwardOutput,
    /// Seed of the last forward pass.
    dropout: Option<u64>,
    stages: Vec<Box<dyn Stage>>,
    decoder: DecoderStage,
    rows: RowStage,
    /// One table per value.
    tables: Vec<PaddedRows>,
    gradients: Vec<PaddedRows>,
    /// Whether a value's gradient was written in this pass.
    reached: Vec<bool>,
    /// Gradients of the values summed over earlier readers, while another reader writes its own.
    accumulated: Vec<PaddedRows>,
    /// Steps that are computed again without dropout. Their tables follow those of the program.
    clean: Vec<NoDropoutStep>,
    /// The table whose buffer is swapped into the answer.
    swapped: Option<Value>,
    order: Vec<usize>,
}

/// A step with dropout that is computed again without it: memories and mail are made from this result.
#[derive(Debug)]
struct NoDropoutStep {
    stage: Box<dyn Stage>,
    /// Its index in the program.
    step: usize,
    reads: Vec<Value>,
    gives: Value,
}

/// The steps with dropout whose tables an update reads.
fn no_dropout_steps(program: &Program) -> Vec<NoDropoutStep> {
    let mut clean: Vec<NoDropoutStep> = Vec::new();
    for (i, step) in program.steps.iter().enumerate().filter(|(_, step)| step.updates && step.has_dropout) {
        let reads = step.reads.iter().map(|&value| no_dropout_value(program, &clean, value)).collect();
        let gives = Value::new(program.shapes.len() + clean.len());
        clean.push(NoDropoutStep { stage: step.op.stage(), step: i, reads, gives });
    }
    clean
}

/// The table of `value` without dropout.
fn no_dropout_value(program: &Program, clean: &[NoDropoutStep], value: Value) -> Value {
    clean.iter().find(|own| program.steps[own.step].gives == value).map_or(value, |own| own.gives)
}

impl AsRef<ForwardOutput> for SliceWork {
    fn as_ref(&self) -> &ForwardOutput {
        &self.answer
    }
}

impl SliceWork {
    /// Prepares for `program`.
    fn prepare(&mut self, program: &Arc<Program>) {
        if self.program.as_ref().is_some_and(|own| Arc::ptr_eq(own, program)) {
            return;
        }
        let clean = no_dropout_steps(program);
        *self = SliceWork {
            program: Some(program.clone()),
            stages: program.steps.iter().map(|step| step.op.stage()).collect(),
            tables: vec![PaddedRows::default(); program.shapes.len() + clean.len()],
            gradients: program.shapes.iter().map(|_| PaddedRows::default()).collect(),
            reached: vec![false; program.shapes.len()],
            clean,
            ..SliceWork::default()
        };
    }

    /// Swaps the table of new memories with the buffer in the answer. It is in the answer after a pass and among the
    /// tables during one, so no copy is made.
    fn swap_memory(&mut self) {
        if let Some(memory) = self.swapped {
            std::mem::swap(&mut self.tables[memory.index()].values, &mut self.answer.update.memory);
        }
    }

    /// Rows of the last pass's embeddings as sources and as destinations, after [mapping](SliceProgram::map_ends).
    pub fn ends(&self) -> [&PaddedRows; 2] {
        self.decoder.ends()
    }
}

impl SliceProgram {
    /// `program` with initial parameters, drawn from `seed`.
    pub fn new(program: Arc<Program>, seed: u64) -> SliceProgram {
        let parameters = program.declarations.initial_parameters(seed);
        SliceProgram { program, parameters }
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The settings it was recorded from.
    pub fn spec(&self) -> &ModelSpec {
        &self.program.spec
    }

    fn weights(&self) -> Weights<'_> {
        let Program { layout, precision, .. } = &*self.program;
        Weights { parameters: &self.parameters, layout, precision: (*precision).into() }
    }

    /// Runs the steps selected by `wanted`.
    fn run(
        &self,
        queries: &Queries,
        view: &View,
        dropout: Option<u64>,
        work: &mut SliceWork,
        wanted: impl Fn(&Step) -> bool,
    ) {
        work.prepare(&self.program);
        work.dropout = dropout;
        let cx = Context { queries, view, dropout, weights: self.weights() };
        let SliceWork { stages, tables, .. } = work;
        for (step, stage) in self.program.steps.iter().zip(stages).filter(|(step, _)| wanted(step)) {
            let mut out = std::mem::take(&mut tables[step.gives.index()]);
            stage.forward(&cx, Tables { tables, values: &step.reads }, &mut out);
            tables[step.gives.index()] = out;
        }
    }

    /// Runs the steps with dropout that an update depends on again, without dropout.
    fn run_without_dropout(&self, queries: &Queries, view: &View, work: &mut SliceWork) {
        let cx = Context { queries, view, dropout: None, weights: self.weights() };
        let ends = !queries.ends().is_empty();
        let SliceWork { clean, tables, .. } = work;
        for own in clean.iter_mut().filter(|own| self.program.steps[own.step].updates_with(ends)) {
            let mut out = std::mem::take(&mut tables[own.gives.index()]);
            own.stage.forward(&cx, Tables { tables, values: &own.reads }, &mut out);
            tables[own.gives.index()] = out;
        }
    }

    /// Writes the update into the answer.
    fn write_update(&self, queries: &Queries, view: &View, work: &mut SliceWork) {
        let (program, dropped) = (&*self.program, work.dropout.is_some());
        let SliceWork { tables, clean, answer, order, swapped, .. } = work;
        let clean_of = |value: Value| if dropped { no_dropout_value(program, clean, value) } else { value };
        let (update, memory) = (&mut answer.update, program.memory.map(clean_of));
        update.mail.clear();
        if let Some(says) = program.mail_payload {
            let table = &tables[clean_of(says.value).index()];
            write_mail(says, queries, view, |row| table.row(row), &mut update.mail);
        }
        *swapped = memory.filter(|_| program.updates_nodes());
        match memory {
            Some(memory) if swapped.is_none() => {
                let table = &tables[memory.index()];
                write_memories(queries, view, |row| table.row(row), order, update);
            }
            _ => update.nodes.clone_from(&view.nodes),
        }
        work.swap_memory();
    }

    /// Maps the embeddings of the last forward pass, row by row, as the decoder maps sources and as it maps
    /// destinations: see [`SliceWork::ends`].
    pub fn map_ends(&self, work: &mut SliceWork) {
        let SliceWork { tables, decoder, .. } = work;
        if let Head::Links(links) = &self.program.head {
            decoder.map_ends(links, self.weights(), &tables[self.program.embedding.index()]);
        }
    }

    /// Logits of pairs of rows of `ends`, the first [mapped](Self::map_ends) as a source and the second as a
    /// destination. The numbers are exactly those of a forward pass that embeds these rows.
    ///
    /// # Panics
    /// If a pair names a missing row, or if scores do not [follow from embeddings](Program::scores_from_embeddings).
    pub fn score_ends(&self, ends: &PaddedRows, pairs: &[Pair], work: &mut SliceWork) {
        let from_embeddings = self.program.head.links().filter(|_| self.program.scores_from_embeddings());
        let Some(links) = from_embeddings else { panic!("scores do not follow from the embeddings of both ends") };
        let SliceWork { answer, decoder, .. } = work;
        answer.scores.resize(pairs.len(), 0.0);
        let rows = pairs.iter().map(|pair| [pair.src, pair.dst]);
        decoder.score_ends(links, self.weights(), ends, rows, &mut answer.scores);
    }

    /// Attention weights of layer `layer`, the lowest first, in the last forward pass: `[C, H, K]`, in the slots of the
    /// hop. Empty if there is no such layer.
    pub fn attention<'w>(&self, layer: usize, work: &'w SliceWork) -> &'w [f32] {
        let step = self.program.attending().nth(layer);
        step.and_then(|step| work.stages.get(step)).map_or(&[], |stage| stage.attention())
    }
}

impl SliceModel for SliceProgram {
    type Work = SliceWork;

    fn needs(&self) -> Needs {
        self.program.needs.clone()
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>, work: &mut SliceWork) {
        let (ends, dropped) = (!queries.ends().is_empty(), dropout.is_some());
        self.run(queries, view, dropout, work, |step| {
            step.embeds || step.updates_with(ends) && !(dropped && step.has_dropout)
        });
        let program = &*self.program;
        let SliceWork { answer: ForwardOutput { scores, outputs, embeddings, .. }, tables, decoder, rows, .. } = work;
        let table = &tables[program.embedding.index()];
        match &program.head {
            Head::Links(links) => {
                scores.resize(queries.pairs().len(), 0.0);
                let pairs = links.pairs().map(|pairs| &tables[pairs.index()]);
                let read = DecoderInputs { embeddings: table, shown: ShownPairs::of(queries, view), pairs };
                decoder.score(links, self.weights(), view.pair_rows(queries), read, scores);
            }
            Head::Rows(head) => rows.forward(head, self.weights(), table, &view.roots, outputs),
        }
        embeddings.clear();
        if dropout.is_none() {
            (0..table.rows()).for_each(|row| embeddings.extend_from_slice(table.row(row)));
        }
        if dropped {
            self.run_without_dropout(queries, view, work);
        }
        self.write_update(queries, view, work);
    }

    fn advance(&self, queries: &Queries, view: &View, work: &mut SliceWork) {
        let ends = !queries.ends().is_empty();
        self.run(queries, view, None, work, |step| step.updates_with(ends));
        self.write_update(queries, view, work);
    }

    fn backward(&self, queries: &Queries, view: &View, outputs: &[f32], gradients: &mut [f32], work: &mut SliceWork) {
        assert_eq!(gradients.len(), self.parameters.values().len(), "a gradient for each weight");
        let program = &*self.program;
        let expected = match &program.head {
            Head::Links(_) => queries.pairs().len(),
            Head::Rows(head) => queries.len() * head.outputs(),
        };
        assert_eq!(outputs.len(), expected, "a derivative for each output");
        work.swap_memory();
        let cx = Context { queries, view, dropout: work.dropout, weights: self.weights() };
        let mut gradients = Gradients { values: gradients, layout: &program.layout };
        gradients.zero(program.declarations.shared_params());
        let SliceWork { stages, decoder, rows, tables, gradients: of_tables, reached, accumulated, .. } = work;
        reached.fill(false);
        let top = program.embedding.index();
        of_tables[top].resize_like(&tables[top]);
        of_tables[top].values.fill(0.0);
        reached[top] = program.head.input().is_some();
        match &program.head {
            Head::Links(links) => {
                let pairs = links.pairs().map(Value::index);
                let mut of_pairs = pairs.map(|pairs| std::mem::take(&mut of_tables[pairs]));
                let pair_rows = pairs.map(|pairs| &tables[pairs]);
                let read =
                    DecoderInputs { embeddings: &tables[top], shown: ShownPairs::of(queries, view), pairs: pair_rows };
                let into = DecoderGradients { embeddings: &mut of_tables[top], pairs: of_pairs.as_mut() };
                decoder.backward(links, cx.weights, read, outputs, &mut gradients, into);
                if let (Some(pairs), Some(gradient)) = (pairs, of_pairs) {
                    (of_tables[pairs], reached[pairs]) = (gradient, true);
                }
            }
            Head::Rows(head) => {
                let read = (&tables[top], &*view.roots);
                rows.backward(head, cx.weights, read, outputs, &mut gradients, &mut of_tables[top]);
            }
        }
        for (step, stage) in program.steps.iter().zip(stages).rev() {
            let own = step.gives.index();
            if !reached[own] {
                gradients.zero(program.declarations.params().skip(step.params.start).take(step.params.len()));
                continue;
            }
            let mut grad = std::mem::take(&mut of_tables[own]);
            accumulated.resize_with(step.reads.len().max(accumulated.len()), PaddedRows::default);
            let again = || step.reads.iter().enumerate().filter(|(_, value)| reached[value.index()]);
            again().for_each(|(i, value)| std::mem::swap(&mut accumulated[i], &mut of_tables[value.index()]));
            let mut into = TableGradients { tables: of_tables, values: &step.reads };
            stage.backward(&cx, Tables { tables, values: &step.reads }, &mut grad, &mut into, &mut gradients);
            again().for_each(|(i, value)| add(&mut of_tables[value.index()].values, &accumulated[i].values));
            of_tables[own] = grad;
            step.reads.iter().for_each(|value| reached[value.index()] = true);
        }
        work.swap_memory();
    }
}
