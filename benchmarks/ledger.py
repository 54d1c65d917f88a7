"""Can the books be trusted, and what do they cost?

drift          tokens and picodollars between an upstream's invoice and the ledger, of answered calls, and between
               rows and their sums; see `benchmarks.killing`
lost           answered calls, and attempts on the invoice, without a row
duplicated     rows of a call beyond its first
settled_per_s  calls reserved, settled, inserted and added to the sums in a second of one core's time
reserve_us     writing down that an attempt is about to be sent, in the request's thread
record_us      writing down a call that has ended, there
overshoot      races of two processes for a budget in which it was passed; see `benchmarks.budget_races`
report_10m_s   a report on a year of 10 million calls; see `benchmarks.reports`
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks import reports
from benchmarks.budget_races import overshoot
from benchmarks.killing import killing
from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.abc import Ledger
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.server.serving import GARBAGE
from penstock.stores.opening import open_store

_SETTLED, _ROUNDS = 10_000, 5
_AT_ONCE = 100
_EXPECTED, _USED, _COST = Usage(211, 0, source="estimate"), Usage(211, 188), Decimal("0.000135")


async def settling(path: Path) -> dict[str, float]:
    """Time the ledger alone."""
    stores = open_store(f"sqlite:///{path}", SystemClock())
    await stores.start()
    costs = []
    for number in range(_ROUNDS):
        requests = [_request(f"req_{number}_{count}") for count in range(_SETTLED)]
        began, thread = time.process_time(), [0.0, 0.0]
        for start in range(0, _SETTLED, _AT_ONCE):
            _settle(stores.ledger, requests[start : start + _AT_ONCE], thread)
            await asyncio.sleep(0)
        await stores.flush()
        costs.append((time.process_time() - began, *thread))
    await stores.aclose()
    total, reserve, record = (statistics.median(column) / _SETTLED for column in zip(*costs, strict=True))
    return {
        "settled_per_s": round(1 / total), "reserve_us": round(reserve * 1e6, 2), "record_us": round(record * 1e6, 2)
    }  # fmt: skip


def _request(name: str) -> Request:
    call = Call(id=name, key=bytes(32), cache="miss", finish_reason="stop")
    return Request(operation="chat", model="m", payload={"messages": []}, call=call, tenant="acme/web")


def _settle(ledger: Ledger, requests: list[Request], spent: list[float]) -> None:
    """Do what is done for a call, `_AT_ONCE` under way at a time."""
    started = time.thread_time()
    for request in requests:
        attempt = Attempt("openai", "m", request.call.started, running=True)
        ledger.reserve(request, attempt, _EXPECTED)
        request.call.attempts.append(attempt)
    reserved = time.thread_time()
    for request in requests:
        call, attempt = request.call, request.call.attempts[0]
        attempt.usage = call.usage = _USED
        attempt.outcome, attempt.cost_usd, attempt.cost_source = "ok", _COST, "provider"
        attempt.end()
        ledger.record(request, call, duration_s=0.5, outcome="ok")
    spent[0] += reserved - started
    spent[1] += time.thread_time() - reserved


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("-n", type=int, default=20_000, help="requests (default 20000)")
    parser.add_argument("--kills", type=int, default=100, help="how often a gateway is killed (default 100)")
    parser.add_argument("--races", type=int, default=500, help="races for budgets (default 500)")
    parser.add_argument("--calls", type=int, default=10_000_000, help="calls of the year; 0 leaves it out")
    options = parser.parse_args()
    started = time.monotonic()
    with TemporaryDirectory() as name:
        folder = Path(name)
        year = folder / "year.db"
        # Writing a year takes minutes of one core, in which nothing else here is timed.
        build = f"from benchmarks.reports import build; build({str(year)!r}, {options.calls}, 20)"
        building = subprocess.Popen([sys.executable, "-c", build]) if options.calls else None
        say(f"{options.n} requests, {options.kills} kills")
        figures: dict[str, float] = dict(uvloop.run(killing(folder, options.n, options.kills)))
        if building is not None and building.wait() != 0:
            raise SystemExit("the year could not be written")
        gc.freeze()
        gc.set_threshold(*GARBAGE)  # as the gateway does
        say("settling")
        figures |= asyncio.run(settling(folder / "settling.db"))
        say(f"{options.races} races for budgets")
        figures["overshoot"] = overshoot(options.races)["overshoot"]
        if building is not None:
            say("a report on the year")
            figures |= {
                what: took for what, took in reports.measure(str(year)).items() if what.startswith("report_10m")
            }
    finish(figures, started=started, n=options.n)


if __name__ == "__main__":
    main()
