"""A stream of events over one connection, which is opened again where it breaks."""

from __future__ import annotations

import http.client
import io
import queue
import selectors
import socket
import threading
import time
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Union, cast

from ._calls import StreamState, refusal
from ._http import WOULD_WAIT, Pool, chunk, lines
from ._retry import Attempts, NotSent
from ._types import Event, Receipt, Refused

# How many events are read ahead of the connection.
_AHEAD = 4096
# The server ends a stream on which nothing comes for 30 s by default. An empty line is no event.
_ALIVE = 10.0
_END = object()


class Feed:
    """The caller's events, read in a thread of their own, so that the connection stays alive while the caller has none."""

    def __init__(self, events: Iterable[Event], state: StreamState) -> None:
        self._events, self._state = events, state
        self._ready: "queue.Queue[Union[bytes, BaseException, object]]" = queue.Queue(_AHEAD)
        self.ended = threading.Event()
        self.failed: Optional[BaseException] = None
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="tempograph-stream", daemon=True).start()

    def _run(self) -> None:
        try:
            for event in self._events:
                if not self._put(self._state.line(event)):
                    return
            self._put(_END)
        except BaseException as error:  # The caller's own iterator may raise anything, and its caller is to see it.
            self._put(error)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def stop(self) -> None:
        self._stopped.set()

    def take(self, wait: float) -> List[bytes]:
        """The next lines: as many as there are, after a wait for the first."""
        found: List[bytes] = []
        try:
            item = self._ready.get(timeout=wait)
            while True:
                if isinstance(item, bytes):
                    found.append(item)
                else:
                    self.failed = item if isinstance(item, BaseException) else None
                    self.ended.set()
                    return found
                if len(found) == _AHEAD:
                    return found
                item = self._ready.get_nowait()
        except queue.Empty:
            return found


class Duplex:
    """A connection that one thread reads while another one sends.

    A TLS connection must not be used by two threads at once. So each use is short and under a lock, and the waits are outside of it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock, self._lock, self._closed = sock, threading.Lock(), False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A file of what is received, as `http.client` reads it."""
        return io.BufferedReader(_Received(self))

    def receive(self, buffer: memoryview) -> int:
        while True:
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError("the stream was closed")
                try:
                    return self._sock.recv_into(buffer)
                except WOULD_WAIT:
                    pass
            self._wait(reading=True)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError("the stream was closed")
                try:
                    rest = rest[self._sock.send(rest) :]
                    continue
                except WOULD_WAIT:
                    pass
            self._wait(reading=False)

    def _wait(self, reading: bool) -> None:
        # A limited wait, so that a close is noticed.
        selector = selectors.DefaultSelector()
        with selector:
            try:
                selector.register(self._sock, selectors.EVENT_READ if reading else selectors.EVENT_WRITE)
            except ValueError:
                raise ConnectionAbortedError("the stream was closed") from None
            selector.select(0.2)

    def close(self) -> None:
        with self._lock:
            self._closed = True


class _Received(io.RawIOBase):
    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._duplex.receive(memoryview(buffer).cast("B"))


class Sender:
    """Sends the lines of a feed over one connection, in a thread of its own."""

    def __init__(self, duplex: Duplex, feed: Feed, state: StreamState, lock: threading.Lock) -> None:
        self._duplex, self._feed, self._state, self._lock = duplex, feed, state, lock
        self._closed = threading.Event()
        with lock:
            again = b"".join(state.waiting)
        self._thread = threading.Thread(target=self._run, args=(again,), name="tempograph-sender", daemon=True)
        self._thread.start()

    def _run(self, again: bytes) -> None:
        try:
            if again:
                self._duplex.send(chunk(again))
            alive = time.monotonic()
            while not self._feed.ended.is_set() and not self._closed.is_set():
                found = self._feed.take(0.2)
                with self._lock:
                    self._state.waiting.extend(found)
                if found:
                    self._duplex.send(chunk(b"".join(found)))
                elif time.monotonic() - alive > _ALIVE:
                    self._duplex.send(chunk(b"\n"))
                else:
                    continue
                alive = time.monotonic()
            if not self._closed.is_set():
                self._duplex.send(b"0\r\n\r\n")
        except OSError:
            # The reader of the answers notices it too, and says what is to be done.
            pass

    def close(self) -> None:
        self._closed.set()
        self._duplex.close()
        self._thread.join()


def stream(pool: Pool, url: str, path: str, headers: Mapping[str, str], events: Iterable[Event], once: bool, within: float) -> Iterator[Receipt]:
    """Sends events and yields receipts as they come."""
    state, lock = StreamState(once), threading.Lock()
    feed = Feed(events, state)
    attempts = Attempts(url, True, within)
    try:
        while True:
            opened = time.monotonic()
            try:
                for receipt in _over_one_connection(pool, path, headers, feed, state, lock, max(attempts.left(), 0.001)):
                    attempts.progress(within)
                    yield receipt
                if feed.failed is not None:
                    raise feed.failed
                return
            except (OSError, http.client.HTTPException, NotSent, Refused) as broken:
                if broken is feed.failed:
                    raise
                # Events without ids that have no receipt may have been applied.
                doubtful = bool(state.waiting) and not state.safe and not isinstance(broken, NotSent)
                if time.monotonic() - opened > within:
                    attempts.progress(within)
                time.sleep((Attempts(url, False, 0, again=False) if doubtful else attempts).wait_after(broken))
    finally:
        feed.stop()


def _over_one_connection(
    pool: Pool, path: str, headers: Mapping[str, str], feed: Feed, state: StreamState, lock: threading.Lock, timeout: float
) -> Iterator[Receipt]:
    connection = pool.open(timeout)
    try:
        pool.begin(connection, "POST", path, {**headers, "content-type": "application/x-ndjson", "transfer-encoding": "chunked"})
        duplex = Duplex(connection.sock)
        sender = Sender(duplex, feed, state, lock)
        try:
            # The type says a socket; what is used of it is `makefile`.
            response = http.client.HTTPResponse(cast(socket.socket, duplex), method="POST")
            response.begin()
            if response.status != 200:
                raise refusal(response.status, response.read(), response.getheader("retry-after"))
            for line in lines(response):
                with lock:
                    receipt = state.read(line)
                if receipt is None:
                    return
                yield receipt
            raise ConnectionError("the stream broke off")
        finally:
            sender.close()
    finally:
        connection.close()
