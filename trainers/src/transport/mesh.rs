//! All-reduce, all-gather and gather over processes that can send each other messages.

use std::borrow::Cow;
use std::ops::Range;

use crate::transport::exchange::{Exchange, ExchangeError, add_in_order};

/// Sends messages between processes. All of them swap with each other in the same order.
pub(crate) trait Mesh {
    /// This process.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world(&self) -> usize;

    /// Sends each of `peers` its part of `outgoing`. Gives what each of them sent to this process. All of them call it
    /// at the same time.
    fn swap(&mut self, peers: &[usize], outgoing: &[Cow<'_, [u8]>]) -> Result<Vec<Vec<u8>>, ExchangeError>;

    /// The transport, as `--transport` names it.
    fn transport(&self) -> &'static str;

    /// Notifies the others that this process cannot go on.
    fn stop(&mut self, why: &str);
}

/// An exchange over a mesh.
///
/// To reduce arrays, process `c` gets the `c`-th part of all of them, sums the parts in the order of the lanes, and
/// sends the sum to all. So each number is summed in one order on one process, wherever the lanes are, and no process
/// receives more than it needs.
pub(crate) struct MeshExchange<M>(pub M);

impl<M: Mesh> MeshExchange<M> {
    fn others(&self) -> Vec<usize> {
        (0..self.0.world()).filter(|&peer| peer != self.0.rank()).collect()
    }
}

impl<M: Mesh> Exchange for MeshExchange<M> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn world(&self) -> usize {
        self.0.world()
    }

    fn all_reduce(&mut self, lanes: &[&[f32]], total: &mut [f32]) -> Result<(), ExchangeError> {
        let (rank, world, others) = (self.rank(), self.world(), self.others());
        let size = total.len();
        let part = |process: usize| process * size / world..(process + 1) * size / world;
        let own = part(rank);

        let parts: Vec<Cow<'_, [u8]>> = others.iter().map(|&process| joined(lanes, part(process))).collect();
        let came = self.0.swap(&others, &parts)?;
        let read = |(&process, bytes): (&usize, Vec<u8>)| numbers(process, &bytes, lanes.len() * own.len(), world);
        let came = others.iter().zip(came).map(read).collect::<Result<Vec<_>, _>>()?;
        let mut of_all: Vec<&[f32]> = Vec::new();
        for process in 0..world {
            match others.iter().position(|&other| other == process) {
                // An empty part has nothing to sum. `max(1)` because chunks of zero panic.
                Some(at) => of_all.extend(came[at].chunks_exact(own.len().max(1))),
                None => of_all.extend(lanes.iter().map(|lane| &lane[own.clone()])),
            }
        }
        add_in_order(&of_all, &mut total[own.clone()]);

        let summed: Vec<Cow<'_, [u8]>> =
            others.iter().map(|_| Cow::from(bytemuck::cast_slice(&total[own.clone()]))).collect();
        let came = self.0.swap(&others, &summed)?;
        drop(summed);
        for (&process, bytes) in others.iter().zip(came) {
            let range = part(process);
            let sum = numbers(process, &bytes, range.len(), world)?;
            total[range].copy_from_slice(&sum);
        }
        Ok(())
    }

    fn all_gather(&mut self, among: Range<usize>, own: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        let rank = self.rank();
        let peers: Vec<usize> = among.clone().filter(|&peer| peer != rank).collect();
        let came = self.0.swap(&peers, &vec![Cow::from(own); peers.len()])?;
        let mut came = came.into_iter();
        Ok(among.map(|process| if process == rank { own.to_vec() } else { came.next().unwrap_or_default() }).collect())
    }

    fn gather(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError> {
        if self.rank() > 0 {
            self.0.swap(&[0], &[Cow::from(&own)])?;
            return Ok(Vec::new());
        }
        let others = self.others();
        let came = self.0.swap(&others, &vec![Cow::default(); others.len()])?;
        Ok(std::iter::once(own).chain(came).collect())
    }

    fn transport(&self) -> Option<&'static str> {
        Some(self.0.transport())
    }

    fn stop(&mut self, why: &str) {
        self.0.stop(why);
    }
}

/// `range` of each array, concatenated.
fn joined<'a>(arrays: &[&'a [f32]], range: Range<usize>) -> Cow<'a, [u8]> {
    match arrays {
        [one] => Cow::from(bytemuck::cast_slice(&one[range])),
        many => many
            .iter()
            .map(|array| bytemuck::cast_slice::<f32, u8>(&array[range.clone()]))
            .collect::<Vec<_>>()
            .concat()
            .into(),
    }
}

/// What process `rank` of `world` sent, as `count` numbers.
fn numbers(rank: usize, bytes: &[u8], count: usize, world: usize) -> Result<Vec<f32>, ExchangeError> {
    if bytes.len() == 4 * count {
        return Ok(bytemuck::pod_collect_to_vec(bytes));
    }
    let how = format!("it sent {} bytes where {} were due: it runs something else", bytes.len(), 4 * count);
    Err(ExchangeError::Gone { rank, world, how })
}
