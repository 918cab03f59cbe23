//! What changes the server itself, and its numbers, for all interfaces alike.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::metrics::{counter, gauge};
use crate::refused::{Kind, Refused};
use crate::request::{PairQuery, Position};
use crate::schedule::SchedulerStatus;
use crate::server::{Call, Seen, Server, off_the_reactor};
use crate::service::{Readiness, ServiceError, Status};

/// How long a drain by request may take. Reloads and snapshots take as long as they take.
const DRAIN: Duration = Duration::from_secs(60);

/// Every number there is.
#[derive(Serialize)]
pub(crate) struct Numbers {
    #[serde(flatten)]
    service: Status,
    scheduler: SchedulerStatus,
}

impl Server {
    pub fn status(&self) -> Numbers {
        Numbers { service: self.service.status(), scheduler: self.scheduler.status() }
    }

    /// # Errors
    /// 409 or 422 with what is wrong with the artifact; the model that answered goes on.
    pub async fn reload(&self, artifact: PathBuf) -> Result<Value, Refused> {
        let service = self.service.clone();
        let done = off_the_reactor(move || service.reload(&artifact)).await??;
        Ok(json!({ "model": done.model, "previous": done.previous, "replayed": done.replayed }))
    }

    /// # Errors
    /// 409 where there is nothing to go back to.
    pub async fn rollback(&self) -> Result<Value, Refused> {
        let service = self.service.clone();
        let done = off_the_reactor(move || service.rollback()).await??;
        Ok(json!({ "model": done.model, "previous": done.previous, "replayed": done.replayed }))
    }

    /// # Errors
    /// 503 if it cannot be written.
    pub async fn snapshot(&self) -> Result<Value, Refused> {
        let service = self.service.clone();
        let taken = off_the_reactor(move || service.snapshot()).await??;
        Ok(json!({ "snapshot": taken.number, "log_seq": taken.log_seq }))
    }

    /// # Errors
    /// Never in practice.
    pub async fn drain(&self) -> Result<Value, Refused> {
        let service = self.service.clone();
        let drained = off_the_reactor(move || service.drain(Instant::now() + DRAIN)).await?;
        Ok(json!({ "drained": drained, "durable_seq": self.service.durable_seq() }))
    }

    /// # Errors
    /// 501.
    pub async fn expire(&self) -> Result<Value, Refused> {
        Err(Refused::new(Kind::Unsupported, "nodes cannot be expired yet"))
    }

    /// # Errors
    /// 501.
    pub async fn retract(&self, _ids: Vec<String>) -> Result<(u64, Position), Refused> {
        Err(Refused::new(Kind::Unsupported, "events cannot be taken back yet"))
    }

    /// # Errors
    /// 501.
    pub async fn explain(&self, _call: &Call, _pair: PairQuery, _seen: Seen) -> Result<(Value, Position, String), Refused> {
        Err(Refused::new(Kind::Unsupported, "scores cannot be explained yet"))
    }

    /// All numbers in Prometheus' text format.
    pub fn numbers(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        let Numbers { service: status, scheduler } = self.status();
        let ready = u8::from(status.readiness == Readiness::Ready);
        gauge(&mut out, "ready", "1 while events are taken and answers are of now.", ready);
        gauge(&mut out, "log_seq", "Events that reads see.", status.applied.log_seq);
        gauge(&mut out, "version", "Batches that reads see.", status.applied.version);
        gauge(&mut out, "durable_seq", "Events on the disk.", status.durable_seq);
        gauge(&mut out, "lag_events", "Events taken that reads do not see yet.", status.queued);
        gauge(&mut out, "reads_waiting", "Reads that wait.", scheduler.waiting);
        gauge(&mut out, "nodes", "Nodes known.", self.service.engine().nodes());
        gauge(&mut out, "log_bytes", "Bytes of the log of record.", status.log_bytes);
        if let Some(last) = &status.snapshots.last {
            gauge(&mut out, "snapshot_log_seq", "Events the newest snapshot has seen.", last.log_seq);
            gauge(&mut out, "snapshot_age_seconds", "Seconds since it was taken.", status.snapshots.age_seconds);
            gauge(&mut out, "snapshot_seconds", "Seconds it took to write.", status.snapshots.took_seconds);
        }
        for (name, help, value) in [
            ("reads_admitted_total", "Reads let in by the scheduler.", scheduler.admitted),
            ("reads_refused_full_total", "Reads refused because too many waited.", scheduler.refused_full),
            ("reads_refused_late_total", "Reads refused because they would have been late.", scheduler.refused_late),
            ("reads_dropped_total", "Reads let in whose deadline could not be kept after all.", scheduler.dropped),
            ("passes_total", "Forward passes of reads.", scheduler.passes),
            ("pass_items_total", "Pairs, candidates and nodes answered in them.", scheduler.items),
            ("events_total", "Events taken.", status.accepted),
            ("duplicates_total", "Events left out because the log had them.", status.duplicates),
            ("late_events_total", "Late events that happened at the newest time.", status.late),
            ("late_requests_total", "Requests refused for a late event.", status.late_refused),
            ("refused_requests_total", "Requests refused for events that will not do.", status.refused),
            ("full_requests_total", "Requests refused because too many events waited.", status.full),
            ("log_failures_total", "Times the log of record could not be written.", status.log_failures),
            ("log_groups_total", "Flushes of the log to the disk.", status.groups),
            ("snapshot_failures_total", "Snapshots that could not be written.", status.snapshots.failures),
            ("snapshots_passed_over_total", "Snapshots that were damaged at the start.", status.passed_over),
        ] {
            counter(&mut out, name, help, value);
        }
        self.metrics.write(&mut out);
        out
    }
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Refused {
        let kind = match error {
            ServiceError::Artifact(_) | ServiceError::Setting { .. } => Kind::Invalid,
            ServiceError::Unfit(_) => Kind::Conflict,
            ServiceError::Log(_) | ServiceError::Replay(_) | ServiceError::Run(_) => Kind::Unavailable,
        };
        Refused::new(kind, error.to_string())
    }
}
