"""How many misses predictive renewal spares, and how many calls it spends on that.

    python -m benchmarks.refresh --data DIR

Requests are played against a cache of one lifetime, with `Recurrence` asked every ten seconds. Streams: a day of a
query log (`excite`, single users' searches, which seldom come back after a while), and Poisson arrivals over 2,000
questions of Zipf's popularity, 20,000 in a day (`zipf`), as many users asking the same things would make. Peers:
renewing everything that was asked for in its last lifetime (`always`), and knowing the future (`oracle`). One JSON
object on the last line; `spared_per_call` is misses spared ÷ renewals.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Protocol

from benchmarks.outcome import finish
from penstock.caching.recurrence import Recurrence

STEP_S = 10.0
Stream = Sequence[tuple[float, bytes]]


def excite(data: Path) -> Stream:
    """Return a query log, whatever the case of its letters."""
    with gzip.open(data / "prompts/excite-queries/excite_small.csv.gz", "rt", encoding="utf-8") as file:
        found = [
            (
                datetime.strptime(row["ts_yymmddhhmmss"], "%y%m%d%H%M%S").replace(tzinfo=UTC).timestamp(),
                sha256(row["query"].lower().strip().encode()).digest(),
            )
            for row in csv.DictReader(file)
        ]
    return sorted(found)


def zipf(seed: int = 1, requests: int = 20_000, questions: int = 2_000) -> Stream:
    """Return a day of independent requests."""
    chance = Random(seed)
    asked = chance.choices(range(questions), [1 / (rank + 1) for rank in range(questions)], k=requests)
    return sorted((chance.uniform(0, 86_400), number.to_bytes(4)) for number in asked)


class Hear(Protocol):
    """Is told of a request."""

    def __call__(self, key: bytes, now: float, /, *, miss: bool) -> None:
        """`miss` says whether it had to be asked for."""


class Cache:
    """Answers of one lifetime, whose times `renew` may push on."""

    def __init__(self, stream: Stream, lifetime_s: float) -> None:
        self.stream = stream
        self.lifetime_s = lifetime_s
        self.fresh_until: dict[bytes, float] = {}
        self.misses = self.renewals = 0

    def play(self, renew: Callable[[float], list[bytes]], hear: Hear) -> tuple[int, int]:
        """Return misses and renewals; `renew` is asked now and then, `hear` is told of requests and misses."""
        at = self.stream[0][0]
        for now, key in self.stream:
            while at <= now:
                for each in renew(at):
                    self.renewals += 1
                    self.fresh_until[each] = at + self.lifetime_s
                at += STEP_S
            miss = now >= self.fresh_until.get(key, 0.0)
            if miss:
                self.misses += 1
                self.fresh_until[key] = now + self.lifetime_s
            hear(key, now, miss=miss)
        return self.misses, self.renewals


def never(stream: Stream, lifetime_s: float) -> tuple[int, int]:
    """Renew nothing."""
    return Cache(stream, lifetime_s).play(lambda _: [], lambda *_, **_named: None)


def learnt(stream: Stream, lifetime_s: float, *, least: float = 0.5, per_minute: int = 600) -> tuple[int, int]:
    """Renew what `Recurrence` says."""
    policy: Recurrence[None] = Recurrence(least=least, per_minute=per_minute, most=10_000)

    def renew(now: float) -> list[bytes]:
        keys = [renewal.key for renewal in policy.due(now)]
        for key in keys:
            policy.stored(key, now, now + lifetime_s)
        return keys

    def hear(key: bytes, now: float, *, miss: bool) -> None:
        policy.asked(key, now, None)
        if miss:
            policy.stored(key, now, now + lifetime_s)

    return Cache(stream, lifetime_s).play(renew, hear)


def always(stream: Stream, lifetime_s: float) -> tuple[int, int]:
    """Renew what was asked for since it was last stored."""
    cache = Cache(stream, lifetime_s)
    last: dict[bytes, float] = {}
    return cache.play(
        lambda now: [
            key for key, end in cache.fresh_until.items() if end - STEP_S <= now < end and last[key] > end - lifetime_s
        ],
        lambda key, now, **_named: last.update({key: now}),
    )


def oracle(stream: Stream, lifetime_s: float) -> tuple[int, int]:
    """Renew what will be asked for in its next lifetime."""
    cache = Cache(stream, lifetime_s)
    future: dict[bytes, list[float]] = {}
    for now, key in reversed(stream):
        future.setdefault(key, []).append(now)

    def renew(now: float) -> list[bytes]:
        due = [key for key, end in cache.fresh_until.items() if end - STEP_S <= now < end]
        return [key for key in due if any(cache.fresh_until[key] <= at < now + lifetime_s for at in future[key])]

    def hear(key: bytes, now: float, *, miss: bool) -> None:
        future[key].pop()

    return cache.play(renew, hear)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", type=Path, required=True, help="where the public sets are")
    given = parser.parse_args()
    started = time.monotonic()
    figures: dict[str, float] = {}
    n = 0
    for name, stream in (("excite", excite(given.data)), ("zipf", zipf())):
        n += len(stream)
        for lifetime_s in (900.0, 3600.0):
            before, _ = never(stream, lifetime_s)
            for kind, (misses, renewals) in {
                "learnt": learnt(stream, lifetime_s),
                "learnt_0.75": learnt(stream, lifetime_s, least=0.75),
                "learnt_0.25": learnt(stream, lifetime_s, least=0.25),
                "learnt_6_a_minute": learnt(stream, lifetime_s, per_minute=6),
                "always": always(stream, lifetime_s),
                "oracle": oracle(stream, lifetime_s),
            }.items():
                spared = before - misses
                key = f"{name}_{lifetime_s:g}s_{kind}"
                print(f"{key:32} requests {len(stream)}, misses {before}, spared {spared}, renewals {renewals}")
                figures |= {f"{key}_spared_share": round(spared / before, 4), f"{key}_renewals": renewals}
                if renewals:
                    figures[f"{key}_spared_per_call"] = round(spared / renewals, 3)
    finish(figures, started=started, n=n)


if __name__ == "__main__":
    main()
