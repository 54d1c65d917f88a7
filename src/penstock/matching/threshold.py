"""From which probability on proposals are served: the lowest above which the error is small enough by all labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

from penstock.matching.bounds import upper_quantile

BINS = 24
"""Bins of the log-odds that a proposal is right."""

_STEP = 0.4
_CLAIM = 2.0
_MEMORY = 1000.0
_MEMORY_SEEN = 4000.0
_LARGE = 1e9
_START, _STAY = 2.6, 1.0


class Threshold:
    """Counts labels by bin, and chooses.

    What is served now is labelled less often than what is not, so labels are not pooled: each bin has an error of its
    own, and that of all bins from one up is their mean by how many proposals fall into each (stratified sampling,
    Cochran 1977). One label more is taken to be wrong, as in Clopper & Pearson's interval. To begin serving from a bin
    on, the error must be small enough by 2.6 standard deviations (199 of 200); to go on, by one: a threshold
    that is looked at after every label would else begin in lucky streaks.

    Args:
        prior: Counts (right, wrong) by bin to start from; none at all for "nothing is known".
        seen: How many proposals fell into each; as many as were counted, if not given.
    """

    def __init__(self, prior: Sequence[tuple[float, float]], *, seen: Sequence[float] | None = None) -> None:
        self.right = [right for right, _ in prior] or [0.0] * BINS
        self.wrong = [wrong for _, wrong in prior] or [0.0] * BINS
        self._seen = list(seen) if seen else [r + w for r, w in zip(self.right, self.wrong, strict=True)]
        self._one = 1.0
        self.shipped = 0.0 if seen else sum(self._seen)
        self.lowest = BINS

    @property
    def seen(self) -> list[float]:
        """How many proposals of late fell into each bin."""
        self._seen, self._one = [count / self._one for count in self._seen], 1.0
        return self._seen

    def see(self, place: int) -> None:
        """Count a proposal, labelled or not."""
        # The later ones weigh more instead of the earlier less: only shares matter.
        self._one /= 1.0 - 1.0 / _MEMORY_SEEN
        self._seen[place] += self._one
        if self._one > _LARGE:
            self._seen = self.seen

    def label(self, place: int, *, right: bool) -> None:
        """Count a label; a bin remembers about its last thousand."""
        keep = 1.0 - 1.0 / _MEMORY
        self.right[place] = self.right[place] * keep + right
        self.wrong[place] = self.wrong[place] * keep + (not right)

    def error(self, place: int) -> float:
        """Return the share of wrong ones in a bin, as far as labels and the model know."""
        known = self.right[place] + self.wrong[place] + _CLAIM
        return (self.wrong[place] + _CLAIM * _error(place)) / known

    def choose(self, delta: float) -> None:
        """Set `lowest`, `BINS` where nothing may be served."""
        total = mean = variance = doubt = 0.0
        begin = stay = BINS
        for place in range(BINS - 1, -1, -1):
            share = self._seen[place]
            if not share:
                continue
            known = self.right[place] + self.wrong[place] + _CLAIM
            error = (self.wrong[place] + _CLAIM * _error(place)) / known
            total += share
            mean += share * error
            variance += share * share * error * (1.0 - error) / (known + 1.0)
            doubt += share * share / known
            one = doubt / (total * total)
            estimate, spread = mean / total + one, variance / (total * total) + one * one
            if upper_quantile(estimate, spread, _START) <= delta:
                begin = place
            if place >= self.lowest and upper_quantile(estimate, spread, _STAY) <= delta:
                stay = place
        self.lowest = min(begin, stay)


def bin_of(probability: float) -> int:
    """Return the bin of the log-odds of `probability`, 0 for the least."""
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return max(0, min(BINS - 1, int(log(bounded / (1 - bounded)) / _STEP + BINS / 3)))


def _error(place: int) -> float:
    """Return what the model claims in the middle of a bin."""
    return 1.0 / (1.0 + exp((place + 0.5 - BINS / 3) * _STEP))
