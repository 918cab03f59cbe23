//! The processes that train on one history, and how its updates reach each of them.
//!
//! Processes on one machine share the tables of the history. One process at a time writes them: the one whose lane has
//! begun the batch. On a machine where none has, it is the machine's first process. Before the write, every process
//! says that it no longer reads. After the write, every process is notified. No process polls: a process that waits,
//! waits for a message.

use std::io;
use std::ops::Range;

use tempograph_framework::{Batch, History, NodeId, SharedMemory, StoreError, Update};

use crate::TrainError;
use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::machine;

/// Several processes with one history.
pub(crate) struct HistoryGroup {
    /// The rank of this process.
    rank: usize,
    /// The ranks of all of them.
    all: Range<usize>,
    /// The tables that this process shares with others.
    shared: Option<SharedMemory>,
    /// For each process of the training, the process that created its tables.
    owner: Vec<usize>,
}

impl HistoryGroup {
    /// Creates the group of the processes `all`. Processes with the same `first` are on one machine. `blank` is the
    /// history, not yet allocated; it gets tables for `nodes` nodes.
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

    /// Whether this process writes the history into checkpoints. Each process has all of the history.
    pub fn is_leader(&self) -> bool {
        self.rank == self.all.start
    }

    /// Bytes of the tables that this process shares with others.
    pub fn shared_bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, SharedMemory::len)
    }

    /// Observes `batch`. Process `source` has computed its `update`. The others receive it from there, or read what was
    /// written.
    pub fn observe(
        &self,
        exchange: &mut dyn Exchange,
        history: &mut History,
        batch: &Batch<'_>,
        source: usize,
        update: Option<&Update>,
    ) -> Result<(), TrainError> {
        // Called before the all-gather: after it, the writer may write.
        history.expect_remote(batch)?;
        let own =
            update.filter(|_| self.spans_machines() || history.needs_remote_mail()).map(to_bytes).unwrap_or_default();
        let gathered = exchange.all_gather(self.all.clone(), &own)?;
        let unreadable = || {
            let how = format!(
                "it sent {} bytes that are no update: it runs something else",
                gathered[source - self.all.start].len()
            );
            TrainError::from(ExchangeError::Gone { rank: source, world: exchange.world(), how })
        };
        let writer = if self.owner[source] == self.owner[self.rank] { source } else { self.owner[self.rank] };
        if writer == self.rank {
            match update {
                Some(update) => history.observe(batch, update)?,
                None => {
                    let update = from_bytes(&gathered[source - self.all.start]).ok_or_else(unreadable)?;
                    history.observe(batch, &update)?
                }
            }
        }
        let mail = match update {
            Some(update) => update.mail.clone(),
            None if history.needs_remote_mail() => {
                from_bytes(&gathered[source - self.all.start]).ok_or_else(unreadable)?.mail
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
        // Another process may still be reading, for a checkpoint.
        self.barrier(exchange)?;
        if self.owner[self.rank] == self.rank {
            history.reset()
        } else {
            history.reset_local()
        }
        self.barrier(exchange)
    }

    /// Replaces `history` by `told`, which every process has read.
    pub fn restore(
        &self,
        exchange: &mut dyn Exchange,
        history: &mut History,
        mut gathered: History,
    ) -> Result<(), TrainError> {
        if let Some(shared) = &self.shared {
            let nodes = history.nodes();
            if gathered.nodes() != nodes || gathered.needed(nodes) != history.needed(nodes) {
                let problem =
                    format!("is of a history of {} nodes of another log; this one has {nodes}", gathered.nodes());
                return Err(StoreError::Array { name: "degree".into(), problem }.into());
            }
            gathered.move_to_shared(self.room(shared), nodes, self.owner[self.rank] == self.rank);
        }
        *history = gathered;
        self.barrier(exchange)
    }

    /// Whether the processes have more than one copy of the tables.
    fn spans_machines(&self) -> bool {
        self.all.clone().any(|process| self.owner[process] != self.owner[self.rank])
    }

    /// Waits for all processes of the group, if any of them share tables.
    fn barrier(&self, exchange: &mut dyn Exchange) -> Result<(), TrainError> {
        if self.all.clone().any(|process| self.owner[process] != process) {
            exchange.all_gather(self.all.clone(), &[])?;
        }
        Ok(())
    }

    /// The memory that processes of this group share.
    fn room(&self, shared: &SharedMemory) -> tempograph_framework::SharedArena {
        // SAFETY: one history at a time is in this memory: `restore` replaces one by the other. Only `observe`, `reset`
        // and `restore` write it, in one process. Each of the other processes is then in the same method: it enters it
        // after it has read what its lanes train in this step (threads that read ahead are waited for before), and
        // leaves it after it was notified that all is written.
        unsafe { shared.arena() }
    }
}

/// Moves an empty history to memory that other processes can open, with tables for `nodes` nodes.
fn tables(history: &mut History, nodes: usize) -> io::Result<SharedMemory> {
    let shared = SharedMemory::zeros(history.needed(nodes))?;
    // SAFETY: no other process has its address yet.
    history.move_to_shared(unsafe { shared.arena() }, nodes, false);
    history.reset();
    Ok(shared)
}

/// For each process, the first process that is on its machine and in its group of `size`.
fn in_groups(first: &[usize], size: usize) -> Vec<usize> {
    let of = |process: usize| {
        let group = process / size * size..process + 1;
        group.clone().find(|&other| first[other] == first[process]).unwrap_or(process)
    };
    (0..first.len()).map(of).collect()
}

/// Lets processes with the same `first` share the memory that the first has `made`, if each of them can open it. Gives
/// the memory, and for each process the owner of its memory. A process that shares with none gets nothing, and is its
/// own owner. All processes call this.
fn share_tables(
    exchange: &mut dyn Exchange,
    first: &[usize],
    made: Option<SharedMemory>,
) -> Result<(Option<SharedMemory>, Vec<usize>), ExchangeError> {
    let (rank, world) = (exchange.rank(), exchange.world());
    // A process that made no memory sends an empty address, which cannot be opened.
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
