"""The fault matrix, a dead provider, clients that hang up and kill -9: tables, and a last line of JSON."""

from __future__ import annotations

import argparse
import sys
import time
from statistics import quantiles
from typing import Any

import uvloop

from benchmarks.faults import aborts, dead, restart, running
from benchmarks.faults.reporting import page, summary
from benchmarks.faults.running import Result
from benchmarks.outcome import ROOT, finish

CLOSED_MS = 250
"""The 99th percentile of the time until an upstream is hung up on may be this long."""
RESTART_S = 2
"""A gateway that was killed is ready again in this time, on a busy machine too."""
PAGE = ROOT / "docs" / "reference" / "faults.md"


def main() -> int:
    """Run, print, and return 0 if all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--matrix", action="store_true", help="only the matrix")
    parser.add_argument("--dead", action="store_true", help="only 20,000 requests with one of two providers dead")
    parser.add_argument("--aborts", action="store_true", help="only 1,000 clients that hang up")
    parser.add_argument("--restart", action="store_true", help="only starts after kill -9, with 50,000 answers at rest")
    parser.add_argument("--json", action="store_true", help="print no tables")
    parser.add_argument("--write", action="store_true", help="write all of it to docs/reference/faults.md")
    arguments = parser.parse_args()
    started = time.monotonic()
    every = arguments.write or not (arguments.matrix or arguments.dead or arguments.aborts or arguments.restart)
    report = Report()
    if arguments.dead or every:
        report.dead()
    if arguments.aborts or every:
        report.aborts()
    if arguments.restart or every:
        report.restart()
    if arguments.matrix or every:
        result = report.matrix()
        if not arguments.json:
            print(summary(result))
        if arguments.write:
            PAGE.write_text(page(result, report.remarks), encoding="utf-8")
    for problem in report.problems:
        print(problem, file=sys.stderr)
    finish(report.figures, started=started, n=report.count)
    return 1 if report.problems else 0


class Report:
    """What was found.

    Attributes:
        figures: For the last line.
        remarks: Sentences for the page.
        problems: A line for everything that is wrong.
        count: How many cells, requests and clients there were.
    """

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.remarks: list[str] = []
        self.problems: list[str] = []
        self.count = 0

    def matrix(self) -> Result:
        """Play the matrix."""
        result = uvloop.run(running.run())
        self.count += len(result.rows)
        self.figures |= {"cells": len(result.rows), "passed": result.passed, "splits": result.splits}
        self.problems += [f"LEAK {leak}" for leak in result.leaks]
        for row in result.rows:
            where = f"line {row.line}, {row.fault}, {row.moment}, {row.kind}, {row.place} target"
            self.problems += [f"FAILED {where}: {problem}" for problem in row.problems]
        return result

    def dead(self) -> None:
        """Ask with a dead provider in the route."""
        survived = uvloop.run(dead.run())
        failed, slowest = len(survived.failures), round(survived.slowest_ms)
        self.count += survived.requests
        self.figures |= {"requests": survived.requests, "failed": failed, "slowest_ms": slowest}
        self.remarks.append(
            f"One of two providers dead (it {', '.join(dead.WAYS[:-1])} or {dead.WAYS[-1]}): {failed} of "
            f"{survived.requests:,} requests failed."
        )
        self.problems += [f"FAILED with a provider that {failure}" for failure in survived.failures[:20]]

    def aborts(self) -> None:
        """Hang up."""
        aborted = uvloop.run(aborts.run())
        p99 = round(quantiles(aborted.closed_ms, n=100)[98], 1)
        self.count += aborted.clients
        self.figures |= {"aborts": aborted.clients, "closed_ms_p99": p99, "leaked": aborted.leaked}
        self.remarks.append(
            f"{aborted.clients:,} clients hung up: upstream connections were closed within {p99:.0f} ms (p99);\n"
            f"{aborted.leaked} slots, tasks and descriptors were left over."
        )
        if p99 > CLOSED_MS:
            self.problems.append(f"LATE upstreams were closed after {p99} ms")
        self.problems += [f"LEAK {remark}" for remark in aborted.remarks]

    def restart(self) -> None:
        """Kill, and start again."""
        found = restart.run()
        self.count += found.starts
        self.figures |= {
            "restart_s": round(found.seconds, 2),
            "restart_loaded_s": round(found.loaded_s, 2),
            "restart_cpu_s": round(found.cpu_s, 2),
        }
        self.remarks.append(
            f"After `kill -9`, with {restart.ROWS:,} answers and as many rows of the ledger in a log that was not "
            f"written back:\nready again within {found.seconds:.1f} s of the start of the process (median), "
            f"{found.loaded_s:.1f} s at worst with every core\nbusy with something else."
        )
        if found.loaded_s > RESTART_S:
            self.problems.append(f"LATE a killed gateway was ready again after {found.loaded_s:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
