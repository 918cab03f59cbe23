//! How processes connect: all connect to the first, which sends each the addresses of the others.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::transport::launch::{Launch, Rendezvous};

/// First line of every handshake.
const GREETING: &str = "tempograph exchange 1";
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a peer may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to each process, `[world]`; none to this one itself. An error names the process that is missing or
/// refused.
pub(crate) fn connect_all(launch: &Launch, run: &str, patience: Duration) -> Result<Vec<Option<TcpStream>>, String> {
    let until = Instant::now() + patience;
    if launch.rank == 0 { host_rendezvous(launch, run, until, patience) } else { join_rendezvous(launch, run, until) }
}

/// A peer's handshake: one line each of greeting, run, and `rank world port`.
struct IncomingPeer {
    stream: TcpStream,
    rank: usize,
    world: usize,
    /// Where it listens.
    port: u16,
    run: String,
}

impl IncomingPeer {
    /// None if the peer sent another protocol.
    fn read_handshake(stream: TcpStream) -> Option<IncomingPeer> {
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).ok()?;
        let (greeting, run, own) = (line(&stream).ok()?, line(&stream).ok()?, line(&stream).ok()?);
        let mut own = own.split(' ').map(|number| number.parse::<usize>().ok());
        let (rank, world, port) = (own.next()??, own.next()??, own.next()??);
        (greeting == GREETING).then_some(IncomingPeer { stream, rank, world, port: u16::try_from(port).ok()?, run })
    }
}

/// The first process: waits for all others, then sends each the addresses they listen on.
fn host_rendezvous(
    launch: &Launch,
    run: &str,
    until: Instant,
    patience: Duration,
) -> Result<Vec<Option<TcpStream>>, String> {
    let listener = listen(&launch.rendezvous)?;
    let mut guests: Vec<Option<IncomingPeer>> = (0..launch.world).map(|_| None).collect();
    while guests.iter().skip(1).any(Option::is_none) {
        let Some(guest) = accept(&listener, until)? else {
            let missing: Vec<String> =
                (1..launch.world).filter(|&rank| guests[rank].is_none()).map(|rank| rank.to_string()).collect();
            let named = if missing.len() == 1 { "process" } else { "processes" };
            return Err(format!(
                "{named} {} of {} did not come within {} s",
                missing.join(", "),
                launch.world,
                patience.as_secs()
            ));
        };
        let Some(mut guest) = IncomingPeer::read_handshake(guest) else { continue };
        let refused = refusal(&guest, launch, run, &guests);
        if let Some(why) = refused {
            let _ = writeln!(guest.stream, "no {why}");
            return Err(why);
        }
        let rank = guest.rank;
        guests[rank] = Some(guest);
    }
    if let Rendezvous::File(path) = &launch.rendezvous {
        // No further process will read it.
        let _ = fs::remove_file(path);
    }
    // A process on this machine may have connected by an address that only this machine can use.
    let seen =
        |guest: &IncomingPeer| guest.stream.peer_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback());
    let places: Vec<String> = guests
        .iter()
        .flatten()
        .map(|g| format!("{}:{}", seen(g).map_or("-".into(), |ip| ip.to_string()), g.port))
        .collect();
    let gathered = format!("yes {}\n", places.join(" "));
    for guest in guests.iter_mut().flatten() {
        guest
            .stream
            .write_all(gathered.as_bytes())
            .map_err(|error| format!("process {} left at once: {error}", guest.rank))?;
    }
    Ok(guests.into_iter().map(|guest| guest.map(|guest| guest.stream)).collect())
}

/// Why a peer cannot take part.
fn refusal(guest: &IncomingPeer, launch: &Launch, run: &str, guests: &[Option<IncomingPeer>]) -> Option<String> {
    let IncomingPeer { rank, world, .. } = *guest;
    match () {
        () if world != launch.world => {
            Some(format!("process {rank} was started for {world} processes, process 0 of {}", launch.world))
        }
        () if rank == 0 || rank >= launch.world || guests[rank].is_some() => {
            Some(format!("two processes say they are process {rank}"))
        }
        () if guest.run != run => {
            Some(format!("process {rank} has another spec, other settings or another version than process 0"))
        }
        () => None,
    }
}

/// Another process: connects to the first, then to those before it, and waits for those after it.
fn join_rendezvous(launch: &Launch, run: &str, until: Instant) -> Result<Vec<Option<TcpStream>>, String> {
    let first = connect_with_retries(|| address(&launch.rendezvous), until)
        .map_err(|why| format!("process 0 cannot be reached: {why}"))?;
    let known = |what: &str, error: io::Error| format!("process 0 {what}: {error}");
    let own = first.local_addr().map_err(|error| known("is not to be reached", error))?.ip();
    let reachable = if own.is_loopback() { own } else { unspecified(own) };
    let listener = TcpListener::bind((reachable, 0)).map_err(|error| format!("no port is free: {error}"))?;
    let port = listener.local_addr().map_err(|error| format!("no port is free: {error}"))?.port();
    send_handshake(&first, launch, run, port).map_err(|error| known("does not listen", error))?;

    first
        .set_read_timeout(Some(until.saturating_duration_since(Instant::now()).max(PAUSE)))
        .map_err(|error| known("cannot be heard", error))?;
    let gathered = line(&first).map_err(|error| known("does not answer", error))?;
    let places = match gathered.split_once(' ') {
        Some(("yes", places)) => places,
        _ => return Err(gathered.trim_start_matches("no ").to_string()),
    };
    let host = first.peer_addr().map_err(|error| known("cannot be heard", error))?.ip();
    let mut streams: Vec<Option<TcpStream>> = (0..launch.world).map(|_| None).collect();
    streams[0] = Some(first);
    for (rank, place) in (1..launch.rank).zip(places.split(' ')) {
        let address = place_of(place, host).ok_or_else(|| format!("process {rank} is nowhere: {place}"))?;
        let stream = connect_with_retries(|| Ok(address), until)
            .map_err(|why| format!("process {rank} cannot be reached: {why}"))?;
        send_handshake(&stream, launch, run, port)
            .map_err(|error| format!("process {rank} does not listen: {error}"))?;
        streams[rank] = Some(stream);
    }
    while let Some(missing) = (launch.rank + 1..launch.world).find(|&rank| streams[rank].is_none()) {
        let Some(guest) = accept(&listener, until)? else { return Err(format!("process {missing} did not come")) };
        let Some(guest) =
            IncomingPeer::read_handshake(guest).filter(|guest| guest.rank > launch.rank && guest.rank < launch.world)
        else {
            continue;
        };
        streams[guest.rank] = Some(guest.stream);
    }
    Ok(streams)
}

fn send_handshake(mut stream: &TcpStream, launch: &Launch, run: &str, port: u16) -> io::Result<()> {
    stream.write_all(format!("{GREETING}\n{run}\n{} {} {port}\n", launch.rank, launch.world).as_bytes())
}

/// `ip:port`, where `-` is the machine of the first process.
fn place_of(place: &str, host: IpAddr) -> Option<SocketAddr> {
    let (ip, port) = place.rsplit_once(':')?;
    let ip = if ip == "-" { host } else { ip.parse().ok()? };
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

/// One line, read byte by byte: the bytes after it belong to other readers.
fn line(stream: &TcpStream) -> io::Result<String> {
    let mut text = String::new();
    BufReader::with_capacity(1, stream).take(1 << 16).read_line(&mut text)?;
    text.strip_suffix('\n').map(String::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() }
}

/// Where the first process listens.
fn listen(rendezvous: &Rendezvous) -> Result<TcpListener, String> {
    match rendezvous {
        Rendezvous::Address { host, port } => {
            // Other machines may reach this one by another address than its own name gives.
            let known = resolve(host, *port).unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, *port).into());
            let ip = if known.ip().is_loopback() { known.ip() } else { unspecified(known.ip()) };
            TcpListener::bind((ip, *port)).map_err(|error| format!("process 0 cannot listen on {ip}:{port}: {error}"))
        }
        Rendezvous::File(path) => {
            let failed = |error| format!("process 0 cannot write {}: {error}", path.display());
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no port is free: {error}"))?;
            let port = listener.local_addr().map_err(failed)?.port();
            write_atomic(path, &port.to_string()).map_err(failed)?;
            Ok(listener)
        }
    }
}

fn write_atomic(path: &Path, text: &str) -> io::Result<()> {
    tempograph_framework::write_atomic(path, text.as_bytes())
}

fn address(rendezvous: &Rendezvous) -> Result<SocketAddr, String> {
    match rendezvous {
        Rendezvous::Address { host, port } => resolve(host, *port),
        Rendezvous::File(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let port = text.trim().parse::<u16>().map_err(|_| format!("{} holds no port: {text}", path.display()))?;
            Ok((Ipv4Addr::LOCALHOST, port).into())
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}

/// Tries until the address accepts or the time is over.
fn connect_with_retries(place: impl Fn() -> Result<SocketAddr, String>, until: Instant) -> Result<TcpStream, String> {
    loop {
        let why = match place() {
            Ok(address) => match TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => format!("{address}: {error}"),
            },
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(why);
        }
        sleep(PAUSE);
    }
}

/// The next connection, or none if the time is over.
fn accept(listener: &TcpListener, until: Instant) -> Result<Option<TcpStream>, String> {
    let failed = |error: io::Error| format!("nobody can be let in: {error}");
    listener.set_nonblocking(true).map_err(failed)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(failed)?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    return Ok(None);
                }
                sleep(PAUSE / 10);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
