"""One metric of all arms, unit by unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from penstock.core.experiment import Experiment, Metric
from penstock.experiments.report import Effect, Mean, Measured
from penstock.experiments.sequence import Difference

_REFUTED = 700.0
"""More evidence than a float has room for."""


class Comparison:
    """Compares each arm with the control; of more than one, each gets its part of alpha (Bonferroni).

    Args:
        experiment: Says the arms and alpha.
        metric: What is compared.
        worse_by: By how much an arm may be worse than the control, for `harms`; None if that is not watched.
    """

    def __init__(self, experiment: Experiment, metric: Metric, worse_by: float | None = None) -> None:
        self.metric = metric
        self._control = experiment.arms[0].name
        self._arms = [arm.name for arm in experiment.arms[1:]]
        self._alpha = experiment.alpha / len(self._arms)
        self._worse_by = worse_by
        weights = experiment.weights
        self._differences = {
            arm: Difference(
                bounds=metric.bounds,
                alpha=self._alpha,
                planned=experiment.most_units * (weights[arm] + weights[self._control]),
            )
            for arm in self._arms
        }
        self._counts = dict.fromkeys(weights, 0)
        self._means = dict.fromkeys(weights, 0.0)
        self._squares = dict.fromkeys(weights, 0.0)
        self._evidence = dict.fromkeys(self._arms, 0.0)
        self._harm = dict.fromkeys(self._arms, 0.0)
        most = math.inf if metric.bounds is None else metric.bounds[1] - metric.bounds[0]
        self._intervals = dict.fromkeys(self._arms, (-most, most))

    def add(self, arm: str, value: float, weights: Mapping[str, float]) -> None:
        """Take the value of one unit, and with which probabilities it might have been assigned."""
        if self.metric.bounds is not None:
            value = min(max(value, self.metric.bounds[0]), self.metric.bounds[1])
        self._count(arm, value)
        for other in self._arms if arm == self._control else (arm,):
            share = weights[other] / (weights[other] + weights[self._control])
            if 0 < share < 1:
                self._differences[other].add(value, treated=arm == other, probability=share)
                self._look(other)

    def certain(self, arm: str) -> bool | None:
        """Whether `arm` is better than the control (True) or worse; None while that is not certain."""
        if self._evidence[arm] < -math.log(self._alpha):
            return None
        low, high = self._interval(arm)
        middle = self._differences[arm].effect if low < 0 < high else (low + high) / 2
        return (middle < 0) == (self.metric.direction == "lower")

    def harms(self, arm: str, alpha: float) -> bool:
        """Whether `arm` is worse than the control by more than is allowed, with probability of a mistake `alpha`."""
        return self._harm[arm] >= math.log(len(self._arms) / alpha)

    def spread(self, arm: str) -> tuple[int, float, float | None]:
        """Return an arm's number of values, their mean and their standard deviation."""
        count = self._counts[arm]
        return count, self._means[arm], math.sqrt(self._squares[arm] / (count - 1)) if count > 1 else None

    def effects(self) -> tuple[Effect, ...]:
        """Return the differences from the control."""
        found = []
        for arm in self._arms:
            low, high = self._interval(arm)
            p = min(1.0, len(self._arms) * math.exp(-min(self._evidence[arm], _REFUTED)))
            found.append(Effect(arm, self._differences[arm].effect, low if math.isfinite(low) else None,
                                high if math.isfinite(high) else None, p, self.certain(arm)))  # fmt: skip
        return tuple(found)

    def report(self, role: str) -> Measured:
        """Return all that is known of the metric."""
        means = []
        for arm in (self._control, *self._arms):
            count, mean, deviation = self.spread(arm)
            means.append(Mean(arm, count, mean if count else None, deviation))
        metric = self.metric
        return Measured(metric.name, metric.direction, role, metric.bounds, tuple(means), self.effects())

    def _count(self, arm: str, value: float) -> None:
        """Keep the mean and the squares (Welford 1962)."""
        self._counts[arm] += 1
        before = value - self._means[arm]
        self._means[arm] += before / self._counts[arm]
        self._squares[arm] += before * (value - self._means[arm])

    def _look(self, arm: str) -> None:
        """Keep the most evidence there has ever been: what was refuted once stays so."""
        difference = self._differences[arm]
        evidence = difference.log_evidence() if difference.peak > self._evidence[arm] else 0.0
        if evidence > self._evidence[arm]:
            if self._evidence[arm] < -math.log(self._alpha) <= evidence:
                self._interval(arm)
            self._evidence[arm] = evidence
        if self._worse_by is None:
            return
        if self.metric.direction == "lower":
            harm = difference.log_evidence_above(self._worse_by)
        else:
            harm = difference.log_evidence_below(-self._worse_by)
        self._harm[arm] = max(self._harm[arm], harm)

    def _interval(self, arm: str) -> tuple[float, float]:
        """Return the interval, which only shrinks."""
        low, high = self._differences[arm].interval(self._alpha)
        before_low, before_high = self._intervals[arm]
        low, high = max(low, before_low), min(high, before_high)
        if low > high:  # what was shut out before and what is now leave nothing: the assumptions do not hold
            low = high = (low + high) / 2
        self._intervals[arm] = (low, high)
        return low, high
