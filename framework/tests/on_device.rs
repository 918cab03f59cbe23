//! A history on a device shows and keeps what a history in host memory does.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use tempograph_framework::{
    Batch, Combine, Delta, Draw, EventLog, Features, History, Lookup, MailRule, MailView, Needs, NodeId, OtherMemory, Purpose, Queries,
    Sampler, Timestamp, Update, View,
};
use tempograph_kernels::tensor::{AutodiffBackend, Backend, CpuTape, Tensor, TensorData, Wgpu, WgpuHistory, WgpuTape};
use tempograph_kernels::{
    AttentionPlan, Cell, DeviceEvents, DeviceRoots, DeviceRules, DeviceScores, Dropout, HostMail, HostPast, Neighbours, Rows,
    ScoreActivation, device_attention, device_memory_update, device_roots, gather_rows, launches, memory_update_gru, temporal_attention,
};

/// When memories count from.
const ORIGIN: Timestamp = Timestamp(-3);

/// One test at a time: launches are counted for the whole program.
static TURN: Mutex<()> = Mutex::new(());

fn absent() -> bool {
    let absent = catch_unwind(|| Tensor::<Wgpu, 1>::zeros([1], &Default::default()).into_data()).is_err();
    if absent {
        println!("skipped: there is no Vulkan device");
    }
    absent
}

/// Numbers below `bound`, from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Events among few nodes, so that they meet often, half of them at the time of the one before.
fn story(seed: u64, nodes: u64, events: usize) -> EventLog {
    let mut numbers = Numbers(seed);
    let mut now = 0;
    let mut log = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..events {
        now += [0, 0, 1, 3][numbers.below(4) as usize];
        log.0.push(NodeId(numbers.below(nodes) as u32));
        log.1.push(NodeId(numbers.below(nodes) as u32));
        log.2.push(Timestamp(now));
    }
    EventLog::new(log.0, log.1, log.2, vec![0.0; events], None).unwrap()
}

fn raw(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.0).collect()
}

fn ticks(times: &[Timestamp]) -> Vec<i64> {
    times.iter().map(|time| time.0).collect()
}

/// Memories no two of which are alike: a model's update in this test's world.
fn written(node: u32, version: u64, width: usize) -> impl Iterator<Item = f32> {
    (0..width).map(move |column| (node as usize * 1000 + version as usize * 10 + column) as f32)
}

/// For every node its stored memory and what mail it reads.
type States = BTreeMap<u32, (Vec<f32>, Option<HostMail>)>;

fn rows_of_view(view: &View, width: usize) -> States {
    let MailView::Last(plan) = &view.mail else { panic!("one mail a node") };
    let mut mails = vec![None; view.nodes.len()];
    for (mail, &row) in plan.rows.iter().enumerate() {
        let other = plan.other[mail * width..][..width].to_vec();
        let (empty, event, dt) = (plan.empty[mail], plan.event[mail] as u32, plan.dt[mail]);
        mails[row as usize] = Some(HostMail { empty, event, dt, other });
    }
    let row = |(row, mail): (usize, Option<_>)| (view.nodes[row].0, (plan.memory[row * width..][..width].to_vec(), mail));
    mails.into_iter().enumerate().map(row).collect()
}

fn rows_of_device(past: &HostPast, width: usize) -> States {
    let row = |row: usize| (past.nodes[row], (past.memory[row * width..][..width].to_vec(), past.mail[row].clone()));
    (0..past.nodes.len()).map(row).collect()
}

/// The neighbours of every root, of those that share a row as well.
fn of_every_root(view: &View) -> Neighbours {
    let (found, roots) = (&view.hops[0].neighbours, view.roots.len());
    let slots = || view.roots.iter().flat_map(|&centre| centre as usize * found.k..(centre as usize + 1) * found.k);
    Neighbours {
        roots,
        k: found.k,
        count: view.roots.iter().map(|&centre| found.count[centre as usize]).collect(),
        row: slots().map(|slot| found.row[slot]).collect(),
        event: slots().map(|slot| found.event[slot]).collect(),
        dt: slots().map(|slot| found.dt[slot]).collect(),
    }
}

/// For every root its neighbours: node, event and time difference.
type Seen = Vec<Vec<(u32, u64, f32)>>;

fn seen_in_view(view: &View) -> Seen {
    let found = of_every_root(view);
    let slot = |slot: usize| (view.nodes[found.row[slot] as usize].0, found.event[slot], found.dt[slot]);
    (0..found.roots).map(|root| (root * found.k..root * found.k + found.count[root] as usize).map(slot).collect()).collect()
}

fn seen_on_device(past: &HostPast) -> Seen {
    let neighbour = |&(row, event, dt): &(u32, u32, f32)| (past.nodes[row as usize], u64::from(event), dt);
    past.neighbours.iter().map(|neighbours| neighbours.iter().map(neighbour).collect()).collect()
}

/// The slots that name each row, found the plain way.
fn slots_by_row(past: &HostPast, k: usize) -> Vec<Vec<u32>> {
    let mut slots = vec![Vec::new(); past.nodes.len()];
    for (root, neighbours) in past.neighbours.iter().enumerate() {
        for (i, &(row, ..)) in neighbours.iter().enumerate() {
            slots[row as usize].push((root * k + i) as u32);
        }
    }
    slots
}

/// Every event's ends and some other nodes.
fn queries(batch: &Batch<'_>, nodes: u64, numbers: &mut Numbers) -> Queries {
    let negatives: Vec<NodeId> = (0..2 * batch.len()).map(|_| NodeId(numbers.below(nodes) as u32)).collect();
    Queries::of_batch(batch, &negatives, &(0..=batch.len()).map(|i| 2 * i).collect::<Vec<_>>())
}

fn replay(seed: u64, nodes: u64, events: usize, size: usize, needs: &Needs) {
    let (log, mut numbers) = (story(seed, nodes, events), Numbers(seed + 1));
    let (width, k) = (needs.memory, needs.neighbours);
    let rules = DeviceRules {
        memory: width,
        neighbours: k,
        other_at_read: needs.mail.other == OtherMemory::AtRead,
        update_without_mail: needs.mail.update_without_mail,
        since_update: needs.delta == Delta::SinceUpdate,
    };
    let mut host = History::new(nodes as usize, needs.clone(), ORIGIN, Features::default());
    let mut device = WgpuHistory::new(&Default::default(), nodes as usize, ORIGIN.0, rules, (&[], 0));
    for start in (0..events).step_by(size) {
        let batch = log.batch(start..events.min(start + size));
        let asked = queries(&batch, nodes, &mut numbers);
        let view = host.view(&asked, Some(&batch), Draw::new(3).of(Purpose::Sampling));

        let (src, dst, time) = (raw(batch.src), raw(batch.dst), ticks(batch.time));
        let during = DeviceEvents { src: &src, dst: &dst, time: &time, first: batch.first.0 };
        let (node, when) = (raw(asked.nodes()), ticks(asked.times()));
        let places: Vec<u64> = asked.places().iter().map(|place| place.0).collect();
        let place = (needs.lookup == Lookup::Ordered).then_some(&places[..]);
        let roots = DeviceRoots { node: &node, time: &when, place, sees_batch: needs.lookup != Lookup::Batch };
        let past = device.look(&roots, &during);
        let found = device.fetch(&past);

        let told = format!("seed {seed}, event {start}, {needs:?}");
        assert_eq!(rows_of_device(&found, width), rows_of_view(&view, width), "{told}");
        assert_eq!(seen_on_device(&found), seen_in_view(&view), "{told}");
        assert_eq!(found.roots.iter().map(|&row| found.nodes[row as usize]).collect::<Vec<_>>(), node, "{told}");
        assert_eq!(found.slots, slots_by_row(&found, k), "{told}");

        let version = host.version();
        let memory = view.nodes.iter().flat_map(|node| written(node.0, version, width)).collect();
        host.observe(&batch, &Update { nodes: view.nodes, memory }).unwrap();
        let rows = device.memory_of::<Wgpu>(&past).dims()[0];
        let mut new: Vec<f32> = found.nodes.iter().flat_map(|&node| written(node, version, width)).collect();
        new.resize(rows * width, f32::NAN);
        device.observe::<Wgpu>(&past, Tensor::from_data(TensorData::new(new, [rows, width]), &Default::default()));
        assert_eq!(device.memory(), host.memory(), "{told}");
    }
}

fn needs(lookup: Lookup, delta: Delta, other: OtherMemory, update_without_mail: bool) -> Needs {
    Needs {
        memory: 2,
        mail: MailRule { combine: Combine::Last, other, update_without_mail },
        neighbours: 3,
        layers: 1,
        sampler: Sampler::Recent,
        lookup,
        delta,
        idle: false,
        pairs: false,
    }
}

#[test]
fn a_history_on_a_device_is_that_of_the_host() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let paper = needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false);
    let example = needs(Lookup::Batch, Delta::SinceUpdate, OtherMemory::AtRead, true);
    let ordered = needs(Lookup::Ordered, Delta::SinceEvent, OtherMemory::AtRead, false);
    for (seed, needs) in (0..).zip([&paper, &example, &ordered]) {
        replay(seed, 5, 40, 7, needs);
        replay(seed, 60, 300, 50, needs);
        replay(seed, 9, 12, 1, needs);
    }
}

#[test]
fn looking_and_observing_cost_the_same_launches_however_large_the_batch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let rules = DeviceRules { memory: 4, neighbours: 10, other_at_read: false, update_without_mail: false, since_update: false };
    let launched = |size: usize| {
        let mut history = WgpuHistory::new(&Default::default(), 1000, 0, rules, (&[], 0));
        let log = story(5, 1000, 2 * size);
        let mut counts = Vec::new();
        for start in [0, size] {
            let batch = log.batch(start..start + size);
            let (src, dst, time) = (raw(batch.src), raw(batch.dst), ticks(batch.time));
            let before = launches();
            let roots = DeviceRoots { node: &src, time: &time, place: None, sees_batch: true };
            let past = history.look(&roots, &DeviceEvents { src: &src, dst: &dst, time: &time, first: batch.first.0 });
            let memory = history.memory_of::<Wgpu>(&past);
            history.observe(&past, memory);
            counts.push(launches() - before);
        }
        counts[1]
    };
    let (few, many) = (launched(10), launched(600));
    println!("{many} launches to look and to observe");
    assert_eq!(few, many);
    assert!(many < 25, "{many} launches");
}

/// Edge features of a test's events.
#[derive(Debug)]
struct TwoColumns(Vec<f32>);

impl Rows for TwoColumns {
    fn width(&self) -> usize {
        2
    }

    fn row(&self, id: u64) -> &[f32] {
        &self.0[2 * id as usize..][..2]
    }
}

/// Numbers in `[-1, 1)`.
fn floats<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let mut numbers = Numbers(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.below(2000) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// What a step learns: two matrices, two biases, and the frequencies and phases of the time encoding.
struct Learned<B: Backend> {
    matrices: [Tensor<B, 2>; 2],
    vectors: [Tensor<B, 1>; 4],
}

impl<B: AutodiffBackend> Learned<B> {
    fn new(d: usize, t: usize) -> Self {
        let x = 2 * d + 2 + t;
        Self {
            matrices: [floats(1, [3 * d, x]).require_grad(), floats(2, [3 * d, d]).require_grad()],
            vectors: [(3, 3 * d), (4, 3 * d), (5, t), (6, t)].map(|(seed, len)| floats(seed, [len]).require_grad()),
        }
    }

    fn time(&self) -> [Tensor<B, 1>; 2] {
        [self.vectors[2].clone(), self.vectors[3].clone()]
    }

    /// The gradients of the loss that is the sum of what was attended and of the roots' memories, each times fixed numbers.
    fn gradients(&self, attended: Tensor<B, 3>, roots: Tensor<B, 2>) -> Vec<Vec<f32>> {
        let loss = (attended.clone() * floats(8, attended.dims())).sum() + (roots.clone() * floats(9, roots.dims())).sum();
        let gradients = loss.backward();
        let values = |data: TensorData| data.to_vec().unwrap();
        let matrices = self.matrices.iter().map(|leaf| values(leaf.grad(&gradients).unwrap().into_data()));
        matrices.chain(self.vectors.iter().map(|leaf| values(leaf.grad(&gradients).unwrap().into_data()))).collect()
    }
}

#[track_caller]
fn assert_close(ours: &[f32], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(1.0f32, |max, x| max.max(x.abs()));
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2e-5 * scale), "{what}: {ours:?} is not {expected:?}");
}

#[test]
fn a_training_step_on_a_device_is_that_of_the_host_and_waits_for_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let (nodes, events, size, t) = (30u64, 120, 40, 3);
    let needs = Needs { memory: 4, ..needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false) };
    let (d, k) = (needs.memory, needs.neighbours);
    let log = story(11, nodes, events);
    let features: Vec<f32> = floats::<CpuTape, 1>(7, [2 * events]).into_data().to_vec().unwrap();
    let edges: Arc<dyn Rows> = Arc::new(TwoColumns(features.clone()));
    let rules = DeviceRules { memory: d, neighbours: k, other_at_read: false, update_without_mail: false, since_update: false };
    let mut host = History::new(nodes as usize, needs, ORIGIN, Features { edges: Some(edges), ..Features::default() });
    let mut device = WgpuHistory::new(&Default::default(), nodes as usize, ORIGIN.0, rules, (&features, 2));
    let scores = DeviceScores { activation: ScoreActivation::LeakyRelu(0.2), dropout: Some(Dropout { rate: 0.2, seed: 5 }) };
    for start in (0..events).step_by(size) {
        let batch = log.batch(start..start + size);
        let asked = queries(&batch, nodes, &mut Numbers(3));
        let query = [2, asked.len(), d + 2 + t + 1];

        let view = host.view(&asked, Some(&batch), Draw::new(3).of(Purpose::Sampling));
        let MailView::Last(mail) = &view.mail else { panic!("one mail a node") };
        let learned = Learned::<CpuTape>::new(d, t);
        let ([w_ih, w_hh], [b_ih, b_hh, freq, phase]) = (learned.matrices.clone(), learned.vectors.clone());
        let memory = memory_update_gru(mail.clone(), w_ih, w_hh, b_ih, b_hh, freq.clone(), phase.clone());
        let plan = AttentionPlan {
            neighbours: of_every_root(&view),
            features: view.edge_features.clone(),
            activation: scores.activation,
            dropout: scores.dropout,
        };
        let attended = temporal_attention(Arc::new(plan), memory.clone(), floats(10, query), freq, phase);
        let rows: Vec<u32> = view.roots.iter().map(|&centre| view.hops[0].centres[centre as usize]).collect();
        let roots = gather_rows(memory.clone(), rows);
        let expected = (attended.to_data(), roots.to_data(), learned.gradients(attended, roots));
        let update = Update { nodes: view.nodes.clone(), memory: memory.into_data().to_vec().unwrap() };
        host.observe(&batch, &update).unwrap();

        let (src, dst, time) = (raw(batch.src), raw(batch.dst), ticks(batch.time));
        let during = DeviceEvents { src: &src, dst: &dst, time: &time, first: batch.first.0 };
        let (node, when) = (raw(asked.nodes()), ticks(asked.times()));
        let learned = Learned::<WgpuTape>::new(d, t);
        let before = launches();
        let past = Arc::new(device.look(&DeviceRoots { node: &node, time: &when, place: None, sees_batch: true }, &during));
        let memory = device_memory_update(&past, Cell::Gru, learned.matrices.clone(), learned.vectors.clone());
        let attended = device_attention(&past, scores, memory.clone(), floats(10, query), learned.time());
        let roots = device_roots(&past, memory.clone());
        device.observe::<Wgpu>(&past, memory.inner());
        let forward = launches() - before;
        let ours = (attended.to_data(), roots.to_data(), learned.gradients(attended, roots));
        println!("{forward} launches to look, to compute and to observe, {} with gradients", launches() - before);
        assert_close(&ours.0.to_vec().unwrap(), &expected.0.to_vec().unwrap(), "attended");
        assert_close(&ours.1.to_vec().unwrap(), &expected.1.to_vec().unwrap(), "memories of the roots");
        for (i, (ours, expected)) in ours.2.iter().zip(&expected.2).enumerate() {
            assert_close(ours, expected, &format!("gradient {i} of the batch at {start}"));
        }
        assert_close(&device.memory(), host.memory(), "memory");
    }
}
