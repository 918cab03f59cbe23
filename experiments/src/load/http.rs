//! A persistent connection with as much HTTP/1.1 as a measurement needs. It allocates nothing while it waits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub address: SocketAddr,
    /// The host header of requests.
    host: String,
    /// Sent as a bearer token.
    token: Option<String>,
    /// Sent as the tenant.
    tenant: Option<String>,
}

impl Target {
    /// Reads `http://host:port`, or `host:port`.
    ///
    /// # Errors
    /// Another scheme, or a name that does not resolve.
    pub fn parse(url: &str, token: Option<String>, tenant: Option<String>) -> Result<Target> {
        if url.starts_with("https://") {
            bail!("{url}: TLS would be measured with the server; point this at a plain address");
        }
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            bail!("`{url}` is not the address of a server; it looks like http://127.0.0.1:8080");
        }
        let with_port = if host.contains(':') { host.to_string() } else { format!("{host}:80") };
        let mut addresses = with_port.to_socket_addrs().with_context(|| format!("cannot find {host}"))?;
        let address = addresses.next().with_context(|| format!("{host} has no address"))?;
        Ok(Target { address, host: host.to_string(), token, tenant })
    }

    /// The head of a request, without its length and deadline.
    fn head(&self, method: &str, path: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if let Some(tenant) = &self.tenant {
            head.push_str(&format!("tenant: {tenant}\r\n"));
        }
        head
    }
}

/// A server's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

/// A connection that is opened when it is needed, and again after it broke.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    target: &'a Target,
    patience: Duration,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    read: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Connect,
    Timeout,
    Broken,
    NotHttp,
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Failure::Connect => "cannot connect",
            Failure::Timeout => "no answer in time",
            Failure::Broken => "connection broke",
            Failure::NotHttp => "not an HTTP answer",
        }
    }
}

impl<'a> Connection<'a> {
    /// A connection that waits for an answer for at most `patience`.
    pub fn new(target: &'a Target, patience: Duration) -> Connection<'a> {
        Connection { target, patience, stream: None, request: Vec::new(), read: Vec::new() }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Failure`]; the next request opens a new connection.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        deadline: Option<Duration>,
        body: &str,
    ) -> Result<Response<'_>, Failure> {
        self.request.clear();
        self.request.extend_from_slice(self.target.head(method, path).as_bytes());
        if let Some(deadline) = deadline {
            let millis = deadline.as_micros().div_ceil(1000).max(1);
            self.request.extend_from_slice(format!("deadline-ms: {millis}\r\n").as_bytes());
        }
        self.request.extend_from_slice(
            format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
        match self.exchange() {
            Ok((status, from)) => Ok(Response { status, body: &self.read[from..] }),
            Err(failure) => {
                self.stream = None;
                Err(failure)
            }
        }
    }

    /// The status of the answer, and the offset of its body in the buffer.
    fn exchange(&mut self) -> Result<(u16, usize), Failure> {
        if self.stream.is_none() {
            let stream =
                TcpStream::connect_timeout(&self.target.address, self.patience).map_err(|_| Failure::Connect)?;
            let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(self.patience)));
            prepared.and_then(|()| stream.set_write_timeout(Some(self.patience))).map_err(|_| Failure::Connect)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Err(Failure::Connect) };
        stream.write_all(&self.request).map_err(failure)?;
        self.read.clear();
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            more(stream, &mut self.read)?;
        };
        let head = std::str::from_utf8(&self.read[..end]).map_err(|_| Failure::NotHttp)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(Failure::NotHttp)?;
        let length =
            field(head, "content-length").and_then(|length| length.parse::<usize>().ok()).ok_or(Failure::NotHttp)?;
        let closes = field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        while self.read.len() < end + length {
            more(stream, &mut self.read)?;
        }
        if closes {
            self.stream = None;
        }
        Ok((status, end))
    }
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<(), Failure> {
    let mut piece = [0; 16 << 10];
    match stream.read(&mut piece).map_err(failure)? {
        0 => Err(Failure::Broken),
        bytes => {
            read.extend_from_slice(&piece[..bytes]);
            Ok(())
        }
    }
}

fn failure(error: std::io::Error) -> Failure {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) { Failure::Timeout } else { Failure::Broken }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_none_is_named() {
        let target = |url: &str| Target::parse(url, None, None);
        assert_eq!(target("http://127.0.0.1:8080/").unwrap().address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target("127.0.0.1:9").unwrap().address.port(), 9);
        assert!(target("https://127.0.0.1").unwrap_err().to_string().contains("TLS"));
        assert!(target("http://127.0.0.1:8080/v1").unwrap_err().to_string().contains("looks like"));
    }

    #[test]
    fn answers_in_pieces_are_put_together_and_the_connection_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target =
            Target::parse(&listener.local_addr().unwrap().to_string(), Some("secret".into()), Some("shop".into()))
                .unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            for answer in [
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n",
            ] {
                let mut piece = [0; 1024];
                let bytes = stream.read(&mut piece).unwrap();
                seen.push(String::from_utf8(piece[..bytes].to_vec()).unwrap());
                for part in answer.as_bytes().chunks(7) {
                    stream.write_all(part).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            seen
        });
        let mut connection = Connection::new(&target, Duration::from_secs(5));
        let found = connection.send("POST", "/v1/score", Some(Duration::from_micros(1500)), "{}").unwrap();
        assert_eq!((found.status, found.body), (200, &b"hello"[..]));
        assert_eq!(connection.send("GET", "/", None, "").unwrap().status, 429);
        let seen = server.join().unwrap();
        for line in ["authorization: Bearer secret", "tenant: shop", "deadline-ms: 2", "content-length: 2"] {
            assert!(seen[0].contains(line), "{}", seen[0]);
        }
        assert_eq!(connection.send("GET", "/", None, "").unwrap_err(), Failure::Broken);
        assert_eq!(connection.send("GET", "/", None, "").unwrap_err(), Failure::Connect);
    }
}
