"""Other projects' servers, each from an environment of its own that `scripts/peers` made."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / ".peers"
START_S = 120.0
_LISTENING = re.compile(r"Uvicorn running on (http://\S+)")


def require(name: str, *, compiled: bool = False) -> Path:
    """Return the Python of a peer's environment; without one skip, but fail in CI, where nobody would notice."""
    python = PEERS / name / "bin" / "python"
    ready = PEERS / name / ("ready" if compiled else "bin/python")
    if not ready.exists():
        missing = f"{name} is not installed in .peers/{name}: `make test` installs it"
        if os.environ.get("CI") == "true" and not (compiled and shutil.which("c++") is None):
            pytest.fail(missing)
        pytest.skip(missing)
    return python


class Peer:
    """A server that says on its output where it listens."""

    def __init__(self, folder: Path, command: list[str | Path], environment: dict[str, str]) -> None:
        self.log = folder / "server.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                cwd=folder,
            )
        self.url = self._listening()

    def _listening(self) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            found = _LISTENING.search(self.log.read_text(errors="replace"))
            if found:
                return found[1]
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"{self.process.args[0]} did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def require_peer():
    return require


@pytest.fixture(scope="module")
def start_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    started: list[Peer] = []

    def start(*command: str | Path, **environment: str) -> Peer:
        started.append(Peer(tmp_path_factory.mktemp("peer"), list(command), environment))
        return started[-1]

    yield start
    for peer in started:
        peer.stop()
