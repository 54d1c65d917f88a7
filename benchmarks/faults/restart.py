"""How long after ``kill -9`` a gateway answers again.

What it finds is what a busy one leaves behind: `ROWS` answers and as many rows of the ledger, none of which has got
from SQLite's write-ahead log into the file, because somebody was reading when it was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from penstock.abc import StoredAnswer
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.stores.opening import open_store

ROWS, STARTS = 50_000, 5
_ANSWER_BYTES = 1000
_GULP = 2000
_TICK = os.sysconf("SC_CLK_TCK")
_CONFIG = """\
providers: [{{name: sim, kind: simulated}}]
models: [{{name: m, targets: [{{provider: sim, model: m}}]}}]
cache: {{exact: {{max_entries: {rows}}}}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""


class Restarts(NamedTuple):
    """What starting took.

    Attributes:
        seconds: From the start of the process until it is ready, the median.
        loaded_s: The same while every core is busy with something else, at worst.
        cpu_s: Processor seconds until then, the median of the first.
        starts: How many there were.
    """

    seconds: float
    loaded_s: float
    cpu_s: float
    starts: int


def run() -> Restarts:
    """Fill a store, kill who filled it, and start on it again and again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        left = folder / "left"
        left.mkdir()
        filling = subprocess.run([sys.executable, "-m", __name__, str(left / "penstock.db")], check=False)
        if filling.returncode != -signal.SIGKILL:
            raise RuntimeError(f"filling the store ended with {filling.returncode}")
        _start(left, folder)  # compiles what an installed package has compiled, and whatever the first start alone does
        idle = [_start(left, folder) for _ in range(STARTS)]
        with _busy():
            loaded = [_start(left, folder) for _ in range(STARTS)]
    return Restarts(
        seconds=median(wall for wall, _ in idle),
        loaded_s=max(wall for wall, _ in loaded),
        cpu_s=median(cpu for _, cpu in idle),
        starts=2 * STARTS,
    )


def _start(left: Path, folder: Path) -> tuple[float, float]:
    """Start on a copy of what was left, kill it when it is ready; return seconds, and those of the processor."""
    at = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(left, at, dirs_exist_ok=True)
    (at / "penstock.yaml").write_text(_CONFIG.format(rows=ROWS, folder=at))
    command = [sys.executable, "-m", "penstock", "serve", "--config", str(at / "penstock.yaml"), "--port", "0"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    started = time.monotonic()
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        with process.stdout as said:
            url = json.loads(said.readline())["url"]
            with urllib.request.urlopen(f"{url}/health/ready", timeout=10):
                wall = time.monotonic() - started
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(at)
    return wall, (int(fields[11]) + int(fields[12])) / _TICK


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Keep every core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


async def _fill(path: str) -> None:
    stores = open_store(f"sqlite:///{path}", SystemClock())
    await stores.start()
    # Who reads keeps the log from being written back into the file.
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchone()
    now = time.time()
    for number in range(ROWS):
        call = Call(id=f"req_{number}", started_at=now)
        call.attempts.append(Attempt("sim", "m", 0.0))
        stores.ledger.record(Request("chat", "m", {}, call), call, duration_s=1.0, outcome="ok")
        data = secrets.token_hex(_ANSWER_BYTES // 2).encode()
        stores.cache.put(
            StoredAnswer(secrets.token_bytes(32), "default", "json", data, now, now + 7200, 1000, 300, 60, "stop", "m")
        )
        if number % _GULP == 0:
            await stores.flush()
    await stores.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(_fill(sys.argv[1]))
