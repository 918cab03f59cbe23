//! Serves a temporal graph network whose memory changes with every event.
//!
//! An [`Export`] writes a model and its history as an artifact. An [`Engine`] opens the artifact, answers queries and
//! observes new events, with the same `view`, `forward`, `advance` and `observe` as training. A [`Service`] keeps a log
//! of record and snapshots of the engine. A [`Scheduler`] orders reads by their deadlines. [`serve`] offers all of it
//! over HTTP and gRPC, as a [`ServeSpec`] says.
//!
//! The book: [Scheduling](../../../docs/src/design/scheduling.md) describes the way of a request, the locks and the
//! caches; [Durability](../../../docs/src/design/durability.md) describes acknowledgements and recovery;
//! [Files](../../../docs/src/design/formats.md) describes the artifact.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/events` `{"events": [{"src", "dst", "time", "label"?, "features"?, "id"?}], "granularity"?, "ack"?}` | [`Receipt`] |
//! | `POST /v1/events/stream`, one event a line | the same, summed |
//! | `POST /v1/score` `{"queries": [{"src", "dst", "time"?}], "during"?: [events]}` | `scores` (logits), `probabilities` |
//! | `POST /v1/rank` `{"src", "candidates"?, "time"?, "k"?}` | `ranked`: `dst`, `score`, `probability`, best first |
//! | `GET /v1/embedding?node=&side=&time=` | `embedding` |
//! | `GET /openapi.json` | all other routes, with examples |
//!
//! Every answer under `/v1` names the events (`log_seq`) and batches (`version`) it has seen, and the weights (`model`)
//! that computed it. An error is `{"error": "…", "code": "…"}` and names the field and its value. A refused request has
//! applied nothing. Ids and times are the user's own; a missing time means one tick after the newest event. The same
//! requests work over gRPC: [`proto`].
//!
//! ```
//! use tempograph_framework::{Dataset, Features, History, SliceModel};
//! use tempograph_models::{FeatureWidths, ModelSpec, TgnSpec};
//! use tempograph_serving::{Engine, Export, Granularity, NewEvent, PairQuery};
//!
//! let dataset = Dataset::from_spec("synthetic:events=100,users=10,items=8")?;
//! let spec = TgnSpec { memory: 4, time: 4, width: 4, ..TgnSpec::default() };
//! let model = ModelSpec::from(spec).on_slices(FeatureWidths::default(), 1)?;
//! let history = History::new(dataset.nodes, model.needs(), dataset.log.time()[0], Features::default());
//!
//! let folder = std::env::temp_dir().join("tempograph-serving-example");
//! Export { model: &model, history: &history, dataset: &dataset, batch: 50, replace: true }.write(&folder)?;
//!
//! let engine = Engine::open(&folder)?;
//! engine.observe(&[NewEvent { src: 1.into(), dst: 2.into(), time: 30.into(), label: 0.0, features: None, id: None }], Granularity::Event)?;
//! let scores = engine.score(&[PairQuery { src: 1.into(), dst: 2.into(), time: None }], &[])?;
//! assert!(scores.answer[0].is_finite() && scores.position.log_seq == 1);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod access;
mod artifact;
mod engine;
mod interface;
mod log;
mod observe;
mod reload;
mod request;
mod schedule;
mod serve;
mod service;
mod spec;

pub use access::auth::{AuthSpec, Role, TokenSpec};
pub use access::limits::LimitsSpec;
pub use access::web::WebSpec;
pub use artifact::export::Export;
pub use artifact::features::EdgeStore;
pub use artifact::manifest::{ArtifactError, DatasetFacts, FileFacts, Manifest, Widths};
pub use engine::answer::explain::{Explanation, Neighbour};
pub use engine::{Engine, EngineSpec, EngineStats, HistoryGuard, Retraction, Strategy};
pub use interface::grpc::proto;
pub use interface::listen::ListenSpec;
pub use interface::listen::tls::TlsSpec;
#[cfg(feature = "kafka")]
pub use log::KafkaLog;
pub use log::{
    EmbeddedLog, Entry, KnownId, Log, LogError, LogKind, LogOrigin, LogSpec, MemoryLog, Mutation, ReplayError,
};
pub use observe::audit::AuditSpec;
pub use observe::trace::{LogFormat, LoggingSpec, TracesSpec};
pub use request::id::{ExternalId, LONGEST_NODE_ID};
pub use request::{
    AheadError, AtPosition, Granularity, NewEvent, PairQuery, Position, RankQuery, Ranked, RequestError,
};
pub use schedule::{
    Answer, AnswerBody, Arrival, ArrivalPattern, Arrivals, CostStatus, Machine, Policy, ReadError, ReadKind,
    ReadOptions, ReadOutcome, ReadRequest, Scheduler, SchedulerSpec, SchedulerStatus, SimulationReport, TenantStatus,
    simulate,
};
pub use serve::{ServeError, run, serve, serve_rereading};
pub use service::erase::expire::Expired;
pub use service::erase::retract::Retracted;
pub use service::run::resend::Resent;
pub use service::{
    Ack, BudgetSpec, BudgetStatus, Clock, EventClock, EventTimeSpec, IngestError, IngestRequest, LONGEST_ID, Late,
    LogProgress, OnError, Readiness, Receipt, Refusal, RefusedEvent, RefusedStatus, Reloaded, Service, ServiceError,
    ServiceSpec, Snapshot, SnapshotSpec, SnapshotStatus, Status, Ticket,
};
pub use spec::{SERVE_TEMPLATE, ServeSpec};
