"""The fault matrix, as a table and a line of JSON."""

from __future__ import annotations

import argparse
import sys
import time
from statistics import quantiles

import uvloop

from benchmarks.faults.reporting import page, summary
from benchmarks.faults.running import Result, run
from benchmarks.outcome import ROOT, finish


def main() -> int:
    """Run, print, and return 0 if all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the last line")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reference/faults.md")
    arguments = parser.parse_args()
    started = time.monotonic()
    result = uvloop.run(run())
    if not arguments.json:
        print(summary(result))
    for problem in problems(result):
        print(problem, file=sys.stderr)
    if arguments.write:
        (ROOT / "docs" / "reference" / "faults.md").write_text(page(result), encoding="utf-8")
    figures = {
        "cells": len(result.rows),
        "passed": result.passed,
        "splits": result.splits,
        "closed_ms_p99": round(quantiles(result.closed_ms, n=100)[98], 1),
        "leaks": len(result.leaks),
    }
    finish(figures, started=started, n=len(result.rows))
    return 0 if result.passed == len(result.rows) and not result.leaks else 1


def problems(result: Result) -> list[str]:
    """A line for everything that is wrong."""
    lines = []
    for row in result.rows:
        where = f"line {row.line}, {row.fault}, {row.moment}, {row.kind}, {row.place} target"
        lines += [f"FAILED {where}: {problem}" for problem in row.problems]
    return [*lines, *(f"LEAK {leak}" for leak in result.leaks)]


if __name__ == "__main__":
    sys.exit(main())
