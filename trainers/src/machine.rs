//! Which processes are on one machine, and the memory they have together there.

use std::io;

use tempograph_framework::Shared;

use crate::exchange::{Exchange, ExchangeError};

/// What Linux says of the machine this process runs on: which start of which kernel, under which name. Containers have names of their
/// own. Nothing where it says nothing.
pub(crate) fn name() -> String {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{what}")).ok();
    read("random/boot_id").zip(read("hostname")).map_or_else(String::new, |(boot, host)| format!("{} {}", boot.trim(), host.trim()))
}

/// For each process the first of those on its machine; itself, if it does not know where it is.
pub(crate) fn firsts(exchange: &mut dyn Exchange) -> Result<Vec<usize>, ExchangeError> {
    let names = exchange.all_gather(0..exchange.world(), exchange.machine().as_bytes())?;
    let first = |(rank, name): (usize, &Vec<u8>)| match name.is_empty() {
        true => rank,
        false => names.iter().position(|other| other == name).unwrap_or(rank),
    };
    Ok(names.iter().enumerate().map(first).collect())
}

/// What the first process of each machine makes, for the others there to borrow: `lend` says how, and holds on to what has to be held until
/// they have. Where that cannot be, each makes its own, the same. All processes call this.
///
/// # Errors
/// What making it fails with, or if another process is gone.
pub fn once_a_machine<T, L, E: From<ExchangeError>>(
    exchange: &mut dyn Exchange,
    make: impl Fn() -> Result<T, E>,
    lend: impl FnOnce(&T) -> Option<(L, String)>,
    borrow: impl Fn(&str) -> Option<T>,
) -> Result<T, E> {
    let (rank, world, first) = (exchange.rank(), exchange.world(), firsts(exchange)?);
    let company = (0..world).any(|process| process != rank && first[process] == rank);
    let made = if first[rank] == rank { Some(make()?) } else { None };
    let lent = made.as_ref().filter(|_| company).and_then(lend);
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

/// Memory that processes have together.
pub(crate) struct Together {
    /// Seen by this process and others; nothing if it is on its own.
    pub shared: Option<Shared>,
    /// For each process the one that made the memory it sees; itself, if it is on its own.
    pub maker: Vec<usize>,
}

impl Together {
    /// Has the processes of the same `first`, which is one of them, see the same memory, if there are several and it can be: the first makes
    /// it and says where it is, and if each of the others can open it, it is theirs. All processes call this.
    ///
    /// # Errors
    /// If another process is gone.
    pub fn meet(
        exchange: &mut dyn Exchange,
        first: &[usize],
        make: impl FnOnce() -> io::Result<Shared>,
    ) -> Result<Together, ExchangeError> {
        let (rank, world) = (exchange.rank(), exchange.world());
        if (0..world).all(|process| first[process] == process) {
            return Ok(Together { shared: None, maker: first.to_vec() });
        }
        let company = (0..world).any(|process| process != rank && first[process] == rank);
        let made = if company { make().ok() } else { None };
        // Who cannot make it says nothing, which nobody can open.
        let address = made.as_ref().and_then(|shared| shared.address().ok()).unwrap_or_default();
        let addresses = exchange.all_gather(0..world, address.as_bytes())?;
        let open = || Shared::open(&String::from_utf8_lossy(&addresses[first[rank]])).ok();
        let shared = if first[rank] == rank { made } else { open() };
        let seen = exchange.all_gather(0..world, &[u8::from(shared.is_some())])?;
        let all_see = |of: usize| (0..world).filter(|&process| first[process] == of).all(|process| seen[process] == [1]);
        let maker: Vec<usize> = (0..world).map(|process| if all_see(first[process]) { first[process] } else { process }).collect();
        let shared = shared.filter(|_| all_see(first[rank]));
        Ok(Together { shared, maker })
    }
}
