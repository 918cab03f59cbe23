//! Processes that communicate over TCP. Nothing has to be installed. They are on one machine, or on several of a
//! trusted network.
//!
//! Every process is connected to every other. A thread for each connection receives what comes, so that sending never
//! waits for a receiver that is itself sending. A process that dies closes its connections, and the others notice at
//! once. A process that is suspended, or whose machine is gone, sends no more heartbeats. Heartbeats do not depend on
//! what the process computes: an endless loop looks like a long validation, and the others wait for it.

mod inbox;
mod rendezvous;
mod wire;

use std::borrow::Cow;
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::launch::Launch;
use crate::transport::mesh::{Mesh, MeshExchange};
use inbox::Inbox;
use rendezvous::connect_all;
use wire::{Frame, Lost};

/// Time between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a heartbeat after which a process counts as dead.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process that leaves waits for acknowledgements.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to the other processes of `launch`. `run` names the run and is the same for all of them.
///
/// # Errors
/// [`ExchangeError::Rendezvous`] if not all come within `patience`, or one runs something else.
pub fn connect_tcp(launch: &Launch, run: &str, patience: Duration) -> Result<Box<dyn Exchange>, ExchangeError> {
    Ok(Box::new(MeshExchange(Tcp::connect(launch, run, patience)?)))
}

/// This process's end of every connection.
pub(crate) struct Tcp {
    rank: usize,
    /// A writer to each process; none to this one itself.
    writers: Arc<Vec<Option<Mutex<TcpStream>>>>,
    inbox: Arc<Inbox>,
    /// Why this process cannot go on.
    stopped: Option<String>,
    /// Stops the heartbeats when it is dropped.
    _beating: Sender<()>,
}

impl Tcp {
    pub fn connect(launch: &Launch, run: &str, patience: Duration) -> Result<Tcp, ExchangeError> {
        let streams = connect_all(launch, run, patience).map_err(ExchangeError::Rendezvous)?;
        Tcp::start(launch.rank, streams)
            .map_err(|error| ExchangeError::Rendezvous(format!("a connection cannot be used: {error}")))
    }

    fn start(rank: usize, streams: Vec<Option<TcpStream>>) -> std::io::Result<Tcp> {
        let inbox = Arc::new(Inbox::new(streams.len()));
        let mut writers = Vec::new();
        let mut readers = Vec::new();
        for (peer, stream) in streams.into_iter().enumerate() {
            let Some(stream) = stream else {
                writers.push(None);
                continue;
            };
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PEER_TIMEOUT))?;
            stream.set_write_timeout(Some(PEER_TIMEOUT))?;
            readers.push((peer, stream.try_clone()?));
            writers.push(Some(Mutex::new(stream)));
        }
        let writers = Arc::new(writers);
        for (peer, stream) in readers {
            let (inbox, writers) = (inbox.clone(), writers.clone());
            thread::Builder::new()
                .name(format!("from-{peer}"))
                .spawn(move || inbox.receive_frames(peer, stream, &|frame| send_frame(&writers, peer, frame)))?;
        }
        let (beating, ended) = channel::<()>();
        let to = writers.clone();
        thread::Builder::new().name("signs-of-life".into()).spawn(move || {
            while ended.recv_timeout(HEARTBEAT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                send_heartbeats(&to);
            }
        })?;
        Ok(Tcp { rank, writers, inbox, stopped: None, _beating: beating })
    }

    /// The process that was lost first, if any.
    #[cfg(feature = "cuda")]
    pub fn lost(&self) -> Option<ExchangeError> {
        self.inbox.lost().map(|lost| self.gone(lost))
    }

    fn gone(&self, Lost { rank, how }: Lost) -> ExchangeError {
        ExchangeError::Gone { rank, world: self.world(), how }
    }
}

/// Sends a frame to `peer`. An unreachable peer is noticed later, where its messages are awaited.
fn send_frame(writers: &[Option<Mutex<TcpStream>>], peer: usize, frame: &Frame<'_>) -> std::io::Result<()> {
    match &writers[peer] {
        Some(writer) => frame.write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner)),
        None => Ok(()),
    }
}

/// Sends a heartbeat to all processes. A peer that is being sent a message is skipped: the message shows it that this
/// process is alive.
fn send_heartbeats(writers: &[Option<Mutex<TcpStream>>]) {
    for writer in writers.iter().flatten() {
        if let Ok(mut writer) = writer.try_lock() {
            // The reader of this connection notices if it does not arrive.
            let _ = Frame::Heartbeat.write(&mut *writer);
        }
    }
}

impl Mesh for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.writers.len()
    }

    fn swap(&mut self, peers: &[usize], outgoing: &[Cow<'_, [u8]>]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        for (&peer, message) in peers.iter().zip(outgoing) {
            if let Err(error) = send_frame(&self.writers, peer, &Frame::Message(message)) {
                let how = format!("its connection is broken: {error}");
                return Err(self.gone(self.inbox.first_lost(Lost { rank: peer, how })));
            }
        }
        peers.iter().map(|&peer| self.inbox.next_message_from(peer).map_err(|lost| self.gone(lost))).collect()
    }

    fn transport(&self) -> &'static str {
        "tcp"
    }

    fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_string());
    }
}

impl Drop for Tcp {
    /// Leaves: sends who was lost, or why this process stops, or that all is done. A process that does not acknowledge
    /// in time is dead or no longer reads.
    fn drop(&mut self) {
        let stopped = self.stopped.take().map(|why| Lost { rank: self.rank, how: format!("it stopped: {why}") });
        let lost = self.inbox.lost().or(stopped);
        let frame = lost.as_ref().map_or(Frame::Finished, Frame::Lost);
        for peer in 0..self.world() {
            // A peer that is gone does not need it.
            let _ = send_frame(&self.writers, peer, &frame);
        }
        self.inbox.wait_for_acknowledgements(SHUTDOWN_TIMEOUT);
        for writer in self.writers.iter().flatten() {
            let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).shutdown(std::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests;
