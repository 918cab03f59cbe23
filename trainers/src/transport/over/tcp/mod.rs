//! Processes that talk over TCP: nothing has to be installed, on one machine or between several of a trusted network.
//!
//! Every process is connected to every other. A thread for each connection takes in what comes, so that sending never waits for a receiver
//! that is sending itself. A process that dies closes its connections, which the others notice at once; one that is suspended, or whose machine
//! is gone, no longer gives its sign of life. It gives that whatever it computes: a training that goes round in circles is not told from a long
//! validation, and is waited for.

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

/// Time between two signs of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a sign of life after which a process is taken for dead.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long leaving waits until the others have heard of it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Meets the other processes of `launch`. `run` names what is run, and is the same for all of them.
///
/// # Errors
/// [`ExchangeError::Rendezvous`] if not all come within `patience`, or one runs something else.
pub fn connect_tcp(launch: &Launch, run: &str, patience: Duration) -> Result<Box<dyn Exchange>, ExchangeError> {
    Ok(Box::new(MeshExchange(Tcp::connect(launch, run, patience)?)))
}

/// One end of every connection.
pub(crate) struct Tcp {
    rank: usize,
    /// To each process; none to this one itself.
    writers: Arc<Vec<Option<Mutex<TcpStream>>>>,
    inbox: Arc<Inbox>,
    /// Why this process cannot go on.
    stopped: Option<String>,
    /// Ends the signs of life when it is dropped.
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

/// Sends a frame to `peer`. One that cannot be reached is noticed where its messages are awaited.
fn send_frame(writers: &[Option<Mutex<TcpStream>>], peer: usize, frame: &Frame<'_>) -> std::io::Result<()> {
    match &writers[peer] {
        Some(writer) => frame.write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner)),
        None => Ok(()),
    }
}

/// Says to all that this process is alive. Who is being sent something hears that anyway.
fn send_heartbeats(writers: &[Option<Mutex<TcpStream>>]) {
    for writer in writers.iter().flatten() {
        if let Ok(mut writer) = writer.try_lock() {
            // Whether it arrives is for the reader of this connection to find out.
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
    /// Takes leave: says who was lost, or why this process stops, or that all is done. A process that hears nothing of it in time is dead
    /// or does not listen any more.
    fn drop(&mut self) {
        let stopped = self.stopped.take().map(|why| Lost { rank: self.rank, how: format!("it stopped: {why}") });
        let lost = self.inbox.lost().or(stopped);
        let frame = lost.as_ref().map_or(Frame::Finished, Frame::Lost);
        for peer in 0..self.world() {
            // A peer that is gone need not hear it.
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
