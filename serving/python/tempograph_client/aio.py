"""The client for programs with `asyncio`. It needs aiohttp: `pip install 'tempograph-client[aio]'`.

    from tempograph_client import Event
    from tempograph_client.aio import AsyncClient

    async with AsyncClient("http://127.0.0.1:8080") as client:
        await client.send([Event(src=17, dst=4, time=1300)])
        print((await client.rank(17, k=3)).ranked)
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, AsyncGenerator, AsyncIterable, AsyncIterator, Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlencode

import aiohttp

from . import _calls
from ._address import Address, Path, deadline, headers, tls_context
from ._calls import Call, Pairs, StreamState, frame_events
from ._retry import TIMEOUTS, Attempts, NotSent
from ._types import Embedding, Event, Explanation, Id, Number, Ranking, Receipt, Refused, Retracted, Scores, TempographError

if TYPE_CHECKING:
    import pandas

__all__ = ["AsyncClient"]

T = TypeVar("T")

# As in the client without asyncio.
_IDLE = 20.0
_ALIVE = 10.0
_AHEAD = 4096


class AsyncClient:
    """As `Client`, with `await`. Any number of tasks of one event loop can use one client."""

    def __init__(
        self,
        url: str,
        token: Optional[str] = None,
        tenant: Optional[str] = None,
        deadline: float = 5.0,
        *,
        connections: int = 100,
        ca: Optional[Path] = None,
        cert: Union[None, Path, Tuple[Path, Path]] = None,
        context: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._address = Address.of(url)
        self._headers = headers(token, tenant)
        self._context = tls_context(self._address, ca, cert, context)
        self._connections = connections
        self._session: Optional[aiohttp.ClientSession] = None
        self.deadline = deadline
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        self._base = f"{'https' if self._address.secure else 'http'}://{host}:{self._address.port}{self._address.prefix}"

    @property
    def url(self) -> str:
        return self._address.url

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r}, deadline={self.deadline})"

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. The next request opens others."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Events.

    async def send(
        self, events: Iterable[Event], *, ack: str = "applied", granularity: str = "event", once: bool = True, deadline: Optional[float] = None
    ) -> Receipt:
        """As `Client.send`."""
        return await self._ask(_calls.send(events, ack, granularity, once), deadline)

    async def send_all(
        self,
        events: Union[Iterable[Event], AsyncIterable[Event]],
        *,
        size: int = 512,
        ack: str = "durable",
        once: bool = True,
        deadline: Optional[float] = None,
    ) -> AsyncIterator[Receipt]:
        """As `Client.send_all`; the events may come from an asynchronous iterator."""
        part: List[Event] = []
        async for event in _each(events):
            part.append(event)
            if len(part) == size:
                yield await self.send(part, ack=ack, once=once, deadline=deadline)
                part = []
        if part:
            yield await self.send(part, ack=ack, once=once, deadline=deadline)

    def send_frame(
        self,
        frame: "pandas.DataFrame",
        *,
        features: Optional[Sequence[str]] = None,
        size: int = 512,
        ack: str = "durable",
        once: bool = True,
        deadline: Optional[float] = None,
    ) -> AsyncIterator[Receipt]:
        """As `Client.send_frame`."""
        return self.send_all(frame_events(frame, features), size=size, ack=ack, once=once, deadline=deadline)

    async def stream(
        self,
        events: Union[Iterable[Event], AsyncIterable[Event]],
        *,
        ack: str = "durable",
        batch: int = 1000,
        once: bool = True,
        deadline: Optional[float] = None,
    ) -> AsyncGenerator[Receipt, None]:
        """As `Client.stream`; the events may come from an asynchronous iterator."""
        within = self.deadline if deadline is None else deadline
        path = "/v1/events/stream?" + urlencode({"ack": ack, "batch": batch, "receipts": "batch"})
        state = StreamState(once)
        feed = _Feed(events, state, max(_AHEAD, 16 * batch))
        attempts = Attempts(self.url, True, within)
        loop = asyncio.get_running_loop()
        try:
            while True:
                opened = loop.time()
                try:
                    async for receipt in self._over_one_connection(path, feed, state):
                        attempts.progress(within)
                        feed.acknowledged()
                        yield receipt
                    if feed.failed is not None:
                        raise feed.failed
                    return
                except (OSError, aiohttp.ClientError, asyncio.TimeoutError, Refused) as broken:
                    if broken is feed.failed:
                        raise
                    # Events without ids that have no receipt may have been applied.
                    doubtful = bool(state.waiting) and not state.safe and not isinstance(broken, aiohttp.ClientConnectorError)
                    if loop.time() - opened > within:
                        attempts.progress(within)
                    wait = (Attempts(self.url, False, 0, again=False) if doubtful else attempts).wait_after(_told(broken))
                await asyncio.sleep(wait)
        finally:
            await feed.stop()

    async def _over_one_connection(self, path: str, feed: "_Feed", state: StreamState) -> AsyncIterator[Receipt]:
        sent = {**self._headers, "content-type": "application/x-ndjson"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._open().post(self._base + path, data=feed.lines(), headers=sent, timeout=timeout) as response:
            if response.status != 200:
                raise _calls.refusal(response.status, await response.read(), response.headers.get("retry-after"))
            async for line in response.content:
                receipt = state.read(line)
                if receipt is None:
                    return
                yield receipt
            raise ConnectionError("the stream broke off")

    async def retract(self, ids: Iterable[str], *, deadline: Optional[float] = None) -> Retracted:
        """As `Client.retract`."""
        return await self._ask(_calls.retract(ids), deadline)

    # Reads.

    async def score(
        self,
        pairs: Pairs,
        *,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Scores:
        """As `Client.score`."""
        return await self._ask(_calls.score(pairs, time, min_seq, max_staleness_ms), deadline)

    async def rank(
        self,
        src: Id,
        *,
        k: int = 10,
        candidates: Optional[Iterable[Id]] = None,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Ranking:
        """As `Client.rank`."""
        return await self._ask(_calls.rank(src, k, candidates, time, min_seq, max_staleness_ms), deadline)

    async def embedding(
        self,
        node: Id,
        *,
        side: Optional[str] = None,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Embedding:
        """As `Client.embedding`."""
        return await self._ask(_calls.embedding(node, side, time, min_seq, max_staleness_ms), deadline)

    async def explain(
        self,
        src: Id,
        dst: Id,
        *,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Explanation:
        """As `Client.explain`."""
        return await self._ask(_calls.explain(src, dst, time, min_seq, max_staleness_ms), deadline)

    # The server.

    async def model(self, *, deadline: Optional[float] = None) -> Dict[str, Any]:
        """As `Client.model`."""
        return await self._ask(_calls.get("/v1/model"), deadline)

    async def status(self, *, deadline: Optional[float] = None) -> Dict[str, Any]:
        """As `Client.status`."""
        return await self._ask(_calls.get("/v1/status"), deadline)

    async def is_ready(self, *, deadline: Optional[float] = None) -> bool:
        """As `Client.is_ready`."""
        try:
            await self._ask(_calls.get("/health/ready"), deadline, again=False)
            return True
        except TempographError:
            return False

    async def wait_until_ready(self, *, deadline: float = 60.0) -> None:
        """As `Client.wait_until_ready`."""
        await self._ask(_calls.get("/health/ready"), deadline)

    async def reload(self, artifact: str, *, deadline: float = 300.0) -> Dict[str, Any]:
        """As `Client.reload`."""
        return await self._ask(_calls.admin("reload", {"artifact": artifact}), deadline)

    async def rollback(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """As `Client.rollback`."""
        return await self._ask(_calls.admin("rollback"), deadline)

    async def snapshot(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """As `Client.snapshot`."""
        return await self._ask(_calls.admin("snapshot"), deadline)

    async def promote(self, *, deadline: float = 90.0) -> Dict[str, Any]:
        """As `Client.promote`."""
        return await self._ask(_calls.admin("promote"), deadline)

    async def drain(self, *, deadline: float = 90.0) -> Dict[str, Any]:
        """As `Client.drain`."""
        return await self._ask(_calls.admin("drain"), deadline)

    async def expire(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """As `Client.expire`."""
        return await self._ask(_calls.admin("expire"), deadline)

    def _open(self) -> aiohttp.ClientSession:
        # A session belongs to an event loop, so it is made by the first request.
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_IDLE, ssl=self._context or True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _ask(self, call: Call[T], within: Optional[float], again: bool = True) -> T:
        attempts = Attempts(self.url, call.safe, self.deadline if within is None else within, again)
        common = self._headers if call.body is None else {**self._headers, "content-type": "application/json"}
        while True:
            left = max(attempts.left(), 0.001)
            try:
                # The server says itself that a deadline has passed; it is given a moment to do so.
                timeout = aiohttp.ClientTimeout(total=left + 1)
                sent = {**common, "deadline-ms": deadline(left)}
                asked = self._open().request(
                    call.method, self._base + call.path, data=call.body, headers=sent, timeout=timeout, allow_redirects=False
                )
                async with asked as response:
                    content, retry_after = await response.read(), response.headers.get("retry-after")
                return _calls.answer(call, response.status, content, retry_after)
            except (OSError, aiohttp.ClientError, asyncio.TimeoutError, Refused) as failed:
                wait = attempts.wait_after(_told(failed))
            await asyncio.sleep(wait)


def _told(error: Exception) -> Exception:
    """The error in the terms of `Attempts`."""
    return NotSent(str(error)) if isinstance(error, aiohttp.ClientConnectorError) else error


async def _each(events: Union[Iterable[Event], AsyncIterable[Event]]) -> AsyncIterator[Event]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event


class _Feed:
    """The caller's events, read in a task of their own, so that the connection stays alive while the caller has none.

    They go into the events without a receipt at once. A connection sends these from the first on.
    """

    def __init__(self, events: Union[Iterable[Event], AsyncIterable[Event]], state: StreamState, most: int) -> None:
        self._state, self._most = state, most
        self.failed: Optional[BaseException] = None
        self._ended = False
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._task = asyncio.ensure_future(self._run(events))

    async def _run(self, events: Union[Iterable[Event], AsyncIterable[Event]]) -> None:
        try:
            async for event in _each(events):
                self._state.waiting.append(self._state.line(event))
                self._more.set()
                if len(self._state.waiting) >= self._most:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # The caller's own iterator may raise anything, and its caller is to see it.
            self.failed = error
        self._ended = True
        self._more.set()

    def acknowledged(self) -> None:
        """Lets more events in."""
        if len(self._state.waiting) < self._most:
            self._room.set()

    async def stop(self) -> None:
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass

    async def lines(self) -> AsyncIterator[bytes]:
        """What one connection sends: the events without a receipt, then those to come."""
        sent = self._state.done
        while True:
            self._more.clear()
            new = self._state.waiting[sent - self._state.done :]
            if new:
                sent += len(new)
                yield b"".join(new)
            elif self._ended:
                return
            else:
                try:
                    await asyncio.wait_for(self._more.wait(), _ALIVE)
                except TIMEOUTS:
                    # The server ends a stream on which nothing comes. An empty line is no event.
                    yield b"\n"
