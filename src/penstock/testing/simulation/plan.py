"""What one seed decides before anything runs: the configuration, the traffic, the weather."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from penstock.config.settings import Settings
from penstock.testing.simulation.provider import Weather, stormy

NAMES = ("a", "b", "c")
TENANTS = ("red", "blue")


class Plan(msgspec.Struct, frozen=True):
    """One seed's draw.

    Attributes:
        settings: The configuration.
        weathers: One a provider.
        calls: How many calls are made in the storm.
        spread_s: Over how long they are spread.
        questions: How many different ones there are.
        cancels: Share of the calls that are cancelled at some point.
        hasty: Share of the calls with a time limit of their own.
        streams: Share of streams.
        leaves: Share of the streams whose client leaves in the middle.
        lingers: Share of the streams whose client reads slowly.
        directed: Share of the calls with caching directives.
        reload_at: When the configuration is reloaded; None for never.
        clear_at: When the cache is cleared; None for never.
        shutdown_at: When the gateway shuts down; None for after the storm.
        store_faults: Share of the cache store's reads that fail.
    """

    settings: Settings
    weathers: tuple[Weather, ...]
    calls: int
    spread_s: float
    questions: int
    cancels: float
    hasty: float
    streams: float
    leaves: float
    lingers: float
    directed: float
    reload_at: float | None
    clear_at: float | None
    shutdown_at: float | None
    store_faults: float


def draw(random: Random) -> Plan:
    """Draw a plan; every part of it is as likely to be absent as to be extreme."""
    names = NAMES[: random.randint(1, len(NAMES))]
    spread = random.choice((0.0, 1.0, 10.0, 40.0))
    return Plan(
        settings=Settings.model_validate(_settings(random, names)),
        weathers=tuple(stormy(random) for _ in names),
        calls=random.randint(3, 18),
        spread_s=spread,
        questions=random.randint(1, 4),
        cancels=random.choice((0.0, 0.2, 0.6)),
        hasty=random.choice((0.0, 0.3)),
        streams=random.choice((0.0, 0.5, 1.0)),
        leaves=random.choice((0.0, 0.3)),
        lingers=random.choice((0.0, 0.3)),
        directed=random.choice((0.0, 0.0, 0.4)),
        reload_at=_moment(random, spread, 0.2),
        clear_at=_moment(random, spread, 0.2),
        shutdown_at=_moment(random, spread, 0.25),
        store_faults=random.choice((0.0, 0.3)),
    )


def _moment(random: Random, spread: float, chance: float) -> float | None:
    return random.uniform(0.0, spread + 2.0) if random.random() < chance else None


def _settings(random: Random, names: tuple[str, ...]) -> dict[str, Any]:
    total_s = random.choice((2.0, 10.0, 30.0))
    return {
        "providers": [
            {
                "name": name,
                "kind": "openai-compatible",
                "base_url": "http://127.0.0.1:9/v1",
                "timeouts": {"total_s": total_s},
            }
            for name in names
        ],
        "models": [
            {
                "name": "m",
                "targets": [
                    {"provider": name, "model": "m", "order": random.choice((0, 0, 1)), "weight": random.choice((1, 3))}
                    for name in names
                ],
                "strategy": random.choice(("ordered", "weighted")),
                "hedge": random.choice((None, {"budget": 0.5, "quantile": 0.5})),
            }
        ],
        "cache": {
            "exact": {
                "enabled": random.random() < 0.8,
                "ttl_s": random.choice((0.3, 5.0, 30.0)),
                "max_memory_bytes": random.choice((0, 2000, 1 << 20)),
                "max_entries": random.choice((2, 1000)),
                "stale_while_revalidate_s": random.choice((0.0, 3.0)),
                "stale_if_error_s": random.choice((0.0, 10.0)),
            },
            "coalesce": random.random() < 0.8,
        },
        "store": {"url": "memory:"},
        "retry": {"attempts": random.randint(1, 3), "backoff_s": random.choice((0.05, 0.25)), "max_backoff_s": 2.0},
        "breaker": {"failures": random.randint(1, 4), "recovery_s": random.choice((0.5, 4.0))},
        "timeout_s": random.choice((1.0, 8.0, 60.0)),
    }
