//! A history of a model on a device shows and keeps what a history in host memory does, whether it is on the device or
//! not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tempograph_framework::{
    Batch, Delta, DeviceOrHostHistory, DeviceViewSource, Draw, EventLog, Features, History, HostFallback, Lookup,
    MailContent, MailRule, MailView, Needs, NodeId, OtherMemory, Purpose, PurposeDraw, Queries, ResidentHistory,
    Sampler, Timestamp, Update, View,
};
use tempograph_kernels::Neighbours;
use tempograph_kernels::cube::{FetchedMail, FetchedView, launches};
use tempograph_kernels::tensor::{WgpuRuntime, vulkan};

/// The time that memories start from.
const ORIGIN: Timestamp = Timestamp(-3);

/// One test at a time: launches are counted for the whole program.
static TURN: Mutex<()> = Mutex::new(());

fn absent() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}

/// Numbers below `bound`, from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Events among few nodes, so that they meet often, half of them at the time of the one before. A batch of `size` events
/// cuts no tick: a history on a device keeps no second copy of what a tick has changed.
fn story(seed: u64, nodes: u64, events: usize, size: usize) -> EventLog {
    let mut numbers = Numbers(seed);
    let mut now = 0;
    let mut log = (Vec::new(), Vec::new(), Vec::new());
    for event in 0..events {
        now += [0, 0, 1, 3][numbers.below(4) as usize] + i64::from(event % size == 0);
        log.0.push(NodeId(numbers.below(nodes) as u32));
        log.1.push(NodeId(numbers.below(nodes) as u32));
        log.2.push(Timestamp(now));
    }
    EventLog::new(log.0, log.1, log.2, vec![0.0; events], None).unwrap()
}

/// Memories that are all different: the model's update in these tests.
fn written(node: u32, version: u64, width: usize) -> impl Iterator<Item = f32> {
    (0..width).map(move |column| (node as usize * 1000 + version as usize * 10 + column) as f32)
}

/// The mail rows that the model of these tests gives: only where they are wider than memories.
fn given(batch: &Batch<'_>, [width, said]: [usize; 2]) -> Option<Vec<f32>> {
    let row = |end: usize| (0..said).map(move |column| (batch.first.0 as usize * 100 + end * 10 + column) as f32);
    (said > width).then(|| (0..2 * batch.len()).flat_map(row).collect())
}

/// For every node its stored memory and the mail it reads.
type States = BTreeMap<u32, (Vec<f32>, Option<FetchedMail>)>;

fn rows_of_view(view: &View, [width, said]: [usize; 2]) -> States {
    let MailView::Last(plan) = &view.mail else { panic!("one mail a node") };
    let mut mails = vec![None; view.nodes.len()];
    for (mail, &row) in plan.rows.iter().enumerate() {
        let other = plan.other[mail * said..][..said].to_vec();
        let (empty, event, dt) = (plan.empty[mail], plan.event[mail] as u32, plan.dt[mail]);
        mails[row as usize] = Some(FetchedMail { empty, event, dt, other });
    }
    let row =
        |(row, mail): (usize, Option<_>)| (view.nodes[row].0, (plan.memory[row * width..][..width].to_vec(), mail));
    mails.into_iter().enumerate().map(row).collect()
}

fn rows_of_device(past: &FetchedView, width: usize) -> States {
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
    (0..found.roots)
        .map(|root| (root * found.k..root * found.k + found.count[root] as usize).map(slot).collect())
        .collect()
}

fn seen_on_device(past: &FetchedView) -> Seen {
    let neighbour = |&(row, event, dt): &(u32, u32, f32)| (past.nodes[row as usize], u64::from(event), dt);
    past.neighbours.iter().map(|neighbours| neighbours.iter().map(neighbour).collect()).collect()
}

/// The slots that name each row, found the plain way.
fn slots_by_row(past: &FetchedView, k: usize) -> Vec<Vec<u32>> {
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

/// A limit in bytes that is large enough for everything here.
const PLENTY: u64 = 1 << 30;

fn resident(host: &History, log: &EventLog) -> ResidentHistory<WgpuRuntime> {
    ResidentHistory::new(&Default::default(), host, log, PLENTY).unwrap()
}

/// A history that does not fit on the device.
struct Sent(DeviceOrHostHistory<WgpuRuntime>);

impl Sent {
    fn of(host: &History, log: &EventLog) -> Sent {
        let mut placed = DeviceOrHostHistory::new(&Default::default(), host, log, [0, 0], 0);
        assert!(matches!(placed.placement().fallback, Some(HostFallback::TooLarge(_))));
        placed.enter(host.clone(), log);
        Sent(placed)
    }

    /// What it shows is what `view` shows; then `batch` is observed, with the update of [`written`].
    #[track_caller]
    fn keeps_up(
        &mut self,
        (view, widths): (&View, [usize; 2]),
        asked: &Queries,
        batch: &Batch<'_>,
        chance: PurposeDraw,
        told: &str,
    ) {
        let Sent(placed) = self;
        let past = placed.look(asked, batch, chance);
        let (found, width, k) = (past.fetch(), past.memory().columns(), view.hops[0].neighbours.k);
        assert_eq!(rows_of_device(&found, width), rows_of_view(view, widths), "{told}");
        assert_eq!(found.idle, view.hops[0].idle, "{told}");
        let centres: Vec<u32> = view.hops[0].centres.clone();
        assert_eq!(found.roots, centres, "{told}");
        let seen = seen_on_device(&found);
        let of_roots: Seen = view.roots.iter().map(|&centre| seen[centre as usize].clone()).collect();
        assert_eq!(of_roots, seen_in_view(view), "{told}");
        assert_eq!(found.slots, slots_by_row(&found, k), "{told}");
        let pairs = placed.pairs(asked);
        let rows = asked.pairs().iter().map(|pair| (view.roots[pair.src as usize], view.roots[pair.dst as usize]));
        assert!(pairs.i.into_iter().zip(pairs.j).eq(rows), "{told}");

        let new: Vec<f32> = view.nodes.iter().flat_map(|node| written(node.0, view.version, width)).collect();
        let memory = past.new_memory(&new);
        let said = given(batch, widths).map(|rows| past.rows_of(&rows, widths[1]));
        let arriving = placed.ask(&past, &memory, said.as_ref());
        placed.observe(batch, &past, (&memory, said.as_ref()), arriving);
    }

    #[track_caller]
    fn stands_where(&mut self, host: &History, log: &EventLog, told: &str) {
        let Sent(placed) = self;
        let home = placed.leave(log);
        assert!(home.to_store() == host.to_store(), "{told}");
        placed.enter(home, log);
    }
}

fn replay(seed: u64, nodes: u64, events: usize, size: usize, needs: &Needs) {
    let (log, mut numbers) = (story(seed, nodes, events, size), Numbers(seed + 1));
    let (width, k) = (needs.memory, needs.neighbours);
    let widths = [width, if width > 0 { needs.mail.width(width) } else { 0 }];
    let mut host = History::new(nodes as usize, needs.clone(), ORIGIN, Features::default());
    host.attach_log(&log, host.nodes());
    let mut device = resident(&host, &log);
    let mut sent = Sent::of(&host, &log);
    for start in (0..events).step_by(size) {
        let batch = log.batch(start..events.min(start + size));
        let asked = queries(&batch, nodes, &mut numbers);
        let chance = Draw::new(3).of(Purpose::Sampling);
        let view = host.view(&asked, Some(&batch), chance);
        let past = device.look(&asked, &batch, chance);
        let found = past.fetch();

        let told = format!("seed {seed}, event {start}, {needs:?}");
        assert_eq!(rows_of_device(&found, width), rows_of_view(&view, widths), "{told}");
        let idle = view.roots.iter().filter(|_| needs.idle).map(|&root| view.hops[0].idle[root as usize]);
        assert!(found.idle.iter().copied().eq(idle), "{told}");
        assert_eq!(seen_on_device(&found), seen_in_view(&view), "{told}");
        let node: Vec<u32> = asked.nodes().iter().map(|node| node.0).collect();
        assert_eq!(found.roots.iter().map(|&row| found.nodes[row as usize]).collect::<Vec<_>>(), node, "{told}");
        assert_eq!(found.slots, slots_by_row(&found, k), "{told}");

        let version = host.version();
        sent.keeps_up((&view, widths), &asked, &batch, chance, &told);
        let memory = view.nodes.iter().flat_map(|node| written(node.0, version, width)).collect();
        let mail = given(&batch, widths).unwrap_or_default();
        host.observe(&batch, &Update { nodes: view.nodes, memory, mail }).unwrap();
        let mut new: Vec<f32> = found.nodes.iter().flat_map(|&node| written(node, version, width)).collect();
        new.resize(past.memory().rows() * width, f32::NAN);
        let said = given(&batch, widths).map(|rows| past.rows_of(&rows, widths[1]));
        device.observe(&batch, &past, &past.new_memory(&new), said.as_ref());
        assert_eq!(device.device.memory(), host.memory(), "{told}");
        sent.stands_where(&host, &log, &told);

        // The returned history is the host's, and a device that goes on from it sees the same.
        if start % (2 * size) == 0 {
            let home = device.leave(&log);
            assert!(home.sha256() == host.sha256(), "{told}");
            assert_eq!(home.newest(), host.newest(), "{told}");
            device = resident(&host, &log);
            device.enter(&host, &log);
        }
    }
}

fn needs(lookup: Lookup, delta: Delta, other: OtherMemory, update_without_mail: bool) -> Needs {
    Needs {
        memory: 2,
        mail: MailRule { other, update_without_mail, ..MailRule::default() },
        neighbours: 3,
        layers: 1,
        sampler: Sampler::Recent,
        lookup,
        delta,
        ..Needs::nothing()
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
fn a_history_on_a_device_without_memory_or_neighbours_or_with_mail_that_is_given_is_that_of_the_host() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let paper = needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false);
    let given = MailRule { says: MailContent::Given(3), ..paper.mail };
    let all = [
        Needs { neighbours: 0, idle: true, ..paper.clone() },
        Needs { neighbours: 0, idle: true, sampler: Sampler::Uniform, lookup: Lookup::Ordered, ..paper.clone() },
        Needs { memory: 0, idle: true, delta: Delta::SinceUpdate, ..paper.clone() },
        Needs { memory: 0, neighbours: 0, pairs: true, ..paper.clone() },
        Needs { mail: given, ends: true, idle: true, ..paper.clone() },
    ];
    for (seed, needs) in (0..).zip(&all) {
        replay(seed, 5, 40, 7, needs);
        replay(seed, 60, 200, 50, needs);
    }
}

#[test]
fn neighbours_drawn_on_a_device_are_those_drawn_on_the_host() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let paper = needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false);
    let ordered = needs(Lookup::Ordered, Delta::SinceUpdate, OtherMemory::AtEvent, false);
    let drawn = |needs: &Needs, sampler| Needs { sampler, neighbours: 5, ..needs.clone() };
    for (seed, needs) in (0..).zip([
        drawn(&paper, Sampler::Uniform),
        drawn(&ordered, Sampler::Uniform),
        drawn(&paper, Sampler::Window(6)),
    ]) {
        replay(seed, 5, 60, 7, &needs);
        replay(seed, 30, 300, 50, &needs);
    }
}

#[test]
fn looking_and_observing_cost_the_same_launches_however_large_the_batch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if absent() {
        return;
    }
    let needs =
        Needs { memory: 4, neighbours: 10, ..needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false) };
    let launched = |size: usize| {
        let log = story(5, 1000, 2 * size, size);
        let mut history = resident(&History::new(1000, needs.clone(), Timestamp(0), Features::default()), &log);
        let mut counts = Vec::new();
        for start in [0, size] {
            let batch = log.batch(start..start + size);
            let asked = queries(&batch, 1000, &mut Numbers(7));
            let before = launches();
            let past = history.look(&asked, &batch, Draw::new(3).of(Purpose::Sampling));
            let memory = past.memory();
            history.observe(&batch, &past, &memory, None);
            counts.push(launches() - before);
        }
        counts[1]
    };
    let (few, many) = (launched(10), launched(600));
    println!("{many} launches to look and to observe");
    assert_eq!(few, many);
    assert!(many < 10, "{many} launches");
}

#[test]
fn a_log_longer_than_a_device_counts_ticks_stays_in_host_memory() {
    if absent() {
        return;
    }
    let needs = needs(Lookup::Exact, Delta::SinceEvent, OtherMemory::AtEvent, false);
    let off = |last: i64| {
        let log = EventLog::new(
            vec![NodeId(0); 2],
            vec![NodeId(1); 2],
            vec![Timestamp(-5), Timestamp(last)],
            vec![0.0; 2],
            None,
        )
        .unwrap();
        let history = History::new(2, needs.clone(), Timestamp(-5), Features::default());
        DeviceOrHostHistory::<WgpuRuntime>::new(&Default::default(), &history, &log, [0, 0], PLENTY)
            .placement()
            .fallback
    };
    assert_eq!(off((1 << 31) - 6), None);
    assert_eq!(off((1 << 31) - 5), Some(HostFallback::TooLong { ticks: 1 << 31 }));
}
