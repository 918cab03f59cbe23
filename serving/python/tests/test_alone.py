"""The client without a Tempograph server: against none, and against servers that are not right."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from tempograph_client import Client, Event, Refused, UnexpectedAnswer, Unreachable
from tempograph_client.aio import AsyncClient

Answer = Tuple[int, bytes, List[Tuple[str, str]]]
SCORES = json.dumps({"scores": [1.0], "probabilities": [0.5], "log_seq": 1, "version": 1, "model": "m", "new_field": 1}).encode()
RECEIPT = json.dumps({"first_seq": 1, "accepted": 1, "duplicates": 0, "late": 0, "log_seq": 1, "version": 1, "model": "m"}).encode()


@contextmanager
def answering(answer: Callable[[int], Answer]) -> Iterator[Tuple[str, List[Any]]]:
    """A server that gives its n-th request the answer of `answer`. Yields its URL and the requests that it gets."""
    requests: List[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            requests.append((self.path, dict(self.headers), body))
            status, content, more = answer(len(requests))
            self.send_response(status)
            for name, value in [*more, ("content-length", str(len(content)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()


def both(url: str, ask: Callable[[Any], Any], **settings: Any) -> List[Any]:
    """What both clients give, or raise."""

    async def run() -> Any:
        async with AsyncClient(url, **settings) as client:
            return await ask(client)

    found: List[Any] = []
    ways: List[Callable[[], Any]] = [lambda: ask(Client(url, **settings)), lambda: asyncio.run(run())]
    for one in ways:
        try:
            found.append(one())
        except Exception as error:
            found.append(error)
    return found


def test_nobody_there_is_said_with_the_address() -> None:
    for found in both("http://127.0.0.1:1", lambda client: client.score([(1, 1)]), deadline=0.05):
        assert isinstance(found, Unreachable) and "127.0.0.1:1" in str(found)


def test_what_is_no_address_is_said() -> None:
    for url, says in [("ftp://example.org", "looks like http://"), ("http://me:secret@example.org", "give `token`"), ("http://a/?x=1", "query")]:
        with pytest.raises(ValueError, match=says) as caught:
            Client(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="not encrypted"):
        Client("http://example.org", ca="ca.pem")


def test_a_token_is_sent_and_never_shown() -> None:
    with answering(lambda _: (200, SCORES, [])) as (url, requests):
        assert both(url, lambda client: client.score([(1, 1)]).scores if isinstance(client, Client) else client.score([(1, 1)]), token="hidden-token")
        assert [one[1].get("authorization", one[1].get("Authorization")) for one in requests] == ["Bearer hidden-token"] * 2
    assert "hidden" not in repr(Client("http://a", token="hidden-token")) and "hidden" not in repr(AsyncClient("http://a", token="hidden-token"))
    with pytest.raises(ValueError, match="line break") as caught:
        Client("http://a", token="hidden-token\n")
    assert "hidden" not in str(caught.value)


def test_a_path_in_the_address_is_kept() -> None:
    with answering(lambda _: (200, SCORES, [])) as (url, requests):
        both(url + "/behind/a/proxy/", lambda client: client.score([(1, 1)]))
        assert [one[0] for one in requests] == ["/behind/a/proxy/v1/score"] * 2


def test_reads_and_refused_events_are_sent_again_after_the_time_that_the_server_names() -> None:
    body = json.dumps({"error": "the server is opening", "code": "unavailable", "retry_after_ms": 30}).encode()
    for refused in [(503, body, []), (429, body, []), (503, b"starting", [("retry-after", "0")])]:
        with answering(lambda n, refused=refused: refused if n % 3 else (200, RECEIPT, [])) as (url, requests):  # type: ignore[misc]
            for found in both(url, lambda client: client.send([Event(1, 1, 1)], once=False)):
                assert found.accepted == 1
            assert len(requests) == 6


def test_events_without_ids_are_not_sent_again_where_they_may_have_been_applied() -> None:
    def answer(_: int) -> Answer:
        return 503, b'{"error": "the log cannot be written", "code": "unavailable"}', []

    with answering(answer) as (url, requests):
        for found in both(url, lambda client: client.send([Event(1, 1, 1)], once=False), deadline=0.5):
            assert isinstance(found, Refused) and found.status == 503
        assert len(requests) == 2
        both(url, lambda client: client.send([Event(1, 1, 1)]), deadline=0.5)
        assert len(requests) > 6
        ids = {json.loads(one[2])["events"][0]["id"] for one in requests[2:]}
        assert len(ids) == 2, "each request keeps its id"


def test_answers_of_something_else_are_errors_of_this_package() -> None:
    for status, content, kind, says in [
        (200, b"<html>", UnexpectedAnswer, "/v1/score is not a Tempograph server's"),
        (200, b"[1]", UnexpectedAnswer, "/v1/score"),
        (200, b"{}", UnexpectedAnswer, "/v1/score"),
        (404, b'"no"', Refused, "404: "),
        (404, b'["no"]', Refused, '["no"]'),
        (500, b"null", Refused, "null"),
        (500, b"", Refused, "empty"),
        (400, b'{"error": ["a"]}', Refused, "['a']"),
        (302, b"", Refused, "302"),
    ]:
        with answering(lambda _, status=status, content=content: (status, content, [])) as (url, _):  # type: ignore[misc]
            for found in both(url, lambda client: client.score([(1, 1)])):
                assert type(found) is kind and says in str(found), (content, found)


def test_an_answer_that_never_comes_ends_at_the_deadline() -> None:
    def answer(_: int) -> Answer:
        threading.Event().wait(3)
        return 200, SCORES, []

    with answering(answer) as (url, _):
        for found in both(url, lambda client: client.score([(1, 1)]), deadline=0.2):
            assert isinstance(found, Unreachable) and "in time" in str(found)


def test_the_package_is_typed_throughout() -> None:
    root = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "/dev/null", "tempograph_client", "tests", "example.py"],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_installing_leaves_nothing_in_the_source_tree(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]

    def listing() -> List[str]:
        return sorted(str(one.relative_to(root)) for one in root.rglob("*") if "__pycache__" not in one.parts)

    before = listing()
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(tmp_path / "site"), str(root)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0 and "hatchling" in ran.stderr:
        pytest.skip("hatchling cannot be had: " + ran.stderr.strip()[-200:])
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "site" / "tempograph_client" / "py.typed").exists()
    assert listing() == before
