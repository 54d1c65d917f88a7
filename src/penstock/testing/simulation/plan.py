"""What one seed decides before anything runs: the configuration, the traffic, the weather."""

from __future__ import annotations

from random import Random

import msgspec

from penstock.config.settings import Settings
from penstock.testing.simulation.provider import Weather, stormy
from penstock.testing.simulation.settings import draw_settings, redraw_limits


class Plan(msgspec.Struct, frozen=True):
    """One seed's draw.

    Attributes:
        settings: The configuration.
        later: The configuration after a reload.
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
        named: Share of the calls that name the operation templates are for.
        ranked: Share of the calls with a priority that is not the ordinary one.
        reload_at: When the configuration is reloaded; None for never.
        clear_at: When the cache is cleared; None for never.
        shutdown_at: When the gateway shuts down; None for after the storm.
        store_faults: Share of the cache store's reads that fail.
        store_hangs: Share of the cache store's reads that take very long.
    """

    settings: Settings
    later: Settings
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
    named: float
    ranked: float
    reload_at: float | None
    clear_at: float | None
    shutdown_at: float | None
    store_faults: float
    store_hangs: float


def draw(random: Random) -> Plan:
    """Draw a plan; every part of it is as likely to be absent as to be extreme."""
    settings = draw_settings(random)
    spread = random.choice((0.0, 1.0, 10.0, 40.0))
    return Plan(
        settings=settings,
        later=redraw_limits(random, settings) if random.random() < 0.3 else settings,
        weathers=tuple(stormy(random) for _ in settings.providers),
        calls=random.randint(3, 18),
        spread_s=spread,
        questions=random.randint(1, 4),
        cancels=random.choice((0.0, 0.2, 0.6)),
        hasty=random.choice((0.0, 0.3)),
        streams=random.choice((0.0, 0.5, 1.0)),
        leaves=random.choice((0.0, 0.3)),
        lingers=random.choice((0.0, 0.3)),
        directed=random.choice((0.0, 0.0, 0.4)),
        named=random.choice((0.0, 0.5)),
        ranked=random.choice((0.0, 0.7)),
        reload_at=_moment(random, spread, 0.2),
        clear_at=_moment(random, spread, 0.2),
        shutdown_at=_moment(random, spread, 0.25),
        store_faults=random.choice((0.0, 0.3)),
        store_hangs=random.choice((0.0, 0.0, 0.2)),
    )


def _moment(random: Random, spread: float, chance: float) -> float | None:
    return random.uniform(0.0, spread + 2.0) if random.random() < chance else None
