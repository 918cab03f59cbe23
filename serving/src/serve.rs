//! Listening, and stopping without breaking off.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::http::{Server, router};
use crate::{ArtifactError, Engine};

/// How long requests in flight are waited for when the server is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The artifact cannot be opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The log, the snapshots or their settings will not do.
    #[error(transparent)]
    Service(#[from] crate::ServiceError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Threads or signals cannot be had, or the listener broke.
    #[error("the server cannot run: {0}")]
    Run(#[from] io::Error),
}

/// Serves an artifact until SIGTERM or Ctrl-C, then finishes what is in flight. Prints where it listens and a request to try.
///
/// # Errors
/// [`ServeError`], before anything is served, but for a listener that breaks.
pub fn serve(artifact: &Path, listen: SocketAddr) -> Result<(), ServeError> {
    let engine = Engine::open(artifact)?;
    // A request computes on one blocking thread and, inside, on the kernels' threads: many more at once would only take turns.
    let cores = std::thread::available_parallelism().map_or(4, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(2 * cores + 2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(|error| ServeError::Listen { address: listen, error })?;
        // A server goes on when nobody reads what it says.
        let _ = writeln!(io::stdout(), "{}", greeting(&engine, listener.local_addr()?));
        let stop = stop_signal()?;
        run(listener, Arc::new(engine), stop).await?;
        Ok(())
    })
}

/// Serves `engine` on `listener` until `shutdown` resolves; requests in flight then have ten seconds to finish. The caller may go on
/// asking the engine itself.
///
/// # Errors
/// What the system says when the listener breaks.
pub async fn run(listener: TcpListener, engine: Arc<Engine>, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let signal = async move {
        shutdown.await;
        // Nobody listens any more if the server has ended by itself.
        let _ = stopping.send(());
    };
    let overdue = async move {
        match stopped.await {
            Ok(()) => tokio::time::sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = axum::serve(listener, router(Server::new(engine))).with_graceful_shutdown(signal) => ended,
        () = overdue => Ok(()),
    }
}

fn greeting(engine: &Engine, address: SocketAddr) -> String {
    let model = engine.manifest().model_version();
    let seen = engine.position().log_seq;
    let first = format!("serving {model}, {seen} events seen, on http://{address}");
    let request = match engine.example() {
        Some(src) => format!("curl -s http://{address}/v1/rank -d '{{\"src\": {src}, \"k\": 5}}'"),
        None => format!("curl -s http://{address}/v1/model"),
    };
    format!("{first}\ntry: {request}")
}

/// Resolves at SIGTERM or Ctrl-C. The handlers stand when this returns.
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
