//! One pass on a device, forward and backward.

use tempograph_framework::{PairFact, Queries};
use tempograph_kernels::PairPlan;
use tempograph_kernels::cube::{Matrix, mail_rows};
use tempograph_kernels::tensor::CubeRuntime;

use crate::executor::device::CompiledProgram;
use crate::operation::{BackwardFn, DeviceContext, TimeGradients, Value};

/// The operations of a program with some weights, whose gradients it writes.
pub(super) struct Pass<'a, R: CubeRuntime> {
    compiled: &'a CompiledProgram<R>,
    cx: DeviceContext<'a, R>,
    /// One table per value, once it is computed.
    tables: Vec<Option<Matrix<R>>>,
    /// One function per step that was run.
    backs: Vec<Option<BackwardFn<'a, R>>>,
}

impl<'a, R: CubeRuntime> Pass<'a, R> {
    pub fn new(compiled: &'a CompiledProgram<R>, cx: DeviceContext<'a, R>) -> Pass<'a, R> {
        let steps = compiled.stages.iter().map(|_| None).collect();
        Pass { compiled, cx, tables: vec![None; compiled.program.shapes.len()], backs: steps }
    }

    /// Runs the steps that an update depends on, without dropout. Steps with dropout run again if embeddings depend on
    /// them. Returns the new memories of the past's rows (or the stored ones if the model writes none), and the mail
    /// payload if the model makes it and the batch's ends are queried.
    pub fn update(&mut self, queries: &Queries) -> (Matrix<R>, Option<Matrix<R>>) {
        let (program, past, ends) = (&*self.compiled.program, self.cx.past, !queries.ends().is_empty());
        let mut clean: Vec<Option<Matrix<R>>> = vec![None; program.shapes.len()];
        for (i, step) in program.steps.iter().enumerate().filter(|(_, step)| step.updates_with(ends)) {
            if step.has_dropout {
                let read = |value: &Value| clean[value.index()].as_ref().unwrap_or_else(|| self.table(*value)).clone();
                let reads = step.reads.iter().map(read).collect();
                let cx = DeviceContext { dropout: None, ..self.cx };
                clean[step.gives.index()] = Some(self.compiled.stages[i].forward(cx, reads).0);
            } else {
                self.run(i);
            }
        }
        let clean_of = |value: Value| clean[value.index()].as_ref().unwrap_or_else(|| self.table(value)).clone();
        let memory = program.memory.map_or_else(|| past.memory(), clean_of);
        (
            memory,
            program.mail_payload.filter(|_| ends).map(|says| mail_rows(past, &clean_of(says.value), says.rows.into())),
        )
    }

    /// Runs the remaining steps that embeddings depend on.
    pub fn embed(&mut self) {
        for (i, step) in self.compiled.program.steps.iter().enumerate() {
            if step.embeds && self.tables[step.gives.index()].is_none() {
                self.run(i);
            }
        }
    }

    fn run(&mut self, i: usize) {
        let step = &self.compiled.program.steps[i];
        let reads = step.reads.iter().map(|&value| self.table(value).clone()).collect();
        let (table, back) = self.compiled.stages[i].forward(self.cx, reads);
        self.tables[step.gives.index()] = Some(table);
        self.backs[i] = Some(back);
    }

    fn table(&self, value: Value) -> &Matrix<R> {
        self.tables[value.index()].as_ref().unwrap_or_else(|| unreachable!("steps stand in the order they are read"))
    }

    /// Scores the pairs, of which the first `positives` are true events, and runs the backward pass down to the
    /// weights. Returns the loss, `[1, 1]`.
    pub fn backward(mut self, (pairs, positives): (&PairPlan, usize), facts: &[PairFact]) -> Matrix<R> {
        let program = &*self.compiled.program;
        let top = self.table(program.embedding);
        let (loss, grad) = self.compiled.decoder.loss(self.cx.weights, top, (pairs, positives), facts);
        let mut shares = TimeGradients::new(&self.cx, &self.compiled.stages);
        let mut gradients = vec![None; program.shapes.len()];
        gradients[program.embedding.index()] = Some(grad);
        for (step, back) in program.steps.iter().zip(&mut self.backs).rev() {
            let (Some(back), Some(grad)) = (back.take(), gradients[step.gives.index()].take()) else { continue };
            for (value, found) in step.reads.iter().zip(back(&grad, &mut shares)) {
                let width = program.shape(*value).width;
                let known = gradients[value.index()].take();
                gradients[value.index()] =
                    Some(known.map_or(found.clone(), |known: Matrix<R>| known.plus(&found, width)));
            }
        }
        shares.sum();
        loss
    }
}
