"""A client of Tempograph's server: submit events, and query scores, rankings and embeddings.

    from tempograph_client import Client, Event

    with Client("http://127.0.0.1:8080") as client:
        client.send([Event(src=17, dst=4, time=1300)])
        answer = client.score([(17, 4), (17, 5)])
        print(answer.scores, "after", answer.log_seq, "events")

`Client` needs only Python's own library. `tempograph_client.aio.AsyncClient` is the same for `asyncio` and needs aiohttp.
"""

from ._calls import Pairs, frame_events
from ._client import Client
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
    TempographError,
    UnexpectedAnswer,
    Unreachable,
)

__all__ = [
    "Client",
    "Embedding",
    "Event",
    "Explanation",
    "Id",
    "Neighbour",
    "Number",
    "Pairs",
    "Ranked",
    "Ranking",
    "Receipt",
    "Refused",
    "Retracted",
    "Scores",
    "Seen",
    "TempographError",
    "UnexpectedAnswer",
    "Unreachable",
    "frame_events",
]
