"""One of two providers is dead: what becomes of 20,000 requests."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.faults.asking import Asking, understand
from benchmarks.faults.stage import KEY, WELL, Served, well
from penstock.testing import UpstreamReply, UpstreamServer, json_reply

REQUESTS = 20_000
_AT_A_TIME = 32
WAYS = ("refuses", "fails", "is silent", "resets")
"""How a provider can be dead; each takes its share of the requests."""


class Survived(NamedTuple):
    """What came of it.

    Attributes:
        requests: How many, half of them for streams.
        failures: What was wrong with an answer.
        slowest_ms: The longest a client waited.
        seconds: How long it took.
    """

    requests: int
    failures: list[str]
    slowest_ms: float
    seconds: float


async def run(count: int = REQUESTS) -> Survived:
    """Send `count` requests to routes over a dead and a healthy provider, half of them to the dead one first."""
    started = time.monotonic()
    slowest, failures = 0.0, list[str]()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    failing = UpstreamServer(json_reply({"error": {"message": "out of order"}}, status=503))
    silent, resetting = UpstreamServer(UpstreamReply(silent=True)), UpstreamServer(welcome="rst")
    async with failing, silent, resetting, UpstreamServer(well) as healthy:
        origins = (f"http://127.0.0.1:{closed}", failing.origin, silent.origin, resetting.origin)
        async with Served(_config(origins, healthy.origin)) as served:
            numbers = iter(range(count))

            async def client() -> None:
                nonlocal slowest
                asking = Asking(served.port)
                for number in numbers:
                    model, stream = WAYS[number * len(WAYS) // count], number % 2 == 0
                    await asking.send(model, stream=stream)
                    heard = await asking.hear()
                    slowest = max(slowest, heard.seconds)
                    if heard.status != 200 or not heard.complete or understand(heard, stream=stream).text != WELL:
                        failures.append(f"{model}: {heard.status} {heard.body[:200]!r}")
                await asking.leave()

            await asyncio.gather(*(client() for _ in range(_AT_A_TIME)))
    return Survived(count, failures, slowest * 1000, time.monotonic() - started)


def _config(dead: tuple[str, ...], healthy: str) -> dict[str, object]:
    common = {"kind": "openai", "api_key": KEY, "timeouts": {"first_byte_s": 0.5}}
    names = [f"dead-{number}" for number in range(len(dead))]
    origins: Iterator[tuple[str, str]] = itertools.chain(zip(names, dead, strict=True), [("well", healthy)])
    return {
        "providers": [{"name": name, **common, "base_url": f"{origin}/v1"} for name, origin in origins],
        "models": [
            {
                "name": way,
                "strategy": "weighted",
                "targets": [{"provider": name, "model": "m"}, {"provider": "well", "model": "m"}],
            }
            for way, name in zip(WAYS, names, strict=True)
        ],
        "cache": {"exact": {"enabled": False}, "coalesce": False},
        "store": {"url": "memory:"},
    }
