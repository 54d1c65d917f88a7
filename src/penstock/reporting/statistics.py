"""Counts of everything there ever was, and of what came since somebody last set them to zero."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from penstock.core.money import to_usd

NO_ERRORS = ("ok", "client_closed")
COLLAPSED = "collapsed"


class Totals(msgspec.Struct):
    """What is counted; whole numbers, so that what one has more than another is exact.

    Attributes:
        calls: Answers given, failed ones included.
        errors: Calls that failed, those the client broke off not included.
        hits: Calls answered from the cache.
        collapsed: Calls answered by what an identical one at the same time was told.
        attempts: Tries on providers.
        input_tokens: Prompt tokens, hits included.
        output_tokens: Generated tokens, hits included.
        saved_tokens: Prompt and generated tokens of the hits.
        cost_pusd: What all tries cost, picodollars.
        saved_pusd: What the hits would have cost, picodollars.
        duration_us: Time of all calls together, microseconds.
    """

    calls: int = 0
    errors: int = 0
    hits: int = 0
    collapsed: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    saved_tokens: int = 0
    cost_pusd: int = 0
    saved_pusd: int = 0
    duration_us: int = 0

    def minus(self, other: Totals) -> Totals:
        """Return what these have more than `other`."""
        return Totals(*(getattr(self, name) - getattr(other, name) for name in self.__struct_fields__))


class Figures(msgspec.Struct, frozen=True):
    """Statistics of a time.

    Attributes:
        since: When it began, seconds since the Unix epoch; None when nothing was counted yet.
        calls: Answers given, failed ones included.
        errors: Calls that failed, those the client broke off not included.
        hits: Calls answered from the cache.
        hit_rate: Hits per call, 0 to 1; None without calls.
        calls_saved: Calls that no provider was asked for: hits, and those that joined an identical one.
        attempts: Tries on providers.
        input_tokens: Prompt tokens, hits included.
        output_tokens: Generated tokens, hits included.
        tokens_saved: Prompt and generated tokens of the hits.
        cost_usd: What all tries cost, as far as the price is known.
        saved_usd: What the hits would have cost.
        mean_s: Mean duration of a call, seconds; None without calls.
    """

    since: float | None
    calls: int
    errors: int
    hits: int
    hit_rate: float | None
    calls_saved: int
    attempts: int
    input_tokens: int
    output_tokens: int
    tokens_saved: int
    cost_usd: Decimal
    saved_usd: Decimal
    mean_s: float | None


class Polling(msgspec.Struct, frozen=True):
    """How waiting for long-running work went in this process.

    Attributes:
        waits: Pieces of work that were waited for.
        looks: How often was looked whether one was done.
        waited_s: Seconds all of it took.
        looks_saved: How many looks more ten a second would have been.
        efficiency: That part of those looks, 0 to 1; None when nothing was waited for.
    """

    waits: int
    looks: int
    waited_s: float
    looks_saved: int
    efficiency: float | None


class Statistics(msgspec.Struct, frozen=True):
    """Figures since the start and since the last reset.

    Attributes:
        since_start: Of everything in the ledger; of this process when the store is ``memory:``.
        since_reset: Since the statistics were last reset; the same without a reset.
        polling: Of this process, since its start or the last reset in it; None where no process is asked.
    """

    since_start: Figures
    since_reset: Figures
    polling: Polling | None = None


BASELINE_S = 0.1
"""How often waiting without a schedule looks, seconds: what polling is compared with."""


def polling(waits: int, looks: int, waited_s: float) -> Polling:
    """Compare what was looked with looking ten times a second."""
    baseline = waits + int(waited_s / BASELINE_S)
    saved = max(baseline - looks, 0)
    return Polling(waits, looks, waited_s, saved, saved / baseline if baseline else None)


def figures(totals: Totals, since: float | None) -> Figures:
    """Turn counts into figures."""
    calls = totals.calls
    return Figures(
        since=since,
        calls=calls,
        errors=totals.errors,
        hits=totals.hits,
        hit_rate=totals.hits / calls if calls else None,
        calls_saved=totals.hits + totals.collapsed,
        attempts=totals.attempts,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        tokens_saved=totals.saved_tokens,
        cost_usd=to_usd(totals.cost_pusd),
        saved_usd=to_usd(totals.saved_pusd),
        mean_s=totals.duration_us / calls / 1e6 if calls else None,
    )
