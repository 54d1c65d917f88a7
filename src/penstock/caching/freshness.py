"""May a cached answer be given now? The decision as a pure function, each rule with its source.

    no-store ─────────────► BYPASS    RFC 9111 5.2.1.5; Penstock does not read either
    no-cache ─────────────► REQUEST   RFC 9111 5.2.1.4: answers cannot be validated, so they are asked for again
    no entry ─────────────► MISS
    fresh, age ≤ max-age ─► HIT       RFC 9111 4.2, 5.2.1.1
    fresh, age > max-age ─► REQUEST   RFC 9111 5.2.1.1
    just stale ───────────► REFRESH   RFC 5861 3: given at once, renewed in the background
    stale ────────────────► STALE     RFC 9111 4.2.4

and what is not given becomes ABSENT under `only-if-cached` (RFC 9111 5.2.1.7).
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from penstock.core.request import CacheDirectives

_SLEW_S = 1.0
"""How far in the future an entry may have been stored and still be trusted: clocks are slewed, not only set."""


class Verdict(Enum):
    """What to do; the values of those that go forward are the reasons of RFC 9211 section 2.2."""

    HIT = "hit"
    REFRESH = "refresh"
    MISS = "miss"
    STALE = "stale"
    REQUEST = "request"
    BYPASS = "bypass"
    ABSENT = "absent"


class Dated(Protocol):
    """An entry's times, seconds since the epoch."""

    stored_at: float
    fresh_until: float


def decide(
    entry: Dated | None, now: float, directives: CacheDirectives, stale_while_revalidate_s: float = 0.0
) -> Verdict:
    """Judge `entry` (None when there is none) at `now`, seconds since the epoch."""
    verdict = _judge(entry, now, directives, stale_while_revalidate_s)
    if directives.only_if_cached and verdict is not Verdict.HIT and verdict is not Verdict.REFRESH:
        return Verdict.ABSENT
    return verdict


def _judge(entry: Dated | None, now: float, directives: CacheDirectives, window_s: float) -> Verdict:
    if directives.no_store:
        return Verdict.BYPASS
    if directives.no_cache:
        return Verdict.REQUEST
    if entry is None:
        return Verdict.MISS
    limit = directives.max_age
    if now < entry.fresh_until and now >= entry.stored_at - _SLEW_S:
        return Verdict.HIT if limit is None or now - entry.stored_at <= limit else Verdict.REQUEST
    # RFC 9111 5.2.1.1: a client that says max-age without max-stale does not want a stale answer.
    if limit is None and _within(entry, now, window_s):
        return Verdict.REFRESH
    return Verdict.STALE


def lifetime_s(directives: CacheDirectives, route_ttl_s: float | None, default_s: float) -> float:
    """How long a new answer stays fresh, seconds, 0 for not at all: the client's word, the model's, the cache's."""
    if directives.ttl is not None:
        return directives.ttl
    return default_s if route_ttl_s is None else route_ttl_s


def may_stand_in(entry: Dated, now: float, directives: CacheDirectives, stale_if_error_s: float) -> bool:
    """Say whether `entry` may be given instead of an upstream's failure (RFC 5861 section 4).

    The client's own `stale-if-error` decides, larger or smaller than the setting. Without it the setting does, unless
    the client asked for a fresh answer (RFC 9111 sections 5.2.1.1 and 5.2.1.4).
    """
    if directives.no_store:
        return False
    allowed = directives.stale_if_error
    if allowed is None:
        if directives.no_cache or directives.max_age is not None:
            return False
        allowed = stale_if_error_s
    return _within(entry, now, allowed)


def _within(entry: Dated, now: float, seconds: float) -> bool:
    """Not longer than `seconds` past its freshness; of an entry from the future nobody knows how old it is."""
    return seconds > 0 and entry.stored_at - _SLEW_S <= now < entry.fresh_until + seconds
