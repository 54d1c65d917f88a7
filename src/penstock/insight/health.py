"""One number for how well the gateway does, and what holds it back.

Each measure has a value up to which all is well and one at which it is at its worst; between them the score falls
linearly from 100 to 0. The whole is as good as its parts' weighted mean, but no better than the worst part plus 40: one
failing part is not made up for by seven idle ones. 80 and more is healthy, 50 and more degraded, less unhealthy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

HEALTHY, DEGRADED = 80.0, 50.0
_WORST_MARGIN = 40.0


class Part(msgspec.Struct, frozen=True):
    """A measure as a part of the score: well up to `good`, at its worst from `bad` on, and how much it counts."""

    metric: str
    good: float
    bad: float
    weight: float
    text: str


PARTS = (
    Part("error_rate", 0.01, 0.25, 3.0, "requests fail"),
    Part("targets_down", 0.0, 1.0, 2.0, "targets are down"),
    Part("latency_p95_s", 5.0, 30.0, 1.5, "answers are slow"),
    Part("rejected_rate", 0.01, 0.5, 1.5, "requests are refused for limits"),
    Part("memory_share", 0.8, 0.98, 1.5, "memory runs out"),
    Part("loop_lag_s", 0.1, 1.0, 1.0, "the event loop is busy"),
    Part("cpu_share", 0.9, 1.2, 0.5, "the processor is busy"),
    Part("descriptors_share", 0.8, 0.98, 1.0, "connections run out"),
    Part("store_pending", 20_000, 200_000, 1.0, "the store cannot keep up"),
)
"""Of what the score is made."""


class PartScore(msgspec.Struct, frozen=True):
    """A part's measure and score, 0 to 100; both None when there is too little to tell."""

    metric: str
    value: float | None
    score: float | None


class Health(msgspec.Struct, frozen=True):
    """How well it goes.

    Attributes:
        score: 0 to 100.
        status: ``healthy``, ``degraded`` or ``unhealthy``.
        bottleneck: The metric that costs most of the score; empty when none costs any.
        reason: The same in words.
        parts: What the score is made of.
    """

    score: float
    status: Literal["healthy", "degraded", "unhealthy"]
    bottleneck: str
    reason: str
    parts: list[PartScore]


def assess(measure: Callable[[str], float | None]) -> Health:
    """Score what `measure` returns for each metric of `PARTS`; what is not known does not count."""
    scores = [(part, value, _score(part, value)) for part in PARTS for value in (measure(part.metric),)]
    known = [(part, score) for part, _, score in scores if score is not None]
    weights = sum(part.weight for part, _ in known)
    mean = sum(part.weight * score for part, score in known) / weights if weights else 100.0
    worst = min((score for _, score in known), default=100.0)
    score = min(mean, worst + _WORST_MARGIN)
    culprit = max(known, key=lambda each: (100.0 - each[1]) * each[0].weight, default=None)
    held_back = culprit is not None and culprit[1] < 100.0
    return Health(
        score=round(score, 1),
        status="healthy" if score >= HEALTHY else "degraded" if score >= DEGRADED else "unhealthy",
        bottleneck=culprit[0].metric if culprit is not None and held_back else "",
        reason=culprit[0].text if culprit is not None and held_back else "",
        parts=[PartScore(part.metric, value, score) for part, value, score in scores],
    )


def _score(part: Part, value: float | None) -> float | None:
    if value is None:
        return None
    return 100.0 * min(max((part.bad - value) / (part.bad - part.good), 0.0), 1.0)
