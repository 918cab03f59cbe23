//! Processes that communicate over MPI, with the feature `mpi`.
//!
//! `mpirun` notices a process that is killed, names it and ends the others. A process that cannot go on prints why and
//! lets MPI end all of them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::request::scope;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};

use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::mesh::{Mesh, MeshExchange};

/// Bytes of one MPI message: its counts have 31 bits. A shorter message is the last one of its sequence.
const PIECE: usize = 1 << 30;
/// How long a wait spins on its core.
const EAGER: Duration = Duration::from_micros(100);
/// After that it sleeps for this part of the time it has waited so far. A message may be noticed that much later.
const NAP_PART: u32 = 64;
/// The longest sleep.
const LONGEST_NAP: Duration = Duration::from_millis(5);

/// Starts MPI in the process that the launcher calls `rank` of `world`. `run` names what is run, and is the same for
/// all processes.
///
/// # Errors
/// [`ExchangeError::Rendezvous`] on all processes if MPI was started before, one runs something else, or MPI numbers
/// them otherwise than the launcher: another MPI's `mpirun`, or a launcher that MPI knows nothing of, makes each a
/// world of its own.
pub fn connect_mpi(rank: usize, world: usize, run: &str) -> Result<Box<dyn Exchange>, ExchangeError> {
    let (universe, _) = ::mpi::initialize_with_threading(Threading::Funneled)
        .ok_or_else(|| ExchangeError::Rendezvous("MPI was started before".into()))?;
    let mut exchange = MeshExchange(Mpi { world: universe.world(), stopped: None, _universe: universe });
    // All processes compare what the launcher set: if one failed alone, the others would wait for it.
    let launched = exchange.all_gather(0..exchange.world(), format!("{rank} of {world}").as_bytes())?;
    let runs = exchange.all_gather(0..exchange.world(), run.as_bytes())?;
    match misnumbered(&launched).or_else(|| stranger(&runs)) {
        Some(why) => Err(ExchangeError::Rendezvous(why)),
        None => Ok(Box::new(exchange)),
    }
}

/// The error if MPI's ranks are not those of the launcher. `launched` is in MPI's order.
fn misnumbered(launched: &[Vec<u8>]) -> Option<String> {
    let by_mpi = |rank: usize| format!("{rank} of {}", launched.len());
    let (rank, said) = launched.iter().enumerate().find(|(rank, said)| **said != by_mpi(*rank).into_bytes())?;
    let (by_mpi, said) = (by_mpi(rank), String::from_utf8_lossy(said));
    Some(format!(
        "process {by_mpi} by MPI is {said} by the launcher: start it with the mpirun of the MPI this program was built with"
    ))
}

fn stranger(runs: &[Vec<u8>]) -> Option<String> {
    let rank = runs.iter().position(|other| *other != runs[0])?;
    Some(format!("process {rank} has another spec, other settings or another version than process 0"))
}

/// This process among those that `mpirun` started.
struct Mpi {
    world: SimpleCommunicator,
    /// Why this process cannot go on.
    stopped: Option<String>,
    /// Ends MPI. It is the last field, so it is dropped last.
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
            // MPI's own wait never yields the core, which a lane may need.
            let waited = began.elapsed();
            if waited < EAGER {
                std::thread::yield_now()
            } else {
                std::thread::sleep((waited / NAP_PART).min(LONGEST_NAP))
            }
        }
    }
}

/// A message in pieces of `size` bytes. The last one is shorter.
fn pieces(message: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    let whole = message.len() / size;
    (0..=whole).map(move |piece| &message[piece * size..((piece + 1) * size).min(message.len())])
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
            let pieces =
                to.zip(outgoing).flat_map(|(to, message)| pieces(message, PIECE).map(move |piece| (to, piece)));
            let sent: Vec<_> = pieces.map(|(to, piece)| to.immediate_send(scope, piece)).collect();
            let came = peers.iter().map(|&peer| self.receive(peer)).collect();
            sent.into_iter().for_each(|sent| sent.wait_without_status());
            came
        });
        Ok(came)
    }

    fn transport(&self) -> &'static str {
        "mpi"
    }

    fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_string());
    }
}

impl Drop for Mpi {
    /// The first process may still have work. MPI ends for all when it is done. The others wait for that with sleeps,
    /// so they use no core.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_in_whole_pieces_and_ends_with_a_shorter_one() {
        let message: Vec<u8> = (0..40).collect();
        for length in 0..message.len() {
            for size in 1..9 {
                let sent: Vec<&[u8]> = pieces(&message[..length], size).collect();
                let Some((last, whole)) = sent.split_last() else { panic!("nothing is sent of {length} bytes") };
                assert!(
                    whole.iter().all(|piece| piece.len() == size) && last.len() < size,
                    "{length} bytes in pieces of {size}: {sent:?}"
                );
                assert_eq!(sent.concat(), message[..length]);
            }
        }
    }

    #[test]
    fn numbers_that_differ_from_the_launchers_are_both_named() {
        let gathered =
            |launched: &[&str]| misnumbered(&launched.iter().map(|said| said.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(gathered(&["0 of 1"]), None);
        assert_eq!(gathered(&["0 of 3", "1 of 3", "2 of 3"]), None);
        for (launched, by_mpi, said) in [
            (&["1 of 2"][..], "0 of 1", "1 of 2"),
            (&["1 of 2", "0 of 2"], "0 of 2", "1 of 2"),
            (&["0 of 2", "0 of 1"], "1 of 2", "0 of 1"),
        ] {
            let why = gathered(launched).unwrap_or_default();
            assert!(
                why.contains(&format!("process {by_mpi} by MPI")) && why.contains(&format!("{said} by the launcher")),
                "{why}"
            );
        }
    }
}
