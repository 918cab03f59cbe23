//! Communication between the processes of one training run.

use std::ops::Range;

use rayon::prelude::*;

use crate::transport::machine;

/// Numbers that one task sums.
const CHUNK: usize = 1 << 13;

/// The other processes of a training run, as seen by one of them. Every process calls the same methods in the same
/// order.
///
/// One process is [`SingleProcess`].
pub trait Exchange {
    /// This process among all, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world(&self) -> usize;

    /// Sums the arrays of all lanes of all processes, each as long as `total`, in the order of the lanes. The bits of
    /// the sum do not depend on which process has which lane. Every process has the same number of lanes and gets the
    /// same sum.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn all_reduce(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError>;

    /// Gives to all of the processes `among` the bytes of each of them, in their order. Only they call it.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn all_gather(&mut self, among: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError>;

    /// Sends the bytes of every process to the first one. That one gets them in the order of the processes; the others
    /// get nothing. All processes call it.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn gather(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError>;

    /// Names the machine this process is on. Processes with the same name try to share memory. Empty if it is not
    /// known.
    fn machine(&self) -> String {
        machine::name()
    }

    /// The transport: `tcp`, `mpi` or `nccl`. None for a single process.
    fn transport(&self) -> Option<&'static str> {
        None
    }

    /// Notifies the others, before this is dropped, that this process cannot go on and `why`. Dropping without it means
    /// that the process has finished.
    fn stop(&mut self, why: &str);
}

/// Why processes could not communicate.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A process has stopped answering.
    #[error("process {rank} of {world} is gone ({how})")]
    Gone {
        /// Which one.
        rank: usize,
        /// Of how many.
        world: usize,
        /// How that was noticed.
        how: String,
    },
    /// The weights of the processes differ.
    #[error("after step {step} {}: a machine computes otherwise than the others", parted(.alike))]
    Diverged {
        /// Ranks with the same weights, ordered by the first of each group.
        alike: Vec<Vec<usize>>,
        /// Steps taken.
        step: u64,
    },
    /// The processes did not find each other.
    #[error("the processes cannot meet: {0}")]
    Rendezvous(String),
}

/// The only process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Exchange for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError> {
        add_in_order(lanes, total);
        Ok(())
    }

    fn all_gather(&mut self, _: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        Ok(vec![own.to_vec()])
    }

    fn gather(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError> {
        Ok(vec![own])
    }

    fn stop(&mut self, _: &str) {}
}

/// Writes the sum of arrays over `total`, number by number, first to last.
///
/// # Panics
/// If an array is shorter than `total`.
pub fn add_in_order(arrays: &[&[f32]], total: &mut [f32]) {
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, total)| {
        let range = chunk * CHUNK..chunk * CHUNK + total.len();
        total.fill(0.0);
        for array in arrays {
            total.iter_mut().zip(&array[range.clone()]).for_each(|(sum, number)| *sum += number);
        }
    });
}

/// Checks that all processes have the same `hash`.
///
/// # Errors
/// [`ExchangeError::Diverged`] if they differ. Its message names the processes that differ from the majority, or all if
/// there is no majority. Another error if a process is gone.
pub fn check_same_hash(exchange: &mut dyn Exchange, hash: &[u8], step: u64) -> Result<(), ExchangeError> {
    let world = exchange.world();
    let hashes = exchange.all_gather(0..world, hash)?;
    let mut alike: Vec<Vec<usize>> = Vec::new();
    for (rank, hash) in hashes.iter().enumerate() {
        match alike.iter_mut().find(|group| hashes[group[0]] == *hash) {
            Some(group) => group.push(rank),
            None => alike.push(vec![rank]),
        }
    }
    if alike.len() > 1 { Err(ExchangeError::Diverged { alike, step }) } else { Ok(()) }
}

/// Names the processes whose weights differ from the majority, or all groups if there is no majority.
fn parted(alike: &[Vec<usize>]) -> String {
    let world: usize = alike.iter().map(Vec::len).sum();
    let named = |ranks: &[usize]| {
        let several = if ranks.len() > 1 { "es" } else { "" };
        format!("process{several} {}", ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
    };
    match alike.iter().find(|group| 2 * group.len() > world) {
        Some(most) => {
            let others: Vec<usize> = (0..world).filter(|rank| !most.contains(rank)).collect();
            format!("the weights of {} differ from those of the other {}", named(&others), most.len())
        }
        None => format!(
            "the weights of {} differ",
            alike.iter().map(|group| named(group)).collect::<Vec<_>>().join(" and of ")
        ),
    }
}
