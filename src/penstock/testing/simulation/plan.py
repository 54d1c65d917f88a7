"""What one seed decides before anything runs: the configuration, the traffic, the weather."""

from __future__ import annotations

from random import Random

import msgspec

from penstock.config.settings import Settings
from penstock.testing.simulation.settings import draw_settings, redraw
from penstock.testing.simulation.weather import Weather, stormy


class Plan(msgspec.Struct, frozen=True):
    """One seed's draw.

    Attributes:
        settings: The configuration.
        later: The configuration after a reload.
        weathers: One a provider.
        calls: How many calls are made in the storm.
        spread_s: Over how long they are spread.
        crowds: Share of the calls that come with the one before, and ask the same.
        questions: How many different ones there are.
        cancels: Share of the calls that are cancelled at some point.
        hasty: Share of the calls with a time limit of their own.
        streams: Share of streams.
        leaves: Share of the streams whose client leaves in the middle.
        lingers: Share of the streams whose client reads slowly.
        directed: Share of the calls with caching directives.
        named: Share of the calls that name the operation templates are for.
        ranked: Share of the calls with a priority that is not the ordinary one.
        respelt: Share of the calls that spell their question otherwise.
        near: Share of the calls that ask something else in nearly the same words.
        talks: Share of the calls with a conversation before the question.
        shaped: Share of the calls that say whether, and to how many tokens, their conversation is cut.
        moded: Share of the calls that say whether they are answered by meaning.
        short: Share of the calls that come by way of a server, and so the short way if they can.
        rates: Share of the answers by meaning of which a person says whether they are right.
        reload_at: When the configuration is reloaded; None for never.
        clear_at: When the cache is cleared; None for never.
        shutdown_at: When the gateway shuts down; None for after the storm.
        store_faults: Share of the stores' reads that fail.
        store_hangs: Share of the stores' reads that take very long.
    """

    settings: Settings
    later: Settings
    weathers: tuple[Weather, ...]
    calls: int
    spread_s: float
    crowds: float
    questions: int
    cancels: float
    hasty: float
    streams: float
    leaves: float
    lingers: float
    directed: float
    named: float
    ranked: float
    respelt: float
    near: float
    talks: float
    shaped: float
    moded: float
    short: float
    rates: float
    reload_at: float | None
    clear_at: float | None
    shutdown_at: float | None
    store_faults: float
    store_hangs: float


def draw(random: Random) -> Plan:
    """Draw a plan; every part of it is as likely to be absent as to be extreme."""
    settings = draw_settings(random)
    spread = random.choice((0.0, 1.0, 10.0, 40.0))
    respelt = random.choice((0.0, 0.5, 1.0))
    shaping = "context" in settings.model_fields_set
    reload_at = _moment(random, spread, 0.3)
    return Plan(
        settings=settings,
        later=redraw(random, settings) if reload_at is not None and random.random() < 0.5 else settings,
        weathers=tuple(stormy(random) for _ in settings.providers),
        calls=random.randint(3, 18),
        spread_s=spread,
        crowds=random.choice((0.0, 0.5)),
        questions=random.randint(1, 2 if respelt else 4),
        cancels=random.choice((0.0, 0.2, 0.6)),
        hasty=random.choice((0.0, 0.3)),
        streams=random.choice((0.0, 0.5, 1.0)),
        leaves=random.choice((0.0, 0.3)),
        lingers=random.choice((0.0, 0.3)),
        directed=random.choice((0.0, 0.0, 0.4)),
        named=random.choice((0.0, 0.5)),
        ranked=random.choice((0.0, 0.7)),
        respelt=respelt,
        near=random.choice((0.0, 0.3)),
        talks=random.choice((0.5, 1.0) if shaping else (0.0, 0.0, 0.3)),
        shaped=random.choice((0.0, 0.5)) if shaping else 0.0,
        moded=random.choice((0.0, 0.0, 0.6)),
        short=random.choice((0.0, 0.5, 1.0, 1.0)),
        rates=random.choice((0.0, 0.5)),
        reload_at=reload_at,
        clear_at=_moment(random, spread, 0.2),
        shutdown_at=_moment(random, spread, 0.25),
        store_faults=random.choice((0.0, 0.3)),
        store_hangs=random.choice((0.0, 0.0, 0.2)),
    )


def _moment(random: Random, spread: float, chance: float) -> float | None:
    return random.uniform(0.0, spread + 2.0) if random.random() < chance else None
