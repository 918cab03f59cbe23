//! A page in headless Chromium, asked over the DevTools protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Chromium under one of its names.
pub fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// A browser that shows one page, ended when it is dropped.
pub struct Browser {
    process: Child,
    socket: TcpStream,
    asked: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn open(program: &str, url: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = said.find(|line| line.contains("ws://")).expect("the browser says where it is to be asked");
        // It goes on talking.
        std::thread::spawn(move || said.for_each(drop));
        let host = line.split("ws://").nth(1).unwrap().split('/').next().unwrap().to_string();
        let socket = connect(&host, &page(&host));
        Browser { process, socket, asked: 0, _profile: profile }
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        self.asked += 1;
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        send(
            &mut self.socket,
            &json!({ "id": self.asked, "method": "Runtime.evaluate", "params": parameters }).to_string(),
        );
        loop {
            let answer: Value = serde_json::from_str(&receive(&mut self.socket)).unwrap();
            if answer["id"] == self.asked {
                assert!(answer["result"]["exceptionDetails"].is_null(), "{expression}: {answer}");
                return answer["result"]["result"]["value"].clone();
            }
        }
    }

    /// Waits until an expression is true, which it is not while what it speaks of is not there.
    pub fn wait_for(&mut self, expression: &str) {
        let begun = Instant::now();
        let guarded = format!("(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()");
        while self.value(&guarded) != json!(true) {
            let shown = if begun.elapsed() > Duration::from_secs(60) {
                self.value("document.body.innerText")
            } else {
                Value::Null
            };
            assert!(shown.is_null(), "{expression} is not so after a minute:\n{}", shown.as_str().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The path of the page's socket.
fn page(host: &str) -> String {
    let begun = Instant::now();
    loop {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        // The browser may leave the connection open: what it says ends where its JSON does.
        let targets = loop {
            let bytes = stream.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..bytes]);
            let body = text.windows(4).position(|four| four == b"\r\n\r\n").map_or(&[][..], |at| &text[at + 4..]);
            match serde_json::from_slice::<Vec<Value>>(body) {
                Ok(targets) => break targets,
                Err(error) => assert!(bytes > 0, "{error} in {}", String::from_utf8_lossy(&text)),
            }
        };
        if let Some(page) = targets.iter().find(|target| target["type"] == "page") {
            let url = page["webSocketDebuggerUrl"].as_str().unwrap();
            return url[url.find("/devtools").unwrap()..].to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the browser has no page: {targets:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn connect(host: &str, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(host).unwrap();
    let head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// One text frame; a client's are masked, here by nothing.
fn send(socket: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    socket.write_all(&frame).unwrap();
}

/// One text frame.
fn receive(socket: &mut TcpStream) -> String {
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    let mut length = vec![0; [0, 2, 8][(head[1] >= 126) as usize + (head[1] == 127) as usize]];
    socket.read_exact(&mut length).unwrap();
    let length =
        if length.is_empty() { head[1] as usize } else { length.iter().fold(0, |sum, &byte| sum << 8 | byte as usize) };
    let mut text = vec![0; length];
    socket.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}
