"""Figures beside what is expected of them, and beside those of the period before."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from penstock.reporting.figures import Rating, Trend, UsageLine

CATEGORIES = ("excellent", "good", "acceptable", "needs optimisation")
UNKNOWN = "unknown"


class _Expectation(NamedTuple):
    name: str
    value: Callable[[UsageLine], float | None]
    excellent: float
    good: float
    acceptable: float


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


EXPECTATIONS = (
    _Expectation("hit rate", lambda line: line.hit_rate, 0.8, 0.6, 0.3),
    _Expectation("success rate", lambda line: line.success_rate, 0.9999, 0.999, 0.99),
    _Expectation("error rate", lambda line: line.error_rate, 0.01, 0.05, 0.1),
    _Expectation("mean latency, s", lambda line: line.mean_s, 1.0, 2.0, 3.0),
    _Expectation("95th percentile of latency, s", lambda line: line.p95_s, 2.5, 5.0, 10.0),
    _Expectation("cost per call, $", lambda line: _number(line.cost_per_call_usd), 0.001, 0.01, 0.05),
)
"""What is excellent, good (the target) and acceptable; where excellent is the smaller number, less is better."""


_SUM, _RATIO = "sum", "ratio"
_MORE, _LESS, _EITHER = "more", "less", "either"


class _Followed(NamedTuple):
    name: str
    value: Callable[[UsageLine], float | None]
    kind: str
    wanted: str


FOLLOWED = (
    _Followed("calls a day", lambda line: line.calls, _SUM, _EITHER),
    _Followed("tokens a day", lambda line: line.input_tokens + line.output_tokens, _SUM, _EITHER),
    _Followed("cost a day, $", lambda line: float(line.cost_usd), _SUM, _LESS),
    _Followed("saved a day, $", lambda line: float(line.saved_usd), _SUM, _MORE),
    _Followed("hit rate", lambda line: line.hit_rate, _RATIO, _MORE),
    _Followed("error rate", lambda line: line.error_rate, _RATIO, _LESS),
    _Followed("mean latency, s", lambda line: line.mean_s, _RATIO, _LESS),
    _Followed("95th percentile of latency, s", lambda line: line.p95_s, _RATIO, _LESS),
    _Followed("cost per call, $", lambda line: _number(line.cost_per_call_usd), _RATIO, _LESS),
)
"""What is compared with the period before, and of what one wants more or less."""


def ratings(total: UsageLine) -> list[Rating]:
    """Rate the figures of a period by `EXPECTATIONS`."""
    return [_rating(expected, expected.value(total)) for expected in EXPECTATIONS]


def _rating(expected: _Expectation, value: float | None) -> Rating:
    _, _, *bounds = expected
    less = expected.excellent < expected.acceptable
    category = UNKNOWN
    if value is not None:
        met = (value <= bound if less else value >= bound for bound in bounds)
        category = next((name for name, ok in zip(CATEGORIES, met, strict=False) if ok), CATEGORIES[-1])
    return Rating(expected.name, value, category, *bounds)


def trends(now: UsageLine, before: UsageLine, *, days: float, days_before: float) -> list[Trend]:
    """Compare a period with the one before it.

    Args:
        now: This period's calls.
        before: Those of the one before.
        days: This period's length.
        days_before: The other's.
    """
    found = []
    for name, value, kind, wanted in FOLLOWED:
        lengths = (days, days_before) if kind == _SUM else (1.0, 1.0)
        new, old = (
            None if (amount := value(line)) is None or not line.calls or not length else amount / length
            for line, length in zip((now, before), lengths, strict=True)
        )
        change = (new - old) / old if new is not None and old else None
        better = (change < 0) == (wanted == _LESS) if change and wanted != _EITHER else None
        found.append(Trend(name, new, old, change, better))
    return found
