"""What does hedging do to the time to first token, and what does it cost? `python -m benchmarks.hedging --data PATH`.

The recorded requests of the trace are sent in an order of chance, several times over, through the real layer, with the
real policy and the real record of attempts, in virtual time. The model of what cannot be known:

- A request takes the time it was recorded with. What a hedge takes is drawn, independently, from all recorded times of
  the target it goes to.
- Requests arrive at random (Poisson), so the policy learns late what is late; it starts knowing nothing, and its first
  requests count.
- A request that is given up costs its input tokens, the same as `penstock.layers.attempt` writes down.

The policy's constants were chosen on the rows of even `seq`; the headline is of the odd ones, which had no say in it.
The other figures say how much depends on that, and on how the recorded endpoints are put behind model names:

- `one name`: one model name for all endpoints, each taking its share of the trace. The headline, on the odd rows.
- `one name, fitted rows`, `one name, all rows`: the same on the even rows, and on all.
- `by model`: a name for each size of model, with the providers that offer it behind it; all rows.
- `alone`: a name for each endpoint, so that a hedge goes to the very same one; all rows.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import random
import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.config.settings import BreakerSettings
from penstock.core.call import HEDGE_LOST, Call
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import HedgeTerms, Route, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.layers.attempt import Attempts
from penstock.layers.hedge import Hedge
from penstock.routing.health import Health
from penstock.routing.hedging import Hedging
from penstock.testing import FakeClock

FILE = Path("traces/llmperf-latency/requests.csv.gz")
TERMS = HedgeTerms()
RATE = 2.0
"""Requests a second."""


class Recorded(NamedTuple):
    """One request of the trace."""

    seq: int
    target: Target
    inputs: int
    outputs: int
    first_token_s: float
    end_to_end_s: float


class Served(NamedTuple):
    """What a client saw, with hedging and without, and what it took."""

    recorded: Recorded
    first_token_s: float
    end_to_end_s: float
    tokens: int
    extra_tokens: int


def read(data: Path) -> list[Recorded]:
    """Return the requests of the trace that did not fail."""
    path = data if data.is_file() else data / FILE
    with gzip.open(path, "rt", newline="") as lines:
        return [
            Recorded(
                int(row["seq"]),
                Target(row["provider"], row["model"]),
                int(row["input_tokens"]),
                int(row["output_tokens"]),
                float(row["ttft_s"]),
                float(row["e2e_s"]),
            )
            for row in csv.DictReader(lines)
            if not row["error_code"]
        ]


class Replay:
    """Sends recorded requests through the layer, in virtual time."""

    def __init__(self, rows: list[Recorded], group: Callable[[Target], str], seed: int) -> None:
        self._random = random.Random(seed)
        self._clock = FakeClock()
        self._of: dict[Target, list[Recorded]] = defaultdict(list)
        members: dict[str, list[Target]] = defaultdict(list)
        for row in rows:
            if row.target not in self._of:
                members[group(row.target)].append(row.target)
            self._of[row.target].append(row)
        self._routes = {
            target: Route(name, tuple(targets), b"", hedge=TERMS)
            for name, targets in members.items()
            for target in targets
        }
        self._rows = rows
        self._asked: dict[str, Recorded] = {}
        self._rest: dict[str, float] = {}
        self.policy = Hedging()
        tasks = TaskGroup()
        health = Health(BreakerSettings(), self._clock)
        hedge = Hedge(self.policy, health, lambda request: self._asked[request.call.id].inputs, self._clock, tasks)
        attempts = Attempts(
            {},
            lambda *_: (Decimal(0), "none"),
            lambda request, _: Usage(self._asked[request.call.id].inputs, 0, source="estimate"),
            self._clock,
        )
        self._handler = compose([hedge, attempts], self._answer)

    async def run(self, passes: int) -> list[Served]:
        """Send each recorded request `passes` times; return what became of them, in the order of arrival."""
        at, arrivals = 0.0, list[asyncio.Future[Served]]()
        for _ in range(passes):
            for row in self._random.sample(self._rows, len(self._rows)):
                at += self._random.expovariate(RATE)
                arrivals.append(asyncio.ensure_future(self._ask(row, at, str(len(arrivals)))))
        await self._clock.run(at + 1000.0)
        return await asyncio.gather(*arrivals)

    async def _ask(self, row: Recorded, at: float, name: str) -> Served:
        self._asked[name] = row
        await self._clock.sleep(at)
        started, call = self._clock.monotonic(), Call(name)
        route = self._routes[row.target]
        request = Request("chat", row.target.model, {}, call, stream=True, route=route, target=row.target)
        response = await self._handler(request)
        waited = self._clock.monotonic() - started
        lost = [each.usage.total_tokens for each in call.attempts if each.outcome == HEDGE_LOST and each.usage]
        total = response.usage.total_tokens if response.usage else 0
        return Served(row, waited, waited + self._rest.pop(name), total, sum(lost))

    async def _answer(self, request: Request) -> Response:
        name = request.call.id
        row = self._asked[name]
        if request.hedge and request.target is not None:
            row = self._random.choice(self._of[request.target])
        await self._clock.sleep(row.first_token_s)
        self._rest[name] = row.end_to_end_s - row.first_token_s
        usage = Usage(self._asked[name].inputs, row.outputs)
        return Response(events=[], usage=usage, finish_reason="stop")


def quantile(values: list[float], share: float) -> float:
    """Return the smallest of `values` that `share` of them are not above."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def figures(served: list[Served]) -> dict[str, float]:
    """Return the changes of the 99th percentiles as shares, and the tokens."""

    def change(new: list[float], old: list[float]) -> float:
        return quantile(new, 0.99) / quantile(old, 0.99) - 1.0

    tokens = sum(each.tokens for each in served)
    return {
        "p99_s": quantile([each.first_token_s for each in served], 0.99),
        "p99_unhedged_s": quantile([each.recorded.first_token_s for each in served], 0.99),
        "p99_change": change([each.first_token_s for each in served], [each.recorded.first_token_s for each in served]),
        "mean_change": sum(each.first_token_s for each in served) / sum(each.recorded.first_token_s for each in served)
        - 1.0,
        "end_to_end_p99_change": change(
            [each.end_to_end_s for each in served], [each.recorded.end_to_end_s for each in served]
        ),
        "extra_tokens": sum(each.extra_tokens for each in served) / tokens,
    }


def mean(all_figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the means over the runs, the extra tokens at their worst."""
    found = {name: sum(each[name] for each in all_figures) / len(all_figures) for name in all_figures[0]}
    found["extra_tokens"] = max(each["extra_tokens"] for each in all_figures)
    return {name: round(value, 4) for name, value in found.items()}


def _all(_: Target) -> str:
    return "all"


def _by_model(target: Target) -> str:
    return target.model


def _alone(target: Target) -> str:
    return f"{target.provider}/{target.model}"


HEADLINE = "one name"


class Case(NamedTuple):
    """One way to use the trace: which rows, and which endpoints share a model name."""

    name: str
    keep: Callable[[Recorded], bool]
    group: Callable[[Target], str]


CASES = (
    Case(HEADLINE, lambda row: row.seq % 2 == 1, _all),
    Case("one name, fitted rows", lambda row: row.seq % 2 == 0, _all),
    Case("one name, all rows", lambda row: True, _all),
    Case("by model", lambda row: True, _by_model),
    Case("alone", lambda row: True, _alone),
)


def measure(case: Case, rows: list[Recorded], seeds: int, requests: int) -> tuple[dict[str, float], int]:
    """Return the figures of one case, and how many requests they are of."""
    kept = [row for row in rows if case.keep(row)]
    runs = [asyncio.run(Replay(kept, case.group, seed).run(-(-requests // len(kept)))) for seed in range(seeds)]
    whole = [figures(served) for served in runs]
    found = mean(whole)
    found["worst_p99_change"] = round(max(each["p99_change"] for each in whole), 4)
    found["first_pass_p99_change"] = mean([figures(served[: len(kept)]) for served in runs])["p99_change"]
    for member in sorted({case.group(row.target) for row in kept}) if case.group is _by_model else ():
        those = [figures([each for each in served if each.recorded.target.model == member]) for served in runs]
        found[f"{member}_p99_change"] = mean(those)["p99_change"]
    return found, sum(map(len, runs))


def main() -> None:
    """Run, print, and end with one line of JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder of the public data, or the trace's file")
    options.add_argument("--requests", type=int, default=16_000, help="of each run, at least")
    options.add_argument("--seeds", type=int, default=5, help="runs of the headline; the others take one each")
    options.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    given = options.parse_args()
    started, rows, n = time.monotonic(), read(given.data), 0
    outcome: dict[str, dict[str, float]] = {}
    for case in CASES:
        found, count = measure(case, rows, given.seeds if case.name == HEADLINE else 1, given.requests)
        outcome[case.name] = found
        n += count
        say(f"{case.name:22}" + "".join(f"  {key} {value:+.4g}" for key, value in found.items()))
    finish(
        {
            "p99_change": outcome[HEADLINE]["p99_change"],
            "extra_tokens": outcome[HEADLINE]["extra_tokens"],
            "budget": TERMS.budget,
            "quantile": TERMS.quantile,
            "model": "recorded times; a hedge's time is an independent draw from its target's; losers cost their input",
            "by": outcome,
        },
        started=started,
        n=n,
    )


if __name__ == "__main__":
    main()
