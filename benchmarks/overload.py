"""Does the gateway keep an overloaded upstream at its best, and its tenants apart?

Goodput (answers in time per second) of the adaptive limit, from its cold start on, as a share of what the best static
limit reaches, found by sweep on the same arrivals, at 2 and 10 times the upstream's capacity; the worst of several
upstreams, none of which the limit's constants were chosen on. The 99th percentile of a neighbour's latency beside a
tenant who asks for 100 times as much, by what it is alone. Requests that a provider with limits a minute would have
refused, whichever way it counts. All in virtual time, through the gate the gateway uses. And in real time, through the
whole pipeline under 10 times its capacity: how long a refusal takes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import uvloop

from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.queueing import Curve, Ended, Job, Simulation, batch, jobs, knee, peak
from penstock.abc import ModelInfo
from penstock.client import AsyncClient
from penstock.core.errors import PenstockError, RateLimited
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.waiting import Waiting
from penstock.testing import answer

UPSTREAMS: dict[str, tuple[Curve, int]] = {
    "knee at 25": (knee(25, 0.8), 25),
    "knee at 70": (knee(70, 0.3), 70),
    "knee at 6": (knee(6, 1.0), 6),
    "batching": (batch(30.0, 80), 60),
}
"""The speed of each, and about where the best static limit is looked for."""
SEEDS = (101, 102)
MINUTES_SEEDS = (9, 201, 202)
_SWEEP = (0.7, 0.85, 1.0, 1.15, 1.35)


def run(limits: Limits, curve: Curve, arrivals: Sequence[Job]) -> tuple[list[Ended], Simulation]:
    """Simulate `arrivals` through a gate of its own."""
    simulation = Simulation(Gate(limits, Waiting(1000)), curve)
    return simulation.run(arrivals), simulation


def goodput(ended: Iterable[Ended]) -> int:
    """How many were answered in time."""
    return sum(each.good for each in ended)


def mean_alone_s() -> float:
    """Seconds the mean request takes alone."""
    sample = jobs(Random(0), 50.0, 400.0)
    return sum(job.alone_s for job in sample) / len(sample)


def overload(factor: float, seconds: float) -> tuple[dict[str, float], int]:
    """Goodput as a share of the best static limit's, per upstream, and how many requests that took."""
    found: dict[str, float] = {}
    n = 0
    for name, (curve, around) in UPSTREAMS.items():
        shares = []
        for seed in SEEDS:
            arrivals = jobs(Random(seed), factor * peak(curve) / mean_alone_s(), seconds, timeout_s=30.0)
            static = sweep(curve, around, arrivals)
            adaptive = goodput(run(Limits(adaptive=True), curve, arrivals)[0])
            n += len(arrivals) * (len(static) + 1)
            shares.append(adaptive / max(static.values()))
        found[name] = sum(shares) / len(shares)
        each = ", ".join(f"{share:.3f}" for share in shares)
        say(f"{factor:>4g}x {name:<12} {found[name]:.3f} of the best static limit ({each})")
    return found, n


def sweep(curve: Curve, around: int, arrivals: Sequence[Job]) -> dict[int, int]:
    """Goodput by static limit; looks farther while the best one is at an end."""
    limits = sorted({max(1, round(around * share)) for share in _SWEEP})
    found: dict[int, int] = {}
    while limits:
        found |= {limit: goodput(run(Limits(max_concurrency=limit), curve, arrivals)[0]) for limit in limits}
        best = max(found, key=lambda limit: found[limit])
        farther = [max(1, round(best * 0.85))] if best == min(found) else []
        farther += [round(best * 1.15) + 1] if best == max(found) else []
        limits = [limit for limit in farther if limit not in found]
    return found


def neighbour(seconds: float) -> tuple[float, int]:
    """The neighbour's 99th percentile beside a noisy tenant, by that alone. Whoever got nothing waited for ever."""
    curve = knee(40, 0.5)
    own = jobs(Random(7), 0.4, seconds, tenant="neighbour", timeout_s=60.0)
    noisy = jobs(Random(8), 40.0, seconds, tenant="noisy", timeout_s=60.0)
    alone, _ = run(Limits(adaptive=True), curve, own)
    beside, _ = run(Limits(adaptive=True), curve, sorted([*own, *noisy]))
    ratio = _p99(beside) / _p99(alone)
    say(f"neighbour's p99: {_p99(alone):.2f} s alone, {_p99(beside):.2f} s beside 100 times as much")
    return ratio, len(own) * 2 + len(noisy)


def _p99(ended: Iterable[Ended]) -> float:
    waits = sorted(
        each.seconds if not each.refused else float("inf") for each in ended if each.job.tenant == "neighbour"
    )
    return waits[int(len(waits) * 0.99)]


def minutes(seconds: float) -> tuple[int, float, int]:
    """Requests that providers with limits would have refused, and the share of the limit that was used.

    Providers count the input when a request arrives and the output when it is known, in three ways.
    """
    parts = [_minutes(seed, seconds) for seed in MINUTES_SEEDS]
    return sum(part[0] for part in parts), min(part[1] for part in parts), sum(part[2] for part in parts)


def _minutes(seed: int, seconds: float) -> tuple[int, float, int]:
    requests, tokens = 300, 90_000
    random = Random(seed)
    arrivals = jobs(random, 15.0, seconds, timeout_s=60.0)
    _, simulation = run(Limits(requests_per_minute=requests, tokens_per_minute=tokens), lambda _: 1.0, arrivals)
    events: list[tuple[float, int, float]] = []
    for start, end, job in simulation.sent:
        events.append((start + random.uniform(0.0, 0.05), 1, job.input_tokens))
        events.append((end, 0, job.output_tokens))
    events.sort()
    counts = {count.__name__[1:]: count(events, requests, tokens) for count in (_sliding, _fixed, _bucket)}
    within = [(start, job) for start, _, job in simulation.sent if 60.0 <= start < seconds]
    share = 60.0 / (seconds - 60.0)
    used = max(
        len(within) * share / requests,
        sum(job.input_tokens + job.output_tokens for _, job in within) * share / tokens,
    )
    say(f"limits a minute, seed {seed}: refused {counts} of {len(simulation.sent)}, {used:.3f} of the limit used")
    return sum(counts.values()), used, len(arrivals)


Events = Sequence[tuple[float, int, float]]
"""Time, requests (0 for the end of one) and tokens."""


def _sliding(events: Events, requests: int, tokens: int) -> int:
    refused, seen, calls, total = 0, deque[tuple[float, int, float]](), 0, 0.0
    for event in events:
        at, call, size = event
        while seen and seen[0][0] <= at - 60.0:
            _, old_call, old_size = seen.popleft()
            calls, total = calls - old_call, total - old_size
        if call and (calls >= requests or total + size > tokens):
            refused += 1
            continue
        seen.append(event)
        calls, total = calls + call, total + size
    return refused


def _fixed(events: Events, requests: int, tokens: int) -> int:
    refused, minute, calls, total = 0, -1.0, 0, 0.0
    for at, call, size in events:
        if at // 60.0 != minute:
            minute, calls, total = at // 60.0, 0, 0.0
        if call and (calls >= requests or total + size > tokens):
            refused += 1
            continue
        calls, total = calls + call, total + size
    return refused


def _bucket(events: Events, requests: int, tokens: int) -> int:
    refused, last, calls, left = 0, 0.0, float(requests), float(tokens)
    for at, call, size in events:
        calls = min(calls + (at - last) * requests / 60, requests)
        left = min(left + (at - last) * tokens / 60, tokens)
        last = at
        if call and (calls < 1 or left < size):
            refused += 1
            continue
        calls, left = calls - call, left - size
    return refused


class Slow:
    """A provider that takes a while."""

    name = "slow"
    body = answer("Hello.")

    async def send(self, request: Request, target: Target) -> Response:
        """Answer after 0.2 s."""
        await asyncio.sleep(0.2)
        return Response(body=self.body, usage=Usage(20, 10), finish_reason="stop")

    async def models(self) -> list[ModelInfo]:
        """None to speak of."""
        return []

    async def aclose(self) -> None:
        """Nothing is open."""


async def refusals(seconds: float) -> tuple[list[float], int]:
    """Milliseconds refusals took, in real time through the whole pipeline at 10 times its capacity."""
    config = {
        "providers": [{"name": "slow", "kind": "simulated", "limits": {"max_concurrency": 20}}],
        "models": [{"name": "m", "targets": [{"provider": "slow", "model": "m"}]}],
        "store": {"url": "memory:"},
    }
    took: list[float] = []
    asked = 0
    async with AsyncClient(config, providers={"slow": Slow()}) as client:

        async def ask(number: int) -> None:
            start = time.monotonic()
            try:
                await client.chat(f"question {number}", model="m", timeout_s=3.0)
            except RateLimited:
                took.append((time.monotonic() - start) * 1000)
            except PenstockError as error:
                say(f"unexpected: {error!r}")

        rate, tasks, random = 10 * 20 / 0.2, set[asyncio.Task[None]](), Random(3)
        until = time.monotonic() + seconds
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            while due <= now:
                task = asyncio.get_running_loop().create_task(ask(asked))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                asked += 1
                due += random.expovariate(rate)
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
        await asyncio.gather(*tasks)
    return took, asked


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("--seconds", type=float, default=1800.0, help="virtual seconds of each simulation (1800)")
    options = parser.parse_args()
    started = time.monotonic()
    twice, n_twice = overload(2.0, options.seconds)
    tenfold, n_tenfold = overload(10.0, options.seconds / 3)
    ratio, n_ratio = neighbour(options.seconds)
    avoidable, used, n_avoidable = minutes(options.seconds)
    took, asked = uvloop.run(refusals(5.0))
    took.sort()
    p99 = took[int(len(took) * 0.99)] if took else 0.0
    say(f"refusals: {len(took)} of {asked}, p99 {p99:.2f} ms")
    figures: dict[str, Any] = {
        "goodput_vs_best_static_2x": round(min(twice.values()), 3),
        "goodput_vs_best_static_10x": round(min(tenfold.values()), 3),
        "refusal_ms_p99": round(p99, 2),
        "neighbour_p99_ratio": round(ratio, 3),
        "avoidable_429": avoidable,
        "limit_used": round(used, 3),
        "goodput_by_upstream_2x": {name: round(share, 3) for name, share in twice.items()},
        "goodput_by_upstream_10x": {name: round(share, 3) for name, share in tenfold.items()},
    }
    finish(figures, started=started, n=n_twice + n_tenfold + n_ratio + n_avoidable + asked)


if __name__ == "__main__":
    main()
