//! What the processes of one training tell each other.

use std::ops::Range;

use rayon::prelude::*;

use crate::machine;

/// Numbers one task adds up.
const CHUNK: usize = 1 << 13;

/// The other processes of a training, as seen from one of them. Every process calls the same methods in the same order.
///
/// One process is [`Alone`].
pub trait Exchange {
    /// This process among all, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world(&self) -> usize;

    /// Adds up the arrays of all lanes of all processes, each as long as `total`, in the order of the lanes: the same bits wherever a
    /// lane is. Every process has the same number of lanes and gets the same sum.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn sum(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError>;

    /// What each of the processes `among` says, in their order. All of them call it, and no other.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn share(&mut self, among: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError>;

    /// Has every process tell the first what it says: there it comes in the order of the processes, elsewhere nothing comes. All of them
    /// call it.
    ///
    /// # Errors
    /// [`ExchangeError`] if another process is gone.
    fn gather(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError>;

    /// Names the machine this process is on: those under one name try to have memory together. Nothing if that is not known.
    fn machine(&self) -> String {
        machine::name()
    }

    /// Tells the others, before it is dropped, that this process cannot go on and `why`. One that is dropped without has ended well.
    fn stop(&mut self, why: &str);
}

/// Why processes could not talk.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A process has stopped answering.
    #[error("process {rank} of {world} is gone ({how}); the checkpoint goes on with `--resume`")]
    Gone {
        /// Which one.
        rank: usize,
        /// Of how many.
        world: usize,
        /// How that was noticed.
        how: String,
    },
    /// Weights are no longer the same everywhere.
    #[error("the weights of process {rank} differ from those of process 0 after step {step}: a machine computes otherwise than the first")]
    Diverged {
        /// The first process that differs.
        rank: usize,
        /// Steps taken.
        step: u64,
    },
    /// The processes did not find each other.
    #[error("the processes cannot meet: {0}")]
    Meeting(String),
}

/// The only process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Exchange for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn sum(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError> {
        add_in_order(lanes, total);
        Ok(())
    }

    fn share(&mut self, _: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError> {
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

/// Whether all processes have the same `hash`.
///
/// # Errors
/// [`ExchangeError::Diverged`] naming the first that differs from process 0, or another if one is gone.
pub fn agree(exchange: &mut dyn Exchange, hash: &[u8], step: u64) -> Result<(), ExchangeError> {
    let world = exchange.world();
    let all = exchange.share(0..world, hash)?;
    match all.iter().position(|other| *other != all[0]) {
        Some(rank) => Err(ExchangeError::Diverged { rank, step }),
        None => Ok(()),
    }
}
