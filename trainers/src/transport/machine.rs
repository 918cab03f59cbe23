//! Which processes are on one machine, and data that all of them share there.

use tempograph_framework::{SharedArena, SharedMemory};

use crate::transport::exchange::{Exchange, ExchangeError};

/// The boot id and host name of this machine, from Linux. A container has a name of its own. Empty if they cannot be
/// read.
pub(crate) fn name() -> String {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{what}")).ok();
    read("random/boot_id")
        .zip(read("hostname"))
        .map_or_else(String::new, |(boot, host)| format!("{} {}", boot.trim(), host.trim()))
}

/// For each process the first process on its machine, or itself if its machine is not known.
pub(crate) fn first_ranks(exchange: &mut dyn Exchange) -> Result<Vec<usize>, ExchangeError> {
    let names = exchange.all_gather(0..exchange.world(), exchange.machine().as_bytes())?;
    let first = |(rank, name): (usize, &Vec<u8>)| match name.is_empty() {
        true => rank,
        false => names.iter().position(|other| other == name).unwrap_or(rank),
    };
    Ok(names.iter().enumerate().map(first).collect())
}

/// Whether process `rank` is the first of several, where each process has a `first`.
pub(crate) fn first_of_several(first: &[usize], rank: usize) -> bool {
    first.iter().enumerate().any(|(process, &of)| of == rank && process != rank)
}

/// Builds something in the first process of each machine, for the others there to borrow. `lend` gives what they need,
/// and keeps alive what must stay until they have it. A process that cannot borrow builds its own, equal one. All
/// processes call this.
///
/// # Errors
/// The error of building it, or if another process is gone.
pub fn once_per_machine<T, L, E: From<ExchangeError>>(
    exchange: &mut dyn Exchange,
    make: impl Fn() -> Result<T, E>,
    lend: impl FnOnce(&mut T) -> Option<(L, String)>,
    borrow: impl Fn(&str) -> Option<T>,
) -> Result<T, E> {
    let (rank, world, first) = (exchange.rank(), exchange.world(), first_ranks(exchange)?);
    let mut made = if first[rank] == rank { Some(make()?) } else { None };
    let lent = made.as_mut().filter(|_| first_of_several(&first, rank)).and_then(lend);
    let gathered = lent.as_ref().map_or("", |(_, gathered)| gathered.as_str());
    let gathered = exchange.all_gather(0..world, gathered.as_bytes())?;
    let borrowed =
        std::str::from_utf8(&gathered[first[rank]]).ok().filter(|gathered| !gathered.is_empty()).and_then(borrow);
    // Every process has it now, so the first may drop what it kept alive.
    exchange.all_gather(0..world, &[])?;
    match borrowed.or(made) {
        Some(one) => Ok(one),
        None => make(),
    }
}

/// As [`once_per_machine`], for data in memory that is never written again. The first process of a machine moves it
/// (`enter`) to `needed` bytes of shared memory, and the others read it there (`find`).
pub(crate) fn once_in_shared_memory<T, E: From<ExchangeError>>(
    exchange: &mut dyn Exchange,
    make: impl Fn() -> Result<T, E>,
    needed: impl FnOnce(&mut T) -> usize,
    enter: impl FnOnce(&mut T, SharedArena),
    find: impl Fn(SharedArena) -> T,
) -> Result<T, E> {
    let lend = |made: &mut T| {
        let shared = SharedMemory::zeros(needed(made)).ok()?;
        // SAFETY: no other process has its address yet.
        enter(made, unsafe { shared.arena() });
        let address = shared.address().ok()?;
        Some((shared, address))
    };
    let borrow = |address: &str| {
        let shared = SharedMemory::open(address).ok()?;
        // SAFETY: it was written before its address was sent, and no process writes it again.
        Some(find(unsafe { shared.arena() }))
    };
    once_per_machine(exchange, make, lend, borrow)
}
