//! A small TGN that has seen part of a generated stream, a server in the test's own process, and a client.
#![allow(dead_code, clippy::unwrap_used)]

pub mod grpc;
pub mod service;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempograph_framework::{
    Batch, Dataset, Draw, Features, ForwardOutput, History, NodeId, Purpose, Queries, SliceModel, Table, Update, View,
};
use tempograph_kernels::Rows;
use tempograph_models::{FeatureWidths, ModelSpec, SliceProgram, SliceWork, TgnSpec};
use tempograph_serving::{
    Engine, Export, ExternalId, NewEvent, PairQuery, ServeError, ServeSpec, Service, ServiceError, run,
};

pub const EVENTS: usize = 420;
pub const SEEN: usize = 300;
pub const BATCH: usize = 40;

/// How often a test with random input is repeated: `TEMPOGRAPH_LONG` (1).
pub fn rounds() -> usize {
    std::env::var("TEMPOGRAPH_LONG").map_or(1, |rounds| rounds.parse().unwrap())
}

pub struct World {
    pub set: Dataset,
    pub model: SliceProgram,
    pub history: History,
    folder: tempfile::TempDir,
}

pub fn small() -> TgnSpec {
    TgnSpec { memory: 8, time: 6, width: 8, neighbours: 4, ..TgnSpec::default() }
}

impl World {
    /// A model with random weights that has seen the first [`SEEN`] events in batches of [`BATCH`].
    pub fn new(spec: &(impl Clone + Into<ModelSpec>), features: usize) -> World {
        World::of(
            spec,
            Dataset::from_spec(&format!("synthetic:events={EVENTS},users=18,items=12,features={features}")).unwrap(),
        )
    }

    pub fn of(spec: &(impl Clone + Into<ModelSpec>), set: Dataset) -> World {
        let spec: ModelSpec = spec.clone().into();
        let widths = FeatureWidths { edge: set.edge_width(), node: set.node_width() };
        let model = tuned(spec.on_slices(widths, 5).unwrap());
        let nodes = set.node_features.clone().map(|table| Arc::new(table) as Arc<dyn Rows>);
        let static_memory = model.program().static_memory().map(|part| {
            // one row more than nodes: that of an unknown node
            let known = (0..set.nodes * part.width).map(|i| (i as f32 * 0.7).cos());
            let values = known.chain(std::iter::repeat_n(0.0, part.width)).collect();
            Arc::new(Table::new(values, part.width).unwrap()) as Arc<dyn Rows>
        });
        let features = Features { edges: set.log.features().cloned(), nodes, static_memory };
        let history = History::new(set.nodes, model.needs(), set.log.time()[0], features);
        let mut world = World { set, model, history, folder: tempfile::tempdir().unwrap() };
        world.observe_all(0..SEEN, BATCH);
        world
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("artifact")
    }

    pub fn export(&self) -> Export<'_> {
        Export { model: &self.model, history: &self.history, dataset: &self.set, batch: BATCH, replace: false }
    }

    pub fn engine(&self) -> Engine {
        self.export().write(&self.folder()).unwrap();
        Engine::open(&self.folder()).unwrap()
    }

    pub fn observe_all(&mut self, range: Range<usize>, size: usize) {
        for start in range.clone().step_by(size) {
            let batch = self.set.log.batch(start..(start + size).min(range.end));
            let queries = if self.model.needs().ends { Queries::of_ends(&batch) } else { Queries::none() };
            let update = self.advance(&queries, &view(&self.history, &queries, &batch));
            self.history.observe(&batch, &update).unwrap();
        }
    }

    /// Scores a batch and two negatives for each of its events as evaluation does, then observes it.
    pub fn evaluate(&mut self, range: Range<usize>) -> Vec<f32> {
        let batch = self.set.log.batch(range.clone());
        let offsets: Vec<usize> = (0..=batch.len()).map(|i| 2 * i).collect();
        let queries = Queries::of_batch(&batch, &self.negatives(range), &offsets);
        let answer = self.forward(&queries, &view(&self.history, &queries, &batch));
        self.history.observe(&batch, &answer.update).unwrap();
        answer.scores
    }

    /// The update of a batch without queries.
    pub fn advance(&self, queries: &Queries, view: &View) -> Update {
        let mut work = SliceWork::default();
        self.model.advance(queries, view, &mut work);
        work.as_ref().update.clone()
    }

    /// The forward pass of the model.
    pub fn forward(&self, queries: &Queries, view: &View) -> ForwardOutput {
        let mut work = SliceWork::default();
        self.model.forward(queries, view, None, &mut work);
        work.as_ref().clone()
    }

    fn negatives(&self, range: Range<usize>) -> Vec<NodeId> {
        let all = self.set.log.destinations();
        range.flat_map(|event| [all[event * 7 % all.len()], all[(event * 5 + 3) % all.len()]]).collect()
    }

    /// The queries of [`evaluate`](World::evaluate), in the form of a client.
    pub fn queries(&self, range: Range<usize>) -> Vec<PairQuery> {
        let ids = &self.set.ids;
        let batch = self.set.log.batch(range.clone());
        let query = |i: usize, dst: NodeId| PairQuery {
            src: ExternalId::of(ids, batch.src[i]),
            dst: ExternalId::of(ids, dst),
            time: Some(self.time(range.start + i)),
        };
        let positives = (0..batch.len()).map(|i| query(i, batch.dst[i]));
        let negatives = self.negatives(range.clone());
        positives.chain(negatives.iter().enumerate().map(|(n, &dst)| query(n / 2, dst))).collect()
    }

    /// Events of the log, in the form of a client.
    pub fn new_events(&self, range: Range<usize>) -> Vec<NewEvent> {
        let (log, ids) = (&self.set.log, &self.set.ids);
        let new_event = |i: usize| NewEvent {
            src: ExternalId::of(ids, log.src()[i]),
            dst: ExternalId::of(ids, log.dst()[i]),
            time: self.time(i),
            label: log.label()[i],
            features: log.features().map(|rows| rows.row(i as u64).to_vec()),
            id: None,
        };
        range.map(new_event).collect()
    }

    /// The time of an event in the set's own unit.
    pub fn time(&self, event: usize) -> serde_json::Number {
        let (unit, ticks) = (&self.set.time_unit, self.set.log.time()[event]);
        if unit.scale == 1 { ticks.0.into() } else { serde_json::Number::from_f64(unit.from_ticks(ticks)).unwrap() }
    }
}

/// Fine-tuned rows begin at zero: sets them to numbers that change the answers.
fn tuned(mut model: SliceProgram) -> SliceProgram {
    if let Some(part) = model.parameters().find("static_memory.correction").cloned() {
        let corrections = &mut model.parameters_mut().values_mut()[part.range];
        corrections.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
    }
    model
}

fn view(history: &History, queries: &Queries, batch: &Batch<'_>) -> View {
    history.view(queries, Some(batch), Draw::new(0).of(Purpose::Sampling))
}

pub fn batches(size: usize) -> impl Iterator<Item = Range<usize>> {
    (SEEN..EVENTS).step_by(size).map(move |start| start..(start + size).min(EVENTS))
}

pub fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5, "{what}: score {i} is {a}, not {b}");
    }
}

/// A server in this process, stopped when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub service: Arc<Service>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    /// Serves the exported world, with nothing on the disk.
    pub fn start(world: &World) -> Running {
        Running::with(world, &ServeSpec::default())
    }

    pub fn with(world: &World, spec: &ServeSpec) -> Running {
        Export { replace: true, ..world.export() }.write(&world.folder()).unwrap();
        let service = service::open(&world.folder(), &service::in_memory());
        Running::of(service, spec)
    }

    /// Serves a service with the settings of `spec`, except for its address.
    pub fn of(service: Arc<Service>, spec: &ServeSpec) -> Running {
        Running::once_open(service.clone(), std::future::ready(Ok(service)), spec)
    }

    /// The same, with a service that `opening` returns later.
    pub fn once_open(
        service: Arc<Service>,
        opening: impl Future<Output = Result<Arc<Service>, ServiceError>> + Send + 'static,
        spec: &ServeSpec,
    ) -> Running {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut spec = spec.clone();
        // No load balancer waits for the servers of tests.
        if spec.listen.linger_ms == ServeSpec::default().listen.linger_ms {
            spec.listen.linger_ms = 0;
        }
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                run(vec![listener], opening, &spec, async { stopped.await.unwrap_or_default() }).await
            })
        });
        Running { address, service, stop: Some(stop), thread: Some(thread) }
    }

    /// Begins to stop the server, without waiting.
    pub fn ask_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has stopped.
    pub fn wait(&mut self) -> Result<(), ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, &body.to_string())
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "")
    }

    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.send_text(method, path, body);
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error} in `{text}`")))
    }

    pub fn send_text(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send_with(method, path, "", body.as_bytes())
    }

    /// The same with more header lines, each ended by CRLF.
    pub fn send_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let (head, body) = self.send_bytes(method, path, headers, body);
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }

    /// Status and body of the answer to a request as it is.
    pub fn send_raw(&self, request: &str) -> (u16, String) {
        let (head, body) = self.raw_answer(request.as_bytes());
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }

    /// Head and body of the answer to a request as it is.
    pub fn raw_answer(&self, request: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request).unwrap();
        read_answer(&mut stream)
    }

    /// Head and body of the answer.
    pub fn send_bytes(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request_head(method, path, headers, body.len()).as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        read_answer(&mut stream)
    }

    pub fn scores(&self, queries: &[PairQuery], during: &[NewEvent]) -> Vec<f32> {
        let (status, answer) = self.post("/v1/score", &json!({ "queries": queries, "during": during }));
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer["scores"].clone()).unwrap()
    }

    pub fn ingest(&self, events: &[NewEvent], granularity: &str) -> Value {
        let (status, answer) = self.post("/v1/events", &json!({ "events": events, "granularity": granularity }));
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The numbers of a JSON list as `f32`.
pub fn floats(list: &Value) -> Vec<f32> {
    serde_json::from_value(list.clone()).unwrap_or_else(|error| panic!("{list}: {error}"))
}

pub fn request(method: &str, path: &str, body: &str) -> String {
    request_head(method, path, "", body.len()) + body
}

/// A body is JSON unless `headers` say otherwise.
fn request_head(method: &str, path: &str, headers: &str, length: usize) -> String {
    let typed = length == 0 || headers.to_lowercase().contains("content-type:");
    let json = if typed { "" } else { "Content-Type: application/json\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}{json}Content-Length: {length}\r\n\r\n"
    )
}

pub fn response(stream: &mut TcpStream) -> (u16, String) {
    let (head, body) = read_answer(stream);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    let end =
        bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let body = bytes[end + 4..].to_vec();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    (head, if chunked { unchunked(&body) } else { body })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
}
