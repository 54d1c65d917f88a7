"""From calls to what is known: units, one by one, each with the mean of its calls.

A unit counts once, when the window after its first call is over, so that calls which belong together do not pass for
evidence of their own, and no value changes after it was counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from penstock.core.experiment import SCORE, Experiment, Outcome
from penstock.experiments.comparing import Comparison
from penstock.experiments.report import Decision, Measured, Point, Report
from penstock.experiments.state import State

MOST_POINTS = 200
"""Of the plot."""
_DAY_S = 86_400.0
_PRIOR = 100.0
"""Units' worth of belief that the shares are kept, in `_Balance`."""


class Analysis:
    """Takes an experiment's calls in the order of their ids.

    Args:
        experiment: What is compared.
        state: Since when, and with which shares at what time.
    """

    def __init__(self, experiment: Experiment, state: State) -> None:
        self.experiment = experiment
        self.state = state
        self.after = 0
        self.decision: Decision | None = None
        harm = {guard.metric.name: guard.worse_by for guard in experiment.guards}
        self._comparisons = {
            metric.name: Comparison(experiment, metric, harm.get(metric.name)) for metric in experiment.measured
        }
        self._guards = list(harm) if experiment.harm else []
        self._control = experiment.arms[0].name
        self._open: dict[str, _Unit] = {}
        self._closed: set[int] = set()
        self._calls = self._left_out = self._units = 0
        self._balance = _Balance(experiment.weights)
        self._points: deque[Point] = deque()
        self._every = 1

    def feed(self, outcomes: Iterable[Outcome]) -> None:
        """Take calls, all newer than those before."""
        for outcome in outcomes:
            self.after = outcome.id
            arm = outcome.arms.get(self.experiment.name)
            if arm not in self.state.shares[0].weights or outcome.at < self.state.since:
                continue
            self.close(outcome.at)
            number = int(outcome.unit, 16)
            unit = self._open.get(outcome.unit)
            if unit is None:
                if number in self._closed:
                    self._left_out += 1
                    continue
                unit = self._open[outcome.unit] = _Unit(outcome.at, arm)
            if unit.arm != arm:  # the shares changed
                self._left_out += 1
                continue
            self._calls += 1
            unit.add(outcome, unit.first + self.experiment.window_s)

    def close(self, until: float) -> None:
        """Count the units whose window is over at a time; all calls before that have been fed."""
        while self._open:
            name, unit = next(iter(self._open.items()))
            if unit.first + self.experiment.window_s > until:
                return
            del self._open[name]
            self._closed.add(int(name, 16))
            self._count(unit)

    def report(self) -> Report:
        """Return what is known."""
        experiment = self.experiment
        guards = {guard.metric.name for guard in experiment.guards}
        found: list[Measured] = []
        for name, comparison in self._comparisons.items():
            role = "primary" if name == experiment.primary.name else "guard" if name in guards else ""
            found.append(comparison.report(role))
        steady = len(self.state.shares) == 1 and self._units > 0
        return Report(
            experiment.name, self._units, len(self._open), self._calls, self._left_out, experiment.alpha,
            self._balance.p if steady else None, tuple(found), tuple(self._points), self.decision,
        )  # fmt: skip

    def rewards(self) -> dict[str, tuple[int, float, float | None]]:
        """Return the primary metric of each arm, higher is better: number, mean, standard deviation."""
        sign = 1.0 if self.experiment.primary.direction == "higher" else -1.0
        primary = self._comparisons[self.experiment.primary.name]
        found = {}
        for arm in self.experiment.arms:
            count, mean, deviation = primary.spread(arm.name)
            found[arm.name] = (count, sign * mean, deviation)
        return found

    def overdue(self, now: float) -> Decision | None:
        """Return that the time is up, if it is."""
        days = self.experiment.most_days
        if days is None or now < self.state.since + days * _DAY_S:
            return None
        return Decision(f"{days:g} days are over and no arm is certainly better", None, harm=False, at=now)

    def _count(self, unit: _Unit) -> None:
        if self._units >= self.experiment.most_units:
            return
        self._units += 1
        self._balance.add(unit.arm)
        weights = self.state.weights(unit.first)
        for name, value in unit.means():
            comparison = self._comparisons.get(name)
            if comparison is not None:
                comparison.add(unit.arm, value, weights)
        if self._units % self._every == 0:
            self._point(unit.first)
        if self.decision is None:
            self.decision = self._decide(unit.first)

    def _decide(self, at: float) -> Decision | None:
        experiment = self.experiment
        primary = self._comparisons[experiment.primary.name]
        others = [arm.name for arm in experiment.arms[1:]]
        for name in self._guards:
            comparison = self._comparisons[name]
            broken = [arm for arm in others if comparison.harms(arm, experiment.alpha / len(self._guards))]
            if broken:
                return self._worse(broken, name, at)
        # Another one that does better still may need a few units more to be certain.
        sign = 1 if experiment.primary.direction == "higher" else -1
        leader = max(others, key=lambda arm: sign * primary.spread(arm)[1])
        if primary.certain(leader):
            why = f"{leader} is better on {experiment.primary.name} than {self._control}"
            return Decision(why, leader, harm=False, at=at)
        worse = [arm for arm in others if primary.certain(arm) is False]
        if len(worse) == len(others) or (worse and experiment.harm):
            return self._worse(worse, experiment.primary.name, at)
        if self._units >= experiment.most_units:
            return Decision(f"{self._units} units have been counted and no arm is certainly better", None, harm=False,
                            at=at)  # fmt: skip
        return None

    def _worse(self, arms: list[str], metric: str, at: float) -> Decision:
        winner = self._control if len(arms) == len(self.experiment.arms) - 1 else None
        return Decision(f"{', '.join(arms)} is worse on {metric} than {self._control}", winner, harm=True, at=at)

    def _point(self, at: float) -> None:
        for effect in self._comparisons[self.experiment.primary.name].effects():
            if effect.low is not None and effect.high is not None:
                self._points.append(Point(at, self._units, effect.arm, effect.effect, effect.low, effect.high))
        others = len(self.experiment.arms) - 1
        if len(self._points) > MOST_POINTS * others:
            self._every *= 2
            self._points = deque(point for point in self._points if point.units % self._every == 0)


class _Unit:
    """What one unit did in its window."""

    __slots__ = ("_sums", "arm", "first")

    def __init__(self, first: float, arm: str) -> None:
        self.first = first
        self.arm = arm
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, outcome: Outcome, until: float) -> None:
        for name, value in outcome.values.items():
            self._add(name, value)
        for name, (value, at) in outcome.scores.items():
            if at < until:
                self._add(SCORE + name, value)

    def means(self) -> Iterable[tuple[str, float]]:
        return ((name, total / count) for name, (total, count) in self._sums.items())

    def _add(self, name: str, value: float) -> None:
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + value, count + 1)


class _Balance:
    """Whether the arms get the units they should; if not, something loses calls, and no comparison can be trusted.

    Lindon, Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS: a Dirichlet prior around the
    shares, compared with the shares themselves.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._counts = dict.fromkeys(weights, 0)
        self._log = self._most = 0.0

    def add(self, arm: str) -> None:
        total = sum(self._counts.values())
        expected = (_PRIOR * self._weights[arm] + self._counts[arm]) / (_PRIOR + total)
        self._log += math.log(expected / self._weights[arm])
        self._most = max(self._most, self._log)
        self._counts[arm] += 1

    @property
    def p(self) -> float:
        return math.exp(-self._most)
