//! A time limit for the first bytes of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The number of bytes by which HTTP/1 and HTTP/2 are distinguished. The timers of both only start after them.
const PREFACE: usize = 24;

/// A stream whose first bytes must arrive in time.
pub(crate) struct FirstBytesTimeout<S> {
    stream: S,
    waiting: Option<(usize, Pin<Box<Sleep>>)>,
    /// Set when they have arrived.
    spoken: Arc<AtomicBool>,
}

impl<S> FirstBytesTimeout<S> {
    pub fn new(stream: S, within: Duration, spoken: Arc<AtomicBool>) -> FirstBytesTimeout<S> {
        FirstBytesTimeout { stream, waiting: Some((0, Box::pin(sleep(within)))), spoken }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytesTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some((count, timer)) = &mut self.waiting else { return read };
        if read.is_pending() {
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *count += buffer.filled().len() - before;
        if *count >= PREFACE {
            self.waiting = None;
            self.spoken.store(true, Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytesTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
