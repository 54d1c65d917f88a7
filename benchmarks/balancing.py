"""How soon does the first token come when replicas are chosen by expected time, beside what other gateways do?

Requests of a real trace (Mooncake's conversations, 7,151 in an hour, 12,000 tokens on average) are served by eight
simulated replicas, described in `benchmarks.replicas`. The policy is Penstock's own `Balancer`; it sees what a gateway
sees: prompts, first events, ends. It is told nothing of the hardware and begins with nothing learned. The others:

    round robin   one after the other
    power of two  the better of two drawn replicas } fewest prompt tokens sent that have not
    least queue   the best of all                  } begun to answer (counting requests is worse)
    prefix hash   always the same replica for the same first two blocks of 512 tokens

    ttft_vs_p2c          mean time to first token ÷ power of two's
    ttft_vs_least_queue  the same ÷ least queue's
    block_hits_vs_ideal  share of prompt blocks found in the replica's cache ÷ that of one unlimited cache for all
    us_per_request       processor time of choosing and learning, 8 replicas, a prompt of 8 KB

The figures are of the setting "base", in which the other policies come near the times known for them (3.13, 2.04, 1.64
and 2.61 s). Others do too, such as the two after it that write answers at less cost; all settings are shown, so that it
can be seen how far the figures depend on the simulator.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.replicas import BLOCK, Arrival, Hardware, Outcome, Policy, Simulation
from penstock.core.call import Call, Footprint
from penstock.core.request import Request
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.pricing.estimate import estimate_request_tokens
from penstock.routing.balancing import Balancer
from penstock.routing.replica import Ticket
from penstock.testing import FakeClock

TRACE = Path("traces") / "mooncake" / "conversation_trace.jsonl.gz"
SEEDS, FEWER_SEEDS = (1, 2, 3, 4, 5), (1, 2)
"""Draws of the setting the figures are of, and of the others."""

BASE = Hardware(speed=10_250, bend=60_000, slowing=0.1, blocks=4000)
SETTINGS = {
    "base": BASE,
    "writing takes 5 %, long prompts dearer": Hardware(10_400, 45_000, 0.05, 4000),
    "writing takes nothing": Hardware(8700, 60_000, 0.0, 3000),
    "more load": BASE._replace(speed=8500),
    "less load": BASE._replace(speed=15_000),
    "two of eight at half speed": BASE._replace(speed=12_000, speeds=(1.0,) * 6 + (0.5,) * 2),
    "prompts served all at once": BASE._replace(speed=12_500, shared=True),
    "small caches": BASE._replace(speed=11_500, blocks=1500),
    "small caches, reported": BASE._replace(speed=11_500, blocks=1500),
}


class RoundRobin:
    """One after the other."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._next = seed

    def choose(self, number: int, arrival: Arrival, now: float) -> int:
        """The next one."""
        self._next += 1
        return self._next % self._count

    def first(self, number: int, replica: int, now: float) -> None:
        """It does not matter."""

    def end(self, number: int, replica: int, now: float, cached: int) -> None:
        """It does not matter."""


class PrefixHash(RoundRobin):
    """By the beginning of the prompt."""

    def choose(self, number: int, arrival: Arrival, now: float) -> int:
        """The one for this beginning."""
        return hash((self._next, arrival.blocks[:2])) % self._count


class LeastQueue(RoundRobin):
    """The least tokens waiting, among all or a few."""

    drawn: int | None = None

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, seed)
        self._random = random.Random(seed)
        self._waiting = [0] * count
        self._tokens: dict[int, int] = {}

    def choose(self, number: int, arrival: Arrival, now: float) -> int:
        """The best of the drawn ones; they come in random order, so ties are broken by lot."""
        replica = min(self._random.sample(range(self._count), self.drawn or self._count), key=self._waiting.__getitem__)
        self._tokens[number] = arrival.tokens
        self._waiting[replica] += arrival.tokens
        return replica

    def first(self, number: int, replica: int, now: float) -> None:
        """It waits no longer."""
        self._waiting[replica] -= self._tokens.pop(number)


class PowerOfTwo(LeastQueue):
    """The better of two."""

    drawn = 2


class Expected:
    """Penstock's balancer, driven as the pipeline drives it."""

    reports = False

    def __init__(self, count: int, seed: int) -> None:
        self._clock = FakeClock()
        self._start = self._clock.monotonic()
        self._balancer = Balancer(self._clock, random.Random(seed), estimate_request_tokens)
        targets = tuple(Target(f"replica-{place}", "model") for place in range(count))
        self._route = Route("model", targets, b"", strategy="balanced")
        self._tickets: dict[int, tuple[Ticket, Arrival]] = {}

    def choose(self, number: int, arrival: Arrival, now: float) -> int:
        """Where the first token is expected soonest."""
        self._clock.advance(max(self._start + now - self._clock.monotonic(), 0.0))
        full = arrival.blocks[: arrival.tokens // BLOCK]
        call = Call("", 0.0, 0.0, footprint=Footprint(arrival.tokens, full, float(BLOCK)))
        request = Request("chat", "model", {}, call, stream=True, route=self._route)
        target = self._balancer.arrange(request)[0]
        ticket = self._balancer.start(msgspec.structs.replace(request, target=target))
        assert ticket is not None
        self._tickets[number] = ticket, arrival
        return self._route.targets.index(target)

    def first(self, number: int, replica: int, now: float) -> None:
        """A stream's first event."""
        ticket, _ = self._tickets[number]
        ticket.replica.began(ticket, self._start + now)

    def end(self, number: int, replica: int, now: float, cached: int) -> None:
        """A stream's end."""
        ticket, arrival = self._tickets.pop(number)
        usage = Usage(arrival.tokens, arrival.output, cached if self.reports else 0)
        ticket.replica.ended(ticket, self._start + now, usage)


class Reported(Expected):
    """The same, where replicas say how much of a prompt was cached."""

    reports = True


OTHERS: dict[str, Callable[[int, int], Policy]] = {
    "round robin": RoundRobin,
    "power of two": PowerOfTwo,
    "least queue": LeastQueue,
    "prefix hash": PrefixHash,
}


def read(data: Path) -> list[Arrival]:
    """Read the trace from its file or from the folder of public data."""
    with gzip.open(data if data.is_file() else data / TRACE, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Arrival(row["timestamp"] / 1000, row["input_length"], row["output_length"], tuple(row["hash_ids"]))
        for row in rows
    ]


def ideal_hits(arrivals: Sequence[Arrival]) -> float:
    """Share of blocks that one unlimited cache for all would have; without block 0, which all prompts share."""
    seen: set[int] = set()
    hits = asked = 0
    for arrival in arrivals:
        known = next((place for place, block in enumerate(arrival.blocks) if block not in seen), len(arrival.blocks))
        hits += max(known - 1, 0)
        asked += len(arrival.blocks) - 1
        seen.update(arrival.blocks)
    return hits / asked


def play(
    arrivals: Sequence[Arrival], hardware: Hardware, make: Callable[[int, int], Policy], seeds: Sequence[int]
) -> tuple[Outcome, float]:
    """Run a policy once a seed; return the means over all runs, and the 95th percentile's."""
    count = len(hardware.speeds)
    runs = [Simulation(arrivals, hardware, make(count, seed)).run() for seed in seeds]
    times = [statistics.fmean(column) for column in zip(*(run.ttft for run in runs), strict=True)]
    p95 = statistics.fmean(statistics.quantiles(run.ttft, n=20)[-1] for run in runs)
    return Outcome(times, statistics.fmean(run.hits for run in runs)), p95


def measure(arrivals: Sequence[Arrival], name: str, hardware: Hardware, ideal: float) -> dict[str, float]:
    """Compare all policies on one setting; returns the ratios."""
    say(f"{name}: {hardware.speed:g} tokens/s, {hardware.blocks} blocks a replica")
    means: dict[str, float] = {}
    seeds = SEEDS if name == "base" else FEWER_SEEDS
    for policy, make in OTHERS.items():
        run, p95 = play(arrivals, hardware, make, seeds)
        means[policy] = run.mean
        say(f"  {policy:<14} mean {run.mean:6.3f} s   p95 {p95:6.2f} s   hits {run.hits:.3f}")
    run, p95 = play(arrivals, hardware, Reported if "reported" in name else Expected, seeds)
    ratios = {
        "ttft_vs_p2c": run.mean / means["power of two"],
        "ttft_vs_least_queue": run.mean / means["least queue"],
        "block_hits_vs_ideal": run.hits / ideal,
    }
    shown = "   ".join(f"{key} {value:.3f}" for key, value in ratios.items())
    say(f"  {'expected time':<14} mean {run.mean:6.3f} s   p95 {p95:6.2f} s   hits {run.hits:.3f}   {shown}")
    return ratios


def cost_us(n: int = 20_000) -> float:
    """Microseconds of one request through the balancer: measure the prompt, arrange, start, begin, end."""
    targets = tuple(Target(f"replica-{place}", "model") for place in range(8))
    route = Route("model", targets, b"", strategy="balanced")
    balancer = Balancer(FakeClock(), random.Random(1), estimate_request_tokens)
    words = "the quick brown fox jumps over the lazy dog " * 46
    payloads: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "system", "content": words},
                *({"role": "user", "content": f"{n} {words}"} for n in turn),
            ]
        }
        for turn in ((first, first + 1, first + 2) for first in range(64))
    ]
    usage = Usage(2000, 300)
    times = []
    for _ in range(5):
        requests = [
            Request("chat", "model", payloads[number % 64], Call("", 0.0, 0.0), stream=True, route=route)
            for number in range(n // 5)
        ]
        start = time.process_time()
        for request in requests:
            target = balancer.arrange(request)[0]
            ticket = balancer.start(msgspec.structs.replace(request, target=target))
            assert ticket is not None
            ticket.replica.began(ticket, balancer.now() + 1.0)
            ticket.replica.ended(ticket, balancer.now() + 2.0, usage)
        times.append((time.process_time() - start) / len(requests) * 1e6)
    return statistics.median(times)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balancing", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data, or the trace's file")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--base", action="store_true", help="only the setting the figures are of")
    options = parser.parse_args()
    started = time.monotonic()
    arrivals = read(options.data)
    ideal = ideal_hits(arrivals)
    say(f"{len(arrivals)} requests; an unlimited cache would have {ideal:.3f} of the blocks")
    settings = {"base": BASE} if options.base else SETTINGS
    found = {name: measure(arrivals, name, hardware, ideal) for name, hardware in settings.items()}
    cost = cost_us()
    say(f"balancer: {cost:.1f} us per request")
    figures: dict[str, Any] = {key: round(value, 3) for key, value in found.pop("base").items()}
    figures["us_per_request"] = round(cost, 1)
    figures["settings"] = {
        name: {key: round(value, 3) for key, value in ratios.items()} for name, ratios in found.items()
    }
    finish(figures, started=started, n=len(arrivals) * len(SEEDS))


if __name__ == "__main__":
    main()
