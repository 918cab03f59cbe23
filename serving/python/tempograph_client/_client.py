"""The client for programs without `asyncio`."""

from __future__ import annotations

import http.client
import ssl
import time as clock
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlencode

from . import _calls
from ._address import Address, Path, deadline, headers, tls_context
from ._calls import Call, Pairs, frame_events
from ._http import Pool
from ._retry import Attempts, NotSent
from ._stream import stream
from ._types import Embedding, Event, Explanation, Id, Number, Ranking, Receipt, Refused, Retracted, Scores, TempographError

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")


class Client:
    """A server at `url`, which may have a path in front of every route (`https://example.com/tempograph`). Several threads can use one client.

    `token` is sent as a bearer token. `ca` is a file of the authorities that sign the server's certificate, and `cert` the client's own certificate,
    or a pair of it and its key; or `context` has all of these. `deadline` is how many seconds an answer is of use. The server is told, so that it can
    refuse at once what would be late. Until then a request is sent again where that is safe: while the server is busy, starts or restarts, and where a
    connection breaks. Every method takes another `deadline`.
    """

    def __init__(
        self,
        url: str,
        token: Optional[str] = None,
        tenant: Optional[str] = None,
        deadline: float = 5.0,
        *,
        ca: Optional[Path] = None,
        cert: Union[None, Path, Tuple[Path, Path]] = None,
        context: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._address = Address.of(url)
        self._headers = headers(token, tenant)
        self._pool = Pool(self._address, tls_context(self._address, ca, cert, context))
        self.deadline = deadline

    @property
    def url(self) -> str:
        return self._address.url

    def __repr__(self) -> str:
        # Without the token, since this is in logs and tracebacks.
        return f"Client({self.url!r}, deadline={self.deadline})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections. The next request opens another one."""
        self._pool.close()

    # Events.

    def send(
        self, events: Iterable[Event], *, ack: str = "applied", granularity: str = "event", once: bool = True, deadline: Optional[float] = None
    ) -> Receipt:
        """Submits events in order of time: all of them are applied, or none.

        `ack` is when the answer comes: "accepted" (in the queue), "durable" (on the disk), "applied" (reads see them). With `once`, events without an id
        get one, so that they are sent again where the connection breaks, and applied once.
        """
        return self._ask(_calls.send(events, ack, granularity, once), deadline)

    def send_all(
        self, events: Iterable[Event], *, size: int = 512, ack: str = "durable", once: bool = True, deadline: Optional[float] = None
    ) -> Iterator[Receipt]:
        """Submits any number of events, `size` at a time, and yields the receipts."""
        part: List[Event] = []
        for event in events:
            part.append(event)
            if len(part) == size:
                yield self.send(part, ack=ack, once=once, deadline=deadline)
                part = []
        if part:
            yield self.send(part, ack=ack, once=once, deadline=deadline)

    def send_frame(
        self,
        frame: "pandas.DataFrame",
        *,
        features: Optional[Sequence[str]] = None,
        size: int = 512,
        ack: str = "durable",
        once: bool = True,
        deadline: Optional[float] = None,
    ) -> Iterator[Receipt]:
        """Submits the rows of a frame: the columns `src`, `dst` and `time`, perhaps `label` and `id`, and the columns that `features` names."""
        return self.send_all(frame_events(frame, features), size=size, ack=ack, once=once, deadline=deadline)

    def stream(
        self, events: Iterable[Event], *, ack: str = "durable", batch: int = 1000, once: bool = True, deadline: Optional[float] = None
    ) -> Iterator[Receipt]:
        """Submits events over one connection, as they come, and yields a receipt for each batch when it is acknowledged.

        The events are read in a thread of its own, and may pause as long as they like. Where the connection breaks, events without a receipt are sent
        again over a new one; `deadline` is how long that may take. Close the iterator to end the stream early.
        """
        path = "/v1/events/stream?" + urlencode({"ack": ack, "batch": batch, "receipts": "batch"})
        within = self.deadline if deadline is None else deadline
        return stream(self._pool, self.url, path, self._headers, events, once, within)

    def retract(self, ids: Iterable[str], *, deadline: Optional[float] = None) -> Retracted:
        """Retracts events by their ids. To retract one twice is to retract it once."""
        return self._ask(_calls.retract(ids), deadline)

    # Reads.

    def score(
        self,
        pairs: Pairs,
        *,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Scores:
        """Scores pairs of source and destination at `time`, or just after the newest event.

        `pairs` are tuples, an array of two columns, or a frame with the columns `src` and `dst`, and perhaps `time`.
        """
        return self._ask(_calls.score(pairs, time, min_seq, max_staleness_ms), deadline)

    def rank(
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
        """The `k` best of the candidates, or of all destinations so far."""
        return self._ask(_calls.rank(src, k, candidates, time, min_seq, max_staleness_ms), deadline)

    def embedding(
        self,
        node: Id,
        *,
        side: Optional[str] = None,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Embedding:
        """A node's embedding. `side` is "source" or "destination" where ids are by side."""
        return self._ask(_calls.embedding(node, side, time, min_seq, max_staleness_ms), deadline)

    def explain(
        self,
        src: Id,
        dst: Id,
        *,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> Explanation:
        """A pair's score with the neighbours that it depends on."""
        return self._ask(_calls.explain(src, dst, time, min_seq, max_staleness_ms), deadline)

    # The server.

    def model(self, *, deadline: Optional[float] = None) -> Dict[str, Any]:
        """The manifest of the weights that answer, and the server's position."""
        return self._ask(_calls.get("/v1/model"), deadline)

    def status(self, *, deadline: Optional[float] = None) -> Dict[str, Any]:
        """All numbers of the server."""
        return self._ask(_calls.get("/v1/status"), deadline)

    def is_ready(self, *, deadline: Optional[float] = None) -> bool:
        """Whether events are accepted and answers are current. Does not try again."""
        try:
            self._ask(_calls.get("/health/ready"), deadline, again=False)
            return True
        except TempographError:
            return False

    def wait_until_ready(self, *, deadline: float = 60.0) -> None:
        """Waits while the server starts and replays its log.

        Raises what the last attempt raised if it is not ready in time.
        """
        self._ask(_calls.get("/health/ready"), deadline)

    def reload(self, artifact: str, *, deadline: float = 300.0) -> Dict[str, Any]:
        """Serves the model of another artifact, a folder of the server's machine. Needs the role `admin`, as all that follow."""
        return self._ask(_calls.admin("reload", {"artifact": artifact}), deadline)

    def rollback(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """Serves the model before the last reload again."""
        return self._ask(_calls.admin("rollback"), deadline)

    def snapshot(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """Writes a snapshot of the state now."""
        return self._ask(_calls.admin("snapshot"), deadline)

    def promote(self, *, deadline: float = 90.0) -> Dict[str, Any]:
        """Makes a follower the server that accepts events."""
        return self._ask(_calls.admin("promote"), deadline)

    def drain(self, *, deadline: float = 90.0) -> Dict[str, Any]:
        """Accepts no more events, and waits until those in the queue are applied."""
        return self._ask(_calls.admin("drain"), deadline)

    def expire(self, *, deadline: float = 300.0) -> Dict[str, Any]:
        """Forgets nodes that are older than the time to live."""
        return self._ask(_calls.admin("expire"), deadline)

    def _ask(self, call: Call[T], within: Optional[float], again: bool = True) -> T:
        attempts = Attempts(self.url, call.safe, self.deadline if within is None else within, again)
        common = self._headers if call.body is None else {**self._headers, "content-type": "application/json"}
        while True:
            left = max(attempts.left(), 0.001)
            try:
                # The server says itself that a deadline has passed; it is given a moment to do so.
                until = clock.monotonic() + left + 1
                status, content, retry_after = self._pool.ask(call.method, call.path, {**common, "deadline-ms": deadline(left)}, call.body, until)
                return _calls.answer(call, status, content, retry_after)
            except (OSError, http.client.HTTPException, NotSent, Refused) as failed:
                clock.sleep(attempts.wait_after(failed))
