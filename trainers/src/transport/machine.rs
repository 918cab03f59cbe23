//! Which processes are on one machine, and what is there once for all of them.

use tempograph_framework::{SharedArena, SharedMemory};

use crate::transport::exchange::{Exchange, ExchangeError};

/// What Linux says of the machine this process runs on: which start of which kernel, under which name. Containers have names of their
/// own. Nothing where it says nothing.
pub(crate) fn name() -> String {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{what}")).ok();
    read("random/boot_id")
        .zip(read("hostname"))
        .map_or_else(String::new, |(boot, host)| format!("{} {}", boot.trim(), host.trim()))
}

/// For each process the first of those on its machine; itself, if it does not know where it is.
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

/// What the first process of each machine makes, for the others there to borrow: `lend` says how, and holds on to what has to be held until
/// they have. Who cannot borrow makes its own, the same. All processes call this.
///
/// # Errors
/// What making it fails with, or if another process is gone.
pub fn once_per_machine<T, L, E: From<ExchangeError>>(
    exchange: &mut dyn Exchange,
    make: impl Fn() -> Result<T, E>,
    lend: impl FnOnce(&mut T) -> Option<(L, String)>,
    borrow: impl Fn(&str) -> Option<T>,
) -> Result<T, E> {
    let (rank, world, first) = (exchange.rank(), exchange.world(), first_ranks(exchange)?);
    let mut made = if first[rank] == rank { Some(make()?) } else { None };
    let lent = made.as_mut().filter(|_| first_of_several(&first, rank)).and_then(lend);
    let told = lent.as_ref().map_or("", |(_, told)| told.as_str());
    let told = exchange.all_gather(0..world, told.as_bytes())?;
    let borrowed = std::str::from_utf8(&told[first[rank]]).ok().filter(|told| !told.is_empty()).and_then(borrow);
    // Everybody has it now, and the first lets go of what it made.
    exchange.all_gather(0..world, &[])?;
    match borrowed.or(made) {
        Some(one) => Ok(one),
        None => make(),
    }
}

/// As [`once_per_machine`], of what lies in memory and is never written again: the first of a machine moves what it made to as many bytes of
/// shared memory as are `needed` (`enter`), and the others find it there (`find`).
pub(crate) fn once_in_shared_memory<T, E: From<ExchangeError>>(
    exchange: &mut dyn Exchange,
    make: impl Fn() -> Result<T, E>,
    needed: impl FnOnce(&mut T) -> usize,
    enter: impl FnOnce(&mut T, SharedArena),
    find: impl Fn(SharedArena) -> T,
) -> Result<T, E> {
    let lend = |made: &mut T| {
        let shared = SharedMemory::zeros(needed(made)).ok()?;
        // SAFETY: nobody else knows of it yet.
        enter(made, unsafe { shared.arena() });
        let address = shared.address().ok()?;
        Some((shared, address))
    };
    let borrow = |address: &str| {
        let shared = SharedMemory::open(address).ok()?;
        // SAFETY: it was written before anybody was told of it, and nobody writes it again.
        Some(find(unsafe { shared.arena() }))
    };
    once_per_machine(exchange, make, lend, borrow)
}
