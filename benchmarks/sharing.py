"""What does it cost a request that several workers share limits and answers, and what would the store cost instead?

    python -m benchmarks.sharing [-n 20000]

Microseconds of this process's processor time, the least mean of five repetitions; for what another process or a thread
does meanwhile also the median until it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.abc import StoredAnswer
from penstock.caching.directory import SLOTS, Directory
from penstock.core.clock import SystemClock
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.shared_gate import SharedGates
from penstock.limiting.tenants import Group, TenantLimits, Tenants
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting
from penstock.shared_memory.table import Table
from penstock.stores.opening import open_store
from penstock.workers.bus import WorkerBus

_REPETITIONS = 5
_ANSWER = os.urandom(1200)
_KEY = sha256(b"key").digest()
_NEVER = 10**9
"""A limit that is never reached."""


def locks(folder: Path, n: int) -> dict[str, float]:
    """Lock and unlock, nobody else there: a file, and what is used."""
    table = Table(str(folder / "lock"), 8)

    def mutex() -> None:
        with table:
            pass

    with (folder / "other").open("w") as file:

        def of_file() -> None:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.flock(file, fcntl.LOCK_UN)

        return {"lock_file": _cost(of_file, n), "lock_mutex": _cost(mutex, n)}


def limits(folder: Path, n: int) -> dict[str, float]:
    """Charge a tenant's two limits, and let a request in and out at a provider."""
    found: dict[str, float] = {}
    table = Table(str(folder / "limits"), 65_536)
    gates = SharedGates(str(folder / "gates"), table, 1, 2)
    terms = Limits(requests_per_minute=_NEVER, tokens_per_minute=1000 * _NEVER, max_concurrency=8)
    for name, gate in (("alone", Gate(terms, Waiting(9))), ("shared", gates.open("near", terms, Waiting(9)))):
        tenants = Tenants()
        if name == "shared":
            tenants.share(table)
        tenants.put_in_force(TenantLimits(_NEVER, 1000 * _NEVER), {})
        group = tenants.group("a", "")

        def take(tenants: Tenants = tenants, group: Group = group) -> None:
            tenants.take(group, 10.0, time.monotonic())

        def count(tenants: Tenants = tenants, group: Group = group) -> None:
            tenants.take(group, None, time.monotonic())

        def pass_through(gate: Gate = gate) -> None:
            ticket, now = Ticket("a", "m", 10.0, 10.0), time.monotonic()
            gate.enter(ticket, now)
            gate.answered(ticket, (10, 10), now)

        found |= {f"tenant_{name}": _cost(take, n), f"tenant_{name}_hit": _cost(count, n)}
        found |= {f"gate_{name}": _cost(pass_through, n)}
    return found


def directory(folder: Path, n: int) -> dict[str, float]:
    """Claim an answer and say that it is kept, or only look."""
    answers = Directory(Table(str(folder / "answers"), SLOTS), 1, SystemClock())

    def keep() -> None:
        answers.claim(_KEY)
        answers.cached(_KEY)
        answers.release(_KEY)

    return {"directory_kept": _cost(keep, n), "directory_look": _cost(lambda: answers.look(_KEY), n)}


async def elsewhere(folder: Path, n: int) -> dict[str, float]:
    """Get an answer of 1.2 KB from another worker, and from the store."""
    command = [sys.executable, "-m", "benchmarks.sharing", "--answer", str(folder)]
    other = await asyncio.create_subprocess_exec(*command)
    bus = WorkerBus(str(folder), 1, 2)
    await bus.open()
    await bus.meet()
    found = await _waited("bus", lambda: bus.ask(2, "answer", _KEY), n)
    await bus.aclose()
    other.terminate()
    await other.wait()
    now = time.time()
    kept = StoredAnswer(_KEY, "default", "json", b'"' + _ANSWER.hex().encode()[:1200] + b'"', now, now + 1e6)
    for last in (False, True):  # what was put last is not read from the file before it was closed
        stores = open_store(f"sqlite:///{folder}/penstock.db", SystemClock())
        await stores.start()
        if last:
            found |= await _waited("store", lambda: stores.cache.get(_KEY), n // 4)  # noqa: B023 waited for here
        else:
            stores.cache.put(kept)
        await stores.aclose()
    return found


async def answer(folder: str) -> None:
    """Be the other worker."""
    bus = WorkerBus(folder, 2, 2)
    bus.reply("answer", lambda _, __: _ANSWER)
    await bus.open()
    await asyncio.Event().wait()


def _cost(step: Callable[[], object], n: int) -> float:
    best = float("inf")
    for _ in range(_REPETITIONS):
        started = time.process_time_ns()
        for _ in range(n):
            step()
        best = min(best, (time.process_time_ns() - started) / n / 1000)
    return round(best, 2)


async def _waited(name: str, step: Callable[[], Awaitable[object]], n: int) -> dict[str, float]:
    best, waits = float("inf"), []
    for _ in range(_REPETITIONS):
        before = time.process_time_ns()
        for _ in range(n // _REPETITIONS):
            began = time.perf_counter_ns()
            await step()
            waits.append(time.perf_counter_ns() - began)
        best = min(best, (time.process_time_ns() - before) / (n // _REPETITIONS) / 1000)
    return {name: round(best, 1), f"{name}_until_there": round(statistics.median(waits) / 1000, 1)}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000, help="operations of each kind and repetition")
    parser.add_argument("--json", action="store_true", help="no difference: the last line is always JSON")
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer is not None:
        uvloop.run(answer(options.answer))
        return
    started = time.monotonic()
    with TemporaryDirectory() as name:
        folder = Path(name)
        figures = locks(folder, options.n) | limits(folder, options.n) | directory(folder, options.n)
        figures |= uvloop.run(elsewhere(folder, options.n // 5))
    for each, figure in figures.items():
        say(f"{each:24} {figure:8.2f} µs")
    finish(figures, started=started, n=options.n)


if __name__ == "__main__":
    main()
