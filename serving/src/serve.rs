//! Starts a server, and stops it without breaking off requests.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::ArtifactError;
use crate::access::limits::LimitsSpec;
use crate::access::live::{Access, Live};
use crate::interface::grpc;
use crate::interface::http;
use crate::interface::http::{no_such_route, wrong_method};
use crate::interface::listen::Acceptor;
use crate::interface::listen::tls::Tls;
use crate::interface::middleware::{OfProbes, handle_request};
use crate::interface::server::{Phase, Served, Server};
use crate::log::LogKind;
use crate::observe::audit::Audit;
use crate::observe::metrics::Metrics;
use crate::observe::trace;
use crate::reload::{Hangup, Reloader, Reread};
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
/// and how far it is, and refuses all other requests with a time to retry. At SIGHUP it reads tokens and certificates
/// again.
///
/// # Errors
/// [`ServeError`], before the first request is served; later only if a listener fails.
pub fn serve(artifact: &Path, spec: &ServeSpec) -> Result<(), ServeError> {
    let same = spec.clone();
    serve_rereading(artifact, spec, move || Ok(same.clone()))
}

/// As [`serve`]. At SIGHUP the settings are what `reread` returns, as far as they can change while the server runs.
///
/// # Errors
/// As [`serve`].
pub fn serve_rereading(
    artifact: &Path,
    spec: &ServeSpec,
    reread: impl Fn() -> Result<ServeSpec, String> + Send + Sync + 'static,
) -> Result<(), ServeError> {
    let begun = Instant::now();
    keep_files_private();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let hangup = Hangup::listen();
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
                stop = stop => stop,
                Ok(why) = failing => {
                    failed = Some(why);
                    Stop::AtOnce
                }
            }
        };
        let reloading = Reloading { hangup, reread: Arc::new(reread) };
        run_then(listeners, opening, &spec, end, served, reloading).await?;
        failed.map_or(Ok(()), |why| Err(ServeError::Replay(why)))
    })
}

/// Events, tokens' names and addresses are in the files of a server, so only its own user may read them.
#[cfg(unix)]
fn keep_files_private() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let others = Mode::RWXG | Mode::RWXO;
    let before = umask(others);
    umask(before | others);
}

#[cfg(not(unix))]
fn keep_files_private() {}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It lingers, so that load balancers notice.
    Lingering,
    AtOnce,
}

/// What a server reads again while it runs, and when.
struct Reloading {
    hangup: Hangup,
    reread: Reread,
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

/// Serves on `listeners`, and on the spec's `listen.probes`, until `shutdown` resolves. Then the server reports that it
/// is not ready, lingers, lets requests in flight finish, and drains the service. It serves the service that `opening`
/// returns; until then it is alive but not ready. The caller may also query the service itself.
///
/// # Errors
/// [`ServeError`], before anything but health is served.
pub async fn run(
    listeners: Vec<TcpListener>,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    spec: &ServeSpec,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let same = spec.clone();
    let reloading = Reloading { hangup: Hangup::listen(), reread: Arc::new(move || Ok(same.clone())) };
    let shutdown = async {
        shutdown.await;
        Stop::Lingering
    };
    run_then(listeners, opening, spec, shutdown, |_| (), reloading).await
}

/// As [`run`]; calls `on_open` when the opened service is served.
async fn run_then(
    listeners: Vec<TcpListener>,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    spec: &ServeSpec,
    shutdown: impl Future<Output = Stop>,
    on_open: impl FnOnce(&Arc<Service>),
    reloading: Reloading,
) -> Result<(), ServeError> {
    let (phases, phase) = watch::channel(Phase::Up);
    let server = Arc::new(Server {
        access: Live::new(Access::open(&spec.auth, &spec.web).map_err(ServeError::Setting)?),
        audit: Audit::open(&spec.audit).map_err(ServeError::Setting)?,
        tls: Tls::open(&spec.tls).map_err(ServeError::Setting)?.map(Arc::new),
        limits: spec.limits.clone(),
        metrics: Arc::new(Metrics::default()),
        phase,
        served: OnceLock::new(),
    });
    warn_if_open(&server, &listeners);
    let probes = listen_for_probes(&server, spec).await?;
    let limits = within_file_limit(&spec.limits);
    let acceptor = Acceptor::new(router(server.clone()), server.tls.clone(), &limits, server.metrics.clone());
    let mut ended = Box::pin(serve_until(&server, opening, &spec.scheduler, shutdown, on_open));
    // Polled once first: a service that is already open is served from the first connection on.
    let at_once = tokio::select! {
        biased;
        ended = &mut ended => Some(ended),
        () = std::future::ready(()) => None,
    };
    let acceptors: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(acceptor.clone().run(listener, closing(&phases), spec.listen.drain())))
        .collect();
    let reloader = tokio::spawn(Reloader::new(server.clone(), spec, reloading.reread).run(reloading.hangup));
    let opened = match at_once {
        Some(opened) => opened,
        None => ended.as_mut().await,
    };
    drop(ended);
    reloader.abort();
    // The acceptors hold the server as long as there are connections.
    drop(server);
    // Sending fails only without receivers, and the server itself holds the receivers.
    let _ = phases.send(Phase::Lingering);
    if opened.as_ref().is_ok_and(|(_, stop)| *stop == Stop::Lingering) {
        tokio::time::sleep(spec.listen.linger()).await;
    }
    let _ = phases.send(Phase::Closing);
    for acceptor in acceptors {
        acceptor.await.map_err(io::Error::other)?;
    }
    let drained = match opened {
        Ok((Some(service), _)) => {
            let deadline = Instant::now() + spec.listen.drain();
            tokio::task::spawn_blocking(move || service.drain(deadline)).await.map_err(io::Error::other)
        }
        Ok((None, _)) => Ok(true),
        Err(error) => return Err(error),
    };
    // Liveness is answered until the very end.
    probes.inspect(tokio::task::JoinHandle::abort);
    if !drained? {
        tracing::warn!("the service did not come to an end in time; what is durable is so in any case");
    }
    Ok(())
}

/// Resolves when no more connections are accepted.
fn closing(phases: &watch::Sender<Phase>) -> impl Future<Output = ()> + Send + use<> {
    let mut phase = phases.subscribe();
    async move {
        // A closed channel also ends the wait.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    }
}

/// Bounds on the connections of the listener for probes. Its requests are short.
fn limits_of_probes(limits: &LimitsSpec) -> LimitsSpec {
    let seconds = 5000;
    LimitsSpec {
        connections: 128,
        connections_per_address: 32,
        head_ms: limits.head_ms.min(seconds),
        body_ms: limits.body_ms.min(seconds),
        ..limits.clone()
    }
}

/// Serves probes and metrics on an address of their own, if the settings name one.
///
/// # Errors
/// [`ServeError::Listen`].
async fn listen_for_probes(
    server: &Arc<Server>,
    spec: &ServeSpec,
) -> Result<Option<tokio::task::JoinHandle<()>>, ServeError> {
    let Some(address) = spec.listen.probes else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?;
    let routes = http::probes().merge(grpc::health_router(server));
    let routes = routes.fallback(no_such_route).method_not_allowed_fallback(wrong_method);
    let routes = routes.layer(from_fn_with_state(server.clone(), handle_request)).layer(Extension(OfProbes));
    let limits = limits_of_probes(&spec.limits);
    let acceptor = Acceptor::new(routes.with_state(server.clone()), None, &limits, server.metrics.clone());
    // The task is ended from outside, after everything else.
    Ok(Some(tokio::spawn(acceptor.run(listener, std::future::pending(), Duration::ZERO))))
}

/// Makes the service available once it is open, and waits for `shutdown`. Returns the service, or `None` if `shutdown`
/// came before it was open.
async fn serve_until(
    server: &Server,
    opening: impl Future<Output = Result<Arc<Service>, ServiceError>>,
    scheduling: &SchedulerSpec,
    shutdown: impl Future<Output = Stop>,
    on_open: impl FnOnce(&Arc<Service>),
) -> Result<(Option<Arc<Service>>, Stop), ServeError> {
    tokio::pin!(shutdown);
    let service = tokio::select! {
        biased;
        service = opening => service?,
        _ = &mut shutdown => return Ok((None, Stop::AtOnce)),
    };
    let scheduler = Scheduler::start(service.clone(), scheduling)?;
    // No other code sets it, so this cannot fail.
    let _ = server.served.set(Served { service: service.clone(), scheduler });
    on_open(&service);
    let stop = shutdown.await;
    tracing::info!("asked to stop");
    Ok((Some(service), stop))
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

fn warn_if_open(server: &Server, listeners: &[TcpListener]) {
    let reachable =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).find(|address| !address.ip().is_loopback());
    let Some(address) = reachable else { return };
    if server.access.now().authenticator.is_open() {
        tracing::warn!(%address, "others can reach this address, and anyone may ask or tell events: see `auth` in the spec");
    } else if server.tls.is_none() {
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
            Some(src) => {
                // A quote would end the shell's word.
                let src = serde_json::json!(src).to_string().replace('\'', "\\u0027");
                format!("curl -s {url}/v1/rank --json '{{\"src\": {src}, \"k\": 5}}'")
            }
            None => format!("curl -s {url}/v1/model"),
        };
        let ready = format!("ready after {took:.2} s, with {replayed} events of the log replayed");
        format!("serving {model}, {seen} events seen, on {url}\n{ready}\n{kept}\ntry: {request}")
    }
}

/// Resolves at SIGTERM or Ctrl-C, which does not linger: nobody waits behind a terminal. The handlers are installed when this returns.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = Stop> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Stop::AtOnce,
            _ = terminate.recv() => Stop::Lingering,
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = Stop> + Send + 'static> {
    Ok(async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Stop::AtOnce,
            Err(_) => std::future::pending().await,
        }
    })
}
