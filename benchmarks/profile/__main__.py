"""What does a request cost, part by part?

python -m benchmarks.profile           measure microseconds and instructions by part, and print the table
python -m benchmarks.profile --write   write it to docs/reference/profile.md
python -m benchmarks.profile --check   compare instructions per request with those recorded (in CI: make cost)
python -m benchmarks.profile --record  count them and record them in benchmarks/instructions.json
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.outcome import commit, finish, machine
from benchmarks.processes import say
from benchmarks.profile import apportioning, counting, page, record, sampling
from benchmarks.profile.parts import Parts
from benchmarks.profile.serving import KINDS


def check() -> int:
    """Compare with the record; rows that fail are counted once more, and the lower count holds."""
    if lacking := counting.missing():
        say(f"instructions are not counted: {lacking}")
        return int(bool(os.environ.get("CI")))
    recorded = record.read().get(record.build())
    if recorded is None:
        say(f"instructions are not compared: none are recorded for {record.build()}. {record.MEND}")
        return 0
    started, found = time.monotonic(), counting.count()
    compared = record.compare(found, recorded)
    if kinds := sorted({each.row.split(",")[0] for each in compared if each.failed}):
        again = counting.count(kinds)
        found = {row: min(number, again.get(row, number)) for row, number in found.items()}
        compared = record.compare(found, recorded)
    for each in compared:
        say(str(each))
    finish(keys(found), started=started, n=counting.REQUESTS)
    return int(any(each.failed for each in compared))


def profile(seconds: int, *, write: bool) -> None:
    """Measure everything, and print or write the table."""
    started = time.monotonic()
    sampled = sampling.measure(seconds)
    found = counting.count()
    parts = apportioning.measure({kind: found[kind] for kind in KINDS}, Parts())
    us = {kind: sampled[kind].parts for kind in KINDS}
    ledger = {kind: found.get(counting.ledger_row(kind), 0) for kind in KINDS}
    n = sum(each.n for each in sampled.values()) + counting.REQUESTS
    counts = ", ".join(f"{sampled[kind].samples:,} for {kind}" for kind in KINDS)
    text = page.render(us, parts, ledger, f"Commit {commit()}, {machine()}; samples of time: {counts}.")
    if write:
        page.write(text)
    print(text)
    figures: dict[str, Any] = {f"{kind}_us": round(sum(us[kind].values()), 1) for kind in KINDS}
    for name, costs in (("us_by_part", us), ("instructions_by_part", parts)):
        for kind in KINDS:
            figures[f"{kind}_{name}"] = {part: round(cost, 1) for part, cost in costs[kind].items()}
    finish({**figures, **keys(found)}, started=started, n=n)


def by_file() -> None:
    """Print the instructions of the event loop's thread by source file, the dearest of a JSON miss first."""
    started, found = time.monotonic(), counting.count()
    files = apportioning.measure({kind: found[kind] for kind in KINDS}, Parts.files_of_source())
    for line in page.rows({kind: {} for kind in KINDS}, files, {}):
        print(line)
    finish(keys(found), started=started, n=counting.REQUESTS)


def keys(found: Mapping[str, int]) -> dict[str, int]:
    """Return counts under the names they have in results."""
    return {row.replace(", ledger's thread", "_ledger") + "_instructions": number for row, number in found.items()}


def main() -> int:
    """Run it; the exit code is 1 if a row is too dear."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument(
        "--seconds", type=int, default=10, help="how long each kind of requests is sampled (default 10)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--files", action="store_true", help="instructions by source file only")
    what.add_argument("--write", action="store_true", help="write the table to the documentation")
    what.add_argument("--check", action="store_true", help="fail if a request costs 10 %% more than recorded")
    what.add_argument("--record", action="store_true", help="record what a request costs now")
    options = parser.parse_args()
    if options.check:
        return check()
    if lacking := counting.missing():
        raise SystemExit(lacking)
    if options.files:
        by_file()
        return 0
    if not options.record:
        profile(options.seconds, write=options.write)
        return 0
    started, found = time.monotonic(), counting.count()
    record.write(found)
    finish(keys(found), started=started, n=counting.REQUESTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
