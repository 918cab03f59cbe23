//! Connections: accepted, counted, limited, and finished when the server stops.
pub(crate) mod prompt;
pub(crate) mod room;
pub(crate) mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::access::limits::LimitsSpec;
use crate::interface::listen::prompt::FirstBytesTimeout;
use crate::interface::listen::room::{Place, Room};
use crate::interface::listen::tls::Tls;
use crate::observe::metrics::Metrics;

/// The section `listen` of a server's settings. Every address speaks HTTP/1.1, HTTP/2 and gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenSpec {
    /// The address; with port 0 the system chooses a free port.
    pub http: SocketAddr,
    /// One more address, for clients that expect gRPC on its own port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<SocketAddr>,
    /// One more address, for probes and metrics alone: `/health/…`, `/metrics`, and gRPC's health service. It has
    /// connections of its own, needs no token and is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<SocketAddr>,
    /// How long the server continues to accept requests after SIGTERM, when it is not ready any more, in milliseconds. In
    /// this time a load balancer can notice. Ctrl-C does not wait.
    pub linger_ms: u64,
    /// How long the server then waits for requests in flight, in milliseconds.
    pub drain_ms: u64,
}

impl Default for ListenSpec {
    fn default() -> ListenSpec {
        ListenSpec {
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            grpc: None,
            probes: None,
            linger_ms: 3000,
            drain_ms: 10_000,
        }
    }
}

impl ListenSpec {
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// The settings with which connections are served.
#[derive(Clone)]
pub(crate) struct Acceptor {
    router: Router,
    tls: Option<Arc<Tls>>,
    protocol: Arc<auto::Builder<TokioExecutor>>,
    head: Duration,
    room: Room,
    metrics: Arc<Metrics>,
}

impl Acceptor {
    pub fn new(router: Router, tls: Option<Arc<Tls>>, limits: &LimitsSpec, metrics: Arc<Metrics>) -> Acceptor {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol.http1().timer(TokioTimer::new()).header_read_timeout(limits.head());
        // Detects a peer that is gone without closing the connection, and frees its permit.
        let alive = (Duration::from_secs(30), Duration::from_secs(20));
        protocol.http2().timer(TokioTimer::new()).keep_alive_interval(alive.0).keep_alive_timeout(alive.1);
        protocol.http2().max_concurrent_streams(limits.streams).adaptive_window(true);
        let room = Room::new(limits.connections, limits.connections_per_address);
        Acceptor { router, tls, protocol: Arc::new(protocol), head: limits.head(), room, metrics }
    }

    /// Accepts connections until `stop` resolves, then waits `drain` for requests in flight.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>, drain: Duration) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                taken = listener.accept() => match taken {
                    Ok((stream, from)) => self.serve_in_task(stream, from, &graceful, &mut connections),
                    Err(error) => back_off(&error).await,
                },
                // Removes a finished connection from the set.
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "requests were still in flight when the time to finish them was up"
            );
        }
    }

    fn serve_in_task(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        graceful: &GracefulShutdown,
        connections: &mut JoinSet<()>,
    ) {
        let Some((place, yielded)) = self.room.take(from.ip()) else {
            self.metrics.connection_refused();
            return;
        };
        if yielded {
            self.metrics.connection_yielded();
        }
        // Small answers are sent at once instead of waiting for later ones. An error here means that the connection is
        // gone, which the next read shows.
        let _ = stream.set_nodelay(true);
        self.metrics.connection_opened();
        let (acceptor, watcher) = (self.clone(), graceful.watcher());
        connections.spawn(async move {
            tokio::select! {
                () = place.yielded.notified() => {}
                () = acceptor.serve(stream, from, &place, watcher) => {}
            }
            acceptor.metrics.connection_closed();
        });
    }

    async fn serve(&self, stream: TcpStream, from: SocketAddr, place: &Place, watcher: Watcher) {
        match &self.tls {
            None => self.serve_connection(stream, from, place, watcher).await,
            // A failed or slow handshake is a fault of the peer and not logged.
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(self.head, tls.acceptor().accept(stream)).await {
                    self.serve_connection(stream, from, place, watcher).await;
                }
            }
        }
    }

    async fn serve_connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        from: SocketAddr,
        place: &Place,
        watcher: Watcher,
    ) {
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(Peer(from))));
        let stream = FirstBytesTimeout::new(stream, self.head, place.spoken.clone());
        let connection = self.protocol.serve_connection(TokioIo::new(stream), service).into_owned();
        // A broken connection is a fault of the peer as well. Its requests were counted where they were answered.
        let _ = watcher.watch(connection).await;
    }
}

/// The address of the client, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub SocketAddr);

/// Does not wait after an error of one connection. Any other error means that the system has no more connections for
/// now.
async fn back_off(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "a connection cannot be taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
