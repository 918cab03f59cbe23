//! The processes that train on one history, and how what happens to it comes to each of them.
//!
//! Those on one machine have its tables together. They are written by one of them at a time: by the one whose lane has begun the batch,
//! and elsewhere, where a machine has only heard of it, by the machine's first. Before it writes, all say that they read no more; after
//! it has written, all hear so. Nobody asks twice: whoever waits, waits for a message.

use std::io;
use std::ops::Range;

use tempograph_framework::{Batch, History, NodeId, SharedMemory, StoreError, Update};

use crate::TrainError;
use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::machine;

/// Several processes with one history.
pub(crate) struct HistoryGroup {
    /// This process.
    rank: usize,
    /// All of them.
    all: Range<usize>,
    /// The tables that this one has together with others.
    shared: Option<SharedMemory>,
    /// For each process of the training the one that made the tables it has.
    owner: Vec<usize>,
}

impl HistoryGroup {
    /// The processes `all`, of which those that have the same `first` are on one machine, with the history that is `blank`, without room for
    /// nodes, once it has tables for `nodes` nodes.
    ///
    /// # Errors
    /// If another process is gone.
    pub fn create(
        exchange: &mut dyn Exchange,
        all: Range<usize>,
        first: &[usize],
        mut blank: impl FnMut() -> History,
        nodes: usize,
    ) -> Result<(HistoryGroup, History), TrainError> {
        let (rank, mut history, first) = (exchange.rank(), blank(), in_groups(first, all.len()));
        let made = if machine::first_of_several(&first, rank) { tables(&mut history, nodes).ok() } else { None };
        let (shared, owner) = share_tables(exchange, &first, made)?;
        let group = HistoryGroup { rank, all, shared, owner };
        match &group.shared {
            Some(shared) if group.owner[rank] != rank => history.move_to_shared(group.room(shared), nodes, false),
            Some(_) => {}
            None => {
                history = blank();
                history.grow(nodes);
            }
        }
        Ok((group, history))
    }

    /// Whether this process tells of the history, of which each has all.
    pub fn is_leader(&self) -> bool {
        self.rank == self.all.start
    }

    /// Bytes of the tables that this process has together with others.
    pub fn shared_bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, SharedMemory::len)
    }

    /// Lets `batch` happen. `update` is what process `source` has made of it; the others know it from there, or find it written.
    pub fn observe(
        &self,
        exchange: &mut dyn Exchange,
        history: &mut History,
        batch: &Batch<'_>,
        source: usize,
        update: Option<&Update>,
    ) -> Result<(), TrainError> {
        // Said before the others hear of it: from then on whoever writes may do so.
        history.expect_remote(batch)?;
        let own =
            update.filter(|_| self.spans_machines() || history.needs_remote_mail()).map(to_bytes).unwrap_or_default();
        let told = exchange.all_gather(self.all.clone(), &own)?;
        let unreadable = || {
            let how = format!(
                "it sent {} bytes that are no update: it runs something else",
                told[source - self.all.start].len()
            );
            TrainError::from(ExchangeError::Gone { rank: source, world: exchange.world(), how })
        };
        let writer = if self.owner[source] == self.owner[self.rank] { source } else { self.owner[self.rank] };
        if writer == self.rank {
            match update {
                Some(update) => history.observe(batch, update)?,
                None => {
                    let update = from_bytes(&told[source - self.all.start]).ok_or_else(unreadable)?;
                    history.observe(batch, &update)?
                }
            }
        }
        let mail = match update {
            Some(update) => update.mail.clone(),
            None if history.needs_remote_mail() => {
                from_bytes(&told[source - self.all.start]).ok_or_else(unreadable)?.mail
            }
            None => Vec::new(),
        };
        self.barrier(exchange)?;
        if writer != self.rank {
            history.apply_remote(batch, &mail)?;
        }
        Ok(())
    }

    /// Empties the history.
    pub fn reset(&self, exchange: &mut dyn Exchange, history: &mut History) -> Result<(), TrainError> {
        // Somebody may still be reading, for a checkpoint.
        self.barrier(exchange)?;
        if self.owner[self.rank] == self.rank {
            history.reset()
        } else {
            history.reset_local()
        }
        self.barrier(exchange)
    }

    /// Puts `told`, which each has been told, in the place of `history`.
    pub fn restore(
        &self,
        exchange: &mut dyn Exchange,
        history: &mut History,
        mut told: History,
    ) -> Result<(), TrainError> {
        if let Some(shared) = &self.shared {
            let nodes = history.nodes();
            if told.nodes() != nodes || told.needed(nodes) != history.needed(nodes) {
                let problem = format!("is of a history of {} nodes of another log; this one has {nodes}", told.nodes());
                return Err(StoreError::Array { name: "degree".into(), problem }.into());
            }
            told.move_to_shared(self.room(shared), nodes, self.owner[self.rank] == self.rank);
        }
        *history = told;
        self.barrier(exchange)
    }

    /// Whether not all have the same tables.
    fn spans_machines(&self) -> bool {
        self.all.clone().any(|process| self.owner[process] != self.owner[self.rank])
    }

    /// Waits until all have come here, where any have tables together.
    fn barrier(&self, exchange: &mut dyn Exchange) -> Result<(), TrainError> {
        if self.all.clone().any(|process| self.owner[process] != process) {
            exchange.all_gather(self.all.clone(), &[])?;
        }
        Ok(())
    }

    /// The memory that processes of this group see.
    fn room(&self, shared: &SharedMemory) -> tempograph_framework::SharedArena {
        // SAFETY: one history at a time is in this room: `restore` puts one in the place of the other. It is written in `observe`, `reset` and
        // `restore` alone, by one process. Each of the others is in the same of these methods then: it comes there once it has read what its
        // lanes train in this step (threads that read ahead are waited for before), and leaves it once it has heard that all is written.
        unsafe { shared.arena() }
    }
}

/// Moves an empty history to memory that others can have together with this process, with tables for `nodes` nodes.
fn tables(history: &mut History, nodes: usize) -> io::Result<SharedMemory> {
    let shared = SharedMemory::zeros(history.needed(nodes))?;
    // SAFETY: nobody else knows of it yet.
    history.move_to_shared(unsafe { shared.arena() }, nodes, false);
    history.reset();
    Ok(shared)
}

/// Of each process the first of those that are on its machine and in its group of `size`.
fn in_groups(first: &[usize], size: usize) -> Vec<usize> {
    let of = |process: usize| {
        let group = process / size * size..process + 1;
        group.clone().find(|&other| first[other] == first[process]).unwrap_or(process)
    };
    (0..first.len()).map(of).collect()
}

/// Has the processes of the same `first` see the same memory, if each of them can open what the first has `made`. Gives it, and for each
/// process the one that made the memory it sees; nothing, and itself, if it is on its own. All processes call this.
fn share_tables(
    exchange: &mut dyn Exchange,
    first: &[usize],
    made: Option<SharedMemory>,
) -> Result<(Option<SharedMemory>, Vec<usize>), ExchangeError> {
    let (rank, world) = (exchange.rank(), exchange.world());
    // Who has made none says nothing, which nobody can open.
    let address = made.as_ref().and_then(|shared| shared.address().ok()).unwrap_or_default();
    let addresses = exchange.all_gather(0..world, address.as_bytes())?;
    let open = || SharedMemory::open(&String::from_utf8_lossy(&addresses[first[rank]])).ok();
    let shared = if first[rank] == rank { made } else { open() };
    let seen = exchange.all_gather(0..world, &[u8::from(shared.is_some())])?;
    let all_see = |of: usize| (0..world).filter(|&process| first[process] == of).all(|process| seen[process] == [1]);
    let owner = (0..world).map(|process| if all_see(first[process]) { first[process] } else { process }).collect();
    Ok((shared.filter(|_| all_see(first[rank])), owner))
}

fn to_bytes(update: &Update) -> Vec<u8> {
    let Update { nodes, memory, mail } = update;
    let mut bytes = [nodes.len(), memory.len()].map(|count| (count as u64).to_le_bytes()).concat();
    nodes.iter().for_each(|node| bytes.extend_from_slice(&node.0.to_le_bytes()));
    memory.iter().chain(mail).for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<Update> {
    let (nodes, rest) = bytes.split_first_chunk()?;
    let (memory, rest) = rest.split_first_chunk()?;
    let four = |count: &[u8; 8]| usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(4);
    let (nodes, rest) = rest.split_at_checked(four(nodes)?)?;
    let (memory, mail) = rest.split_at_checked(four(memory)?)?;
    let word = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).expect("four bytes");
    let numbers = |bytes: &[u8]| bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(word(bytes))).collect();
    Some(Update {
        nodes: nodes.chunks_exact(4).map(|bytes| NodeId(u32::from_le_bytes(word(bytes)))).collect(),
        memory: numbers(memory),
        mail: numbers(mail),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_update_arrives_as_it_was_sent_and_less_of_it_is_none() {
        let update = Update {
            nodes: [3, 9].map(NodeId).to_vec(),
            memory: vec![0.5, -1.0, f32::MIN_POSITIVE, 7.0],
            mail: vec![-0.0, 3.5],
        };
        let bytes = to_bytes(&update);
        assert_eq!(from_bytes(&bytes).unwrap(), update);
        for cut in 0..16 + 4 * (update.nodes.len() + update.memory.len()) {
            assert!(from_bytes(&bytes[..cut]).is_none(), "{cut} bytes");
        }
        assert!(from_bytes(&[u8::MAX; 20]).is_none());
    }
}
