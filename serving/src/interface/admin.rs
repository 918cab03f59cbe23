//! Administration and status of the server, for all interfaces.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::access::error::{ApiError, ErrorKind};
use crate::access::limits::LimitsSpec;
use crate::engine::EngineStats;
use crate::interface::server::{Call, ReadConsistency, Served, Server, run_blocking};
use crate::observe::metrics::{counter, gauge, header, line};
use crate::request::{PairQuery, Position};
use crate::schedule::{AnswerBody, ReadRequest, SchedulerStatus};
use crate::service::erase::retract::Retracted;
use crate::service::run::resend::Resent;
use crate::service::{Readiness, ServiceError, Status};

/// Longest time for a drain or a promotion by request. Reloads and snapshots have no limit.
const DRAIN: Duration = Duration::from_secs(60);

/// How many ids of a retraction are written to the audit log.
const FIRST_IDS: usize = 10;

/// All numbers of service and scheduler.
#[derive(Serialize)]
pub(crate) struct ServerStatus {
    #[serde(flatten)]
    service: Status,
    scheduler: SchedulerStatus,
    engine: EngineStats,
}

impl Server {
    /// # Errors
    /// 503 while the server is starting.
    pub fn status(&self) -> Result<ServerStatus, ApiError> {
        let Served { service, scheduler } = self.served()?;
        Ok(ServerStatus { service: service.status(), scheduler: scheduler.status(), engine: service.engine().stats() })
    }

    /// # Errors
    /// 409 or 422 with the fault of the artifact; the current model continues to answer.
    pub async fn reload(&self, call: &Call, artifact: PathBuf) -> Result<Value, ApiError> {
        call.details.note("artifact", artifact.display().to_string());
        let service = self.service()?.clone();
        let done = run_blocking(move || service.reload(&artifact)).await??;
        let done = json!({ "model": done.model, "previous": done.previous, "replayed": done.replayed });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// 409 without an earlier model.
    pub async fn rollback(&self, call: &Call) -> Result<Value, ApiError> {
        let service = self.service()?.clone();
        let done = run_blocking(move || service.rollback()).await??;
        let done = json!({ "model": done.model, "previous": done.previous, "replayed": done.replayed });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// 503 if the snapshot cannot be written.
    pub async fn snapshot(&self, call: &Call) -> Result<Value, ApiError> {
        let service = self.service()?.clone();
        let taken = run_blocking(move || service.snapshot()).await??;
        let done = json!({ "snapshot": taken.number, "log_seq": taken.log_seq });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// 409 for a server that does not follow another, or that cannot read the log to its end.
    pub async fn promote(&self, call: &Call) -> Result<Value, ApiError> {
        let service = self.service()?.clone();
        let position = run_blocking(move || service.promote(Instant::now() + DRAIN)).await??;
        let done = json!({ "log_seq": position.log_seq });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// Never in practice.
    pub async fn drain(&self, call: &Call) -> Result<Value, ApiError> {
        let service = self.service()?.clone();
        let (drained, durable_seq) =
            run_blocking(move || (service.drain(Instant::now() + DRAIN), service.durable_seq())).await?;
        let done = json!({ "drained": drained, "durable_seq": durable_seq });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// 422 without a time to live in the settings; 503 if the log cannot be written.
    pub async fn expire(&self, call: &Call) -> Result<Value, ApiError> {
        let service = self.service()?.clone();
        let done = run_blocking(move || service.expire(None)).await??;
        let done = json!({ "forgotten": done.forgotten, "log_seq": done.position.log_seq });
        call.details.note("result", done.clone());
        Ok(done)
    }

    /// # Errors
    /// 413 for too many ids; 422 for an id that the log does not remember; 503 if the log cannot be written; 504 after
    /// the deadline.
    pub async fn retract(&self, call: &Call, ids: Vec<String>, seqs: Vec<u64>) -> Result<(u64, Position), ApiError> {
        LimitsSpec::count("ids", ids.len(), self.limits.events)?;
        LimitsSpec::count("seqs", seqs.len(), self.limits.events)?;
        call.details.note("ids", ids.len());
        call.details.note("first_ids", ids.iter().take(FIRST_IDS).cloned().collect::<Vec<_>>());
        call.details.note("seqs", seqs.len());
        let service = self.service()?.clone();
        let receipt = async {
            let ticket = run_blocking(move || service.submit_retraction(&ids, &seqs)).await??;
            Ok::<_, ApiError>(ticket.await?)
        };
        let receipt = self.by(call.deadline, receipt, "they may be taken back still; ask again to be sure").await??;
        let Retracted { retracted, position } = Retracted::of(&receipt);
        call.details.note("retracted", retracted);
        Ok((retracted, position))
    }

    /// # Errors
    /// 503 if the log cannot be written; 504 after the deadline.
    pub async fn resend_refused(&self, call: &Call, numbers: Option<Vec<u64>>) -> Result<Resent, ApiError> {
        let service = self.service()?.clone();
        let sent = run_blocking(move || service.resend_refused(numbers.as_deref()));
        Ok(self.by(call.deadline, sent, "they may be accepted still; look at the list again").await???)
    }

    /// # Errors
    /// 503 if the list cannot be written; 504 after the deadline.
    pub async fn forget_refused(&self, call: &Call, numbers: Option<Vec<u64>>) -> Result<u64, ApiError> {
        let service = self.service()?.clone();
        let forgotten = run_blocking(move || service.forget_refused(numbers.as_deref()));
        Ok(self.by(call.deadline, forgotten, "they may be forgotten still; look at the list again").await???)
    }

    /// # Errors
    /// As [`query`](Server::query).
    pub async fn explain(
        &self,
        call: &Call,
        pair: PairQuery,
        seen: ReadConsistency,
    ) -> Result<(Value, Position, String), ApiError> {
        let answer = self.query(call, ReadRequest::Explain(pair), seen).await?;
        let AnswerBody::Explained(explanation) = &answer.body else { return Err(ApiError::broken()) };
        let submitted_text =
            serde_json::to_value(explanation).map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?;
        Ok((submitted_text, answer.position, answer.model.to_string()))
    }

    /// The server's metrics in Prometheus' text format.
    ///
    /// # Errors
    /// As [`status`](Server::status).
    pub fn prometheus_text(&self) -> Result<String, ApiError> {
        let mut out = String::with_capacity(16 << 10);
        let ServerStatus { service: status, scheduler, engine } = self.status()?;
        let nodes = self.service()?.engine().nodes();
        let ready = u8::from(matches!(status.readiness, Readiness::Ready | Readiness::Following));
        let following = u8::from(status.readiness == Readiness::Following);
        gauge(&mut out, "ready", "1 while answers are of now, and events are taken, but by who follows.", ready);
        gauge(&mut out, "following", "1 while another server writes the log and this one takes no events.", following);
        gauge(&mut out, "log_seq", "Events that reads see.", status.applied.log_seq);
        gauge(&mut out, "version", "Batches that reads see.", status.applied.version);
        header(&mut out, "model", "gauge", "1 for the weights that answer.");
        line(&mut out, format_args!("tempograph_model{{version=\"{}\"}} 1", status.model));
        gauge(&mut out, "durable_seq", "Events on the disk.", status.durable_seq);
        gauge(&mut out, "lag_events", "Events taken that reads do not see yet.", status.queued);
        gauge(&mut out, "events_waiting", "Events that wait for their time, with late = \"wait\".", status.waiting);
        gauge(&mut out, "refused_kept", "Refused events that are kept to be looked at.", status.refused_list.kept);
        gauge(&mut out, "reads_waiting", "Reads that wait.", scheduler.waiting);
        gauge(&mut out, "nodes", "Nodes known.", nodes);
        gauge(&mut out, "hit_rate", "Share of the asked embeddings that were kept.", engine.hit_rate());
        gauge(
            &mut out,
            "touched_fraction",
            "Share of the asked embeddings that had to be computed.",
            engine.touched_fraction(),
        );
        let alone = engine.longest_alone_us as f64 / 1e6;
        gauge(
            &mut out,
            "longest_alone_seconds",
            "The longest that reads were kept out while something was written.",
            alone,
        );
        gauge(&mut out, "log_bytes", "Bytes of the log of record.", status.log_bytes);
        if let Some(tls) = &self.tls {
            gauge(
                &mut out,
                "certificate_not_after_seconds",
                "When the certificate expires, since 1970.",
                tls.not_after(),
            );
        }
        let budget = &status.budget;
        gauge(&mut out, "feature_bytes", "Bytes of the features of events.", budget.feature_bytes);
        gauge(&mut out, "memory_bytes", "Bytes of memory of the process.", budget.memory_bytes);
        gauge(
            &mut out,
            "budget_memory_bytes",
            "Memory from which on events are refused; 0 for no bound.",
            budget.most_memory_bytes,
        );
        gauge(&mut out, "budget_nodes", "Most nodes; 0 for no bound.", budget.most_nodes);
        if let Some(free) = budget.disk_free_bytes {
            gauge(&mut out, "disk_free_bytes", "Bytes free on the disk of the log.", free);
        }
        gauge(
            &mut out,
            "budget_disk_free_bytes",
            "Free bytes under which events are refused.",
            budget.disk_reserve_bytes,
        );
        gauge(&mut out, "log_failing", "1 while the log of record cannot be written.", u8::from(status.log_failing));
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
            ("overtakings_total", "Passes of reads that came between two chunks of a long one.", scheduler.overtakings),
            ("waves_total", "Waves that events were computed in.", engine.waves),
            ("memories_shown_total", "Memories shown to reads and writes.", engine.memories_shown),
            ("mails_read_total", "Memories among them that mail was read into.", engine.mails_read),
            ("embeddings_asked_total", "Embeddings asked for, where these are kept.", engine.embeddings_asked),
            ("embeddings_computed_total", "Embeddings among them that had to be computed.", engine.embeddings_computed),
            ("embeddings_ahead_total", "Embeddings computed when events were applied.", engine.embeddings_ahead),
            ("retracted_total", "Events taken back.", engine.retracted),
            ("expired_total", "Nodes forgotten.", engine.expired),
            ("not_finite_total", "Answers refused because they were not finite.", engine.not_finite),
            ("passes_total", "Forward passes of reads.", scheduler.passes),
            ("pass_items_total", "Pairs, candidates and nodes answered in them.", scheduler.items),
            ("replayed_events_total", "Events of the log that were replayed at the start.", status.replayed),
            ("events_total", "Events taken.", status.accepted),
            ("duplicates_total", "Events left out because the log had them.", status.duplicates),
            ("late_events_total", "Late events that happened at the newest time.", status.late),
            (
                "refused_events_total",
                "Events refused while others of their request were accepted.",
                status.refused_events,
            ),
            ("refused_dropped_total", "Refused events that are not kept any more.", status.refused_list.dropped),
            ("late_requests_total", "Requests refused for a late event.", status.late_refused),
            ("refused_requests_total", "Requests refused for events that will not do.", status.refused),
            ("full_requests_total", "Requests refused because too many events waited.", status.full),
            ("over_budget_requests_total", "Requests refused because a budget is used up.", status.over_budget),
            ("log_failures_total", "Times the log of record could not be written.", status.log_failures),
            ("log_groups_total", "Flushes of the log to the disk.", status.groups),
            ("snapshot_failures_total", "Snapshots that could not be written.", status.snapshots.failures),
            ("snapshots_passed_over_total", "Snapshots that were damaged at the start.", status.passed_over),
        ] {
            counter(&mut out, name, help, value);
        }
        self.metrics.write(&mut out);
        Ok(out)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        let kind = match error {
            ServiceError::Artifact(_) | ServiceError::Setting { .. } => ErrorKind::Invalid,
            ServiceError::Conflict(_) => ErrorKind::Conflict,
            ServiceError::Log(_) | ServiceError::Replay(_) | ServiceError::Run(_) => ErrorKind::Unavailable,
        };
        ApiError::new(kind, error.to_string())
    }
}
