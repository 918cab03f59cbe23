//! How many connections may be open, of all clients and of one address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The open connections of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// By number, so that the oldest is first.
    connections: BTreeMap<u64, Connection>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Connection {
    address: IpAddr,
    spoken: Arc<AtomicBool>,
    yielded: Arc<Notify>,
}

/// The place of a connection; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    number: u64,
    /// Whether the client has sent the beginning of a request. A silent connection yields its place to a new one.
    pub spoken: Arc<AtomicBool>,
    /// Notified when the connection has to yield its place.
    pub yielded: Arc<Notify>,
}

impl Room {
    pub fn new(most: usize, per_address: usize) -> Room {
        Room(Arc::new(Inner { most, per_address, open: Mutex::default() }))
    }

    /// A place for a new connection. If there is none, the oldest connection that has sent nothing yields its own.
    /// Returns also whether one had to. `None` if all others have sent something.
    pub fn take(&self, address: IpAddr) -> Option<(Place, bool)> {
        let address = network(address);
        let mut open = self.open();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        let full = open.connections.len() >= self.0.most;
        let yielding = if of_address >= self.0.per_address {
            Some(open.oldest_silent(Some(address))?)
        } else if full {
            Some(open.oldest_silent(None)?)
        } else {
            None
        };
        if let Some(number) = yielding
            && let Some(connection) = open.remove(number)
        {
            connection.yielded.notify_one();
        }
        let number = open.next;
        open.next += 1;
        let (spoken, yielded) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        open.connections.insert(number, Connection { address, spoken: spoken.clone(), yielded: yielded.clone() });
        *open.by_address.entry(address).or_default() += 1;
        drop(open);
        Some((Place { room: self.clone(), number, spoken, yielded }, yielding.is_some()))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn oldest_silent(&self, of: Option<IpAddr>) -> Option<u64> {
        let mut candidates = self.connections.iter().filter(|(_, one)| of.is_none_or(|of| one.address == of));
        candidates.find(|(_, one)| !one.spoken.load(Relaxed)).map(|(number, _)| *number)
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(count) = self.by_address.get_mut(&connection.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&connection.address);
            }
        }
        Some(connection)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open().remove(self.number);
    }
}

/// The address that connections are counted by. One client has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others() {
        let room = Room::new(6, 4);
        let taken: Vec<Place> = (0..4).map(|_| room.take(at(1)).unwrap().0).collect();
        taken.iter().for_each(|place| place.spoken.store(true, Relaxed));
        assert!(room.take(at(1)).is_none());
        let other = room.take(at(2)).unwrap().0;
        drop(taken);
        assert!(room.take(at(1)).is_some());
        drop(other);
        assert!(room.open().connections.is_empty() && room.open().by_address.is_empty());
    }

    #[test]
    fn a_connection_that_says_nothing_yields_its_place_and_the_oldest_does_so_first() {
        let room = Room::new(3, 3);
        let places: Vec<Place> = (0..3).map(|_| room.take(at(1)).unwrap().0).collect();
        places[0].spoken.store(true, Relaxed);
        let (new, had_to) = room.take(at(1)).unwrap();
        assert!(had_to && room.open().connections.len() == 3);
        assert!(!room.open().connections.contains_key(&places[1].number));
        // The place that was given up is not freed twice.
        drop(places);
        assert_eq!(room.open().connections.keys().copied().collect::<Vec<_>>(), [new.number]);
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_network_and_a_mapped_one_by_its_address() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
