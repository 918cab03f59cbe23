//! Training on a device gives the same as on slices, with the history on the device or in host memory, alone or in
//! lanes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tempograph_framework::{
    Batch, Combine, Dataset, DatasetContent, Delta, DeviceModel, DeviceOrHostHistory, Draw, EventLog, Features,
    History, HostViewSource, Lookup, MailRule, NodeId, OtherMemory, Purpose, Queries, ResidentModel, Sampler,
    SliceModel, Table, TimeUnit, Timestamp, Update,
};
use tempograph_kernels::cpu::adam_step;
use tempograph_kernels::cube::launches;
use tempograph_kernels::tensor::{WgpuRuntime, vulkan};
use tempograph_kernels::{AdamStep, Rows};
use tempograph_models::{
    AttentionForm, AttentionScores, AttentionSettings, Builder, DeviceProgram, DyrepSpec, Embedding,
    EmptyNeighbourhood, FeatureWidths, IdleSpec, JodieSpec, MemoryUpdateSettings, Message, ModelKind, ModelSpec,
    NeighbourSettings, Outputs, Program, SliceProgram, SliceWork, StaticMemoryMode, StaticOnlySpec, StaticSpec,
    TgatSpec, TgnSpec, TimeInit, Updater,
};

/// One test at a time: launches are counted for the whole program, and the device is the processor.
static TURN: Mutex<()> = Mutex::new(());

fn no_device() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}

/// Enough bytes for every test here.
const PLENTY: u64 = 1 << 30;
/// Width of static memory.
const STATIC: usize = 5;
const BATCH: usize = 12;
const SEED: u64 = 3;

/// A small stream in which about two events share each time.
fn stream(events: usize, node: usize) -> Dataset {
    let plain = Dataset::from_spec(&format!("synthetic:events={events},users=14,items=10,features=2")).unwrap();
    let log = &plain.log;
    // A history on a device keeps no second copy of what a tick has changed: batches cut no tick.
    let time = log.time().iter().enumerate().map(|(at, time)| Timestamp(time.0 / 1200 + (at / BATCH) as i64)).collect();
    let (src, dst, label, edge) =
        (log.src().to_vec(), log.dst().to_vec(), log.label().to_vec(), log.features().cloned());
    let of_node = (0..plain.nodes * node).map(|i| (i as f32).sin()).collect();
    Dataset::new(DatasetContent {
        name: plain.name,
        log: EventLog::new(src, dst, time, label, edge).unwrap(),
        time_unit: TimeUnit { description: "20 min".into(), scale: 1 },
        node_features: (node > 0).then(|| Table::new(of_node, node).unwrap()),
        ids: plain.ids,
        source: plain.source,
        notices: Vec::new(),
    })
    .unwrap()
}

fn widths(set: &Dataset) -> FeatureWidths {
    FeatureWidths { edge: set.edge_width(), node: set.node_width() }
}

fn history(set: &Dataset, program: &Program) -> History {
    let nodes = set.node_features.clone().map(|table| Arc::new(table) as Arc<dyn Rows>);
    let vectors = Table::new((0..set.nodes * STATIC).map(|i| (i as f32 * 0.7).cos()).collect(), STATIC).unwrap();
    let features = Features { edges: set.log.features().cloned(), nodes, static_memory: Some(Arc::new(vectors)) };
    History::new(set.nodes, program.needs().clone(), set.log.time()[0], features)
}

/// The batches of a pass, each with its queries: two negatives per event.
fn batches(set: &Dataset, size: usize) -> impl Iterator<Item = (Batch<'_>, Queries)> {
    (0..set.log.len()).step_by(size).map(move |first| {
        let batch = set.log.batch(first..set.log.len().min(first + size));
        let node = |i: usize| NodeId(((first + i) * 7919 % set.nodes) as u32);
        let negatives: Vec<NodeId> = (0..2 * batch.len()).map(node).collect();
        let queries = Queries::of_batch(&batch, &negatives, &(0..=batch.len()).map(|i| 2 * i).collect::<Vec<_>>());
        (batch, queries)
    })
}

fn adam(step: u64) -> AdamStep {
    // the steps are short, since Adam enlarges rounding errors where gradients vanish
    AdamStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step }
}

/// A program that trains on slices.
struct SliceTrainer {
    model: SliceProgram,
    history: History,
    work: SliceWork,
    gradients: Vec<f32>,
    moments: [Vec<f32>; 2],
    steps: u64,
}

impl SliceTrainer {
    fn new(program: &Arc<Program>, set: &Dataset) -> SliceTrainer {
        let model = SliceProgram::new(program.clone(), SEED);
        let zeros = vec![0.0; model.parameters().values().len()];
        SliceTrainer {
            history: history(set, program),
            work: SliceWork::default(),
            gradients: zeros.clone(),
            moments: [zeros.clone(), zeros],
            steps: 0,
            model,
        }
    }

    /// Loss of a pass and norm of its gradients.
    fn compute_gradients(&mut self, batch: &Batch<'_>, queries: &Queries) -> [f32; 2] {
        let view = self.history.view(queries, Some(batch), Draw::new(SEED).of(Purpose::Sampling));
        self.model.forward(queries, &view, Some(self.steps), &mut self.work);
        let scores = &self.work.as_ref().scores;
        let (mut loss, positives) = (0.0, queries.positives());
        let shares = [positives, scores.len() - positives].map(|count| 1.0 / count as f32);
        let score_grads: Vec<f32> = (scores.iter().enumerate())
            .map(|(i, &score)| {
                let (sign, share) = if i < positives { (-1.0, shares[0]) } else { (1.0, shares[1]) };
                let x = sign * score;
                loss += share * (x.max(0.0) + (-x.abs()).exp().ln_1p());
                sign * share / (1.0 + (-x).exp())
            })
            .collect();
        self.model.backward(queries, &view, &score_grads, &mut self.gradients, &mut self.work);
        [loss, self.gradients.iter().map(|x| x * x).sum::<f32>().sqrt()]
    }

    fn step(&mut self, batch: &Batch<'_>, queries: &Queries) -> [f32; 2] {
        let learned = self.compute_gradients(batch, queries);
        self.history.observe(batch, &self.work.as_ref().update).unwrap();
        self.steps += 1;
        let ([first, second], values) = (&mut self.moments, self.model.parameters_mut().values_mut());
        adam_step(values, &self.gradients, first, second, &adam(self.steps));
        learned
    }
}

fn device_program(
    program: &Arc<Program>,
    set: &Dataset,
    room: u64,
) -> Result<DeviceProgram<WgpuRuntime, DeviceOrHostHistory<WgpuRuntime>>, String> {
    let history = history(set, program);
    let mut model = DeviceProgram::<_, DeviceOrHostHistory<_>>::new(
        program.clone(),
        SEED,
        &Default::default(),
        (&history, &set.log),
        room,
    )?;
    model.load_history(history, &set.log);
    Ok(model)
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(1e-3f32, |max, x| max.max(x.abs()));
    let worst = ours.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert!(worst <= tolerance * scale, "{what}: {worst} off, of {scale}");
}

#[track_caller]
fn assert_near(what: &str, ours: [f32; 2], expected: [f32; 2]) {
    let near = |i: usize| (ours[i] - expected[i]).abs() <= 1e-3 * expected[i].max(0.1);
    assert!(near(0) && near(1), "{what}: loss and norm {ours:?} for {expected:?}");
}

/// A pass over the stream on a device with that much room, and the same on slices.
fn learns_what_slices_learn(name: &str, program: &Arc<Program>, set: &Dataset, room: u64) {
    let (mut host, mut device) = (SliceTrainer::new(program, set), device_program(program, set, room).unwrap());
    let chance = Draw::new(SEED).of(Purpose::Sampling);
    for (step, (batch, queries)) in batches(set, BATCH).enumerate() {
        device.train(&batch, &queries, chance, step as u64, &adam(step as u64 + 1), 0.0);
        let [ours, expected] = [device.take_losses()[0], host.step(&batch, &queries)];
        assert_near(&format!("{name}, step {step}"), ours, expected);
    }
    let (_, [first, _]) = device.moments();
    for part in host.model.parameters().arrays(&first).names() {
        let range = program_range(&host.model, part);
        let [ours, expected] = [&first, &host.moments[0]].map(|all| all[range.clone()].to_vec());
        // gradients of frequencies have rounding errors multiplied by times
        let least = if part.ends_with("freq") { [0.1] } else { [0.0] };
        let [ours, expected] = [ours, expected].map(|numbers| [&numbers[..], &least].concat());
        assert_close(&format!("{name}: {part}"), &ours, &expected, 1e-3);
    }
    let home = device.take_history(&set.log);
    assert_close(&format!("{name}: memory"), home.memory(), host.history.memory(), 1e-4);
    assert_eq!(home.updated(), host.history.updated(), "{name}");
    assert!((0..set.nodes as u32).all(|node| home.degree(NodeId(node)) == host.history.degree(NodeId(node))), "{name}");
}

fn program_range(model: &SliceProgram, name: &str) -> std::ops::Range<usize> {
    model.parameters().find(name).unwrap().range.clone()
}

fn small() -> TgnSpec {
    TgnSpec { memory: 8, time: 6, width: 8, neighbours: 4, dropout: 0.0, ..TgnSpec::default() }
}

/// Static memory, hidden in some steps. If it is fine-tuned, that of all nodes but the last is.
fn vectors(how: StaticMemoryMode, train: bool) -> StaticSpec {
    StaticSpec { how, width: STATIC, hide: 0.2, train, nodes: train.then_some(23), ..StaticSpec::default() }
}

/// The settings that a device implements separately: attention, cell, hops, sampling, the memory that a message
/// carries, the events that a query sees, inputs of nodes besides memory and of pairs besides their ends.
fn kinds() -> Vec<(&'static str, TgnSpec)> {
    let conv = TgnSpec { attention: AttentionForm::TransformerConv, ..small() };
    vec![
        ("paper", small()),
        ("static, tuned, add", TgnSpec { static_memory: vectors(StaticMemoryMode::Add, true), ..conv.clone() }),
        (
            "static, tuned, concat, 2 layers",
            TgnSpec { layers: 2, static_memory: vectors(StaticMemoryMode::Concat, true), ..small() },
        ),
        (
            "static, frozen, add, pair features",
            TgnSpec { pair_features: true, static_memory: vectors(StaticMemoryMode::Add, false), ..small() },
        ),
        (
            "conv, 2 layers, uniform",
            TgnSpec { layers: 2, sampler: Sampler::Uniform, mail_memory: OtherMemory::AtRead, ..conv.clone() },
        ),
        (
            "paper, 2 layers, rnn, ordered",
            TgnSpec { layers: 2, updater: Updater::Rnn, history: Lookup::Ordered, ..small() },
        ),
        ("leaky, conv, 2 layers", TgnSpec { attention_scores: AttentionScores::LeakyRelu, layers: 2, ..conv.clone() }),
        ("time", TgnSpec { embedding: Embedding::Time, time_scale: Some(10.0), ..small() }),
        ("identity", TgnSpec { embedding: Embedding::Identity, ..small() }),
        (
            "as PyG, window",
            TgnSpec {
                mail_memory: OtherMemory::AtRead,
                update_without_mail: true,
                time_delta: Delta::SinceUpdate,
                history: Lookup::Batch,
                time_init: TimeInit::Uniform,
                sampler: Sampler::Window(30),
                ..conv
            },
        ),
    ]
}

/// Programs that no kind records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Others {
    /// Whether there is memory, and a layer whose output is not read. Without memory there are two layers over
    /// features, or over zeros.
    remembers: bool,
    dropout: f32,
    vectors: StaticSpec,
}

impl ModelKind for Others {
    const KIND: &'static str = "others";
    const ABOUT: &'static str = "programs that no kind records";
    const PAPER: &'static str = "none";
    const TEMPLATE: &'static str = "";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let (neighbours, lookup, delta) = (4, Lookup::Exact, Delta::SinceEvent);
        g.neighbours(NeighbourSettings { neighbours, sampler: Sampler::Recent, lookup, delta });
        let time = g.time_encoding("time", 6, TimeInit::LogSpaced);
        let (form, scores, dropout) = (AttentionForm::Paper, AttentionScores::Scaled, self.dropout);
        let layer = AttentionSettings { form, scores, width: 8, heads: 2, dropout, alone: EmptyNeighbourhood::Nothing };
        let (memory, embedding) = if self.remembers {
            let (message, updater, rule) = (Message::Identity, Updater::Rnn, MailRule::default());
            let memory = g.memory_update("memory", time, MemoryUpdateSettings { width: 8, message, updater, rule });
            g.attention("unread", memory, (0, 0), time, layer);
            (Some(memory), g.attention("layer", memory, (1, 0), time, layer))
        } else {
            let rows = g.rows_without_memory(8, &self.vectors);
            let below = g.attention("layers.0", rows, (0, 1), time, layer);
            (None, g.attention("layers.1", below, (1, 0), time, layer))
        };
        let decoder = g.link_decoder(8, 8, self.remembers);
        Outputs { memory, embedding, decoder, mail_payload: None }
    }
}

/// Kinds other than TGN, each with or without node features.
fn others(dropout: f32) -> Vec<(&'static str, usize, ModelSpec)> {
    let [source, destination] =
        [(20.0, 30.0), (50.0, 40.0)].map(|(mean, deviation)| Some(IdleSpec { mean, deviation }));
    let jodie = JodieSpec {
        memory: 8,
        time: 6,
        width: 8,
        dropout,
        source_idle: source,
        destination_idle: destination,
        ..JodieSpec::default()
    };
    let dyrep = DyrepSpec { memory: 8, time: 6, width: 8, heads: 2, neighbours: 4, ..DyrepSpec::default() };
    let tgat = TgatSpec { width: 8, time: 6, heads: 2, neighbours: 4, dropout, ..TgatSpec::default() };
    let (add, concat) = (vectors(StaticMemoryMode::Add, true), vectors(StaticMemoryMode::Concat, true));
    vec![
        ("jodie", 0, jodie.clone().into()),
        ("jodie, features, static", 3, JodieSpec { static_memory: add.clone(), ..jodie }.into()),
        ("dyrep", 0, dyrep.clone().into()),
        ("dyrep, nothing, features, static", 3, {
            DyrepSpec { alone: EmptyNeighbourhood::Nothing, static_memory: add.clone(), ..dyrep.clone() }.into()
        }),
        ("dyrep, 2 layers", 0, DyrepSpec { layers: 2, ..dyrep }.into()),
        ("tgat", 0, TgatSpec { layers: 1, ..tgat.clone() }.into()),
        ("tgat, 2 layers, features", 3, tgat.clone().into()),
        ("tgat, 2 layers, nothing, uniform", 3, {
            TgatSpec { alone: EmptyNeighbourhood::Nothing, sampler: Sampler::Uniform, ..tgat.clone() }.into()
        }),
        ("tgat, 2 layers, ordered, static", 3, {
            TgatSpec { history: Lookup::Ordered, static_memory: add.clone(), ..tgat }.into()
        }),
        ("static, add", 3, StaticOnlySpec { width: 8, static_memory: add, ..StaticOnlySpec::default() }.into()),
        ("static, concat", 0, StaticOnlySpec { width: 8, static_memory: concat, ..StaticOnlySpec::default() }.into()),
    ]
}

fn programs(change: impl Fn(TgnSpec) -> TgnSpec) -> Vec<(&'static str, Arc<Program>, Dataset)> {
    let featured = [
        ("node features", small()),
        (
            "node features, static, tuned, add",
            TgnSpec { static_memory: vectors(StaticMemoryMode::Add, true), ..small() },
        ),
    ];
    let of = |node: usize| {
        let change = &change;
        move |(name, spec): (&'static str, TgnSpec)| {
            let set = stream(84, node);
            (name, ModelSpec::from(change(spec)).program(widths(&set)).unwrap(), set)
        }
    };
    let mut all: Vec<_> = kinds().into_iter().map(of(0)).chain(featured.into_iter().map(of(3))).collect();
    let dropout = change(small()).dropout;
    let plain = |vectors: StaticSpec| ModelSpec::from(Others { dropout, vectors, ..Others::default() });
    let mut more = others(dropout);
    more.extend([
        ("no memory", 0, plain(StaticSpec::default())),
        ("no memory, features", 3, plain(StaticSpec::default())),
        ("no memory, features, static", 3, plain(vectors(StaticMemoryMode::Concat, true))),
        ("a layer nobody reads", 0, Others { remembers: true, dropout, ..Others::default() }.into()),
    ]);
    all.extend(more.into_iter().map(|(name, node, spec)| {
        let set = stream(84, node);
        (name, spec.program(widths(&set)).unwrap(), set)
    }));
    all
}

#[test]
fn a_pass_on_a_device_learns_what_a_pass_on_slices_learns() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !no_device() {
        for (name, program, set) in programs(|spec| spec) {
            learns_what_slices_learn(name, &program, &set, PLENTY);
        }
    }
}

#[test]
fn a_pass_on_a_device_without_room_for_the_history_learns_what_a_pass_on_slices_learns() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !no_device() {
        // the host reads the view, so both drop the same numbers
        for (name, program, set) in programs(|spec| TgnSpec { dropout: 0.2, ..spec }) {
            learns_what_slices_learn(name, &program, &set, 0);
        }
    }
}

#[test]
fn a_lane_on_a_device_finds_what_a_lane_on_slices_finds() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if no_device() {
        return;
    }
    for (name, program, set) in programs(|spec| TgnSpec { dropout: 0.2, ..spec }) {
        let mut host = SliceTrainer::new(&program, &set);
        let (past, device) = (history(&set, &program), Default::default());
        let mut lane =
            DeviceProgram::<WgpuRuntime, HostViewSource<_>>::new(program, SEED, &device, (&past, &set.log), PLENTY)
                .unwrap();
        for (step, (batch, queries)) in batches(&set, BATCH).enumerate().take(4) {
            let view = host.history.view(&queries, Some(&batch), Draw::new(SEED).of(Purpose::Sampling));
            lane.set_parameters(host.model.parameters().values());
            let found = lane.compute_gradients(&queries, &view, step as u64, Some(&batch));
            let [loss, norm] = host.compute_gradients(&batch, &queries);
            let context = format!("{name}, step {step}");
            assert_near(
                &context,
                [found.loss, found.gradients.iter().map(|x| x * x).sum::<f32>().sqrt()],
                [loss, norm],
            );
            assert_close(&context, &found.gradients, &host.gradients, 1e-3);
            let Update { nodes, memory, mail } = host.work.as_ref().update.clone();
            let width = program_width(&host);
            let row = |node: &NodeId| nodes.binary_search(node).unwrap() * width;
            let touched: Vec<f32> =
                found.update.nodes.iter().flat_map(|node| memory[row(node)..row(node) + width].to_vec()).collect();
            assert_close(&context, &found.update.memory, &touched, 1e-4);
            assert_close(&context, &found.update.mail, &mail, 1e-4);
            host.step(&batch, &queries);
        }
    }
}

fn program_width(host: &SliceTrainer) -> usize {
    host.model.program().needs().memory
}

#[test]
fn operations_without_a_device_kernel_are_named_with_their_setting() {
    let said = |spec: TgnSpec| ModelSpec::from(spec).program(FeatureWidths::default()).unwrap().check_device_support();
    assert_eq!(said(small()), Ok(()));
    for (spec, words) in [
        (TgnSpec { message: Message::Mlp, ..small() }, "model.message = \"mlp\""),
        (TgnSpec { embedding: Embedding::Sum, ..small() }, "model.embedding = \"sum\""),
        (TgnSpec { mail: Combine::Mean, ..small() }, "mail = \"mean\""),
        (TgnSpec { neighbours: 0, ..small() }, "model.neighbours = 0"),
    ] {
        let why = said(spec).unwrap_err();
        assert!(why.starts_with("kernels on a device know no ") && why.contains(words), "{why}");
    }
}

/// Launches of a step with the history on the device, and in host memory.
const LAUNCHES: [(&str, [u64; 2]); 27] = [
    ("paper", [58, 50]),
    ("static, tuned, add", [55, 47]),
    ("static, tuned, concat, 2 layers", [95, 83]),
    ("static, frozen, add, pair features", [70, 62]),
    ("conv, 2 layers, uniform", [72, 60]),
    ("paper, 2 layers, rnn, ordered", [92, 80]),
    ("leaky, conv, 2 layers", [72, 60]),
    ("time", [33, 24]),
    ("identity", [30, 20]),
    ("as PyG, window", [48, 40]),
    ("node features", [62, 54]),
    ("node features, static, tuned, add", [65, 57]),
    ("jodie", [35, 26]),
    ("jodie, features, static", [42, 33]),
    ("dyrep", [43, 34]),
    ("dyrep, nothing, features, static", [52, 44]),
    ("dyrep, 2 layers", [61, 49]),
    ("tgat", [56, 46]),
    ("tgat, 2 layers, features", [104, 89]),
    ("tgat, 2 layers, nothing, uniform", [102, 89]),
    ("tgat, 2 layers, ordered, static", [107, 92]),
    ("static, add", [27, 16]),
    ("static, concat", [23, 12]),
    ("no memory", [84, 71]),
    ("no memory, features", [87, 74]),
    ("no memory, features, static", [89, 76]),
    ("a layer nobody reads", [66, 58]),
];

/// Launches of a step that is neither the first nor the last.
fn launched(program: &Arc<Program>, set: &Dataset, batch: usize, room: u64) -> u64 {
    let mut device = device_program(program, set, room).unwrap();
    let chance = Draw::new(SEED).of(Purpose::Sampling);
    let mut counts = Vec::new();
    for (step, (batch, queries)) in batches(set, batch).enumerate().take(3) {
        let before = launches();
        device.train(&batch, &queries, chance, step as u64, &adam(step as u64 + 1), 0.0);
        counts.push(launches() - before);
    }
    counts[1]
}

#[test]
fn a_step_costs_the_same_launches_however_large_the_batch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if no_device() {
        return;
    }
    let mut counts = Vec::new();
    for (name, program, set) in programs(|spec| spec) {
        let counted = [PLENTY, 0].map(|room| launched(&program, &set, 10, room));
        println!("{name}: {counted:?} launches with the history there and here");
        counts.push((name, counted));
        if ["paper", "jodie", "dyrep", "tgat, 2 layers, features"].contains(&name) {
            assert_eq!(counted, [PLENTY, 0].map(|room| launched(&program, &set, 25, room)), "{name}, larger batches");
        }
    }
    for (name, counted) in counts {
        let known = LAUNCHES.iter().find(|(known, _)| *known == name).map(|(_, known)| *known);
        assert_eq!(known, Some(counted), "{name}");
    }
}
