//! Starts a server, and stops it without breaking off requests.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::ArtifactError;
use crate::access::auth::Authenticator;
use crate::access::limits::LimitsSpec;
use crate::interface::grpc;
use crate::interface::http;
use crate::interface::http::{no_such_route, wrong_method};
use crate::interface::listen::Acceptor;
use crate::interface::listen::tls::Tls;
use crate::interface::middleware::handle_request;
use crate::interface::server::{Phase, Served, Server};
use crate::log::LogKind;
use crate::observe::metrics::Metrics;
use crate::observe::trace;
use crate::schedule::{Scheduler, SchedulerSpec};
use crate::service::{Readiness, Service, ServiceError};
use crate::spec::ServeSpec;

/// Why a server does not start or does not continue.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The artifact, the log of record or the snapshots cannot be opened.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The log of record cannot be replayed.
    #[error("{0}")]
    Replay(String),
    /// A setting is invalid.
    #[error("{0}")]
    Setting(String),
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// Threads or signals are not available, or the listener failed.
    #[error("the server cannot run: {0}")]
    Run(#[from] io::Error),
}

impl From<ArtifactError> for ServeError {
    fn from(error: ArtifactError) -> ServeError {
        ServeError::Service(error.into())
    }
}

/// Serves an artifact until SIGTERM or Ctrl-C, then finishes the requests in flight. Prints its address and an example
/// request.
///
/// The server listens at once. While it opens the artifact and the log and replays the log, it reports that it is alive
/// and how far it is, and refuses all other requests with a time to retry.
///
/// # Errors
/// [`ServeError`], before the first request is served; later only if a listener fails.
pub fn serve(artifact: &Path, spec: &ServeSpec) -> Result<(), ServeError> {
    let begun = Instant::now();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _tracing = trace::start(&spec.logging, &spec.traces).map_err(ServeError::Setting)?;
        let stop = stop_signal()?;
        let listeners = bind(spec).await?;
        let address = listeners[0].local_addr()?;
        let (artifact, spec) = (artifact.to_owned(), spec.clone());
        let (fail, failing) = oneshot::channel();
        let opening = open_in_thread(&artifact, &spec);
        let reporter = StartupReporter { begun, address, artifact: artifact.clone(), spec: spec.clone() };
        let served = |service: &Arc<Service>| drop(tokio::spawn(reporter.report_when_ready(service.clone(), fail)));
        let mut failed = None;
        let end = async {
            tokio::select! {
                () = stop => {}
                Ok(why) = failing => failed = Some(why),
            }
        };
        run_then(listeners, opening, &spec, end, served).await?;
        failed.map_or(Ok(()), |why| Err(ServeError::Replay(why)))
    })
}

/// Opens a service on its own thread. A server that receives a stop signal does not wait for this thread.
async fn open_in_thread(artifact: &Path, spec: &ServeSpec) -> Result<Arc<Service>, ServiceError> {
    let (opened, opening) = oneshot::channel();
    let (artifact, spec) = (artifact.to_owned(), spec.service());
    // The receiver is gone if the server has stopped meanwhile.
    let open = move || _ = opened.send(Service::open(&artifact, &spec));
    std::thread::Builder::new().name("open".into()).spawn(open)?;
    opening
        .await
        .unwrap_or_else(|_| Err(ServiceError::Conflict("opening the artifact has panicked, which is a bug".into())))
}

/// The listeners of a spec, its main address first.
///
/// # Errors
/// [`ServeError::Listen`].
async fn bind(spec: &ServeSpec) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners = Vec::new();
    for address in [Some(spec.listen.http), spec.listen.grpc].into_iter().flatten() {
        listeners.push(TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?);
    }
    Ok(listeners)
}

/// Serves on `listeners` until `shutdown` resolves. Then the server reports that it is not ready, lingers, lets
/// requests in flight finish, and drains the service. It serves the service that `opening` returns; until then it is
/// alive but not ready. The caller may also query the service itself.
///
/// # Errors
/// [`ServeError`], before anything but health is served.
pub async fn run(
    listeners: Vec<TcpListener>,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    spec: &ServeSpec,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    run_then(listeners, opening, spec, shutdown, |_| ()).await
}

/// As [`run`]; calls `on_open` when the opened service is served.
async fn run_then(
    listeners: Vec<TcpListener>,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    spec: &ServeSpec,
    shutdown: impl Future<Output = ()>,
    on_open: impl FnOnce(&Arc<Service>),
) -> Result<(), ServeError> {
    let authenticator = Authenticator::open(&spec.auth).map_err(ServeError::Setting)?;
    let tls = Tls::open(&spec.tls).map_err(ServeError::Setting)?;
    warn_if_open(&authenticator, tls.is_some(), &listeners);
    let (phases, phase) = watch::channel(Phase::Up);
    let metrics = Arc::new(Metrics::default());
    let server = Arc::new(Server {
        authenticator,
        limits: spec.limits.clone(),
        metrics: metrics.clone(),
        phase,
        served: OnceLock::new(),
    });
    let limits = within_file_limit(&spec.limits);
    let acceptor = Acceptor::new(router(server.clone()), tls.as_ref().map(Tls::acceptor), &limits, metrics);
    let mut ended = Box::pin(serve_until(&server, opening, &spec.scheduler, shutdown, on_open));
    // Polled once first: a service that is already open is served from the first connection on.
    let at_once = tokio::select! {
        biased;
        ended = &mut ended => Some(ended),
        () = std::future::ready(()) => None,
    };
    let acceptors: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let mut closing = phases.subscribe();
            let stop = async move {
                // A closed channel also ends the wait.
                let _ = closing.wait_for(|phase| *phase == Phase::Closing).await;
            };
            tokio::spawn(acceptor.clone().run(listener, stop, spec.listen.drain()))
        })
        .collect();
    let renewal = tls.map(|tls| tokio::spawn(async move { tls.renew().await }));
    let opened = match at_once {
        Some(opened) => opened,
        None => ended.as_mut().await,
    };
    drop(ended);
    // The acceptors hold the server as long as there are connections.
    drop(server);
    // Sending fails only without receivers, and the server itself holds the receivers.
    let _ = phases.send(Phase::Lingering);
    if opened.is_ok() {
        tokio::time::sleep(spec.listen.linger()).await;
    }
    let _ = phases.send(Phase::Closing);
    for acceptor in acceptors {
        acceptor.await.map_err(io::Error::other)?;
    }
    renewal.inspect(tokio::task::JoinHandle::abort);
    let Some(service) = opened? else { return Ok(()) };
    let deadline = Instant::now() + spec.listen.drain();
    let drained = tokio::task::spawn_blocking(move || service.drain(deadline)).await.map_err(io::Error::other)?;
    if !drained {
        tracing::warn!("the service did not come to an end in time; what is durable is so in any case");
    }
    Ok(())
}

/// Makes the service available once it is open, and waits for `shutdown`. Returns the service, or `None` if `shutdown`
/// came before it was open.
async fn serve_until(
    server: &Server,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    scheduling: &SchedulerSpec,
    shutdown: impl Future<Output = ()>,
    on_open: impl FnOnce(&Arc<Service>),
) -> Result<Option<Arc<Service>>, ServeError> {
    tokio::pin!(shutdown);
    let service = tokio::select! {
        biased;
        service = opening => service?,
        () = &mut shutdown => return Ok(None),
    };
    let scheduler = Scheduler::start(service.clone(), scheduling)?;
    // No other code sets it, so this cannot fail.
    let _ = server.served.set(Served { service: service.clone(), scheduler });
    on_open(&service);
    shutdown.await;
    tracing::info!("asked to stop");
    Ok(Some(service))
}

/// All routes, behind the middleware that handles every request.
fn router(server: Arc<Server>) -> axum::Router {
    let routes = http::router().merge(grpc::router(&server));
    let routes = routes.fallback(no_such_route).method_not_allowed_fallback(wrong_method);
    routes.layer(from_fn_with_state(server.clone(), handle_request)).with_state(server)
}

/// Files that the log of record, snapshots and reloads need: connections must not take them.
const FILES_IN_RESERVE: u64 = 128;

/// Raises the limit of open files to the most that the system allows.
#[cfg(unix)]
fn raise_file_limit() {
    if let Some(limit) = file_limit().filter(|limit| limit.rlim_cur < limit.rlim_max) {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: the system only reads `raised`. If it refuses, the limit stays as it is.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) };
    }
}

#[cfg(not(unix))]
fn raise_file_limit() {}

#[cfg(unix)]
fn file_limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the system only writes `limit`.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    (!failed).then_some(limit)
}

/// The limits, with no more connections than there are files for besides those in reserve.
fn within_file_limit(limits: &LimitsSpec) -> LimitsSpec {
    #[cfg(unix)]
    let files = file_limit().map_or(u64::MAX, |limit| limit.rlim_cur);
    #[cfg(not(unix))]
    let files = u64::MAX;
    let most = usize::try_from(files.saturating_sub(FILES_IN_RESERVE).max(1)).unwrap_or(usize::MAX);
    if most < limits.connections {
        tracing::warn!(
            "{most} connections are accepted in place of {} (limits.connections): the process may open {files} files, and \
             {FILES_IN_RESERVE} are kept for the log; raise the limit (`ulimit -n`, `LimitNOFILE`)",
            limits.connections
        );
    }
    LimitsSpec { connections: limits.connections.min(most), ..limits.clone() }
}

fn warn_if_open(authenticator: &Authenticator, tls: bool, listeners: &[TcpListener]) {
    let reachable =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).find(|address| !address.ip().is_loopback());
    let Some(address) = reachable else { return };
    if authenticator.is_open() {
        tracing::warn!(%address, "others can reach this address, and anyone may ask or tell events: see `auth` in the spec");
    } else if !tls {
        tracing::warn!(%address, "others can reach this address, and tokens travel in the clear: see `tls` in the spec");
    }
}

/// Reports when the server is ready.
struct StartupReporter {
    /// When it was started.
    begun: Instant,
    address: SocketAddr,
    artifact: PathBuf,
    spec: ServeSpec,
}

impl StartupReporter {
    /// Prints the startup message once the server is ready, or reports that it never will be.
    async fn report_when_ready(self, service: Arc<Service>, fail: oneshot::Sender<String>) {
        let mut reported = Instant::now();
        while let Readiness::Recovering { applied, of } = service.readiness() {
            if reported.elapsed() >= Duration::from_secs(1) {
                tracing::info!(applied, of, "replaying the log of record");
                reported = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Readiness::Broken { why } = service.readiness() {
            // The receiver is gone if the server is stopping.
            let _ = fail.send(why);
            return;
        }
        // The server continues when nobody reads its output.
        let _ = writeln!(io::stdout(), "{}", self.startup_message(&service));
    }

    fn startup_message(&self, service: &Service) -> String {
        let (engine, took, replayed) =
            (service.engine(), self.begun.elapsed().as_secs_f64(), service.status().replayed);
        let scheme = if self.spec.tls.cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.address);
        let model = engine.manifest().model_version();
        let seen = engine.position().log_seq;
        let log = &self.spec.log;
        let kept = match log.kind {
            LogKind::Memory => "events are forgotten when it stops".to_string(),
            LogKind::Embedded => format!("events are kept in {}", log.dir(&self.artifact).display()),
            LogKind::Kafka if log.follow => format!("events are those that another server writes to {}", log.address()),
            LogKind::Kafka => format!("events are kept in {}", log.address()),
        };
        let request = match engine.example() {
            Some(src) => format!("curl -s {url}/v1/rank -d '{{\"src\": {src}, \"k\": 5}}'"),
            None => format!("curl -s {url}/v1/model"),
        };
        let ready = format!("ready after {took:.2} s, with {replayed} events of the log replayed");
        format!("serving {model}, {seen} events seen, on {url}\n{ready}\n{kept}\ntry: {request}")
    }
}

/// Resolves at SIGTERM or Ctrl-C. The handlers are installed when this returns.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}
