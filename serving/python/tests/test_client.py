"""The client against a real server."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Iterator, List

import numpy
import pandas
import pytest
import trustme
from conftest import Server

from tempograph_client import Client, Event, Refused, Unreachable


def newest(client: Client) -> int:
    return int(client.model()["newest"])


def events(client: Client, count: int) -> List[Event]:
    return [Event(1, 1, newest(client)) for _ in range(count)]


def test_an_event_with_an_id_is_applied_once_and_answers_have_seen_it(client: Client) -> None:
    event = Event(src=1, dst=1, time=newest(client), id=f"once-{client.model()['log_seq']}")
    receipt = client.send([event])
    assert (receipt.accepted, receipt.duplicates) == (1, 0)
    assert client.send([event]).duplicates == 1
    scores = client.score([(1, 1), (2, 1)], min_seq=receipt.first_seq + 1)
    assert len(scores.scores) == 2 and all(0 <= one <= 1 for one in scores.probabilities)
    assert scores.log_seq > receipt.first_seq


def test_an_event_is_retracted_once(client: Client) -> None:
    event = Event(src=1, dst=1, time=newest(client), id=f"retracted-{client.model()['log_seq']}")
    receipt = client.send([event])
    taken = client.retract([event.id or ""])
    assert (taken.retracted, taken.log_seq) == (1, receipt.log_seq)
    assert client.retract([event.id or ""]).retracted == 0
    with pytest.raises(Refused) as caught:
        client.retract(["nobody"])
    assert caught.value.status == 422
    with pytest.raises(TypeError, match="a list of ids"):
        client.retract("abc")


def test_many_events_are_sent_in_parts(client: Client) -> None:
    receipts = list(client.send_all(events(client, 25), size=10))
    assert [one.accepted for one in receipts] == [10, 10, 5]


def test_rank_embedding_explanation_and_status_have_their_forms(client: Client) -> None:
    ranking = client.rank(1, k=3)
    assert sorted((one.score for one in ranking.ranked), reverse=True) == [one.score for one in ranking.ranked]
    assert client.rank(1, candidates=[1]).ranked[0].dst == 1
    assert len(client.embedding(1, side="source").embedding) > 0
    explained = client.explain(1, 1)
    assert explained.score == pytest.approx(client.score([(1, 1)]).scores[0], abs=1e-4)
    assert all(one.side in ("source", "destination") for one in explained.src)
    assert "durable_seq" in client.status() and client.is_ready()


def test_refusals_say_what_is_wrong_and_survive_pickling(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.score([(10**15, 1)])
    assert (caught.value.status, caught.value.code) == (404, "unknown_node")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.code) == (str(caught.value), "unknown_node")
    with pytest.raises(Refused) as caught:
        client.send([Event(1, 1, -(10**12))])
    assert caught.value.status == 409


def test_a_body_over_the_limit_is_refused_with_its_reason_and_not_a_broken_pipe(client: Client) -> None:
    for _ in range(5):
        with pytest.raises(Refused) as caught:
            client.send([Event(1, 1, newest(client), id="x" * (18 << 20))])
        assert (caught.value.status, caught.value.code) == (413, "too_large")
    assert client.is_ready()


def test_a_connection_that_the_server_has_closed_is_not_used_again(own: Server) -> None:
    spec = own.folder / "serve.toml"
    spec.write_text("[limits]\nhead_ms = 300\n")
    own.options = ["--spec", str(spec)]
    own.start()
    with Client(own.url) as client:
        client.wait_until_ready()
        for _ in range(5):
            time.sleep(0.6)
            # Without ids, nothing may be sent twice. So a single failure would be seen.
            assert client.send(events(client, 1), once=False).accepted == 1
            time.sleep(0.6)
            assert client.send([Event(1, 1, 10**6)], once=False).accepted == 1


def test_threads_share_a_client(client: Client) -> None:
    found: List[float] = []
    threads = [threading.Thread(target=lambda: found.append(client.score([(1, 1)]).scores[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8


def test_numpy_and_pandas_go_in_and_come_out(client: Client) -> None:
    time_now = newest(client)
    receipt = client.send([Event(numpy.int64(1), numpy.uint32(1), numpy.float64(time_now), label=numpy.float32(0.5))])
    assert receipt.accepted == 1
    pairs = numpy.array([[1, 1], [2, 1]], dtype=numpy.int32)
    by_array, by_tuples = client.score(pairs), client.score([(1, 1), (2, 1)])
    assert by_array.to_numpy().dtype == numpy.float32
    numpy.testing.assert_allclose(by_array.to_numpy(), by_tuples.to_numpy())
    frame = pandas.DataFrame({"src": [1, 2], "dst": [1, 1], "time": [time_now, time_now + 1]}, index=[7, 9])
    scored = client.score(frame).to_pandas(index=frame.index)
    assert list(frame.join(scored).columns) == ["src", "dst", "time", "score", "probability"] and not scored.isna().any().any()
    assert client.rank(numpy.int64(1), k=3, candidates=numpy.array([1, 2])).to_pandas()["dst"].isin([1, 2]).all()
    assert client.embedding(1, side="source").to_numpy().ndim == 1
    assert {"end", "node", "weight"} <= set(client.explain(1, 1).to_pandas().columns)
    receipts = list(client.send_frame(frame.assign(id=["frame-1", "frame-2"]), size=1))
    assert [one.accepted for one in receipts] == [1, 1]
    assert sum(one.duplicates for one in client.send_frame(frame.assign(id=["frame-1", "frame-2"]))) == 2


def test_values_that_cannot_be_sent_are_named(client: Client) -> None:
    now = newest(client)
    for event, says in [
        (Event(True, 1, now), r"events\[0\].src is True"),
        (Event(1.5, 1, now), r"events\[0\].src is 1.5"),  # type: ignore[arg-type]
        (Event(-1, 1, now), r"events\[0\].src is -1"),
        (Event(1, 2**64, now), r"events\[0\].dst is 18446744073709551616"),
        (Event(1, 1, float("nan")), r"events\[0\].time is nan"),
        (Event(1, 1, pandas.Timestamp("2026-01-01")), r"timestamp\(\)"),
        (Event(1, 1, now, features=[0.0, float("inf")]), r"events\[0\].features\[1\] is inf"),
        (Event(1, 1, now, id=7), r"events\[0\].id is 7"),  # type: ignore[arg-type]
    ]:
        with pytest.raises((TypeError, ValueError), match=says):
            client.send([event])
    with pytest.raises(ValueError, match="no column dst; it has src"):
        client.score(pandas.DataFrame({"src": [1]}))
    with pytest.raises(ValueError, match="two columns"):
        client.score(numpy.zeros((2, 3), dtype=numpy.int64))


def test_a_stream_gives_receipts_while_it_goes_on(client: Client) -> None:
    now, received = newest(client), threading.Semaphore(0)

    def source() -> Iterator[Event]:
        for _ in range(3):
            yield Event(1, 1, now)
            # The next event exists only after the receipt of the last one.
            assert received.acquire(timeout=20)

    accepted = 0
    for receipt in client.stream(source()):
        accepted += receipt.accepted
        received.release()
    assert accepted == 3


def test_a_long_stream_is_accepted_whole(client: Client) -> None:
    now, before = newest(client), client.model()["log_seq"]
    total = sum(one.accepted for one in client.stream((Event(1, 1, now) for _ in range(4_000)), ack="applied", batch=100))
    assert total == 4_000 and client.model()["log_seq"] == before + 4_000


def test_a_stream_that_is_refused_says_why_and_one_whose_source_fails_raises_what_it_raised(client: Client) -> None:
    now = newest(client)
    with pytest.raises(Refused) as caught:
        list(client.stream([Event(1, 1, now), Event(1, 1, -(10**12))]))
    assert (caught.value.code, caught.value.status) == ("late", 409)

    def source() -> Iterator[Event]:
        yield Event(1, 1, now)
        raise OSError("the disk of the caller")

    with pytest.raises(OSError, match="the disk of the caller"):
        list(client.stream(source()))
    with pytest.raises(ValueError, match="event 0 of the stream.time is nan"):
        list(client.stream([Event(1, 1, float("nan"))]))


def test_a_stream_that_is_left_early_ends_its_threads(client: Client) -> None:
    now = newest(client)

    def endless() -> Iterator[Event]:
        while True:
            yield Event(1, 1, now)

    receipts = client.stream(endless(), batch=10)
    next(receipts)
    receipts.close()  # type: ignore[attr-defined]
    until = time.monotonic() + 10
    while any(one.name.startswith("tempograph-") for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_requests_and_streams_go_on_through_a_restart_and_no_event_is_lost_or_doubled(own: Server) -> None:
    own.start()
    with Client(own.url, deadline=60) as client:
        client.wait_until_ready()
        before, now = client.model()["log_seq"], newest(client)
        for how in (signal.SIGKILL, signal.SIGTERM):
            restart = threading.Thread(target=own.restart_after, args=(0.5, how))

            def source() -> Iterator[Event]:
                for i in range(3000):
                    if i == 1000:
                        restart.start()
                    if 1000 <= i < 1200:
                        time.sleep(0.005)
                    yield Event(1, 1, now)

            for _ in client.stream(source(), ack="applied", batch=50):
                pass
            restart.join()
            client.wait_until_ready()
            before += 3000
            assert client.model()["log_seq"] == before
            restart = threading.Thread(target=own.restart_after, args=(0.5, how))
            restart.start()
            for _ in range(30):
                client.send([Event(1, 1, now)])
                time.sleep(0.02)
            restart.join()
            before += 30
            assert client.score([(1, 1)]).log_seq == before


def test_tls_with_a_private_authority_and_a_certificate_of_the_client(own: Server, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "stranger.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    mine = authority.issue_cert("client@example.com")
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    spec = tmp_path / "serve.toml"
    names = {"cert": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    spec.write_text("[tls]\n" + "".join(f'{key} = "{tmp_path / name}"\n' for key, name in names.items()))
    own.options, own.url = ["--spec", str(spec)], own.url.replace("http:", "https:")
    own.start()
    with Client(own.url, ca=tmp_path / "ca.pem", cert=tmp_path / "client.pem") as client:
        client.wait_until_ready()
        assert client.score([(1, 1)]).scores
        assert sum(one.accepted for one in client.stream((Event(1, 1, newest(client)) for _ in range(2000)), ack="applied", batch=100)) == 2000
        with pytest.raises(Refused) as caught:
            client.send([Event(1, 1, newest(client), id="x" * (18 << 20))])
        assert caught.value.status == 413
    for wrong in (Client(own.url, ca=tmp_path / "stranger.pem"), Client(own.url, ca=tmp_path / "ca.pem"), Client(own.url)):
        with pytest.raises(Unreachable):
            wrong.score([(1, 1)], deadline=0.5)
