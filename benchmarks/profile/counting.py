"""Instructions per request of the whole process, by callgrind.

They repeat where time does not, but for what a process does by the clock: refreshing keys, looking at itself. So the
event loop's thread is counted in short windows, and the second lowest taken: others had such work in them. The
thread that writes the ledger is counted for batches of a fixed size, which gather while another process holds the
database; for hits, whose sums make one row however many they are, it is not. The kernel's work is not seen, and
callgrind runs one thread at a time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import Server, say
from benchmarks.profile.serving import KINDS, Client, gateway, ledger_held, settled

ENVIRONMENT = {"PYTHONHASHSEED": "0"}
WARM = 40
_WINDOWS = 16
_WINDOW = {"hit": 30, "json": 8, "sse": 6}
_BATCHES = 2
_BATCH = {"json": 60, "sse": 40}
"""Requests in a window, and in a batch of the ledger's."""
REQUESTS = _WINDOWS * sum(_WINDOW.values()) + _BATCHES * sum(_BATCH.values())
_TAKEN_S = 1.0
"""Within this the writer's thread has begun with a first call."""

_EVENTS = re.compile(r"^events-(\d+): (\d+)", re.MULTILINE)


def missing() -> str:
    """Say what has to be installed first; empty if nothing has."""
    lacking = [name for name in ("valgrind", "vgdb", "taskset") if shutil.which(name) is None]
    return f"no {', '.join(lacking)}: run sudo apt-get install valgrind util-linux" if lacking else ""


def count(kinds: Sequence[str] = KINDS) -> dict[str, int]:
    """Count instructions per request of each of `kinds`, by row: ``hit``, ``json``, ``json, ledger's thread``, …"""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with gateway(folder, under=callgrind(folder), environment=ENVIRONMENT) as server:
            client = warmed(server, kinds)
            found: dict[str, int] = {}
            for kind in kinds:
                found[kind] = loop(server, client, kind)
                if kind in _BATCH:
                    found[ledger_row(kind)] = min(_writer(folder, server, client, kind) for _ in range(_BATCHES))
            client.close()
    return found


def ledger_row(kind: str) -> str:
    """Return the name of the row of the ledger's thread."""
    return f"{kind}, ledger's thread"


def callgrind(folder: Path) -> list[str]:
    """Return the command that runs another without counting yet."""
    options = ["--quiet", "--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={folder}/callgrind"]
    return ["valgrind", "--tool=callgrind", *options]


def warmed(server: Server, kinds: Sequence[str]) -> Client:
    """Return a client of a server that has answered each of `kinds`, and from now on counts."""
    client = Client(server)
    for kind in kinds:
        client.send(kind, WARM)
    ask(server, "instrumentation on")
    for kind in kinds:
        client.send(kind, WARM // 4)
    return client


def loop(server: Server, client: Client, kind: str) -> int:
    """Count the instructions of the event loop's thread per request."""
    n, before, windows = _WINDOW[kind], events(server), []
    main = min(before)
    for _ in range(_WINDOWS):
        client.send(kind, n)
        after = events(server)
        windows.append(after[main] - before[main])
        before = after
    windows.sort()
    found, middle = (round(windows[at] / n) for at in (1, _WINDOWS // 2))
    say(f"{kind}: {found:,} instructions, half of the windows {middle:,} or more")
    return found


def _writer(folder: Path, server: Server, client: Client, kind: str) -> int:
    settled(folder, client.missed)
    with ledger_held(folder):
        # Taken by the thread at once, so that all that follows makes one batch.
        client.send(kind)
        time.sleep(_TAKEN_S)
        before = events(server)
        client.send(kind, _BATCH[kind])
    settled(folder, client.missed)
    after, main = events(server), min(before)
    found = round(max(after[thread] - before.get(thread, 0) for thread in after if thread != main) / _BATCH[kind])
    say(f"{kind}: {found:,} instructions of the ledger's thread")
    return found


def events(server: Server) -> dict[int, int]:
    """Return the instructions counted so far, by thread."""
    return {int(thread): int(number) for thread, number in _EVENTS.findall(ask(server, "status internal"))}


def ask(server: Server, command: str) -> str:
    """Have callgrind obey `command`."""
    done = subprocess.run(
        ["vgdb", f"--pid={server.process.pid}", *command.split()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
