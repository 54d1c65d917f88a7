"""What requests leave behind, and what streams that wait take."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gateway.idle_streams import FIRST
from benchmarks.gateway.rows import HIT, JSON_64, SSE_64
from benchmarks.gateway.serving import everything, penstock, seen, upstream
from benchmarks.load import Load, chat_body, whole_request
from benchmarks.processes import Server, say

FILL, GROWTH = 300_000, 200_000
"""Requests before and while memory is watched. The cache is bounded by 10,000 entries, but which ones it keeps, long
streams or short answers, settles after about 250,000 requests."""
_MIXED = ((JSON_64, 6), (SSE_64, 6), (HIT, 1))
"""Rows, and how many seconds of each at a time."""
STREAMS = 10_000
_OTHER_FILES = 200
_SETTLE_S = 3.0
_CLIENT = Path(__file__).with_name("idle_streams.py")


def raise_file_limit() -> int:
    """Let this process, and those it starts, open as many files as may be; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def growth(load: Load, server: Server) -> dict[str, float]:
    """Fill the cache with both forms of answers, then see what 200,000 more requests of all kinds leave behind."""
    _mixed(load, server, FILL)
    before = server.memory_mb()
    sent = _mixed(load, server, GROWTH)
    after = server.memory_mb()
    say(f"  memory {before:.1f} -> {after:.1f} MB over {sent} requests")
    return {"growth_mb": round(after - before, 1), "growth_requests": sent}


def _mixed(load: Load, server: Server, n: int) -> int:
    """Send at least `n` requests of all kinds; returns how many."""
    sent = 0
    while sent < n:
        for row, seconds in _MIXED:
            sent += load.run(server, row.bodies(server), connections=row.connections, seconds=seconds).n
    return sent


def idle_streams(folder: Path, *, gateway: str = "0", others: str = "1") -> dict[str, float]:
    """Return the memory that 10,000 open streams take, from their first event to the next.

    A gateway has two connections for each. Where it may not open so many files, fewer streams are opened, and their
    memory is given in proportion.

    Raises:
        RuntimeError: A stream was not opened or did not stay.
    """
    n = min(STREAMS, (raise_file_limit() - _OTHER_FILES) // 2)
    with (
        upstream("--hold", core=others, folder=folder) as model,
        penstock(model.address, core=gateway, folder=folder, name="penstock-idle", settings=everything()) as server,
    ):
        _held(server, 100, others)  # what is made once is made now
        before = server.memory_mb()
        taken = _held(server, n, others) - before
        say(f"  {n} idle streams: {before:.1f} MB and {taken:.1f} more")
    return {"idle_streams_mb": round(taken * STREAMS / n, 1), "idle_streams": n}


def _held(server: Server, n: int, core: str) -> float:
    """Open `n` streams, return the server's memory while they are open, and close them."""
    request = whole_request(server, chat_body(stream=True), digits=len(str(FIRST)))
    already = seen(server).requests
    with subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, str(_CLIENT), server.url, str(n)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(b"%d\n%b" % (len(request), request))
            client.stdin.flush()
            opened = int(client.stdout.readline() or 0)
            time.sleep(_SETTLE_S)
            taken = server.memory_mb()
            client.stdin.close()
            left = int(client.stdout.readline() or 0)
        finally:
            client.kill()
    if opened != n or left != n or seen(server).requests != already:
        raise RuntimeError(f"of {n} streams {opened} were opened and {left} stayed")
    return taken
