"""Connections over HTTP, with Python's own library."""

from __future__ import annotations

import http.client
import io
import select
import selectors
import socket
import ssl
import threading
import time
from typing import Any, Iterator, List, Mapping, Optional, Tuple, cast

from ._address import Address
from ._retry import NotSent

# The server closes an idle connection after 30 s by default, so that a request on it would be lost.
_IDLE = 20.0
_PIECE = 64 << 10


class Pool:
    """The idle connections to a server. Each request takes one, or opens a new one."""

    def __init__(self, address: Address, context: Optional[ssl.SSLContext]) -> None:
        self._address, self._context = address, context
        self._lock = threading.Lock()
        self._idle: List[Tuple[float, http.client.HTTPConnection]] = []

    def take(self, timeout: float) -> http.client.HTTPConnection:
        """An open connection.

        Raises `NotSent`.
        """
        while True:
            with self._lock:
                since, connection = self._idle.pop() if self._idle else (0.0, None)
            if connection is None:
                return self.open(timeout)
            # An idle connection that can be read from is closed: no answer is awaited on it.
            if time.monotonic() - since < _IDLE and not _readable(connection):
                connection.sock.settimeout(timeout)
                return connection
            connection.close()

    def open(self, timeout: float) -> http.client.HTTPConnection:
        address = self._address
        connection: http.client.HTTPConnection
        if self._context is not None:
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NotSent(str(error) or type(error).__name__) from error
        return connection

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), connection))

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], until: float
    ) -> Tuple[int, bytes, Optional[str]]:
        """Status, body and `retry-after` of the answer.

        Raises `NotSent`, and `OSError` or `http.client.HTTPException` where the connection breaks or the time is up.
        """
        connection = self.take(_left(until))
        whole = False
        try:
            response = self._send(connection, method, path, headers, body, until)
            content = _read(connection, response, until)
            whole = not response.will_close
            return response.status, content, response.getheader("retry-after")
        finally:
            if whole:
                self.give_back(connection)
            else:
                connection.close()

    def begin(self, connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Sends the head of a request."""
        connection.putrequest(method, self._address.prefix + path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], until: float
    ) -> http.client.HTTPResponse:
        self.begin(connection, method, path, headers if body is None else {**headers, "content-length": str(len(body))})
        early = send_body(connection.sock, body, until) if body else b""
        connection.sock.settimeout(_left(until))
        if not early:
            return connection.getresponse()
        response = http.client.HTTPResponse(cast(socket.socket, Begun(early, connection.sock)), method=method)
        response.begin()
        # The server has not read the body to its end, so what follows on this connection would be the rest of it.
        response.will_close = True
        return response


# What a connection that must not wait says where it would have to.
WOULD_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def send_body(sock: socket.socket, body: bytes, until: float) -> bytes:
    """Sends a body, unless the server answers before its end. Returns the beginning of that answer.

    A server that refuses a body closes the connection without reading the rest. So the answer has to be looked for while the body is sent; afterwards
    there would only be a broken pipe.
    """
    rest = memoryview(body)
    sock.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while rest:
            try:
                early = sock.recv(_PIECE)
                if not early:
                    raise ConnectionResetError("the server has closed the connection")
                return early
            except WOULD_WAIT:
                pass
            try:
                rest = rest[sock.send(rest[:_PIECE]) :]
            except WOULD_WAIT:
                selector.select(_left(until))
    return b""


class Begun(io.RawIOBase):
    """A connection from which the beginning of an answer has been read already, as `http.client` reads it."""

    def __init__(self, early: bytes, sock: socket.socket) -> None:
        self._early, self._sock = early, sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._early:
            count = min(len(view), len(self._early))
            view[:count], self._early = self._early[:count], self._early[count:]
            return count
        return self._sock.recv_into(view)


def _read(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, until: float) -> bytes:
    pieces: List[bytes] = []
    while True:
        # The connection gives its socket away where it closes after the answer.
        if connection.sock is not None:
            connection.sock.settimeout(_left(until))
        piece = response.read1(_PIECE)
        if not piece:
            # Reads what ends the answer, so that the connection is free, and notices one that is too short.
            response.read()
            return b"".join(pieces)
        pieces.append(piece)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer came in time")
    return left


def _readable(connection: http.client.HTTPConnection) -> bool:
    if connection.sock is None:
        return True
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([connection.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length is not known."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of an answer, as they come."""
    rest = b""
    while True:
        piece = response.read1(_PIECE)
        if not piece:
            if rest:
                yield rest
            return
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
