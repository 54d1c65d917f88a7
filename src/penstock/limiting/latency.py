"""How long a request of so many tokens takes: what is left after that is congestion."""

from __future__ import annotations

from collections.abc import Sequence

_KEPT = 0.999
"""Weight an observation keeps with each further one: about a thousand are remembered."""
_RIDGE = 1e-5
"""Draws the weights towards 0, so that requests that are all alike have a solution, too."""
_LEAST = 0.1
"""Less than this part of the mean time counts as that much: something else happened."""
_SHORTEST_S = 1e-6

Vector = tuple[float, float, float]


class LatencyModel:
    """Learns seconds = base + a · input tokens + b · output tokens.

    Least squares of the relative error, in which the old fades. Learning only adds up sums, `pin` solves them.
    """

    __slots__ = ("_mean", "_moments", "_products", "_weights")

    def __init__(self) -> None:
        self._products = [0.0] * 6
        self._moments = [0.0] * 3
        self._mean = 0.0
        self._weights: Vector = (0.0, 0.0, 0.0)

    def learn(self, input_tokens: float, output_tokens: float, seconds: float) -> None:
        """A request of so many tokens took so long."""
        seconds = max(seconds, _SHORTEST_S)
        self._mean += 0.05 * (seconds - self._mean) if self._mean else seconds
        x, y, z = 1.0 / seconds, input_tokens / (1000.0 * seconds), output_tokens / (1000.0 * seconds)
        a, b, c, d, e, f = self._products
        self._products = [_KEPT * a + x * x, _KEPT * b + x * y, _KEPT * c + x * z,
                          _KEPT * d + y * y, _KEPT * e + y * z, _KEPT * f + z * z]  # fmt: skip
        a, b, c = self._moments
        self._moments = [_KEPT * a + x, _KEPT * b + y, _KEPT * c + z]

    def pin(self) -> None:
        """Judge by what is known now, until the next call, so that times can be compared."""
        a, b, c, d, e, f = self._products
        more = 1.0 + _RIDGE
        self._weights = solve((a * more, b, c, d * more, e, f * more), self._moments)

    def rates(self, input_tokens: float, output_tokens: float, seconds: float) -> Vector:
        """What `predict` needs of a request that took so long. They can be added up."""
        seconds = max(seconds, _LEAST * self._mean, _SHORTEST_S)
        return 1.0 / seconds, input_tokens / (1000.0 * seconds), output_tokens / (1000.0 * seconds)

    def predict(self, rates: Vector) -> float:
        """Predicted ÷ observed seconds: 1 is as expected, less is slower. Of summed rates it is the sum."""
        return sum(weight * rate for weight, rate in zip(self._weights, rates, strict=True))


def solve(symmetric: Sequence[float], right: Sequence[float]) -> Vector:
    """Solve three linear equations by Cramer's rule; the matrix is given by its upper triangle."""
    a, b, c, d, e, f = symmetric
    u, v, w = right
    p, q, r = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * p + b * q + c * r
    if determinant <= 0:
        return 0.0, 0.0, 0.0
    s, t = a * f - c * c, b * c - a * e
    return (
        (p * u + q * v + r * w) / determinant,
        (q * u + s * v + t * w) / determinant,
        (r * u + t * v + (a * d - b * b) * w) / determinant,
    )
