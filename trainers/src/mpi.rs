//! Processes that talk over MPI, with the feature `mpi`.
//!
//! A process that is killed is noticed by `mpirun`, which names it and ends the others; one that cannot go on says why and has MPI end them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::request::scope;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};

use crate::exchange::{Exchange, ExchangeError};
use crate::mesh::{Mesh, Over};

/// Bytes of one MPI message: its counts have 31 bits. A shorter one is a message's last.
const PIECE: usize = 1 << 30;
/// How long waiting keeps a core, and how long it lets go of it from then on.
const EAGER: Duration = Duration::from_micros(100);
const NAP: Duration = Duration::from_micros(50);

/// Starts MPI. `run` names what is run, and is the same for all processes.
///
/// # Errors
/// [`ExchangeError::Meeting`] if MPI was started before, or a process runs something else.
pub fn over_mpi(run: &str) -> Result<Box<dyn Exchange>, ExchangeError> {
    let meeting = |why: &str| ExchangeError::Meeting(why.into());
    let (universe, _) = ::mpi::initialize_with_threading(Threading::Funneled).ok_or_else(|| meeting("MPI was started before"))?;
    let mut all = Over(Mpi { world: universe.world(), stopped: None, _universe: universe });
    let runs = all.share(0..all.world(), run.as_bytes())?;
    match runs.iter().position(|other| *other != runs[0]) {
        Some(rank) => Err(meeting(&format!("process {rank} has another spec, other settings or another version than process 0"))),
        None => Ok(Box::new(all)),
    }
}

/// This process among those `mpirun` started.
struct Mpi {
    world: SimpleCommunicator,
    /// Why this process cannot go on.
    stopped: Option<String>,
    /// Ends MPI, after everything else here.
    _universe: Universe,
}

impl Mpi {
    /// The next message of `peer`.
    fn receive(&self, peer: usize) -> Vec<u8> {
        let mut message = self.receive_piece(peer);
        let mut last = message.len();
        while last == PIECE {
            let piece = self.receive_piece(peer);
            last = piece.len();
            message.extend(piece);
        }
        message
    }

    fn receive_piece(&self, peer: usize) -> Vec<u8> {
        let peer = self.world.process_at_rank(peer as i32);
        let began = Instant::now();
        loop {
            if let Some(found) = peer.immediate_matched_probe() {
                return found.matched_receive_vec().0;
            }
            // MPI's own waiting never lets go of the core, which a lane may need.
            if began.elapsed() < EAGER { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
    }
}

/// A message in as many pieces as it takes, the last of them shorter than a whole one.
fn pieces(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = message.len() / PIECE;
    (0..=whole).map(move |piece| &message[piece * PIECE..((piece + 1) * PIECE).min(message.len())])
}

impl Mesh for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn world(&self) -> usize {
        self.world.size() as usize
    }

    fn swap(&mut self, peers: &[usize], outgoing: &[Cow<'_, [u8]>]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        let came = scope(|scope| {
            let to = peers.iter().map(|&peer| self.world.process_at_rank(peer as i32));
            let pieces = to.zip(outgoing).flat_map(|(to, message)| pieces(message).map(move |piece| (to, piece)));
            let sent: Vec<_> = pieces.map(|(to, piece)| to.immediate_send(scope, piece)).collect();
            let came = peers.iter().map(|&peer| self.receive(peer)).collect();
            sent.into_iter().for_each(|sent| sent.wait_without_status());
            came
        });
        Ok(came)
    }

    fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_string());
    }
}

impl Drop for Mpi {
    /// The first process may have much to do yet; MPI ends for all when it is done, and the others wait for that without keeping a core.
    fn drop(&mut self) {
        if let Some(why) = &self.stopped {
            eprintln!("error: process {} of {} stopped: {why}", self.rank(), self.world());
            self.world.abort(1);
        }
        if self.rank() > 0 {
            self.receive(0);
            return;
        }
        for peer in 1..self.world() {
            self.world.process_at_rank(peer as i32).send(&[0u8; 0][..]);
        }
    }
}
