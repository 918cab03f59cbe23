"""Events, answers and errors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, SupportsFloat, SupportsIndex, Tuple, Type, TypeVar, Union

if TYPE_CHECKING:
    import numpy
    import pandas
    from numpy.typing import NDArray

Id = Union[SupportsIndex, str]
"""A node's id: a whole number of any type (NumPy's too), or text."""
Number = Union[SupportsIndex, SupportsFloat]
"""A time or a label: a number of any type, NumPy's too."""

_Told = TypeVar("_Told", bound="Seen")


class TempographError(Exception):
    """What every error of this package is."""


class Unreachable(TempographError):
    """No answer came: the server is not there, or the connection broke. Events that were sent with ids can be sent again."""


class UnexpectedAnswer(TempographError):
    """The answer is not a Tempograph server's. Perhaps something else listens at this address, or stands between."""


class Refused(TempographError):
    """The server's refusal.

    `status` is HTTP's and `code` the server's word for the cause ("busy", "late", "unknown_node", ...). `retry_after` is the number of seconds after
    which the same request may succeed, where that is known. `more` has the other fields of the refusal, such as the counts of a stream.
    """

    def __init__(
        self, status: int, error: str, code: str = "", retry_after: Optional[float] = None, more: Optional[Mapping[str, Any]] = None
    ) -> None:
        super().__init__(status, error, code, retry_after, more)
        self.status, self.error, self.code, self.retry_after = status, error, code, retry_after
        self.more: Dict[str, Any] = dict(more or {})

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.error}" if self.code else f"{self.status}: {self.error}"


@dataclass(frozen=True)
class Event:
    """Who acted on what, and when. An event with an `id` is applied once, even if it is sent twice."""

    src: Id
    dst: Id
    time: Number
    label: Number = 0.0
    features: Optional[Sequence[Number]] = None
    id: Optional[str] = None


@dataclass(frozen=True)
class Seen:
    """What an answer has seen: the number of events and of batches, and the version of the weights."""

    log_seq: int
    version: int
    model: str

    @classmethod
    def of(cls: Type[_Told], said: Mapping[str, Any], **changed: Any) -> _Told:
        """Takes the fields that are known here. A newer server may send more."""
        known = {one.name: said[one.name] for one in fields(cls) if one.name in said}
        return cls(**{**known, **changed})


@dataclass(frozen=True)
class Receipt(Seen):
    """What became of events: the number of the first, and how many were accepted, known already, or late."""

    first_seq: int
    accepted: int
    duplicates: int
    late: int


@dataclass(frozen=True)
class Retracted(Seen):
    """How many events were retracted, and which parts of the state keep something of them."""

    retracted: int
    remains: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scores(Seen):
    """Logits and probabilities, in the order of the pairs."""

    scores: List[float]
    probabilities: List[float]

    def to_numpy(self) -> "NDArray[numpy.float32]":
        """The scores as an array."""
        import numpy

        return numpy.asarray(self.scores, dtype=numpy.float32)

    def to_pandas(self, index: "Optional[pandas.Index[Any]]" = None) -> "pandas.DataFrame":
        """The columns `score` and `probability`. With the `index` of the frame of the pairs, they can be joined to it."""
        import pandas

        return pandas.DataFrame({"score": self.scores, "probability": self.probabilities}, index=index)


@dataclass(frozen=True)
class Ranked:
    """A destination with its score."""

    dst: Union[int, str]
    score: float
    probability: float


@dataclass(frozen=True)
class Ranking(Seen):
    """Destinations, best first."""

    ranked: List[Ranked]

    def to_pandas(self) -> "pandas.DataFrame":
        """The columns `dst`, `score` and `probability`, best first."""
        import pandas

        rows = [(one.dst, one.score, one.probability) for one in self.ranked]
        return pandas.DataFrame(rows, columns=["dst", "score", "probability"])


@dataclass(frozen=True)
class Embedding(Seen):
    """A node's embedding."""

    embedding: List[float]

    def to_numpy(self) -> "NDArray[numpy.float32]":
        """The embedding as an array."""
        import numpy

        return numpy.asarray(self.embedding, dtype=numpy.float32)


@dataclass(frozen=True)
class Neighbour:
    """An earlier event of a node, and its weights: by layer, then by head."""

    node: Union[int, str]
    side: str
    seq: int
    time: float
    weights: List[List[float]]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Neighbour":
        return cls(**{one.name: said[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class Explanation(Seen):
    """A score and the neighbours of both ends that it depends on, newest first."""

    score: float
    probability: float
    src: List[Neighbour]
    dst: List[Neighbour]

    def to_pandas(self) -> "pandas.DataFrame":
        """One row a neighbour. `end` is the end of the pair ("src" or "dst"), `weight` the last layer's mean over its heads."""
        import pandas

        rows: List[Tuple[Any, ...]] = []
        for end, neighbours in (("src", self.src), ("dst", self.dst)):
            for one in neighbours:
                heads = one.weights[-1] if one.weights else []
                rows.append((end, one.node, one.side, one.seq, one.time, sum(heads) / len(heads) if heads else None))
        return pandas.DataFrame(rows, columns=["end", "node", "side", "seq", "time", "weight"])
