"""How many requests at once an upstream does best with, found by trying.

By Little's law an upstream that takes R times as long for each of L concurrent requests does L ÷ R of the work it would
do for one at a time. R is the residual latency, observed ÷ predicted from tokens, so that long answers are not taken
for congestion. Every request that ends is a point of a curve, speed 1 ÷ R over mean concurrency while it was under way,
and the limit is where the curve's L ÷ R is highest.

The curve must know what is above and below. While nothing slower was seen, the limit grows by half at a time (slow
start); afterwards a few in a hundred requests are spent a step above and a step below the best. A refusal for overload
lowers the limit at once (AIMD), and from there it grows slowly.
"""

from __future__ import annotations

import math

from penstock.limiting.curve import Curve
from penstock.limiting.latency import LatencyModel, Vector

START = 6
"""The limit to begin with."""
_RAMP = 1.5
"""It grows by this factor until something slower was seen;"""
_STEP = 1.08
"""later it is tried this far above and below, and at least one."""
_SHARE = 0.03
"""Share of what is remembered that must be from above, and from below;"""
_FEWEST = 8
"""and so many requests."""
_PERIOD = 0.7
"""Requests until the limit is looked at again, by the limit: about as long as one takes; and `_FEWEST`"""
_CAUTIOUS = 40
"""at least, or this once there was a refusal."""
_DECREASE = 0.75
"""What remains of the limit when the upstream says that it is too much."""
_SATURATED = 0.9
"""Requests move the limit on if at least this share of it was in use when they ended."""

Sample = tuple[LatencyModel, Vector, float]
"""The model of latency, the request's `rates`, and the seconds it took."""


class AdaptiveLimit:
    """A limit that follows the upstream. It has no clock and no chance in it: the same requests lead to the same limit.

    Attributes:
        limit: Requests that may be under way at once.
    """

    __slots__ = ("_area", "_at", "_curve", "_fewest", "_left", "_most", "_ramp", "_settling", "limit")

    def __init__(self, most: int, start: int = START) -> None:
        """Never more than `most`; begins with `start`."""
        self._most = most
        self.limit = min(start, most)
        self._curve = Curve()
        self._ramp = _RAMP
        self._fewest = self._left = _FEWEST
        self._settling = 0
        self._area = self._at = 0.0

    def bound(self, most: int) -> None:
        """Never more than `most` from now on."""
        self._most = most
        self.limit = min(self.limit, most)

    def start(self, in_use: int, now: float) -> float:
        """A request starts, with so many in use, itself included; returns its mark for `finish`."""
        return self._advance(in_use - 1, now)

    def finish(self, mark: float | None, in_use: int, sample: Sample | None, now: float) -> None:
        """The request of `mark` ended; `in_use` still includes it.

        None for `mark` if it started before there was this limit, for `sample` if it says nothing about latency, such
        as one that was given up.
        """
        area = self._advance(in_use, now)
        if self._settling > 0:
            self._settling -= 1
            return
        if mark is not None and sample is not None:
            model, rates, seconds = sample
            self._curve.add(max((area - mark) / seconds, 1.0) if seconds > 0 else in_use, model, rates)
        if in_use >= self.limit * _SATURATED:
            self._left -= 1
            if self._left <= 0:
                self._choose()

    def overloaded(self, in_use: int, now: float) -> None:
        """The upstream refused a request because it is too much; ends the request as `finish` does."""
        self._advance(in_use, now)
        if self._settling > 0:
            self._settling -= 1  # it was under way when the limit was lowered: part of the same refusal
            return
        self._settling = in_use - 1
        self.limit = max(1, math.floor(self.limit * _DECREASE))
        self._curve.forget_above(self.limit)
        self._ramp = _STEP
        self._fewest = self._left = _CAUTIOUS

    def _advance(self, in_use: int, now: float) -> float:
        """Return the integral of concurrency over time; so many were in use since the last call."""
        self._area += in_use * (now - self._at)
        self._at = now
        return self._area

    def _choose(self) -> None:
        """Go to the best limit, or beside it if too little is known of there."""
        best = min(self._curve.best(self.limit), self._most)
        up, down = max(best * _STEP, best + 1), max(min(best / _STEP, best - 1), 1.0)
        enough = max(self._curve.weight() * _SHARE, _FEWEST)
        above, below = math.sqrt(best * up), math.sqrt(best * down)
        aim = best
        if best < self._most and self._curve.weight(above, above * up / best) < enough:
            if self._curve.weight(above) >= 1:
                self._ramp = _STEP
            aim = max(best * self._ramp, up)
        elif best > 1 and self._curve.weight(below * down / best, below) < enough:
            aim = down
        self.limit = max(1, min(round(aim), self._most))
        self._left = max(self._fewest, math.ceil(self.limit * _PERIOD))
