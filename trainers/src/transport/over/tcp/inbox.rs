//! Messages that were received and not read yet, and which processes are gone.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::transport::over::tcp::PEER_TIMEOUT;
use crate::transport::over::tcp::wire::{Frame, Lost, ReceivedFrame, read};

/// Messages by sender.
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// `[world]`, oldest first.
    messages: Vec<VecDeque<Vec<u8>>>,
    /// Which processes have left because all is done.
    left: Vec<bool>,
    /// Which connections have ended.
    closed: Vec<bool>,
    /// Which processes have acknowledged this process's last message.
    heard: Vec<bool>,
    /// The first process that was lost. What others report afterwards is a consequence.
    lost: Option<Lost>,
}

impl Inbox {
    pub fn new(world: usize) -> Inbox {
        let state = State {
            messages: vec![VecDeque::new(); world],
            left: vec![false; world],
            closed: vec![false; world],
            heard: vec![false; world],
            lost: None,
        };
        Inbox { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Receives the frames of `peer` until its connection ends. `answer` sends it a frame.
    pub fn receive_frames(&self, peer: usize, stream: TcpStream, answer: &dyn Fn(&Frame<'_>) -> io::Result<()>) {
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        loop {
            let came = read(&mut stream);
            let last_word = matches!(came, Ok(ReceivedFrame::Finished | ReceivedFrame::Lost(_)));
            self.change(|state| match came {
                Ok(ReceivedFrame::Message(message)) => state.messages[peer].push_back(message),
                Ok(ReceivedFrame::Heartbeat) => {}
                Ok(ReceivedFrame::Finished) => state.left[peer] = true,
                Ok(ReceivedFrame::Acknowledged) => state.heard[peer] = true,
                Ok(ReceivedFrame::Lost(lost)) => drop(state.lost.get_or_insert(lost)),
                Err(error) => {
                    state.closed[peer] = true;
                    if !state.left[peer] {
                        state.lost.get_or_insert(Lost { rank: peer, how: gathered(&error) });
                    }
                }
            });
            if last_word {
                // If it does not arrive, the peer leaves after its timeout.
                let _ = answer(&Frame::Acknowledged);
            }
            if self.locked().closed[peer] {
                return;
            }
        }
    }

    /// Waits for the next message of `peer`.
    pub fn next_message_from(&self, peer: usize) -> Result<Vec<u8>, Lost> {
        let mut state = self.locked();
        loop {
            if let Some(message) = state.messages[peer].pop_front() {
                return Ok(message);
            }
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            if state.left[peer] {
                return Err(Lost { rank: peer, how: "it has ended while others go on".into() });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The first process that was lost: `noticed`, unless another was lost before.
    pub fn first_lost(&self, noticed: Lost) -> Lost {
        self.locked().lost.get_or_insert(noticed).clone()
    }

    /// The first process that was lost, if any.
    pub fn lost(&self) -> Option<Lost> {
        self.locked().lost.clone()
    }

    /// Waits until every process has acknowledged this one's last message or is gone, but no longer than `patience`.
    pub fn wait_for_acknowledgements(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.locked();
        loop {
            let connected = state.messages.len();
            let open = (0..connected).filter(|&peer| !state.closed[peer] && !state.heard[peer]).count();
            let left = until.saturating_duration_since(Instant::now());
            // This process has no connection to itself, so it always counts as one of them.
            if open <= 1 || left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.locked());
        self.changed.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gathered(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "its connection closed".into()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no sign of life for {} s", PEER_TIMEOUT.as_secs())
        }
        _ => format!("its connection is broken: {error}"),
    }
}
