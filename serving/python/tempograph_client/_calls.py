"""Requests, and how their answers are read. What both clients share, without any connection."""

from __future__ import annotations

import json
import math
import operator
import urllib.parse
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

from ._types import (
    Embedding,
    Event,
    Explanation,
    Id,
    Neighbour,
    Number,
    Ranked,
    Ranking,
    Receipt,
    Refused,
    Retracted,
    Scores,
    Seen,
    UnexpectedAnswer,
)

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

T = TypeVar("T")
Pairs = Union[Iterable[Tuple[Id, Id]], "NDArray[Any]", "pandas.DataFrame"]
"""Pairs of source and destination: tuples, an array of two columns, or a frame with the columns `src` and `dst`, and perhaps `time`."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request. `safe` means that it may be sent twice: a read, or events with ids."""

    method: str
    path: str
    body: Optional[bytes]
    safe: bool
    read: Callable[[Any], T]


def id_of(place: str, value: Any) -> Union[int, str]:
    """A node's id as JSON has it."""
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        number = int(operator.index(value))
    except TypeError:
        raise TypeError(f"{place} is {value!r}; a node's id is a whole number or text") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{place} is {number}; a node's id is from 0 to 2**64 - 1")
    return number


def number_of(place: str, value: Any) -> Union[int, float]:
    """A number as JSON has it. Whole ones stay whole, since a time may have more digits than a float."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        if hasattr(value, "__index__"):
            return int(operator.index(value))
        if not hasattr(value, "__float__"):
            raise TypeError
        number = float(value)
    except TypeError:
        hint = "; give it in the data's own unit, for example `.timestamp()` for seconds" if hasattr(value, "isoformat") else ""
        raise TypeError(f"{place} is {value!r}, which is not a number{hint}") from None
    if not math.isfinite(number):
        raise ValueError(f"{place} is {number}, which JSON and the server do not have")
    return number


def event_json(event: Event, place: str = "the event") -> Dict[str, Any]:
    """An event as JSON has it."""
    body: Dict[str, Any] = {
        "src": id_of(f"{place}.src", event.src),
        "dst": id_of(f"{place}.dst", event.dst),
        "time": number_of(f"{place}.time", event.time),
    }
    label = number_of(f"{place}.label", event.label)
    if label:
        body["label"] = label
    if event.features is not None:
        # Arrays are converted at once, which is much faster than value by value.
        values = event.features.tolist() if hasattr(event.features, "tolist") else event.features
        body["features"] = [number_of(f"{place}.features[{i}]", value) for i, value in enumerate(values)]
    if event.id is not None:
        if not isinstance(event.id, str):
            raise TypeError(f"{place}.id is {event.id!r}; an event's id is text")
        body["id"] = event.id
    return body


def events_json(events: Iterable[Event], once: bool) -> List[Dict[str, Any]]:
    """Events as JSON has them. With `once`, those without an id get one."""
    found = [event_json(event, f"events[{i}]") for i, event in enumerate(events)]
    if once:
        for event in found:
            event.setdefault("id", uuid.uuid4().hex)
    return found


def frame_events(frame: "pandas.DataFrame", features: Optional[Sequence[str]] = None) -> Iterator[Event]:
    """The rows of a frame as events, in order: the columns `src`, `dst` and `time`, perhaps `label` and `id`, and the columns that `features` names.

    Raises `ValueError` naming the columns that are missing.
    """
    named = list(features or [])
    missing = [name for name in ["src", "dst", "time", *named] if name not in frame.columns]
    if missing:
        raise ValueError(f"the frame has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    labels = frame["label"].tolist() if "label" in frame.columns else None
    ids = frame["id"].tolist() if "id" in frame.columns else None
    rows = frame[named].to_numpy() if named else None
    for i, (src, dst, time) in enumerate(zip(frame["src"].tolist(), frame["dst"].tolist(), frame["time"].tolist())):
        yield Event(
            src,
            dst,
            time,
            label=0.0 if labels is None else labels[i],
            features=None if rows is None else rows[i],
            id=None if ids is None else ids[i],
        )


def dumps(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def send(events: Iterable[Event], ack: str, granularity: str, once: bool) -> Call[Receipt]:
    found = events_json(events, once)
    body = {"events": found, "ack": ack, "granularity": granularity}
    return Call("POST", "/v1/events", dumps(body), all("id" in event for event in found), Receipt.of)


def retract(ids: Iterable[str]) -> Call[Retracted]:
    if isinstance(ids, str):
        raise TypeError(f"ids is the text {ids!r}; give a list of ids")
    return Call("POST", "/v1/retract", dumps({"ids": list(ids)}), True, Retracted.of)


def pairs_json(pairs: Pairs, time: Optional[Number]) -> List[Dict[str, Any]]:
    times: Optional[List[Any]] = None
    found: Any = pairs
    if hasattr(found, "columns"):
        missing = [name for name in ("src", "dst") if name not in found.columns]
        if missing:
            raise ValueError(f"the frame has no column {', '.join(missing)}; it has {', '.join(map(str, found.columns))}")
        if "time" in found.columns and time is None:
            times = found["time"].tolist()
        found = list(zip(found["src"].tolist(), found["dst"].tolist()))
    elif hasattr(found, "tolist"):
        if len(found.shape) != 2 or found.shape[1] != 2:
            raise ValueError(f"the pairs have the shape {tuple(found.shape)}; they are an array of two columns, source and destination")
        found = found.tolist()
    common = {} if time is None else {"time": number_of("time", time)}
    queries: List[Dict[str, Any]] = []
    for i, pair in enumerate(found):
        try:
            src, dst = pair
        except (TypeError, ValueError):
            raise ValueError(f"pairs[{i}] is {pair!r}; a pair is a source and a destination") from None
        query = {"src": id_of(f"pairs[{i}][0]", src), "dst": id_of(f"pairs[{i}][1]", dst), **common}
        if times is not None:
            query["time"] = number_of(f"pairs[{i}].time", times[i])
        queries.append(query)
    return queries


def consistency(min_seq: Optional[int], max_staleness_ms: Optional[int]) -> Dict[str, Any]:
    given = {"min_seq": min_seq, "max_staleness_ms": max_staleness_ms}
    return {name: id_of(name, value) for name, value in given.items() if value is not None}


def score(pairs: Pairs, time: Optional[Number], min_seq: Optional[int], max_staleness_ms: Optional[int]) -> Call[Scores]:
    body = {"queries": pairs_json(pairs, time), **consistency(min_seq, max_staleness_ms)}
    return Call("POST", "/v1/score", dumps(body), True, Scores.of)


def rank(
    src: Id, k: int, candidates: Optional[Iterable[Id]], time: Optional[Number], min_seq: Optional[int], max_staleness_ms: Optional[int]
) -> Call[Ranking]:
    body: Dict[str, Any] = {"src": id_of("src", src), "k": id_of("k", k), **consistency(min_seq, max_staleness_ms)}
    if candidates is not None:
        values = candidates.tolist() if hasattr(candidates, "tolist") else candidates
        body["candidates"] = [id_of(f"candidates[{i}]", value) for i, value in enumerate(values)]
    if time is not None:
        body["time"] = number_of("time", time)

    def read(said: Any) -> Ranking:
        best = [Ranked(one["dst"], one["score"], one["probability"]) for one in said["ranked"]]
        return Ranking.of(said, ranked=best)

    return Call("POST", "/v1/rank", dumps(body), True, read)


def embedding(
    node: Id, side: Optional[str], time: Optional[Number], min_seq: Optional[int], max_staleness_ms: Optional[int]
) -> Call[Embedding]:
    query: Dict[str, Any] = {"node": id_of("node", node), **consistency(min_seq, max_staleness_ms)}
    if side is not None:
        query["side"] = side
    if time is not None:
        query["time"] = number_of("time", time)
    return Call("GET", "/v1/embedding?" + urllib.parse.urlencode(query), None, True, Embedding.of)


def explain(src: Id, dst: Id, time: Optional[Number], min_seq: Optional[int], max_staleness_ms: Optional[int]) -> Call[Explanation]:
    body: Dict[str, Any] = {"src": id_of("src", src), "dst": id_of("dst", dst), **consistency(min_seq, max_staleness_ms)}
    if time is not None:
        body["time"] = number_of("time", time)

    def read(said: Any) -> Explanation:
        found = said["explanation"]
        ends = {end: [Neighbour.of(one) for one in found[end]] for end in ("src", "dst")}
        return Explanation.of(said, score=found["score"], probability=found["probability"], **ends)

    return Call("POST", "/v1/explain", dumps(body), True, read)


def get(path: str) -> Call[Dict[str, Any]]:
    return Call("GET", path, None, True, dict)


def admin(what: str, body: Optional[Mapping[str, Any]] = None) -> Call[Dict[str, Any]]:
    # An admin's request is not sent again: a second reload or rollback is another one.
    return Call("POST", f"/admin/{what}", None if body is None else dumps(body), False, dict)


def refusal(status: int, content: bytes, retry_after: Optional[str]) -> Refused:
    """The refusal that an answer is, whatever its form: a proxy in front of the server may answer with something else."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        text = content.decode(errors="replace").strip()[:300]
        said = {"error": text or "the answer is empty"}
    after = said.pop("retry_after_ms", None)
    seconds: Optional[float] = None
    if isinstance(after, (int, float)):
        seconds = after / 1000
    elif retry_after is not None and retry_after.strip().isdigit():
        seconds = float(retry_after)
    error, code = str(said.pop("error", "the answer names no cause")), str(said.pop("code", ""))
    return Refused(status, error, code, seconds, said)


def answer(call: Call[T], status: int, content: bytes, retry_after: Optional[str]) -> T:
    """What an answer says.

    Raises `Refused` or `UnexpectedAnswer`.
    """
    if status != 200:
        raise refusal(status, content, retry_after)
    try:
        return call.read(json.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        start = content[:200].decode(errors="replace")
        raise UnexpectedAnswer(f"the answer of {call.path.split('?')[0]} is not a Tempograph server's ({error!r}): {start}") from error


class StreamState:
    """The events of a stream that have no receipt yet. They are sent again where the connection breaks."""

    def __init__(self, once: bool) -> None:
        self.once = once
        self.waiting: List[bytes] = []
        self.done = 0
        # Whether all of them have ids.
        self.safe = True

    def line(self, event: Event) -> bytes:
        body = event_json(event, f"event {self.done + len(self.waiting)} of the stream")
        if self.once:
            body.setdefault("id", uuid.uuid4().hex)
        elif "id" not in body:
            self.safe = False
        return dumps(body) + b"\n"

    def read(self, line: bytes) -> Optional[Receipt]:
        """A line of the answer: a receipt, or `None` for the summary at the end.

        Raises `Refused` or `UnexpectedAnswer`.
        """
        try:
            said = json.loads(line)
            if "error" in said:
                raise refusal(_STATUS.get(said.get("code", ""), 500), line, None)
            if "lines" in said:
                return None
            receipt = Receipt.of(said)
        except (ValueError, TypeError) as error:
            raise UnexpectedAnswer(f"the answer of /v1/events/stream is not a Tempograph server's ({error!r}): {line[:200]!r}") from error
        known = receipt.accepted + receipt.duplicates
        del self.waiting[:known]
        self.done += known
        return receipt


# A refusal in the middle of an answer has no status of its own.
_STATUS = {"malformed": 400, "slow_request": 408, "late": 409, "too_large": 413, "invalid": 422, "busy": 429, "unavailable": 503, "deadline": 504}
