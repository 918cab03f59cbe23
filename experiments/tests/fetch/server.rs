//! An HTTP server of a few lines, whose answers the test decides.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first byte of `Range: bytes=FIRST-`.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server says. Only `sent` bytes of the body leave it before the connection ends.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub sent: usize,
    /// Called once that much is sent, before the connection ends.
    pub then: Box<dyn FnOnce() + Send>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), sent: body.len(), body, then: Box::new(|| {}) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Announces the whole body but ends the connection after `sent` bytes of it.
    pub fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }

    pub fn then(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.then = Box::new(act);
        self
    }

    /// A file served as a good server does: the rest where the range and the version allow it.
    pub fn file(body: &[u8], etag: &str, request: &Request) -> Self {
        let same_version = request.header("if-range").is_none_or(|asked| asked == etag);
        let answer = match request.range_start() {
            Some(start) if same_version && start >= body.len() => Self::new(416, ""),
            Some(start) if same_version => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Self::new(206, &body[start..]).with("Content-Range", range)
            }
            _ => Self::new(200, body),
        };
        answer.with("ETag", etag)
    }

    fn write(self, mut stream: TcpStream) {
        let mut head =
            format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        // A client that hangs up early is a case under test, not a failure of the server.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&self.body[..self.sent]));
        (self.then)();
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// A server on a free port of this machine, until it is dropped.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` is given each request and its number from zero.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let closing = Arc::new(AtomicBool::new(false));
        let (seen, closed) = (Arc::clone(&requests), Arc::clone(&closing));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let Some(request) = read_request(&stream) else { continue };
                let number = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                let answer = answer(&request, number);
                thread::spawn(move || answer.write(stream));
            }
        });
        Self { address, requests, closing, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the thread from its wait for a connection.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
        .collect();
    Some(Request { path, headers })
}
