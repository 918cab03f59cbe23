//! Batches begun ahead of their step: sampled on one thread, their memories read on another.
//!
//! The sampler has graphs of its own. They follow from the events alone, so they can run ahead of the histories.
//! Memories cannot: they are read from the current histories, `staleness` batches before their turn. With `staleness =
//! 0` they are also read one batch early, except the rows that the batch before will write. Those are read after it has
//! written them. The result is then the same as without a pipeline.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tempograph_framework::{Batch, Features, Graph, Memories, NodeId, Store, View};

use crate::parallel::batch_builder::{BatchBuilder, GlobalBatch, LaneInput};
use crate::parallel::pipeline::{Lookahead, Pipeline};
use crate::plan::PlanPosition;
use crate::setup::trace::{Stage, Trace, note};
use crate::{ParallelSpec, TrainError};

/// The prefix of the names of prefetched views, in a checkpoint.
pub(crate) const PREFETCH_PREFIX: &str = "ahead.";

/// The batches to come of all histories of a process.
pub(crate) struct Prefetch {
    pipeline: Pipeline<PreparedStep, Vec<HistoryState>>,
    /// Numbers of the histories in the plan.
    histories: Vec<usize>,
    staleness: usize,
    trace: Option<Arc<Trace>>,
}

/// The batches that all histories begin at one step.
#[derive(Default)]
pub(crate) struct PreparedStep {
    step: u64,
    /// In the order of the histories.
    pub begun: Vec<GlobalBatch>,
    /// Seconds of drawing negatives and sampling neighbours.
    sampling: f64,
    /// Seconds of reading memories.
    reading: f64,
}

/// The current memories of a history.
#[derive(Clone)]
pub(crate) struct HistoryState {
    /// The batch that the history is to observe next.
    pub position: PlanPosition,
    pub memories: Arc<Memories>,
}

impl Prefetch {
    /// Starts sampling from `step` on. `graphs` are the current graphs of the histories, by number.
    pub fn start(
        spec: &ParallelSpec,
        builder: Arc<BatchBuilder>,
        graphs: Vec<(usize, Graph)>,
        step: u64,
        trace: Option<Arc<Trace>>,
    ) -> Result<Prefetch, TrainError> {
        let ahead = Lookahead { depth: spec.prefetch, reach: spec.staleness.max(1) };
        let histories = graphs.iter().map(|(number, _)| *number).collect();
        let reader = Reader { builder: builder.clone(), exact: spec.staleness == 0, trace: trace.clone() };
        let pending = vec![Vec::new(); graphs.len()];
        let mut sampler = Sampler { builder, graphs, pending, step, trace: trace.clone() };
        let sample = move |ready: &mut PreparedStep| sampler.fill(ready);
        let read = move |ready: &mut PreparedStep, now: &Vec<HistoryState>| reader.read(ready, now);
        let pipeline = Pipeline::start(ahead, sample, read)
            .map_err(|error| TrainError::Plan(format!("cannot start the threads of parallel.prefetch: {error}")))?;
        Ok(Prefetch { pipeline, histories, staleness: spec.staleness, trace })
    }

    /// The batches of the next step. `now` is the current state of the histories. Until
    /// [`wait_for_reads`](Prefetch::wait_for_reads) the memories are read for a later step.
    ///
    /// # Errors
    /// The error of sampling them.
    pub fn take(&mut self, now: &[HistoryState], report: &mut PrefetchReport) -> Result<PreparedStep, TrainError> {
        let began = Instant::now();
        let mut ready = self.pipeline.take(|| now.to_vec())?;
        note(&self.trace, Stage::Wait, ready.step, began);
        report.waiting += began.elapsed().as_secs_f64();

        let began = Instant::now();
        // A history that was just reset could not be read before: these reads were left for now.
        std::iter::once(&mut ready).chain(self.pipeline.upcoming_mut()).for_each(|ready| ready.read(now, |_| None));
        if self.staleness == 0 {
            ready.complete(now);
        }
        note(&self.trace, Stage::Complete, ready.step, began);
        report.completing += began.elapsed().as_secs_f64();
        report.sampling += ready.sampling;
        report.reading += ready.reading;
        Ok(ready)
    }

    /// Waits until no thread reads the memories. They may be written then.
    pub fn wait_for_reads(&mut self, step: u64, report: &mut PrefetchReport) {
        let began = Instant::now();
        self.pipeline.wait_for_reads();
        note(&self.trace, Stage::Wait, step, began);
        report.waiting += began.elapsed().as_secs_f64();
    }

    /// Returns batches after use, to be filled again.
    pub fn recycle(&mut self, ready: PreparedStep) {
        self.pipeline.recycle(ready);
    }

    /// The views of the batches to come that show memories which the histories no longer hold. A resumed run needs
    /// them.
    pub fn to_store(&self) -> Store {
        let mut store = Store::default();
        if self.staleness == 0 {
            return store;
        }
        for (ahead, ready) in self.pipeline.upcoming().enumerate() {
            for (history, begun) in self.histories.iter().zip(&ready.begun).filter(|(_, begun)| begun.read) {
                let shown = begun.inputs.iter().enumerate().filter(|(_, input)| !input.view.nodes.is_empty());
                shown.for_each(|(i, input)| store.merge(&name(*history, ahead, i), input.view.to_store()));
            }
        }
        store
    }

    /// Restores the state that [`to_store`](Prefetch::to_store) gave. `first` was taken, and nothing since.
    ///
    /// # Errors
    /// A view that cannot be read.
    pub fn restore(
        &mut self,
        first: &mut PreparedStep,
        store: &mut Store,
        features: &Features,
    ) -> Result<(), TrainError> {
        for (ahead, ready) in std::iter::once(first).chain(self.pipeline.upcoming_mut()).enumerate() {
            for (history, begun) in self.histories.iter().zip(&mut ready.begun) {
                for (i, input) in begun.inputs.iter_mut().enumerate() {
                    let gathered = store.split_off(&name(*history, ahead, i));
                    if gathered.names().next().is_some() {
                        input.view = View::from_store(gathered, features)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn name(history: usize, ahead: usize, input: usize) -> String {
    format!("{PREFETCH_PREFIX}{history}.{ahead}.{input}.")
}

impl PreparedStep {
    /// Reads the memories of the batches whose sweep is the current sweep of their history. The rows that `pending`,
    /// the batch that the history observes before, will write are left out.
    fn read<'b>(&mut self, now: &[HistoryState], pending: impl Fn(&HistoryState) -> Option<Batch<'b>>) {
        for (begun, now) in self.begun.iter_mut().zip(now) {
            if begun.read || begun.position.sweep != now.position.sweep {
                continue;
            }
            let pending = if begun.position == now.position { None } else { pending(now) };
            for LaneInput { view, .. } in &mut begun.inputs {
                match &pending {
                    Some(pending) => now.memories.prefetch_into(pending, &begun.pending, view),
                    None => now.memories.read_into(view),
                }
            }
            begun.read = true;
        }
    }

    /// Reads the rows that were left out, after they were written.
    fn complete(&mut self, now: &[HistoryState]) {
        for (begun, now) in self.begun.iter_mut().zip(now) {
            begun.inputs.iter_mut().for_each(|input| now.memories.complete_prefetch(&mut input.view));
        }
    }
}

/// Reads the memories of batches that were sampled.
struct Reader {
    builder: Arc<BatchBuilder>,
    /// Whether rows that are still to be written are left out and completed later.
    exact: bool,
    trace: Option<Arc<Trace>>,
}

impl Reader {
    fn read(&self, ready: &mut PreparedStep, now: &[HistoryState]) {
        let began = Instant::now();
        let next = |now: &HistoryState| self.builder.batch(&self.builder.events_of(now.position.batch));
        ready.read(now, |now| self.exact.then(|| next(now)));
        ready.reading = began.elapsed().as_secs_f64();
        note(&self.trace, Stage::Memory, ready.step, began);
    }
}

/// Samples the batches of one step after the other.
struct Sampler {
    builder: Arc<BatchBuilder>,
    /// By the number of the history.
    graphs: Vec<(usize, Graph)>,
    /// For each graph, the neighbours that get mail of the batch sampled last.
    pending: Vec<Vec<NodeId>>,
    step: u64,
    trace: Option<Arc<Trace>>,
}

impl Sampler {
    fn fill(&mut self, ready: &mut PreparedStep) -> Result<(), TrainError> {
        let Sampler { builder, graphs, pending, step, trace } = self;
        let began = Instant::now();
        ready.step = *step;
        ready.begun.resize_with(graphs.len(), || GlobalBatch::allocate(builder.plan));
        for (((history, graph), pending), begun) in graphs.iter_mut().zip(pending).zip(&mut ready.begun) {
            begun.position = builder.plan.position_at(*history, *step, builder.batches);
            begun.read = false;
            if begun.position.resets_history() {
                graph.reset();
            }
            for (input, slot) in builder.own_inputs(*history, *step, &mut begun.inputs) {
                builder.form_queries(input, slot)?;
                builder.sample(graph, input, slot);
            }
            std::mem::swap(&mut begun.pending, pending);
            graph.observe(&builder.batch(&builder.events_of(begun.position.batch)))?;
            pending.clear();
            pending.extend(graph.received().nodes());
        }
        for input in ready.begun.iter_mut().flat_map(|begun| &mut begun.inputs) {
            builder.features.show_in(&mut input.view);
        }
        note(trace, Stage::Sample, *step, began);
        ready.sampling = began.elapsed().as_secs_f64();
        self.step += 1;
        Ok(())
    }
}

/// What a pipeline did. Times are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefetchReport {
    /// Drawing negatives and sampling neighbours, while the trainer works.
    pub sampling: f64,
    /// Reading memories and mail, while the trainer works.
    pub reading: f64,
    /// The time the trainer waited for a batch, or until its memories were read.
    pub waiting: f64,
    /// The time the trainer spent on reading rows that were left out because they were not written yet.
    pub completing: f64,
    /// The number of batches whose memories were `0, 1, 2, …` batches behind their neighbours.
    pub staleness: Vec<u64>,
}

impl PrefetchReport {
    /// The part of sampling and reading that did not delay the trainer, `0..=1`.
    pub fn hidden(&self) -> f64 {
        let all = self.sampling + self.reading + self.completing;
        if all > 0.0 { (1.0 - (self.waiting + self.completing) / all).max(0.0) } else { 0.0 }
    }

    /// Counts a batch whose memories were `staleness` batches behind.
    pub(crate) fn count(&mut self, staleness: u64) {
        let behind = staleness as usize;
        if self.staleness.len() <= behind {
            self.staleness.resize(behind + 1, 0);
        }
        self.staleness[behind] += 1;
    }
}
