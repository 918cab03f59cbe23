//! The server is killed at any moment, again and again. Nothing durable is lost or applied twice: no event, no
//! retraction of events, no expiry of idle nodes.
//!
//! `TEMPOGRAPH_CRASHES` says how often it is killed (12, times `TEMPOGRAPH_LONG`); `TEMPOGRAPH_CRASH_SEED` repeats a
//! run.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempograph_framework::{Dataset, Draw, Features, History, Purpose, RandomNumbers, SliceModel};
use tempograph_models::{FeatureWidths, ModelSpec, TgnSpec};
use tempograph_serving::{Engine, EngineSpec, Export, ExternalId, Granularity, NewEvent, RequestError, Retraction};

/// Longest life of a server.
const LONGEST: Duration = Duration::from_millis(1500);
/// Events of a second, at the most.
const RATE: f64 = 6_000.0;
/// Events of the stream for each kill: more than are told in the longest life, and fewer than a server lets pass before
/// it looks for idle nodes by itself.
const EVENTS: usize = 10_000;
/// After every so many events some are taken back, or else idle nodes are forgotten.
const APART: usize = 90;
/// What only an admin may do needs a token.
const TOKEN: &str = "a-token-for-killed-servers";
/// Where the server finds it.
const TOKEN_IN: &str = "TEMPOGRAPH_CRASH_TOKEN";

struct World {
    folder: tempfile::TempDir,
    set: Dataset,
}

impl World {
    /// A small model that has seen nothing, and a stream of events with ids.
    fn new(kills: u64) -> World {
        let events = EVENTS * kills as usize;
        let set = Dataset::from_spec(&format!("synthetic:events={events},users=200,items=100,features=2")).unwrap();
        let spec = TgnSpec { memory: 8, time: 6, width: 8, neighbours: 4, ..TgnSpec::default() };
        let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
        let model = ModelSpec::from(spec).on_slices(widths, 5).unwrap();
        let features = Features { edges: set.log.features().cloned(), ..Features::default() };
        let history = History::new(set.nodes, model.needs(), set.log.time()[0], features);
        let world = World { folder: tempfile::tempdir().unwrap(), set };
        Export { model: &model, history: &history, dataset: &world.set, batch: 50, replace: false }
            .write(&world.artifact())
            .unwrap();
        world
    }

    /// Events of the stream.
    fn len(&self) -> usize {
        self.set.log.len()
    }

    /// Some of them as a client tells them.
    fn told(&self, range: Range<usize>) -> Vec<NewEvent> {
        let Dataset { log, ids, time_unit, .. } = &self.set;
        let tell = |i: usize| NewEvent {
            src: ExternalId::of(ids, log.src()[i]),
            dst: ExternalId::of(ids, log.dst()[i]),
            time: serde_json::from_str(&time_unit.from_ticks(log.time()[i]).to_string()).unwrap(),
            label: log.label()[i],
            features: log.features().map(|rows| rows.row(i as u64).to_vec()),
            id: Some(format!("event-{i}")),
        };
        range.map(tell).collect()
    }

    fn artifact(&self) -> PathBuf {
        self.folder.path().join("artifact")
    }

    /// How long a node may be idle: as long as a few hundred events take.
    fn ttl(&self) -> f64 {
        let [first, last] = [0, 400].map(|event| self.set.time_unit.from_ticks(self.set.log.time()[event]));
        last - first
    }

    /// What is saved of a run of `seen` events that nothing happened to.
    fn undisturbed(&self, seen: usize) -> BTreeMap<String, String> {
        let spec = EngineSpec { ttl: Some(self.ttl()), ..EngineSpec::default() };
        let engine = Engine::open_with(&self.artifact(), &spec).unwrap();
        for start in (0..seen).step_by(APART) {
            let end = seen.min(start + APART);
            engine.observe(&self.told(start..end), Granularity::Event).unwrap();
            match Due::after(end) {
                None => {}
                Some(Due::Forget) => _ = engine.expire(&engine.overdue().unwrap()).unwrap(),
                Some(Due::TakeBack(events)) => self.take_back(&engine, &events),
            }
        }
        let stats = engine.stats();
        assert!(
            seen < 20 * APART || stats.retracted > 0 && stats.expired > 0,
            "nothing is taken back or forgotten: {stats:?}"
        );
        let manifest = engine.save(&self.folder.path().join("undisturbed")).unwrap();
        manifest.files.into_iter().map(|(name, facts)| (name, facts.sha256)).collect()
    }

    /// Takes events back: at once, or where a node of one is forgotten, of which nothing is left then, each by itself.
    fn take_back(&self, engine: &Engine, events: &[usize]) {
        let own = |node| ExternalId::of(&self.set.ids, node);
        let named = |&event: &usize| Retraction {
            seq: event as u64,
            src: own(self.set.log.src()[event]),
            dst: own(self.set.log.dst()[event]),
        };
        let all: Vec<Retraction> = events.iter().map(named).collect();
        let known = |taken: Result<_, RequestError>| match taken {
            Ok(_) => true,
            Err(RequestError::UnknownNode { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        if !known(engine.retract(&all)) {
            all.iter().for_each(|one| _ = known(engine.retract(std::slice::from_ref(one))));
        }
    }

    /// The same of the newest snapshot.
    fn survived(&self) -> BTreeMap<String, String> {
        let shelf = self.folder.path().join("artifact.snapshots");
        let numbers = std::fs::read_dir(&shelf)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok());
        let newest = shelf.join(numbers.max().unwrap().to_string()).join("artifact");
        let manifest = Engine::open(&newest).unwrap().manifest().clone();
        manifest.files.into_iter().map(|(name, facts)| (name, facts.sha256)).collect()
    }
}

/// What is due between two events.
#[derive(Debug)]
enum Due {
    TakeBack(Vec<usize>),
    Forget,
}

impl Due {
    /// After so many events.
    fn after(events: usize) -> Option<Due> {
        match events / APART {
            0 => None,
            _ if !events.is_multiple_of(APART) => None,
            turn if turn.is_multiple_of(4) => Some(Due::Forget),
            _ => Some(Due::TakeBack([1, 7, APART].map(|back| events - back).to_vec())),
        }
    }

    fn ask(&self, client: &mut Client) -> Option<(u16, Value)> {
        match self {
            Due::Forget => client.ask("POST", "/admin/expire", ""),
            Due::TakeBack(events) => {
                let ids: Vec<_> = events.iter().map(|event| format!("event-{event}")).collect();
                client.ask("POST", "/v1/retract", &json!({ "ids": ids }).to_string())
            }
        }
    }
}

/// What is known to have happened, whatever becomes of the server.
#[derive(Default)]
struct Known {
    /// Events on its disk.
    durable: AtomicU64,
    /// Events after which what was due has been done.
    done: AtomicU64,
}

/// `tempograph serve`, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it, without waiting.
    fn start(world: &World) -> Server {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().to_string();
        let sets = [
            format!("listen.http={address}"),
            format!("engine.ttl={:?}", world.ttl()),
            format!(r#"auth.tokens=[{{name="all",roles=["ingest","retract","read","admin"],env="{TOKEN_IN}"}}]"#),
            "snapshots.every_events=300".into(),
            "logging.level=warn".into(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.arg("serve").arg(world.artifact()).args(sets.iter().flat_map(|set| ["--set", set]));
        let child = command.env(TOKEN_IN, TOKEN).stdout(Stdio::null()).spawn().unwrap();
        Server { child, address }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        Client::connect(&self.address)?.ask(method, path, body)
    }

    fn wait_until_ready(&self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if self.ask("GET", "/health/ready", "").is_some_and(|(status, _)| status == 200) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Option<Client> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Client(BufReader::new(stream)))
    }

    /// An answer, unless the server dies before it has given all of it.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let fields = format!(
            "Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n");
        self.0.get_mut().write_all((head + body).as_bytes()).ok()?;
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        loop {
            line.clear();
            self.0.read_line(&mut line).ok().filter(|&read| read > 0)?;
            match line.trim_end().split_once(' ') {
                None => break,
                Some((field, value)) if field.eq_ignore_ascii_case("content-length:") => {
                    length = value.parse().unwrap()
                }
                Some(("HTTP/1.1", rest)) => status = rest[..3].parse().unwrap(),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// Tells events up to `until` and does what is due in between, or as far as it comes before the server dies.
fn tell(server: &str, world: &World, until: usize, known: &Known, chance: &mut RandomNumbers) {
    let Some(mut client) = Client::connect(server) else { return };
    // What was not acknowledged is told again, and some that was.
    let first = known.durable.load(Ordering::Relaxed).saturating_sub(chance.below(5).into()) as usize;
    let (mut next, begun) = (first, Instant::now());
    loop {
        // It may have been done before, and nobody heard: done twice is done once, as no event has come since.
        if let Some(due) = Due::after(next).filter(|_| known.done.load(Ordering::Relaxed) < next as u64) {
            let Some((status, answer)) = due.ask(&mut client) else { return };
            assert_eq!(status, 200, "{due:?} after {next} events: {answer}");
            known.done.store(next as u64, Ordering::Relaxed);
        }
        if next == until {
            return;
        }
        std::thread::sleep(Duration::from_secs_f64((next - first) as f64 / RATE).saturating_sub(begun.elapsed()));
        let end = (next + 1 + chance.below(20) as usize).min(until).min((next / APART + 1) * APART);
        let ack = ["accepted", "durable", "applied"][chance.below(3) as usize];
        // What is due finds all before it applied.
        let ack = if Due::after(end).is_some() { "applied" } else { ack };
        let body = json!({ "events": world.told(next..end), "ack": ack }).to_string();
        let Some((status, answer)) = client.ask("POST", "/v1/events", &body) else { return };
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["accepted"].as_u64().unwrap() + answer["duplicates"].as_u64().unwrap(),
            (end - next) as u64,
            "{answer}"
        );
        if ack != "accepted" {
            known.durable.fetch_max(end as u64, Ordering::Relaxed);
        }
        next = end;
    }
}

/// What is known after a life of the server.
fn live_and_die(world: &World, known: &Known, chance: &mut RandomNumbers) -> bool {
    let server = Server::start(world);
    let end = Instant::now() + Duration::from_micros(chance.below(LONGEST.as_micros() as u32).into());
    let ready = server.wait_until_ready(end);
    if ready {
        let (_, model) = server.ask("GET", "/v1/model", "").unwrap();
        let (seen, durable) = (model["log_seq"].as_u64().unwrap(), known.durable.load(Ordering::Relaxed));
        assert!(seen >= durable, "{durable} events were durable, and {seen} are left");
        let all = world.len();
        assert!(seen <= all as u64, "{seen} events of {all}: some have happened twice");
        std::thread::scope(|scope| {
            let address = server.address.clone();
            let chance = &mut *chance;
            scope.spawn(move || tell(&address, world, world.len(), known, chance));
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            server.signal("-KILL");
        });
    } else {
        server.signal("-KILL");
    }
    ready
}

#[test]
fn durable_events_are_neither_lost_nor_doubled_by_repeated_kills() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let crashes = number("TEMPOGRAPH_CRASHES", 12 * number("TEMPOGRAPH_LONG", 1));
    let seed = number("TEMPOGRAPH_CRASH_SEED", u64::from(std::process::id()));
    let (world, known) = (World::new(crashes), Known::default());
    let mut chance = Draw::new(seed).of(Purpose::Generator).at(0, 0);
    let recovered = (0..crashes).filter(|_| live_and_die(&world, &known, &mut chance)).count();
    let (told, all) = (known.durable.load(Ordering::Relaxed) as usize, world.len());
    assert!(
        told < all,
        "seed {seed}: all {all} events were told before the last kill, so that some hit an idle server"
    );
    // The last life ends in peace, and with the same events as one that was never disturbed.
    let mut server = Server::start(&world);
    assert!(server.wait_until_ready(Instant::now() + Duration::from_secs(60)), "seed {seed}");
    let until = (told + 500).min(all);
    tell(&server.address, &world, until, &known, &mut chance);
    // The last of them were perhaps accepted, and have still to happen.
    let deadline = Instant::now() + Duration::from_secs(10);
    let seen = loop {
        let (_, model) = server.ask("GET", "/v1/model", "").unwrap();
        let seen = model["log_seq"].as_u64().unwrap() as usize;
        if seen >= until {
            break seen;
        }
        assert!(Instant::now() < deadline, "seed {seed}: {seen} of {until}");
    };
    server.signal("-TERM");
    assert!(server.child.wait().unwrap().success(), "seed {seed}");
    assert_eq!(world.survived(), world.undisturbed(seen), "seed {seed}");
    let done = known.done.load(Ordering::Relaxed) as usize / APART;
    println!(
        "{crashes} kills, {recovered} of them after recovery; {told} events durable before the last life, {done} times something due done between them; seed {seed}"
    );
    assert!(crashes < 10 || recovered > 0, "seed {seed}: no server lived long enough to be ready");
}
