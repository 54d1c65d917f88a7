"""What may be believed about a mean after any number of observations, however often one looks.

The difference of two arms' means is bet on: three stakes that it is higher than some value and three that it is lower.
Whoever bets on what is not so gains with probability at most alpha, at any time, a factor of 1/alpha (Ville 1939), so
whatever value would have been refuted by such a gain is left out of the interval: a confidence sequence.

With each unit a bet is multiplied by (1 + stake × surprise) × exp(stake × (expected − value)), where `expected` is what
the units before it made of the difference, and `surprise` is how far this one is from that, weighted by the inverse of
the probability of its arm. If the difference is `value`, the factor is at most 1 on average, since 1 + x ≤ exp(x); and
it is never negative, since a stake is at most half of what the least possible surprise could take.

- Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86(1): betting on a mean,
  stakes that follow the variance seen so far (predictable plug-in), and mixing several.
- Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro 2024, "Anytime-valid off-policy inference for contextual bandits",
  ACM/IMS Journal of Data Science 1(3): weighting by the inverse of a probability that depends on the past only.
- Howard, Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
  Statistics 49(2): intervals from supermartingales; theorem 4 (after Fan, Grama, Liu 2015) is where `_STEEP` is from.
- Johari, Koomen, Pekelis, Walsh 2022, "Always valid inference: continuous monitoring of A/B tests", Operations Research
  70(3): p-values that may be read at any time.
"""

from __future__ import annotations

import math

_TIMES = (1.0, 4.0, 16.0)
"""The stakes are the best ones for a difference that shows after all, a quarter, a sixteenth of the planned units."""
_MOST_STAKE = 0.5
"""Of what would lose everything at once."""
_SEEN = 1.25
"""Where no bounds are known, so many times the range seen so far takes their place."""
_STEEP = 4 * math.log(2) - 2
"""Where a surprise takes more than half of a stake after all, for want of bounds: a parabola goes on from there."""
_WARM = 10
"""Values of each arm that are only looked at, where no bounds are known."""
_STEPS = 60


class Difference:
    """The mean of one arm minus that of the control, from values that come one at a time.

    Attributes:
        units: Values that were bet on.
        effect: The difference, estimated.
        peak: Logarithm of what the best stake against 0 has gained; no evidence against 0 is more than that.
    """

    def __init__(self, *, bounds: tuple[float, float] | None, alpha: float, planned: float) -> None:
        """No value yet.

        Args:
            bounds: Between which all values lie; None when that is not known.
            alpha: The probability of being wrong that the stakes are made for.
            planned: About how many values there will be.
        """
        self._bounds = bounds
        self._low, self._high = bounds or (math.inf, -math.inf)
        self._ambition = [math.sqrt(2 * math.log(2 / alpha) * times / max(planned, 1.0)) for times in _TIMES]
        self._counts = [0, 0]
        self._sums = [0.0, 0.0]
        self._variation = 0.0
        self._total = 0.0
        # For each stake: the logarithm of what it gained against 0, and how much less that is for a value of 1.
        self._higher = [[0.0, 0.0] for _ in _TIMES]
        self._lower = [[0.0, 0.0] for _ in _TIMES]
        self.units = 0
        self.peak = 0.0

    @property
    def effect(self) -> float:
        """The difference, estimated; 0 before the first value."""
        return self._total / self.units if self.units else 0.0

    def add(self, value: float, *, treated: bool, probability: float) -> None:
        """Bet on the next value, then learn from it.

        Args:
            value: The value of one unit.
            treated: It is the arm's, not the control's.
            probability: With which such a unit, being of one of the two, was assigned to the arm.
        """
        if self._bounds is not None or (min(self._counts) >= _WARM and self._low < self._high):
            self._bet(value, treated, probability)
        else:
            self._low, self._high = min(self._low, value), max(self._high, value)
        self._counts[treated] += 1
        self._sums[treated] += value
        if self._bounds is None:
            self._low, self._high = min(self._low, value), max(self._high, value)

    def log_evidence(self, against: float = 0.0) -> float:
        """Logarithm of what betting that the difference is not `against` has gained; mixes both sides."""
        return _log_mean(_gains(self._higher + self._lower, against))

    def log_evidence_above(self, against: float) -> float:
        """Logarithm of what betting that the difference is higher has gained."""
        return _log_mean(_gains(self._higher, against))

    def log_evidence_below(self, against: float) -> float:
        """Logarithm of what betting that the difference is lower has gained."""
        return _log_mean(_gains(self._lower, against))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return between which values the difference lies; infinite before there is anything to tell."""
        if not self.units:
            return -math.inf, math.inf
        limit = math.log(1 / alpha)
        step = math.sqrt(self._variation / self.units / self.units) or 1e-12
        inside = self._least(step)
        if self.log_evidence(inside) >= limit:
            return inside, inside
        return self._edge(inside, -step, limit), self._edge(inside, step, limit)

    def _bet(self, value: float, treated: bool, probability: float) -> None:  # noqa: FBT001 as `add`
        control, arm = self._means()
        difference = arm - control
        surprise = (value - arm) / probability if treated else (control - value) / (1 - probability)
        seen = 1.0 if self._bounds is not None else _SEEN
        up = seen * max((arm - self._low) / probability, (self._high - control) / (1 - probability))
        down = seen * max((self._high - arm) / probability, (control - self._low) / (1 - probability))
        least = (self._high - self._low) / 100  # if neither arm ever varied, nothing would seem to be at stake
        up, down = max(up, least), max(down, least)
        deviation = math.sqrt((up * down / 4 + self._variation) / (self.units + 1))
        self.peak = -math.inf
        for ambition, higher, lower in zip(self._ambition, self._higher, self._lower, strict=True):
            wanted = ambition / deviation
            stake = min(wanted, _MOST_STAKE / up)
            higher[0] += stake * difference + _gain(stake * surprise)
            higher[1] += stake
            stake = min(wanted, _MOST_STAKE / down)
            lower[0] += _gain(-stake * surprise) - stake * difference
            lower[1] -= stake
            self.peak = max(self.peak, higher[0], lower[0])
        self._variation += surprise * surprise
        self._total += difference + surprise
        self.units += 1

    def _means(self) -> tuple[float, float]:
        """What the next value of each arm is expected to be, from those before it."""
        (controls, arms), (control, arm) = self._counts, self._sums
        if self._bounds is None:
            return control / controls, arm / arms
        middle = (self._low + self._high) / 2
        return (control + middle) / (controls + 1), (arm + middle) / (arms + 1)

    def _least(self, step: float) -> float:
        """Return the value there is least evidence against; evidence is convex in it."""
        low = high = self.effect
        while self.log_evidence(low - step) < self.log_evidence(low):
            low -= step
            step *= 2
        while self.log_evidence(high + step) < self.log_evidence(high):
            high += step
            step *= 2
        low, high = low - step, high + step
        for _ in range(_STEPS):
            third = (high - low) / 3
            if self.log_evidence(low + third) < self.log_evidence(high - third):
                high -= third
            else:
                low += third
        return (low + high) / 2

    def _edge(self, inside: float, step: float, limit: float) -> float:
        outside = inside + step
        while self.log_evidence(outside) < limit:
            step *= 2
            outside = inside + step
            if not math.isfinite(outside):
                return outside
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            if self.log_evidence(middle) < limit:
                inside = middle
            else:
                outside = middle
        return outside


def _gain(part: float) -> float:
    """Return the logarithm of 1 + `part`, or of no more than that."""
    return math.log1p(part) if part >= -_MOST_STAKE else part - _STEEP * part * part


def _gains(stakes: list[list[float]], against: float) -> list[float]:
    return [gained - against * less for gained, less in stakes]


def _log_mean(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum([math.exp(value - most) for value in values]) / len(values))
