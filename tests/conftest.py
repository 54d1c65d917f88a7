"""A gateway as users run it: a process of its own."""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Nothing is timed, examples neither: the processes that share the machine would decide what passes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SIMULATED = """\
providers:
  - {{name: sim, kind: simulated, latency: {{first_token_s: 0.01, tokens_per_s: 5000}}}}
models:
  - {{name: "*", targets: [{{provider: sim, model: sim}}]}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""


def pytest_collection_finish() -> None:
    """Let the collector pass over what all test modules hold, which it would read again and again."""
    gc.collect()
    gc.freeze()


class Gateway:
    """`penstock serve` on a free port."""

    def __init__(self, folder: Path, config: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.path = folder / "penstock.yaml"
        self.path.write_text(config.format(folder=folder))
        self.log = (folder / "gateway.log").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "penstock",
                "serve",
                "--config",
                str(self.path),
                "--port",
                "0",
                "--json",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **(environment or {})},
            cwd=folder,
        )
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            pytest.fail((folder / "gateway.log").read_text())
        self.banner = json.loads(line)
        self.url = self.banner["url"]

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=40)
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture
def logging_kept() -> Iterator[None]:
    """Put logging back as it was, for commands that set it up and are run in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def start_gateway() -> type[Gateway]:
    return Gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    running = Gateway(tmp_path, SIMULATED)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), SIMULATED)
    yield running
    running.stop()


@pytest.fixture
def make_gateway(tmp_path: Path):
    made: list[Gateway] = []

    def make(config: str = SIMULATED, *arguments: str, **more) -> Gateway:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Gateway(folder, config, *arguments, **more))
        return made[-1]

    yield make
    for running in made:
        running.stop()
