"""Servers for the tests.

`TEMPOGRAPH_BIN` is the program (otherwise `tempograph` of the path). `TEMPOGRAPH_ARTIFACT` is an artifact whose events have no features and that has seen
users 1 and 2 and item 1; without it a small model is trained.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tempograph_client import Client  # noqa: E402

NEEDS = {
    "test_alone.py": ["aiohttp", "mypy"],
    "test_aio.py": ["aiohttp"],
    "test_client.py": ["numpy", "pandas", "trustme"],
}
MISSING = {file: [name for name in names if importlib.util.find_spec(name) is None] for file, names in NEEDS.items()}
collect_ignore = [file for file, missing in MISSING.items() if missing]


def pytest_report_header() -> List[str]:
    return [f"left out: {file}, which needs {', '.join(missing)}" for file, missing in MISSING.items() if missing]


TRAINED = [
    *("--set", "data.path=synthetic:events=900,users=20,items=15", "--set", "train.epochs=1"),
    *("--set", "model.memory=8", "--set", "model.time=8", "--set", "model.width=8", "--set", "model.neighbours=4"),
]


def program() -> str:
    found = os.environ.get("TEMPOGRAPH_BIN") or shutil.which("tempograph")
    if found is None:
        pytest.skip("TEMPOGRAPH_BIN names no program, and there is no `tempograph` in the path")
    return found


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("TEMPOGRAPH_ARTIFACT")
    if given:
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("model")
    spec = folder / "tiny.toml"
    spec.write_text('[data]\npath = "synthetic:events=900,users=20,items=15"\n[model]\nkind = "tgn"\n')
    subprocess.run([program(), "train", str(spec), *TRAINED], cwd=folder, check=True, capture_output=True)
    return folder / "runs" / "tiny" / "artifact"


class Server:
    """A server process on a port that stays the same when it is started again."""

    def __init__(self, artifact: Path, folder: Path, options: Optional[List[str]] = None, scheme: str = "http") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.artifact, self.folder, self.options = artifact, folder, options or []
        self.url = f"{scheme}://localhost:{self.port}"
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> "Server":
        command = [program(), "serve", str(self.artifact), "--listen", f"127.0.0.1:{self.port}", "--data", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(self.folder / "server.log", "ab"))
        return self

    def stop(self, how: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    def restart_after(self, seconds: float, how: int = signal.SIGKILL) -> None:
        self.stop(how)
        time.sleep(seconds)
        self.start()


@pytest.fixture(scope="session")
def server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave it as it is."""
    found = Server(artifact, tmp_path_factory.mktemp("server")).start()
    with Client(found.url) as client:
        client.wait_until_ready()
    yield found
    found.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, deadline=30) as found:
        yield found


@pytest.fixture
def own(artifact: Path, tmp_path: Path) -> Iterator[Server]:
    """One that a test may stop and start."""
    found = Server(artifact, tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.stop(signal.SIGKILL)
