"""The asynchronous client against a real server."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any, AsyncIterator, Coroutine, TypeVar

import pytest
from conftest import Server

from tempograph_client import Event, Refused
from tempograph_client.aio import AsyncClient

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def newest(client: AsyncClient) -> int:
    return int((await client.model())["newest"])


def test_many_tasks_send_and_read_over_one_client(server: Server) -> None:
    async def work() -> None:
        async with AsyncClient(server.url, deadline=30) as client:
            now = await newest(client)
            receipts = await asyncio.gather(*(client.send([Event(1, 1, now)]) for _ in range(50)))
            assert sum(one.accepted for one in receipts) == 50
            last = max(one.first_seq for one in receipts)
            scores = await asyncio.gather(*(client.score([(1, 1)], min_seq=last + 1) for _ in range(50)))
            assert all(one.log_seq > last for one in scores)
            assert len((await client.rank(1, k=3)).ranked) == 3
            assert (await client.embedding(1, side="source")).embedding
            assert (await client.explain(1, 1)).src is not None
            assert await client.is_ready()
            with pytest.raises(Refused) as caught:
                await client.score([(10**15, 1)])
            assert caught.value.code == "unknown_node"
            with pytest.raises(Refused) as caught:
                await client.send([Event(1, 1, now, id="x" * (18 << 20))])
            assert caught.value.status == 413

    run(work())


def test_a_stream_gives_receipts_while_it_goes_on(server: Server) -> None:
    async def work() -> None:
        async with AsyncClient(server.url) as client:
            now, received = await newest(client), asyncio.Semaphore(0)

            async def source() -> AsyncIterator[Event]:
                for _ in range(3):
                    yield Event(1, 1, now)
                    await asyncio.wait_for(received.acquire(), 20)

            accepted = 0
            async for receipt in client.stream(source()):
                accepted += receipt.accepted
                received.release()
            assert accepted == 3
            events = (Event(1, 1, now) for _ in range(4_000))
            assert sum([one.accepted async for one in client.stream(events, ack="applied", batch=100)]) == 4_000
            with pytest.raises(Refused) as caught:
                [one async for one in client.stream([Event(1, 1, -(10**12))])]
            assert caught.value.code == "late"

            async def failing() -> AsyncIterator[Event]:
                yield Event(1, 1, now)
                raise OSError("the disk of the caller")

            with pytest.raises(OSError, match="the disk of the caller"):
                [one async for one in client.stream(failing())]
            assert sum([one.accepted async for one in client.send_all((Event(1, 1, now) for _ in range(25)), size=10, ack="applied")]) == 25

    run(work())


def test_requests_and_streams_go_on_through_a_restart_and_no_event_is_lost_or_doubled(own: Server) -> None:
    async def work() -> None:
        async with AsyncClient(own.url, deadline=60) as client:
            await client.wait_until_ready()
            now, before = await newest(client), (await client.model())["log_seq"]
            for how in (signal.SIGKILL, signal.SIGTERM):
                restart = threading.Thread(target=own.restart_after, args=(0.5, how))

                async def source() -> AsyncIterator[Event]:
                    for i in range(3000):
                        if i == 1000:
                            restart.start()
                        if 1000 <= i < 1200:
                            await asyncio.sleep(0.005)
                        yield Event(1, 1, now)

                async for _ in client.stream(source(), ack="applied", batch=50):
                    pass
                restart.join()
                await client.wait_until_ready()
                before += 3000
                assert (await client.model())["log_seq"] == before

    own.start()
    run(work())


def test_a_cancelled_request_ends_at_once(server: Server) -> None:
    async def work() -> None:
        async with AsyncClient(server.url) as client:
            begun = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.score([(1, 1)], min_seq=10**9), 0.2)
            assert time.monotonic() - begun < 1
            assert (await client.score([(1, 1)])).scores

    run(work())
