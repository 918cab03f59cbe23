"""A client of Tempograph's server, over HTTP and with nothing but Python's own library.

    from tempograph_client import Client, Event

    with Client("http://127.0.0.1:8080") as client:
        client.send([Event(src=17, dst=4, time=1300)])
        answer = client.score([(17, 4), (17, 5)])
        print(answer.scores, "after", answer.log_seq, "events")
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time as clock
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

__all__ = ["Client", "Embedding", "Event", "Explanation", "Neighbour", "Ranked", "Ranking", "Receipt", "Refused", "Retracted", "Scores", "Unreachable"]

Number = Union[int, float]
Pair = Tuple[int, int]


class Unreachable(Exception):
    """No answer came: the server is not there, or the connection broke. Events told under ids may be told again."""


class Refused(Exception):
    """The server's refusal.

    `status` is HTTP's, `code` a word to tell refusals by ("busy", "late", "unknown_node", …), and `retry_after` the seconds after which the same request may do,
    where that is known.
    """

    def __init__(self, status: int, error: str, code: str = "", retry_after: Optional[float] = None) -> None:
        super().__init__(f"{status} {code}: {error}" if code else f"{status}: {error}")
        self.status, self.error, self.code, self.retry_after = status, error, code, retry_after


@dataclass(frozen=True)
class Event:
    """Who acted on what, when. With an `id`, an event that is told twice happens once."""

    src: int
    dst: int
    time: Number
    label: float = 0.0
    features: Optional[Sequence[float]] = None
    id: Optional[str] = None

    def as_json(self) -> Dict[str, Any]:
        told: Dict[str, Any] = {"src": self.src, "dst": self.dst, "time": self.time}
        if self.label:
            told["label"] = self.label
        if self.features is not None:
            told["features"] = list(self.features)
        if self.id is not None:
            told["id"] = self.id
        return told


@dataclass(frozen=True)
class Seen:
    """What an answer rests on: events of the log it has seen, batches, and the name of the weights."""

    log_seq: int
    version: int
    model: str


@dataclass(frozen=True)
class Receipt(Seen):
    """What became of events: the number of the first, and how many were taken, known already, or late."""

    first_seq: int
    accepted: int
    duplicates: int
    late: int


@dataclass(frozen=True)
class Retracted(Seen):
    """How many of the events that were taken back were still known, and what parts of the state keep what they had changed there."""

    retracted: int
    remains: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scores(Seen):
    """Logits and probabilities, in the order of the pairs."""

    scores: List[float]
    probabilities: List[float]


@dataclass(frozen=True)
class Ranked:
    """A destination with its score."""

    dst: int
    score: float
    probability: float


@dataclass(frozen=True)
class Ranking(Seen):
    """Destinations, best first."""

    ranked: List[Ranked]


@dataclass(frozen=True)
class Embedding(Seen):
    """A node's embedding."""

    embedding: List[float]


@dataclass(frozen=True)
class Neighbour:
    """An earlier event of a node, and how it was weighed: by layer, then by head."""

    node: int
    side: str
    seq: int
    time: float
    weights: List[List[float]]


@dataclass(frozen=True)
class Explanation(Seen):
    """A score and the neighbours of both ends that it rests on, newest first."""

    score: float
    probability: float
    src: List[Neighbour]
    dst: List[Neighbour]


@dataclass
class Client:
    """A server at `url`. May be used by several threads; each has its own connection.

    `token` is sent as a bearer token; `deadline` is how many seconds an answer is of use, which the server is told so that it can refuse at once what would be
    late. A read that is refused as "busy" is asked again until then. Events are never told again unasked, unless they have ids: `send(…, once=True)` gives them some.
    """

    url: str
    token: Optional[str] = None
    tenant: Optional[str] = None
    deadline: float = 5.0
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url if "//" in self.url else "http://" + self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is not the address of a server; it looks like http://127.0.0.1:8080")
        self._secure, self._host = parts.scheme == "https", parts.netloc

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes this thread's connection. The next request opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    # Telling.

    def send(self, events: Iterable[Event], *, ack: str = "applied", granularity: str = "event", once: bool = False) -> Receipt:
        """Tells events, in order of time: all of them happen, or none.

        `ack` is when the answer comes: "accepted" (in line), "durable" (on the disk), "applied" (reads see them). With `once`, events without an id get one, and
        are told again if the connection breaks.
        """
        told = [event.as_json() for event in events]
        if once:
            for event in told:
                event.setdefault("id", uuid.uuid4().hex)
        safe = once or all("id" in event for event in told)
        body = {"events": told, "ack": ack, "granularity": granularity}
        return Receipt(**_only(Receipt, self._ask("POST", "/v1/events", body, again=safe)))

    def send_all(self, events: Iterable[Event], *, size: int = 512, ack: str = "durable", once: bool = True) -> Iterator[Receipt]:
        """Tells any number of events, `size` at a time, and yields the receipts."""
        part: List[Event] = []
        for event in events:
            part.append(event)
            if len(part) == size:
                yield self.send(part, ack=ack, once=once)
                part = []
        if part:
            yield self.send(part, ack=ack, once=once)

    def retract(self, ids: Iterable[str]) -> Retracted:
        """Takes events back by the ids they were told under. To take one back twice is to take it back once."""
        return Retracted(**_only(Retracted, self._ask("POST", "/v1/retract", {"ids": list(ids)}, again=True)))

    # Asking.

    def score(
        self, pairs: Sequence[Pair], *, time: Optional[Number] = None, min_seq: Optional[int] = None, max_staleness_ms: Optional[int] = None
    ) -> Scores:
        """Scores pairs of source and destination at `time`, or just after the newest event."""
        queries = [{"src": src, "dst": dst, **({} if time is None else {"time": time})} for src, dst in pairs]
        return Scores(**_only(Scores, self._read("/v1/score", {"queries": queries}, min_seq, max_staleness_ms)))

    def rank(
        self,
        src: int,
        *,
        k: int = 10,
        candidates: Optional[Sequence[int]] = None,
        time: Optional[Number] = None,
        min_seq: Optional[int] = None,
        max_staleness_ms: Optional[int] = None,
    ) -> Ranking:
        """The `k` best of the candidates, or of all destinations so far."""
        body: Dict[str, Any] = {"src": src, "k": k}
        if candidates is not None:
            body["candidates"] = list(candidates)
        if time is not None:
            body["time"] = time
        said = self._read("/v1/rank", body, min_seq, max_staleness_ms)
        return Ranking(**{**_only(Ranking, said), "ranked": [Ranked(**_only(Ranked, one)) for one in said["ranked"]]})

    def embedding(self, node: int, *, side: Optional[str] = None, time: Optional[Number] = None) -> Embedding:
        """A node's embedding; `side` is "source" or "destination" where ids are by side."""
        query: Dict[str, Any] = {"node": node, **({} if side is None else {"side": side}), **({} if time is None else {"time": time})}
        return Embedding(**_only(Embedding, self._ask("GET", "/v1/embedding?" + urllib.parse.urlencode(query), None, again=True)))

    def explain(self, src: int, dst: int, *, time: Optional[Number] = None) -> Explanation:
        """A pair's score with the neighbours it rests on."""
        said = self._ask("POST", "/v1/explain", {"src": src, "dst": dst, **({} if time is None else {"time": time})}, again=True)
        found = said["explanation"]
        ends = {end: [Neighbour(**_only(Neighbour, one)) for one in found[end]] for end in ("src", "dst")}
        return Explanation(score=found["score"], probability=found["probability"], **ends, **_only(Seen, said))

    def model(self) -> Dict[str, Any]:
        """The manifest of the weights that answer, and where the server stands."""
        return self._ask("GET", "/v1/model", None, again=True)

    def status(self) -> Dict[str, Any]:
        """Every number there is about the server."""
        return self._ask("GET", "/v1/status", None, again=True)

    def is_ready(self) -> bool:
        """Whether the server takes events and answers are of now."""
        try:
            self._ask("GET", "/health/ready", None, again=False)
            return True
        except (Refused, Unreachable):
            return False

    # How.

    def _read(self, path: str, body: Dict[str, Any], min_seq: Optional[int], max_staleness_ms: Optional[int]) -> Dict[str, Any]:
        for name, value in (("min_seq", min_seq), ("max_staleness_ms", max_staleness_ms)):
            if value is not None:
                body[name] = value
        return self._ask("POST", path, body, again=True)

    def _ask(self, method: str, path: str, body: Optional[Mapping[str, Any]], *, again: bool) -> Dict[str, Any]:
        """Asks until there is an answer, or it would be of no use any more."""
        until = clock.monotonic() + self.deadline
        text = None if body is None else json.dumps(body, allow_nan=False).encode()
        while True:
            left = until - clock.monotonic()
            try:
                return self._once(method, path, text, max(left, 0.001))
            except Refused as refused:
                wait = refused.retry_after if refused.code == "busy" else None
                if not again or wait is None or wait >= until - clock.monotonic():
                    raise
                clock.sleep(wait)
            except (OSError, http.client.HTTPException) as broken:
                self.close()
                if not again or isinstance(broken, socket.timeout) or until - clock.monotonic() < 0.02:
                    raise Unreachable(f"{self.url}: {broken or type(broken).__name__}") from broken
                clock.sleep(0.01)

    def _once(self, method: str, path: str, text: Optional[bytes], left: float) -> Dict[str, Any]:
        headers = {"content-type": "application/json", "deadline-ms": str(max(1, round(1000 * left)))}
        if self.token is not None:
            headers["authorization"] = "Bearer " + self.token
        if self.tenant is not None:
            headers["tenant"] = self.tenant
        connection = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = self._local.connection = kind(self._host)
        # The server says itself that a deadline has passed; it is given a moment to.
        connection.timeout = left + 1
        if connection.sock is not None:
            connection.sock.settimeout(left + 1)
        connection.request(method, path, body=text, headers=headers)
        response = connection.getresponse()
        said = response.read()
        try:
            answer = json.loads(said)
        except ValueError:
            answer = {"error": said.decode(errors="replace")}
        if response.status != 200:
            after = answer.get("retry_after_ms")
            raise Refused(response.status, str(answer.get("error", "")), str(answer.get("code", "")), None if after is None else after / 1000)
        return answer


def _only(kind: Any, said: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields that are known here: a newer server may say more."""
    return {name: said[name] for name in kind.__dataclass_fields__ if name in said}
