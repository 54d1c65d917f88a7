"""How fast is the gateway, beside nginx, HAProxy, SGLang's router, TensorZero, Portkey and LiteLLM?

One process pinned to core 0; wrk and the upstream on core 1. Every repetition measures each server once, in turn, and
the figures are medians over the repetitions. Penstock has everything on: keys, made by `penstock keys`, are required;
requests and tokens are counted for limits of the key, its team and its tenant; calls are priced and spent from a
budget; cache, coalescing, the ledger in SQLite and metrics are on. Every server's answer is compared with the
upstream's before it is measured. A row fails if a request does, or if Penstock by its own counters answered from
elsewhere than the row says: it is then not among the figures but in `failed`, and the exit code is 1.

    hit, hit_20k        exact hits, 64 connections; beside nginx returning a constant, and LiteLLM's cache
    json_*, json_20k    passed through, all different, so each is a miss that is answered upstream, recorded and stored
    sse_*               the same as streams of 20 events, the finish, usage, and the end
    first_byte          until a stream's first event is there, one connection
    semantic            known questions in other words and never in the same bytes, answered by meaning; other answers
                        do not count

    *_vs_*              requests per second ÷ the other's; 64 connections
    added_p50_vs_nginx, sse_first_byte_vs_nginx
                        (p50 − the upstream's own p50) ÷ the same of nginx; 1 connection
    *_per_s, *_us       requests per second, and processor time of the server per request in microseconds; those without
                        the name of a server are Penstock's
    two_cores_speedup   passed-through requests per second of two workers on two cores ÷ of one on one, load and
                        upstream sharing these cores; two_cores_speedup_hit is that of exact hits
    growth_mb           memory after 200,000 mixed requests (growth_requests) − before, the cache being full before
    idle_streams_mb     memory while 10,000 streams are open, after their first event − before; where processes may not
                        have 20,000 files open, of as many streams as can be (idle_streams), in proportion

Servers: upstream, nginx-constant, nginx-proxy, haproxy, penstock, penstock-semantic (which is as penstock, matching by
meaning on), penstock-defaults (which has no keys, limits and budget), sglang, tensorzero, portkey, litellm,
litellm-cache, one-core, two-cores. What is not there is installed first, in .peers, except Debian's packages.
"""

from __future__ import annotations

import argparse
import fnmatch
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.gateway import first_byte
from benchmarks.gateway.asking import check
from benchmarks.gateway.figures import Results, figures
from benchmarks.gateway.memory import growth, idle_streams, raise_file_limit
from benchmarks.gateway.rows import SUBJECTS, Place, Row, Subject
from benchmarks.gateway.serving import Seen, everything, penstock, seen, upstream
from benchmarks.load import Load, Measured
from benchmarks.outcome import finish
from benchmarks.processes import Server, say

REPETITIONS = 3
_FAILURES = (RuntimeError, OSError, ValueError, KeyError, http.client.HTTPException, subprocess.SubprocessError)
_STRAYS = 0.001
"""Share of requests that may be answered from elsewhere than a row says."""
_MISSED = 0.01
"""The same of the row `semantic`, of which only what is answered by meaning is counted."""


def measure(load: Load, server: Server, row: Row, *, seconds: int, threads: int) -> Measured:
    """Check `server`'s answer, warm it up, and measure `row`.

    Raises:
        RuntimeError: An answer is not right, or not from where the row says.
    """
    bodies = row.bodies(server)
    check(server, bodies.other(), stream=row.stream)
    connections = threads * row.connections
    if row.timed:
        first_byte.measure(server, bodies, cores=load.cores, seconds=1)
        found = first_byte.measure(server, bodies, cores=load.cores, seconds=seconds)
    else:
        load.run(server, bodies, connections=min(connections, 8), seconds=1 if seconds < 8 else 4, threads=threads)
        before = None if server.admin is None else seen(server)
        found = load.run(server, bodies, connections=connections, seconds=seconds, threads=threads)
        if before is not None:
            found = judged(found, seen(server).since(before), row)
    say(
        f"  {server.name + '/' + row.name:<26} {found.per_s:>9.0f}/s  p50 {found.p50_ms:7.3f} ms  "
        f"p99 {found.p99_ms:7.3f} ms  {found.cpu_us:7.1f} us"
    )
    return found


def judged(found: Measured, seen: Seen, row: Row) -> Measured:
    """Return `found`, without what does not count.

    Raises:
        RuntimeError: Penstock's own counters do not say what the row is about.
    """
    upstream = seen.requests - seen.hits - seen.semantic - seen.joined
    right = {"exact": seen.hits, "semantic": seen.semantic, "upstream": upstream}[row.answered]
    # The gateway asks again itself, to check what it answers by meaning: that is compared with what was sent.
    sent = found.n if row.answered == "semantic" else seen.requests
    share = min(1.0, right / max(sent, 1))
    allowed = _MISSED if row.answered == "semantic" else _STRAYS
    if seen.failed or share < 1 - allowed or seen.requests < 0.99 * found.n:
        raise RuntimeError(f"{row.name}: expected answers of {row.answered}, but {found.n} requests gave {seen}")
    return found._replace(per_s=share * found.per_s) if row.answered == "semantic" else found


class Run:
    """Measurements, and what could not be measured.

    Attributes:
        results: What was measured. Rows that failed once are not in it.
        failed: Why, by row or server.
    """

    def __init__(self, folder: Path, seconds: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self.results: Results = {}
        self.failed: dict[str, str] = {}

    def repetition(self, subjects: Sequence[Subject]) -> None:
        """Measure every server once; one that fails does not stop the others."""
        for subject in subjects:
            try:
                self._measure(subject)
            except _FAILURES as error:
                self._fail(subject.name, error)
        for key in self.failed:
            self.results.pop(key, None)

    def attempt(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return what `measure` finds, nothing if it fails."""
        say(name)
        try:
            return measure()
        except _FAILURES as error:
            self._fail(name, error)
            return {}

    def _measure(self, subject: Subject) -> None:
        gateway, others, n = subject.place
        load = Load(self._folder, others)
        with ExitStack() as stack:
            server = own = stack.enter_context(upstream(core=others, folder=self._folder))
            for _ in range(n - 1):
                stack.enter_context(upstream(core=others, folder=self._folder, port=own.port))
            if subject.start is not None:
                server = stack.enter_context(subject.start(own.address, core=gateway, folder=self._folder))
            for row in subject.rows:
                key = f"{subject.name}/{row.name}"
                try:
                    found = measure(load, server, row, seconds=subject.patience * self._seconds, threads=n)
                    self.results.setdefault(key, []).append(found)
                except _FAILURES as error:
                    self._fail(key, error)
                    say(server.said())

    def _fail(self, name: str, error: Exception) -> None:
        self.failed[name] = f"{type(error).__name__}: {error}"[:500]
        say(f"  {name} FAILED: {error}")


def chosen(only: Sequence[str], *, quick: bool) -> list[Subject]:
    """Return what is to be measured: all, or what fits a pattern of `only`; with `quick`, no slow servers."""
    subjects = [subject for subject in SUBJECTS if not (quick and subject.slow)]
    if only:
        subjects = [each._replace(rows=tuple(row for row in each.rows if _fits(f"{each.name}/{row.name}", only)))
                    for each in subjects]  # fmt: skip
    return [subject for subject in subjects if subject.rows]


def _fits(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatch.fnmatch(name, pattern) for pattern in only)


def memory(folder: Path) -> dict[str, float]:
    """Measure what requests leave behind."""
    place = Place()
    with (
        upstream(core=place.others, folder=folder) as own,
        penstock(own.address, core=place.gateway, folder=folder, settings=everything()) as server,
    ):
        return growth(Load(folder, place.others), server)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (default 4)")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="(default 3)")
    parser.add_argument("--quick", action="store_true", help="without LiteLLM and Portkey")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN",
        help="measure only what fits: SERVER/ROW with * and ?, or memory/growth, memory/idle; can be repeated",
    )  # fmt: skip
    options = parser.parse_args()
    subjects = chosen(options.only, quick=options.quick)
    lacking = peers.missing(slow=any(subject.slow for subject in subjects))
    if lacking:
        raise SystemExit(f"install first: apt-get install {' '.join(lacking)}")
    raise_file_limit()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Run(folder, options.seconds)
        for number in range(options.repetitions if subjects else 0):
            say(f"repetition {number + 1} of {options.repetitions}")
            run.repetition(subjects)
        named: dict[str, Any] = figures(run.results)
        for part, measured in (("memory/growth", memory), ("memory/idle", idle_streams)):
            if _fits(part, options.only):
                named |= run.attempt(part, partial(measured, folder))
    if not named and not run.failed:
        raise SystemExit(f"nothing fits {' or '.join(options.only)}; python -m benchmarks.gateway --help names servers")
    if run.failed:
        named["failed"] = run.failed
    finish(named, started=started, n=sum(found.n for rows in run.results.values() for found in rows))
    sys.exit(bool(run.failed))


if __name__ == "__main__":
    main()
