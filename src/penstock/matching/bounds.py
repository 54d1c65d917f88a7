"""Error rates from audits: bounds that hold however often one looks, and an alarm when a rate has risen.

Both are products of bets against a hypothesis (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random
variables by betting"). A served answer is audited with a known probability; a wrong one that was audited counts for
one over that probability, so the average is that of all that was served, whatever decided which to serve and audit.
"""

from __future__ import annotations

from math import exp, log, log1p, sqrt

RATES = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
)
"""The bounds that can be stated."""

_STAKES = (0.1, 0.25, 0.5, 0.9)
_ODDS = (1.0, 4.0, 16.0)


class ErrorBound:
    """What the share of wrong answers among those served was at most, from audits of some of them.

    Valid at every moment at once: the chance that the bound is ever below the average rate of what was served until
    then is `alpha` at most.

    Args:
        alpha: How often the bound may fail.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        self._needed = log(len(_STAKES) / alpha)
        self._capital = [[0.0] * len(_STAKES) for _ in RATES]
        self._not_wrong: dict[float, int] = {}

    @property
    def capital(self) -> list[list[float]]:
        """Logarithms of what the bets against each of `RATES` have come to."""
        self._settle()
        return self._capital

    @capital.setter
    def capital(self, capital: list[list[float]]) -> None:
        self._not_wrong.clear()
        self._capital = capital

    def served(self, *, wrong: bool, chance: float) -> None:
        """Count one served answer.

        Args:
            wrong: Whether it was audited and found wrong.
            chance: The probability with which it was audited.
        """
        if wrong:
            self._settle()
            self._bet(chance, wrong=True, times=1)
        else:
            self._not_wrong[chance] = self._not_wrong.get(chance, 0) + 1

    def value(self) -> float:
        """Return the bound, 1 while nothing can be said."""
        bound = 1.0
        for rate, capital in zip(reversed(RATES), reversed(self.capital), strict=True):
            most = max(capital)
            if most + log(sum(exp(each - most) for each in capital)) < self._needed:
                break
            bound = rate
        return bound

    def _settle(self) -> None:
        for chance, times in self._not_wrong.items():
            self._bet(chance, wrong=False, times=times)
        self._not_wrong.clear()

    def _bet(self, chance: float, *, wrong: bool, times: int) -> None:
        for rate, capital in zip(RATES, self._capital, strict=True):
            gain = rate * chance - wrong
            for place, stake in enumerate(_STAKES):
                capital[place] += times * log1p(stake * gain)


class ChangeDetector:
    """Says when an error rate that was at most `delta` is not any more, from audits of what was served.

    Bets that start anew whenever they have lost (e-detector, Shin, Ramdas & Rinaldo 2023): while the rate stays at
    `delta` or below, false alarms are `patience` served answers apart at least, on average.

    Args:
        delta: The rate that is allowed.
        patience: Served answers between false alarms.
    """

    def __init__(self, delta: float, *, patience: float = 1000.0) -> None:
        self._delta = delta
        self._patience = patience
        self.capital = [0.0] * len(_ODDS)

    @property
    def evidence(self) -> float:
        """How strongly audits speak for a change; `patience` is an alarm, 1 and less is nothing."""
        return sum(self.capital) / len(_ODDS)

    def served(self, *, wrong: bool, chance: float) -> bool:
        """Count one served answer, and return whether there is an alarm.

        Args:
            wrong: Whether it was audited and found wrong.
            chance: The probability with which it was audited.
        """
        loss = 1.0 / chance if wrong else 0.0
        for place, odds in enumerate(_ODDS):
            stake = min(odds * chance, 0.5 / self._delta)
            self.capital[place] = max(self.capital[place], 1.0) * (1.0 + stake * (loss - self._delta))
        if self.evidence < self._patience:
            return False
        self.capital = [0.0] * len(_ODDS)
        return True


def upper_quantile(mean: float, variance: float, deviations: float) -> float:
    """Return what a rate of this mean and variance is below, taken for gamma distributed (Wilson & Hilferty 1931).

    Args:
        mean: Of the rate, above 0.
        variance: Of the rate, above 0.
        deviations: Standard deviations of the normal distribution: 1.28 for nine times of ten, 1.64 for 19 of 20.
    """
    width = variance / (9.0 * mean * mean)
    return mean * max(0.0, 1.0 - width + deviations * sqrt(width)) ** 3
