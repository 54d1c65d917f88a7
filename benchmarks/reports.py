"""How long does a report on a year of calls take, and what does keeping its sums cost per call?

Writes the calls of 366 days into a database as the ledger does (rows and roll-ups in one transaction), folds old hours
into days, then times `usage_report`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.outcome import finish
from penstock.core.clock import SystemClock
from penstock.stores.sql import upkeep
from penstock.stores.sql.database import Database, prepare
from penstock.stores.sql.reports import usage_report
from penstock.stores.sql.rollups import Rollup
from penstock.stores.sql.sqlite import Insert
from penstock.stores.sql.tables import calls, first_id
from penstock.stores.sql.tally import CallRow

DAY_S = 86_400
DAYS = 366
BATCH = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--folder", default=None, help="Where to keep the database; by default it is removed.")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(arguments.folder or temporary) / "year.db"
        figures: dict[str, float] = {}
        if not path.exists():
            figures = build(str(path), arguments.calls, arguments.tenants)
        figures |= measure(str(path))
    finish(figures, started=started, n=arguments.calls)


def build(path: str, count: int, tenants: int) -> dict[str, float]:
    base = Database(f"sqlite:///{path}", SystemClock())
    prepare(base.engine, path)
    rollup, insert = Rollup(base.engine), Insert(calls, base.engine)
    chance = random.Random(7)
    end = SystemClock.wall()
    start = end - DAYS * DAY_S
    spent = tallied = 0.0
    for first in range(0, count, BATCH):
        rows = [_row(chance, n, start + (end - start) * n / count, tenants) for n in range(first, first + BATCH)]
        began = time.process_time()
        with base.engine.begin() as connection:
            insert.run(connection, rows)
            before = time.process_time()
            rollup.tally(connection, rows)
            tallied += time.process_time() - before
        spent += time.process_time() - began
    fold = upkeep.Fold(base.engine)
    horizon, folded = upkeep.horizon_at(end), time.process_time()
    slowest = 0.0
    while True:
        began = time.perf_counter()
        with base.engine.begin() as connection:
            if not fold.step(connection, horizon) and not fold.step_weeks(connection, upkeep.week_horizon_at(end)):
                break
        slowest = max(slowest, time.perf_counter() - began)
    base.engine.dispose()
    return {
        "write_us_per_call": spent / count * 1e6,
        "rollup_us_per_call": tallied / count * 1e6,
        "fold_s": time.process_time() - folded,
        "slowest_fold_ms": slowest * 1e3,
    }


def _row(chance: random.Random, number: int, at: float, tenants: int) -> CallRow:
    tenant = min(int(chance.expovariate(4.0) * tenants), tenants - 1)
    hit, failed = chance.random() < 0.4, chance.random() < 0.01
    taken = int(chance.lognormvariate(5 if hit else 14, 0.8))
    usd = 240_000_000
    return CallRow(
        started_at=int(at * 1e6),
        tenant=f"org{tenant // 4}/team{tenant}",
        key_id=f"key_{tenant}_{number % 2}",
        model=f"model-{min(int(chance.expovariate(1.2)), 4)}",
        provider=None if hit else "openai",
        operation="chat",
        cache="hit" if hit else "miss",
        outcome="upstream_timeout" if failed else "ok",
        attempts=0 if hit else 1,
        input_tokens=800,
        output_tokens=200,
        cached_tokens=0,
        cost_pusd=0 if hit else usd,
        cost_source="none" if hit else "provider",
        duration_us=taken,
        first_token_us=None if hit else taken // 3,
        id=first_id(at) + number % 2048,
        request_id=f"req_{number:012x}",
        provider_model=None if hit else "gpt-4o-mini",
        stream=number & 1,
        finish_reason="stop",
        cache_write_tokens=0,
        reasoning_tokens=0,
        usage_source="provider",
        cache_key=None,
        answer_bytes=900,
        saved_pusd=usd if hit else None,
        metadata='{"operation":"answer"}' if number % 3 else None,
    )


def measure(path: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, days, by in (("report_10m_s", 365, ("model", "tenant")), ("report_30d_s", 30, ("model",))):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            report = usage_report(f"sqlite:///{path}", days=days, by=by)
            times.append(time.perf_counter() - began)
        figures |= {name: statistics.median(times), f"{name}_calls": report.total.calls}
    figures["megabytes"] = Path(path).stat().st_size / 1e6
    return figures


if __name__ == "__main__":
    main()
