"""How fast an upstream is by how much it has to do at once."""

from __future__ import annotations

import math

from penstock.limiting.latency import LatencyModel, Vector, solve

_WIDTH = 0.05
"""Requests whose concurrency is closer than this, in logarithms, are counted together."""
_KEPT = 0.999
"""Weight a request keeps with each further one: about a thousand are remembered."""
_LEAST = 0.5
"""What weighs less is forgotten."""
_REACH = math.log(1.7)
"""The curve is fitted this far to either side."""
_SLOWEST = 1e-3
"""No mean speed is below this."""
_VARIANCE = 0.06
"""Of the speed of one request, roughly;"""
_SLOPE, _SLOPE_WEIGHT = -0.6, _VARIANCE / 1.0**2
"""what the slope before the break is expected to be, and how firmly: ± 1;"""
_TURN, _TURN_WEIGHT = -1.0, _VARIANCE / 1.0**2
"""and its change there, ± 1."""

Point = tuple[float, float, float]
"""Logarithm of concurrency, of speed, and the weight of both."""


class Curve:
    """ln speed over ln concurrency: two straight lines with a break, by weighted least squares.

    Speed is predicted ÷ observed seconds. What is kept is not speeds but sums they follow from, by model, so that
    all are judged by what is known of latency when the curve is fitted.
    """

    __slots__ = ("_bins", "_unfaded")

    def __init__(self) -> None:
        self._bins: dict[int, dict[LatencyModel, list[float]]] = {}
        self._unfaded = 0

    def add(self, concurrency: float, model: LatencyModel, rates: Vector) -> None:
        """A request of `model` ended that had so many beside it on average, itself included."""
        x = math.log(concurrency)
        models = self._bins.setdefault(round(x / _WIDTH), {})
        sums = models.setdefault(model, [0.0] * 5)
        for place, value in enumerate((1.0, x, *rates)):
            sums[place] += value
        self._unfaded += 1

    def forget_above(self, concurrency: float) -> None:
        """The upstream refused what is above."""
        most = math.log(concurrency) / _WIDTH
        self._bins = {place: models for place, models in self._bins.items() if place <= most}

    def weight(self, low: float = 1.0, high: float = math.inf) -> float:
        """How many requests are remembered at `low` to `high` at once, with their fading weights."""
        first, last = math.log(low), math.log(high) if high < math.inf else high
        return sum(
            sums[0]
            for models in self._bins.values()
            for sums in models.values()
            if first - _WIDTH / 2 <= sums[1] / sums[0] <= last + _WIDTH / 2
        )

    def best(self, near: float) -> float:
        """At how many at once most work is done, of what was seen around `near`; work done is concurrency × speed."""
        self._fade()
        points = self._points(math.log(near))
        if not points:
            return near
        return near * math.exp(_peak(points))

    def _fade(self) -> None:
        kept = _KEPT**self._unfaded
        self._unfaded = 0
        for models in self._bins.values():
            for model, sums in list(models.items()):
                sums[:] = [value * kept for value in sums]
                if sums[0] < _LEAST:
                    del models[model]
        self._bins = {place: models for place, models in self._bins.items() if models}

    def _points(self, origin: float) -> list[Point]:
        for model in {model for models in self._bins.values() for model in models}:
            model.pin()
        points = []
        for _, models in sorted(self._bins.items()):
            weight = sum(sums[0] for sums in models.values())
            x = sum(sums[1] for sums in models.values()) / weight - origin
            speed = sum(model.predict((sums[2], sums[3], sums[4])) for model, sums in models.items()) / weight
            if abs(x) <= _REACH:
                points.append((x, math.log(max(speed, _SLOWEST)), weight))
        return points


def _peak(points: list[Point]) -> float:
    """Where x + y is highest on two lines through `points`, which are in order of x; it is one of them.

    Solves level + slope · x + turn · max(x − k, 0) for each place k of the break; what is right of it is summed up on
    the way from the right.
    """
    a = sum(weight for _, _, weight in points)
    b = sum(weight * x for x, _, weight in points)
    d = sum(weight * x * x for x, _, weight in points) + _SLOPE_WEIGHT
    u = sum(weight * y for _, y, weight in points)
    v = sum(weight * x * y for x, y, weight in points) + _SLOPE_WEIGHT * _SLOPE
    n = sx = sxx = sy = sxy = 0.0
    least, found = math.inf, points[-1][0]
    for k, y, weight in reversed(points[1:]):
        c, e, f = sx - k * n, sxx - k * sx, sxx - 2 * k * sx + k * k * n + _TURN_WEIGHT
        w = sxy - k * sy + _TURN_WEIGHT * _TURN
        level, slope, turn = solve((a, b, c, d, e, f), (u, v, w))
        error = -(level * u + slope * v + turn * w)  # but for what is the same for each k
        if error < least:
            least = error
            found = points[0][0] if slope < -1 else k if slope + turn < -1 else points[-1][0]
        n, sx, sxx = n + weight, sx + weight * k, sxx + weight * k * k
        sy, sxy = sy + weight * y, sxy + weight * k * y
    return found
