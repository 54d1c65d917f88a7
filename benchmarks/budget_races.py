"""Do two processes that share a budget ever overrun it?

    python -m benchmarks.budget_races [-n 500]

Each race is a budget of its own, and requests that together want many times as much, sent by both processes at once to
a simulated provider. Some are streams that the client breaks off. In every fifth round of 25 races one of the processes
is killed in between, and the budgets are looked at after another one has recovered what it left. What counts is the
ledger: what the calls of a race have cost, against the budget's amount.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.client import AsyncClient
from penstock.core.errors import BudgetExceeded, PenstockError

AMOUNT_PUSD = 10_000_000_000
"""A cent: ten answers of 100 tokens at ten dollars a million, without their prompts."""
_KILLED_EVERY = 5
_PRICE = {"input": 1, "output": 10}


def config(store: Path, races: range) -> dict[str, Any]:
    """Return a configuration in which each race has a team and its budget."""
    return {
        "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0.002, "tokens_per_s": 0}}],
        "models": [{"name": "m", "targets": [{"provider": "sim", "model": "m"}]}],
        "prices": [{"provider": "sim", "usd_per_million": _PRICE}],
        "store": {"url": f"sqlite:///{store}"},
        "budgets": [
            {"scope": "team", "subject": f"race-{race}", "period": "total", "amount": "0.01"} for race in races
        ],
        "cache": {"exact": {"enabled": False}},
    }


def overshoot(races: int = 500, *, requests: int = 20, folder: Path | None = None) -> dict[str, int]:
    """Run the races.

    Args:
        races: How many.
        requests: How many each of the two processes sends in each.
        folder: Where the database is made; by default in a temporary directory.

    Returns:
        How many races were run (``races``), in how many the budget was passed (``overshoot``), by how many picodollars
        at most (``worst_pusd``), how many requests were answered and refused, and how many ended differently.
    """
    with TemporaryDirectory() as name:
        store = (folder or Path(name)) / "races.db"
        answers = {"answered": 0, "refused": 0, "others": 0}
        batch, done = 25, 0
        number = 0
        while done < races:
            some = range(done, min(done + batch, races))
            number += 1
            for said in _round(store, some, requests, kill=number % _KILLED_EVERY == 0):
                answers = {name: count + said.get(name, 0) for name, count in answers.items()}
            done = some.stop
        asyncio.run(_recover(store, races))
        spent = _spent(store)
    beyond = [cost - AMOUNT_PUSD for cost in spent.values()]
    return {
        "races": races,
        "overshoot": sum(each > 0 for each in beyond),
        "worst_pusd": max(0, *beyond),
        "mean_spent_share_ppm": sum(spent.values()) * 10**6 // (AMOUNT_PUSD * races),
        **answers,
    }


def _round(store: Path, races: range, requests: int, *, kill: bool) -> list[dict[str, int]]:
    command = [sys.executable, "-m", "benchmarks.budget_races", "--racer", str(store)]
    asked = [*command, str(races.start), str(races.stop), str(requests)]
    racers = [subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()  # it is open
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    if kill:
        time.sleep(0.3)
        os.kill(racers[0].pid, signal.SIGKILL)
    said = [racer.communicate()[0] for racer in racers]
    return [json.loads(each) for each in said if each.strip()]


async def _race(store: Path, races: range, requests: int) -> dict[str, int]:
    counts = {"answered": 0, "refused": 0, "others": 0}

    async def ask(client: AsyncClient, race: int, number: int) -> None:
        options: dict[str, Any] = {} if number % 3 else {"max_tokens": 300}
        text = f"{race} {number} {os.getpid()}"
        try:
            if number % 4 == 3:
                stream = await client.chat(text, model="m", stream=True, tenant=f"race-{race}", **options)
                async for _ in stream:
                    break
                await stream.aclose()
            else:
                await client.chat(text, model="m", tenant=f"race-{race}", **options)
            counts["answered"] += 1
        except BudgetExceeded:
            counts["refused"] += 1
        except PenstockError:
            counts["others"] += 1

    async with AsyncClient(config(store, races)) as client:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(ask(client, race, number) for number in range(requests) for race in races))
    return counts


async def _recover(store: Path, races: int) -> None:
    """A process that begins recovers what killed ones left."""
    async with AsyncClient(config(store, range(races))):
        pass


def _spent(store: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return dict(connection.execute("SELECT tenant, SUM(cost_pusd) FROM calls GROUP BY tenant").fetchall())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget_races", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("-n", type=int, default=500, help="races (default 500)")
    parser.add_argument("--racer", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.racer:
        store, first, last, requests = options.racer
        sys.stdout.write(
            json.dumps(asyncio.run(_race(Path(store), range(int(first), int(last)), int(requests)))) + "\n"
        )
        return
    started = time.monotonic()
    found = overshoot(options.n)
    for what, count in found.items():
        say(f"{what:<20} {count}")
    finish(found, started=started, n=options.n)


if __name__ == "__main__":
    main()
