//! Fixtures for tests across crates: a small stream, small models, and runs of both.
#![allow(clippy::unwrap_used, reason = "fixtures of tests")]

pub mod probe;
mod run;
pub mod toy;

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use tempograph_framework::{
    Combine, Dataset, DatasetContent, Delta, EventLog, Features, Lookup, MailContent, MailRule, ModulePath, Needs,
    OtherMemory, Receivers, Sampler, SliceExecutor, SliceModel, Split, Table, TensorExecutor, TimeUnit, Timestamp,
    values, weights, with_weights,
};
use tempograph_kernels::Rows;
use tempograph_kernels::tensor::{AutodiffBackend, Backend, CpuTape, Tensor};
use tempograph_models::{
    AttentionForm, AttentionScores, Embedding, FeatureWidths, Kind, Message, ModelSpec, Program, ProgramModule,
    Registry, SliceProgram, StaticMemoryMode, StaticSpec, TgnSpec, Updater, WalkSpec,
};
use tempograph_trainers::{EvalSpec, Learner, LrScale, ParallelSpec, TrainSpec, TrainingData};

use probe::ProbeModel;
pub use run::{
    Moment, RunResult, Runner, Stopper, assert_same, assert_same_steps, in_new_folder, pass, processes,
    stopped_and_resumed, whole,
};
use toy::{Toy, ToyModule};

/// Ticks of the built-in stream that are one tick here: about two events share each.
const TICK: i64 = 1200;

/// The built-in stream, small and with many equal times, with `edge` and `node` feature columns.
pub fn stream(events: usize, edge: usize, node: usize) -> Dataset {
    let plain = Dataset::from_spec(&format!("synthetic:events={events},users=14,items=10,features={edge}")).unwrap();
    let log = &plain.log;
    let time = log.time().iter().map(|time| Timestamp(time.0 / TICK)).collect();
    let log =
        EventLog::new(log.src().to_vec(), log.dst().to_vec(), time, log.label().to_vec(), log.features().cloned())
            .unwrap();
    let of_node = (0..plain.nodes * node).map(|i| (i as f32).sin()).collect();
    Dataset::new(DatasetContent {
        name: plain.name,
        log,
        time_unit: TimeUnit { description: "20 min".into(), scale: 1 },
        node_features: (node > 0).then(|| Table::new(of_node, node).unwrap()),
        ids: plain.ids,
        source: plain.source,
        notices: Vec::new(),
    })
    .unwrap()
}

/// Width of the static memory of all fixtures.
pub const STATIC: usize = 5;

/// How often a random test is repeated: `TEMPOGRAPH_LONG` (1).
pub fn rounds() -> usize {
    std::env::var("TEMPOGRAPH_LONG").map_or(1, |rounds| rounds.parse().unwrap())
}

/// A dataset's features as models read them, with untrained static memory for models that read it.
pub fn features(set: &Dataset) -> Features {
    let nodes = set.node_features.clone().map(|table| Arc::new(table) as Arc<dyn Rows>);
    let static_memory = Table::new((0..set.nodes * STATIC).map(|i| (i as f32 * 0.7).cos()).collect(), STATIC).unwrap();
    Features { edges: set.log.features().cloned(), nodes, static_memory: Some(Arc::new(static_memory)) }
}

/// A dataset split into 70, 15 and 15 per cent.
pub fn training_data(set: Dataset) -> TrainingData {
    let split = Split::by_time(set.log.time(), 0.15, 0.15).unwrap();
    let features = features(&set);
    TrainingData::new(set, features, split).unwrap()
}

/// The training data of most runs: [`stream`] of 240 events.
pub fn data() -> TrainingData {
    training_data(stream(240, 2, 3))
}

/// A fresh model for a dataset.
pub fn model(spec: &TgnSpec, set: &Dataset, seed: u64) -> ProgramModule<CpuTape> {
    let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
    tuned_model(tensors(spec, widths, seed))
}

/// Every kind of the registry, narrow, without dropout.
pub fn kinds() -> Vec<ModelSpec> {
    let registry = Registry::default();
    let narrow = |kind: &Kind| {
        let mut table = toml::Table::try_from(kind.settings()).unwrap();
        for (key, value) in [("memory", 8), ("time", 6), ("width", 8), ("neighbours", 4)] {
            if let Some(setting) = table.get_mut(key) {
                *setting = value.into();
            }
        }
        if let Some(dropout) = table.get_mut("dropout") {
            *dropout = 0.0.into();
        }
        if let Some(part) = table.get_mut("static").and_then(toml::Value::as_table_mut) {
            part.insert("width".into(), (STATIC as i64).into());
        }
        registry.read(table).unwrap()
    };
    registry.kinds().iter().map(narrow).collect()
}

/// What a history keeps for a model.
pub fn needs(spec: &TgnSpec) -> Needs {
    program(spec, FeatureWidths::default()).needs().clone()
}

/// The program of a model.
pub fn program(spec: &TgnSpec, widths: FeatureWidths) -> Arc<Program> {
    ModelSpec::from(spec.clone()).program(widths).unwrap()
}

/// A fresh model on tensors.
pub fn tensors<B: Backend>(spec: &TgnSpec, widths: FeatureWidths, seed: u64) -> ProgramModule<B> {
    ModelSpec::from(spec.clone()).on_tensors(widths, seed, &Default::default()).unwrap()
}

/// A fresh model on slices.
pub fn slices(spec: &TgnSpec, widths: FeatureWidths, seed: u64) -> SliceProgram {
    ModelSpec::from(spec.clone()).on_slices(widths, seed).unwrap()
}

/// The same model on slices.
pub fn slices_of<B: Backend>(model: &ProgramModule<B>) -> SliceProgram {
    let mut slices = SliceProgram::new(model.program().clone(), 0);
    let values = slices.parameters().read(weights(model)).unwrap();
    slices.parameters_mut().values_mut().copy_from_slice(&values);
    slices
}

/// Fine-tuning of static memory begins at zero. This sets its weights to other numbers, so that errors show.
fn tuned_model(model: ProgramModule<CpuTape>) -> ProgramModule<CpuTape> {
    let (mut store, name) = (weights::<CpuTape, _>(&model), "static_memory.correction");
    if store.names().any(|known| known == name) {
        let (shape, zeros) = store.take::<f32>(name).unwrap();
        store.put(name, shape, (0..zeros.len()).map(|i| (i as f32).sin()).collect());
    }
    with_weights(model, store).unwrap()
}

/// Builds a learner of a fresh model for a dataset, the same each time.
pub type Maker = Box<dyn Fn(&Dataset) -> Learner + Sync>;

/// A learner of a model on slices.
pub fn on_slices(model: impl SliceModel) -> Learner {
    Learner::new(Box::new(SliceExecutor::new(model)))
}

/// TGNs on the tape.
pub fn autodiff(spec: &TgnSpec) -> Maker {
    let spec = spec.clone();
    Box::new(move |set| Learner::new(Box::new(TensorExecutor::new(model(&spec, set, 3), &Default::default()))))
}

/// Toys on slices, `width` wide.
pub fn toy(width: usize) -> Maker {
    Box::new(move |_| on_slices(Toy::new(width)))
}

/// [`ProbeModel`]s with these needs.
pub fn probe(needs: &Needs) -> Maker {
    let needs = needs.clone();
    Box::new(move |_| on_slices(ProbeModel::new(needs.clone())))
}

/// Needs of models other than TGN, each with a name for messages: no memory, given mail, mail in slots, mail to
/// neighbours.
pub fn other_needs() -> Vec<(&'static str, Needs)> {
    let plain = Needs { memory: 3, neighbours: 3, layers: 1, ..Needs::nothing() };
    let with = |mail: MailRule| Needs { mail, ..plain.clone() };
    let given = MailRule { says: MailContent::Given(2), ..MailRule::default() };
    let to = Receivers::Neighbours { count: 2, decay: Some(20.0) };
    let drawn =
        Needs { sampler: Sampler::Uniform, ends: true, ..with(MailRule { combine: Combine::Mean, to, ..given }) };
    vec![
        ("no memory", Needs { memory: 0, layers: 2, ..plain.clone() }),
        ("given", Needs { ends: true, layers: 2, ..with(given) }),
        ("slots", with(MailRule { combine: Combine::Slots(3), ..MailRule::default() })),
        ("means in slots", with(MailRule { combine: Combine::MeanSlots(3), ..MailRule::default() })),
        (
            "slots at read",
            with(MailRule { combine: Combine::Slots(3), other: OtherMemory::AtRead, ..MailRule::default() }),
        ),
        ("to neighbours", with(MailRule { to, ..MailRule::default() })),
        ("mean, given, to neighbours, drawn", drawn),
        (
            "slots, given, to neighbours",
            Needs {
                ends: true,
                neighbours: 0,
                idle: true,
                ..with(MailRule {
                    combine: Combine::MeanSlots(3),
                    to: Receivers::Neighbours { count: 4, decay: None },
                    ..given
                })
            },
        ),
    ]
}

/// The same toys on the tape.
pub fn autodiff_toy(width: usize) -> Maker {
    let module = move || ToyModule::<CpuTape>::new(width, &Default::default());
    Box::new(move |_| Learner::new(Box::new(TensorExecutor::new(module(), &Default::default()))))
}

/// A small TGN of the paper's form, dropout off.
pub fn small() -> TgnSpec {
    TgnSpec { memory: 8, time: 6, width: 8, neighbours: 4, dropout: 0.0, ..TgnSpec::default() }
}

/// Walks of up to two events.
pub fn walks() -> Option<WalkSpec> {
    Some(WalkSpec { layers: 2, width: 8, decay: Some(0.02), seed: 5 })
}

/// Static memory that is not trained, now and then hidden.
pub fn frozen(how: StaticMemoryMode) -> StaticSpec {
    StaticSpec { how, width: STATIC, hide: 0.2, ..StaticSpec::default() }
}

/// Static memory that is fine-tuned, of all nodes of [`stream`] but the last.
pub fn tuned(how: StaticMemoryMode) -> StaticSpec {
    StaticSpec { train: true, nodes: Some(23), ..frozen(how) }
}

/// Every option of a TGN, each with a name for messages.
pub fn variants() -> Vec<(&'static str, TgnSpec)> {
    let conv = TgnSpec { attention: AttentionForm::TransformerConv, ..small() };
    vec![
        ("paper", small()),
        ("paper, 2 layers", TgnSpec { layers: 2, ..small() }),
        ("conv", conv.clone()),
        ("conv, 2 layers", TgnSpec { layers: 2, ..conv.clone() }),
        ("leaky", TgnSpec { attention_scores: AttentionScores::LeakyRelu, ..small() }),
        ("leaky, conv, 2 layers", TgnSpec { attention_scores: AttentionScores::LeakyRelu, layers: 2, ..conv.clone() }),
        ("sum", TgnSpec { embedding: Embedding::Sum, ..small() }),
        ("sum, 2 layers", TgnSpec { embedding: Embedding::Sum, layers: 2, ..small() }),
        ("time", TgnSpec { embedding: Embedding::Time, time_scale: Some(10.0), ..small() }),
        ("identity", TgnSpec { embedding: Embedding::Identity, ..small() }),
        ("message mlp", TgnSpec { message: Message::Mlp, ..small() }),
        ("mean mail", TgnSpec { mail: Combine::Mean, ..small() }),
        ("mean mail, message mlp", TgnSpec { mail: Combine::Mean, message: Message::Mlp, ..small() }),
        ("rnn", TgnSpec { updater: Updater::Rnn, ..small() }),
        ("rnn, mean mail", TgnSpec { updater: Updater::Rnn, mail: Combine::Mean, ..small() }),
        ("at read", TgnSpec { mail_memory: OtherMemory::AtRead, ..small() }),
        ("update without mail", TgnSpec { update_without_mail: true, ..small() }),
        ("update without mail, mean", TgnSpec { update_without_mail: true, mail: Combine::Mean, ..small() }),
        ("uniform", TgnSpec { sampler: Sampler::Uniform, ..small() }),
        ("uniform, 2 layers", TgnSpec { sampler: Sampler::Uniform, layers: 2, ..small() }),
        ("window", TgnSpec { sampler: Sampler::Window(30), ..small() }),
        ("pair features", TgnSpec { pair_features: true, ..small() }),
        ("pair features, identity", TgnSpec { pair_features: true, embedding: Embedding::Identity, ..small() }),
        ("walks", TgnSpec { walks: walks(), ..small() }),
        ("static, add", TgnSpec { static_memory: frozen(StaticMemoryMode::Add), ..small() }),
        ("static, concat, 2 layers", TgnSpec { layers: 2, static_memory: frozen(StaticMemoryMode::Concat), ..small() }),
        (
            "static, concat, sum",
            TgnSpec { embedding: Embedding::Sum, static_memory: tuned(StaticMemoryMode::Concat), ..small() },
        ),
        ("static, tuned, add, conv", TgnSpec { static_memory: tuned(StaticMemoryMode::Add), ..conv.clone() }),
        ("static, tuned, concat", TgnSpec { static_memory: tuned(StaticMemoryMode::Concat), ..small() }),
        (
            "static, tuned, identity",
            TgnSpec { embedding: Embedding::Identity, static_memory: tuned(StaticMemoryMode::Add), ..small() },
        ),
        (
            "as PyG",
            TgnSpec {
                mail_memory: OtherMemory::AtRead,
                update_without_mail: true,
                time_delta: Delta::SinceUpdate,
                history: Lookup::Batch,
                ..conv
            },
        ),
    ]
}

/// A run of a few steps with everything on that has a state.
pub fn training() -> TrainSpec {
    TrainSpec { batch: 24, epochs: 2, lr: 1e-2, weight_decay: 0.01, clip: 1.0, warmup: 2, ..TrainSpec::default() }
}

/// The plan `i x j x k` with the learning rate of one lane, `prefetch` batches prepared ahead and memories `staleness`
/// batches old.
pub fn plan([minibatch, epoch, memory]: [usize; 3], prefetch: usize, staleness: usize) -> ParallelSpec {
    ParallelSpec { minibatch, epoch, memory, prefetch, staleness, lr_scale: LrScale::None, ..ParallelSpec::default() }
}

/// A short evaluation.
pub fn eval_spec() -> EvalSpec {
    EvalSpec { negatives: 5, ..EvalSpec::default() }
}

/// The gradients a backward pass left, by weight name: those that reached it.
pub fn gradients(
    model: &ProgramModule<CpuTape>,
    tape: &<CpuTape as AutodiffBackend>::Gradients,
) -> Vec<(String, Vec<f32>)> {
    let mut collect = Gradients { path: ModulePath::default(), tape, found: Vec::new() };
    model.visit(&mut collect);
    collect.found
}

struct Gradients<'a> {
    path: ModulePath,
    tape: &'a <CpuTape as AutodiffBackend>::Gradients,
    found: Vec<(String, Vec<f32>)>,
}

impl ModuleVisitor<CpuTape> for Gradients<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<CpuTape, D>>) {
        if let Some(gradient) = param.val().grad(self.tape) {
            self.found.push((self.path.dotted(), values(gradient)));
        }
    }
}
