"""Which settings of the exact cache would have done better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from penstock.config.presets import PRESETS, SETTINGS
from penstock.config.settings import Settings
from penstock.insight.facts import Question
from penstock.insight.interval import interval
from penstock.insight.replay import CachePolicy, Outcome, replay
from penstock.insight.suggestion import Suggestion, money

N = TypeVar("N", int, float)

_HOUR, _DAY = 3600.0, 86_400.0
_TTLS = (0.25 * _HOUR, 0.5 * _HOUR, _HOUR, 2 * _HOUR, 4 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY)
_SIZES = (2, 4, 8, 16)
_ENOUGH = 0.9
"""Share of the best setting's saving that the smallest step towards it has to reach."""
_TTL_AT = SETTINGS.index("cache.exact.ttl_s")

_replace = msgspec.structs.replace


def policy_of(settings: Settings, by_meaning: Iterable[str] = ()) -> CachePolicy:
    """Return what the settings say of the caches; `by_meaning` are the models that are answered by meaning."""
    exact = settings.cache.exact
    return CachePolicy(
        enabled=exact.enabled,
        ttl_s=exact.ttl_s,
        ttls={model.name: model.cache_ttl_s for model in settings.models if model.cache_ttl_s is not None},
        max_entries=exact.max_entries,
        max_entry_bytes=exact.max_entry_bytes,
        stale_while_revalidate_s=exact.stale_while_revalidate_s,
        coalesce=settings.cache.coalesce,
        by_meaning=frozenset(by_meaning),
        audit=settings.cache.semantic.audit,
    )


def suggest_caching(
    asked: Sequence[Question], policy: CachePolicy, base: Outcome, said: Callable[[str], None]
) -> Iterator[Suggestion]:
    """Replay `asked` with other settings than `policy`, whose outcome is `base`, and yield those that save."""
    at = [question.at for question in asked]
    if not policy.enabled:
        said("with a cache")
        on = replay(asked, _replace(policy, enabled=True))
        yield from saving(at, base, on, "cache", "Switch the exact cache on", {"cache.exact.enabled": True}, "")
        return
    if not policy.coalesce:
        said("with identical requests joined")
        text = "Join identical requests that come at the same time"
        joined = replay(asked, _replace(policy, coalesce=True))
        yield from saving(at, base, joined, "coalesce", text, {"cache.coalesce": True}, "")
    best = _longer(asked, policy, base, said)
    if best is not None:
        ttl, outcome = best
        text = f"Keep answers for {_duration(ttl)} instead of {_duration(policy.ttl_s)}{_level(ttl)}"
        older = [age for age in outcome.ages_s if age > policy.ttl_s]
        share = len(older) / len(outcome.ages_s) if outcome.ages_s else 0.0
        but = f"{share:.0%} of the answers from the cache would be older than they are now, up to {_duration(ttl)}"
        yield from saving(at, base, outcome, "ttl", text, {"cache.exact.ttl_s": ttl}, but)
    larger = _larger(asked, policy, base, said)
    if larger is not None:
        entries, outcome = larger
        text = f"Keep {entries} answers instead of {policy.max_entries}"
        yield from saving(at, base, outcome, "size", text, {"cache.exact.max_entries": entries}, "more disk space")


def _longer(
    asked: Sequence[Question], policy: CachePolicy, base: Outcome, said: Callable[[str], None]
) -> tuple[float, Outcome] | None:
    tried: list[tuple[float, Outcome]] = []
    for ttl in (ttl for ttl in _TTLS if ttl > policy.ttl_s):
        said(f"with answers kept for {_duration(ttl)}")
        tried.append((ttl, replay(asked, _replace(policy, ttl_s=ttl))))
    return _smallest(tried, base)


def _larger(
    asked: Sequence[Question], policy: CachePolicy, base: Outcome, said: Callable[[str], None]
) -> tuple[int, Outcome] | None:
    if len({question.key for question in asked}) <= policy.max_entries:
        return None  # nothing ever had to leave
    tried: list[tuple[int, Outcome]] = []
    for entries in (policy.max_entries * factor for factor in _SIZES):
        said(f"with {entries} answers kept")
        tried.append((entries, replay(asked, _replace(policy, max_entries=entries))))
    return _smallest(tried, base)


def _smallest(tried: Sequence[tuple[N, Outcome]], base: Outcome) -> tuple[N, Outcome] | None:
    """The first, hence smallest, step that saves nearly as much as the best one; None when none saves anything."""
    saved = [_worth(outcome, base) for _, outcome in tried]
    best = max(saved, default=(0, 0))
    measure = 0 if best[0] > 0 else 1
    most = max((each[measure] for each in saved), default=0)
    if most <= 0:
        return None
    return next(one for one, each in zip(tried, saved, strict=True) if each[measure] >= _ENOUGH * most)


def _worth(outcome: Outcome, base: Outcome) -> tuple[int, int]:
    """Picodollars and calls that `outcome` has less than `base`."""
    return sum(base.cost_pusd) - sum(outcome.cost_pusd), sum(base.asked) - sum(outcome.asked)


def saving(
    at: Sequence[float], base: Outcome, other: Outcome, kind: str, text: str, settings: dict[str, object], but: str
) -> Iterator[Suggestion]:
    """Yield the suggestion to change from what came out as `base` to `other`, if that saves anything."""
    if max(_worth(other, base)) <= 0:
        return
    yield Suggestion(
        kind,
        text,
        settings,
        "replay",
        usd=money(at, _less(base.cost_pusd, other.cost_pusd)),
        calls=interval(at, _less(base.asked, other.asked)),
        seconds=interval(at, _less(base.waited_s, other.waited_s)),
        but=but,
    )


def _less(base: Sequence[N], other: Sequence[N]) -> list[N]:
    return [one - two for one, two in zip(base, other, strict=True)]


def _level(ttl: float) -> str:
    level = next((name for name, values in PRESETS.items() if values[_TTL_AT] == ttl), None)
    return f" (as level {level} does)" if level else ""


def _duration(seconds: float) -> str:
    for size, name in ((_DAY, "day"), (_HOUR, "hour"), (60.0, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds / size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:g} seconds"
