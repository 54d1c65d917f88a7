"""What leaves a full cache first: how much of the cost does each way to choose save?

    excite       a log of queries to a search engine; what their answers cost and take is drawn from real answers
    mooncake     blocks of prompts (512 tokens), all of one cost and size, without the block all prompts share
    zipf         20,000 questions, the n-th most frequent 1/n^0.9 as often as the first; costs and sizes as above
    zipf + scan  the same, interrupted by runs of questions that are asked once
    drift        as zipf, but a tenth of the questions gives way to new ones every 10,000 requests
    … entries    the same bounded by their number, as the list of the exact cache's entries is

An answer costs its input tokens plus four times its output tokens; it takes 400 bytes and 4 for each of those.
The caches hold 1, 5, 10 and 25 % of all there is. *Value* is the cost saved by hits ÷ the cost of all requests,
`possible` what any cache could save at most (see `bound`).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.eviction_peers import Access, Gdsf, Lru, Ours, PlainSieve, Policy, S3Fifo, WTinyLfu
from benchmarks.outcome import finish
from benchmarks.processes import say

SHARES = (0.01, 0.05, 0.1, 0.25)
POLICIES: dict[str, Callable[[int, int], Policy]] = {
    "penstock": Ours,
    "lru": Lru,
    "sieve": PlainSieve,
    "s3fifo": S3Fifo,
    "wtinylfu": WTinyLfu,
    "gdsf": Gdsf,
}
_AROUND_BYTES, _TOKEN_BYTES, _BLOCK_BYTES = 400, 4, 512 * 4
_ITEMS, _ALPHA, _REQUESTS, _SCAN, _SCAN_EVERY = 20_000, 0.9, 150_000, 4_000, 20_000
_DRIFT, _DRIFT_EVERY = 0.1, 10_000


class Result(NamedTuple):
    """What came of a trace in a cache: shares of the requests, bytes and cost that were hits, and ns a request."""

    hits: float
    bytes: float
    value: float
    ns: float


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.eviction", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--seeds", type=int, default=3, help="draws of costs, sizes and the synthetic traces (3)")
    options = parser.parse_args()
    started = time.monotonic()
    table: dict[str, dict[str, list[Result]]] = {}
    possible: dict[str, list[float]] = {}
    n = 0
    for seed in range(options.seeds):
        for name, trace in traces(options.data, seed).items():
            n += len(trace)
            sizes = {access.key: access.size for access in trace}
            for share in SHARES:
                capacity = max(int(sum(sizes.values()) * share), 1)
                row = f"{name} {share:.0%}"
                possible.setdefault(row, []).append(bound(trace, capacity))
                for policy, make in POLICIES.items():
                    result = play(make(capacity, int(len(sizes) * share)), trace)
                    table.setdefault(row, {}).setdefault(policy, []).append(result)
                values = " ".join(f"{policy} {table[row][policy][-1].value:.3f}" for policy in POLICIES)
                say(f"{row}, seed {seed}: value {values} possible {possible[row][-1]:.3f}")
    finish(summarise(table, possible), started=started, n=n)


def play(policy: Policy, trace: Sequence[Access]) -> Result:
    """Ask `policy` for everything in `trace`."""
    access = policy.access
    start = time.process_time_ns()
    found = [access(*each) for each in trace]
    took = time.process_time_ns() - start
    hits = [each for each, hit in zip(trace, found, strict=True) if hit]
    return Result(
        len(hits) / len(trace),
        sum(each.size for each in hits) / sum(each.size for each in trace),
        sum(each.cost for each in hits) / sum(each.cost for each in trace),
        took / len(trace),
    )


def traces(folder: Path, seed: int) -> dict[str, list[Access]]:
    """Return the traces; only costs, sizes and the synthetic ones depend on `seed`."""
    random = Random(seed)
    answers = _answers(folder)
    with gzip.open(folder / "prompts/excite-queries/excite_small.csv.gz", "rt") as file:
        queries = [row["query"] for row in csv.DictReader(file)]
    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    with gzip.open(folder / "traces/mooncake/conversation_trace.jsonl.gz", "rb") as file:
        blocks = [block for line in file for block in json.loads(line)["hash_ids"][1:]]
    weights = list(accumulate(1 / rank**_ALPHA for rank in range(1, _ITEMS + 1)))
    zipf = random.choices(range(_ITEMS), cum_weights=weights, k=_REQUESTS)
    scanned: list[int] = []
    for start in range(0, _REQUESTS, _SCAN_EVERY):
        first = _ITEMS + len(scanned)
        scanned += [*zipf[start : start + _SCAN_EVERY], *range(first, first + _SCAN)]
    drifting: list[int] = []
    asked, newest = list(range(_ITEMS)), _ITEMS
    for start in range(0, _REQUESTS, _DRIFT_EVERY):
        drifting += [asked[rank] for rank in zipf[start : start + _DRIFT_EVERY]]
        for rank in random.sample(range(_ITEMS), int(_ITEMS * _DRIFT)):
            asked[rank], newest = newest, newest + 1
    priced = {
        "excite": _priced([numbers[query] for query in queries], answers, random),
        "zipf": _priced(zipf, answers, random),
        "zipf + scan": _priced(scanned, answers, random),
        "drift": _priced(drifting, answers, random),
    }
    by_number = {f"{name}, entries": [each._replace(size=1) for each in trace] for name, trace in priced.items()}
    return {**priced, **by_number, "mooncake": [Access(block, _BLOCK_BYTES, 512) for block in blocks]}


def _answers(folder: Path) -> list[tuple[int, int]]:
    """Input and output tokens of real answers."""
    found = []
    for part in ("conv", "code"):
        with gzip.open(folder / f"traces/azure-llm-2023/azure_{part}.csv.gz", "rt") as file:
            found += [(int(row["context_tokens"]), int(row["generated_tokens"])) for row in csv.DictReader(file)]
    return found


def _priced(keys: Sequence[int], answers: Sequence[tuple[int, int]], random: Random) -> list[Access]:
    drawn = {key: random.choice(answers) for key in dict.fromkeys(keys)}
    return [
        Access(key, _AROUND_BYTES + _TOKEN_BYTES * drawn[key][1], drawn[key][0] + 4 * drawn[key][1]) for key in keys
    ]


def bound(trace: Sequence[Access], capacity: int) -> float:
    """Return a bound on the share of the cost that any cache of `capacity` can save, one that knows the future too.

    Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes", POMACS 2018
    (PFOO-L), by cost: to answer a request, its object must be kept since the one before. That takes its size for so
    long; no more than `capacity` times the length of the trace is there, and the best saving per unit of it is taken
    first.
    """
    last: dict[int, int] = {}
    gaps: list[tuple[float, int, int]] = []
    for at, (key, size, cost) in enumerate(trace):
        before = last.get(key)
        if before is not None and size <= capacity:
            room = size * (at - before)
            gaps.append((cost / room, cost, room))
        last[key] = at
    gaps.sort(reverse=True)
    left, saved = float(capacity * len(trace)), 0.0
    for _, cost, room in gaps:
        if room > left:
            saved += cost * left / room
            break
        left -= room
        saved += cost
    return saved / max(sum(access.cost for access in trace), 1)


def summarise(table: dict[str, dict[str, list[Result]]], possible: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians over traces and sizes (of means over seeds), the worst of each, and the table."""
    means = {
        row: {policy: Result(*map(statistics.mean, zip(*results, strict=True))) for policy, results in found.items()}
        for row, found in table.items()
    }
    most = {row: statistics.mean(values) for row, values in possible.items()}
    figures: dict[str, Any] = {}
    for policy in POLICIES:
        of = [found[policy] for found in means.values()]
        figures[f"hit_ratio_{policy}"] = statistics.median(each.hits for each in of)
        figures[f"byte_hit_ratio_{policy}"] = statistics.median(each.bytes for each in of)
        figures[f"value_{policy}"] = statistics.median(each.value for each in of)
        figures[f"value_of_possible_{policy}"] = statistics.median(
            found[policy].value / most[row] for row, found in means.items()
        )
        figures[f"ns_{policy}"] = statistics.median(each.ns for each in of)
        if policy != "penstock":
            ratios = [found["penstock"].value / found[policy].value for found in means.values()]
            figures[f"value_vs_{policy}"] = statistics.median(ratios)
            figures[f"value_vs_{policy}_worst"] = min(ratios)
    best = [found["penstock"].value / max(each.value for each in found.values()) for found in means.values()]
    figures |= {"value_vs_best": statistics.median(best), "value_vs_best_worst": min(best)}
    rounded = {key: round(value, 1 if key.startswith("ns_") else 4) for key, value in figures.items()}
    rounded["value"] = {
        row: {**{policy: round(each.value, 4) for policy, each in found.items()}, "possible": round(most[row], 4)}
        for row, found in means.items()
    }
    return rounded


if __name__ == "__main__":
    main()
