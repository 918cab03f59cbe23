//! The frames of a connection: a kind, a length and that many bytes.

use std::io::{self, Read, Write};

/// The longest message that is accepted, so that a stray connection cannot cause a huge allocation.
const LONGEST: u64 = 1 << 40;

/// A process that is gone, and how that was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub rank: usize,
    pub how: String,
}

/// An outgoing frame.
pub(crate) enum Frame<'a> {
    /// Part of the exchange.
    Message(&'a [u8]),
    /// Shows that the process is alive.
    Heartbeat,
    /// All is done; the connection may close.
    Finished,
    /// A process is gone, so the sender ends too.
    Lost(&'a Lost),
    /// The last message was received.
    Acknowledged,
}

/// A received frame.
pub(crate) enum ReceivedFrame {
    Message(Vec<u8>),
    Heartbeat,
    Finished,
    Lost(Lost),
    Acknowledged,
}

impl Frame<'_> {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, body): (u8, &[u8]) = match self {
            Frame::Message(bytes) => (0, bytes),
            Frame::Heartbeat => (1, &[]),
            Frame::Finished => (2, &[]),
            Frame::Lost(lost) => return lost.write(to),
            Frame::Acknowledged => (4, &[]),
        };
        write(to, kind, body)
    }
}

impl Lost {
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let body = [&(self.rank as u64).to_le_bytes()[..], self.how.as_bytes()].concat();
        write(to, 3, &body)
    }

    fn read(body: &[u8]) -> io::Result<Lost> {
        let (rank, how) = body.split_first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Lost { rank: u64::from_le_bytes(*rank) as usize, how: String::from_utf8_lossy(how).into_owned() })
    }
}

fn write(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    // Small frames are sent in one write.
    if body.len() < 1 << 12 {
        return to.write_all(&[&head[..], body].concat());
    }
    to.write_all(&head)?;
    to.write_all(body)
}

/// The next frame. A connection that ends instead is an error.
pub(crate) fn read(from: &mut impl Read) -> io::Result<ReceivedFrame> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut body = Vec::new();
    // Grows with the bytes that arrive: the length in the head is not trusted.
    if from.take(length).read_to_end(&mut body)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match kind {
        0 => Ok(ReceivedFrame::Message(body)),
        1 => Ok(ReceivedFrame::Heartbeat),
        2 => Ok(ReceivedFrame::Finished),
        3 => Lost::read(&body).map(ReceivedFrame::Lost),
        4 => Ok(ReceivedFrame::Acknowledged),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of the unknown kind {other}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn through(frame: Frame<'_>) -> ReceivedFrame {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        read(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        for length in [0, 1, 4095, 4096, 70_000] {
            let sent: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert!(matches!(through(Frame::Message(&sent)), ReceivedFrame::Message(came) if came == sent));
        }
        assert!(matches!(through(Frame::Heartbeat), ReceivedFrame::Heartbeat));
        assert!(matches!(through(Frame::Finished), ReceivedFrame::Finished));
        assert!(matches!(through(Frame::Acknowledged), ReceivedFrame::Acknowledged));
        let lost = Lost { rank: 3, how: "it stopped: no space left".into() };
        assert!(matches!(through(Frame::Lost(&lost)), ReceivedFrame::Lost(came) if came == lost));
    }

    #[test]
    fn a_malformed_frame_is_refused() {
        assert_eq!(
            read(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).map(|_| ()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let mut bytes = Vec::new();
        Frame::Message(b"whole").write(&mut bytes).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(read(&mut &bytes[..cut]).map(|_| ()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        bytes[0] = 9;
        assert!(read(&mut &bytes[..]).is_err_and(|error| error.to_string().contains("kind 9")));
    }
}
