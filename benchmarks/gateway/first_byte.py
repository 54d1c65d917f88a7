"""How long until a stream's first event is there, and until its end? wrk sees only the latter.

Run as a program it asks on one connection, one request after the other, and prints the times as JSON:

    python -m benchmarks.gateway.first_byte URL SECONDS <REQUEST

REQUEST is a whole request with NUMBER where each differs, by ten digits. Plain sockets, so that what it adds is little
and the same for every server.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.load import Bodies, Measured, whole_request
from benchmarks.outcome import ROOT
from benchmarks.processes import Server

_HEAD_END, _EVENT, _END = b"\r\n\r\n", b"data:", b"\r\n0\r\n\r\n"
_FIRST = 1_000_000_000


class Timed(NamedTuple):
    """Seconds from a request's last byte being sent, one of each for a stream."""

    first: Sequence[float]
    whole: Sequence[float]


def ask(address: tuple[str, int], request: bytes, seconds: float) -> Timed:
    """Ask for streams for `seconds`, at least once.

    Raises:
        RuntimeError: An answer is no stream, or the connection was closed.
    """
    first: list[float] = []
    whole: list[float] = []
    clock = time.perf_counter
    # Two runs at one server, as of the warm-up and after it, have no number in common.
    number, until = _FIRST + time.time_ns() // 1000 % (8 * _FIRST), clock() + seconds
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not whole or clock() < until:
            number += 1
            connection.sendall(request.replace(b"NUMBER", b"%d" % number))
            sent, seen, told = clock(), b"", 0.0
            while not seen.endswith(_END):
                piece = connection.recv(65536)
                seen += piece
                if not told and _EVENT in seen:
                    told = clock()
                if not piece or (not told and _HEAD_END in seen and not _is_stream(seen)):
                    raise RuntimeError(f"no whole stream: {seen[:300]!r} … {seen[-300:]!r}")
            first.append(told - sent)
            whole.append(clock() - sent)
    return Timed(first, whole)


def _is_stream(answer: bytes) -> bool:
    head = answer.partition(_HEAD_END)[0].lower()
    return head.startswith(b"http/1.1 200") and b"chunked" in head


def measure(server: Server, bodies: Bodies, *, cores: int | str, seconds: int) -> Measured:
    """Time the first events of `server`'s streams from a process pinned to `cores`."""
    request = whole_request(server, bodies.lines[0], digits=len(str(_FIRST)))
    before = server.cpu_s()
    output = subprocess.run(
        ["taskset", "-c", str(cores), sys.executable, "-m", "benchmarks.gateway.first_byte", server.url, str(seconds)],
        input=request, stdout=subprocess.PIPE, check=True, timeout=seconds + 90,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    used = server.cpu_s() - before
    found = json.loads(output)
    n = found["n"]
    return Measured(n / found["seconds"], found["p50_ms"], found["p99_ms"], used / n * 1e6, n)


def main() -> None:
    """Run it."""
    url, seconds = sys.argv[1:]
    place = urlsplit(url)
    times = ask((place.hostname or "", place.port or 80), sys.stdin.buffer.read(), float(seconds))
    print(json.dumps({
        "n": len(times.first),
        "seconds": sum(times.whole),
        "p50_ms": statistics.median(times.first) * 1e3,
        "p99_ms": sorted(times.first)[int(0.99 * len(times.first))] * 1e3,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
