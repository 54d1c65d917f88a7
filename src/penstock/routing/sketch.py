"""A streaming sketch of times: how they are distributed, lately."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

_LEAST_S, _GROWTH, _BUCKETS = 0.001, 1.07, 206
_BOUNDS = tuple(_LEAST_S * _GROWTH**index for index in range(_BUCKETS))
"""Upper bounds of the buckets but for the last, which has none: 1 ms to 18 minutes, each 7 % above the one before."""
_MIDDLES = tuple(bound / math.sqrt(_GROWTH) for bound in (*_BOUNDS, _BOUNDS[-1] * _GROWTH))
_WINDOW = 4000.0
"""Observations after which the older ones weigh half. The quantiles of interest have one in twenty beyond them."""
_PRIOR, _PRIOR_S = 2.0, (2.0, 60.0)
"""A sketch without a parent begins as if it had seen so many times, spread evenly in logarithm over this range."""
_SHRINKAGE = 5.0
"""Observations the parent counts for."""
_STALE = 32.0
"""The sums may leave out the newest times, up to one in so many."""


def _ignorance() -> tuple[float, ...]:
    low, high = (bisect_left(_BOUNDS, bound) for bound in _PRIOR_S)
    return tuple(_PRIOR / (high - low) if low < index <= high else 0.0 for index in range(_BUCKETS + 1))


_IGNORANCE = _ignorance()


class Sketch:
    """Counts in buckets of growing width, older ones fading out, shrunk towards a parent while there are few.

    Quantiles are right to within a bucket. A new sketch, or one whose parent is new, expects the worst: that nothing
    can be said before a minute is over.
    """

    __slots__ = ("_beyond", "_counts", "_new", "_parent", "_seen", "_times")

    def __init__(self, parent: Sketch | None = None) -> None:
        """`parent` is the distribution to assume while little is known."""
        self._parent = parent
        self._counts = array("d", bytes(8 * (_BUCKETS + 1)))
        self._seen = 0.0
        self._new = 0.0
        self._beyond: Sequence[float] = ()
        """How many times are in a bucket or beyond it, and the sum of those times."""
        self._times: Sequence[float] = ()

    def add(self, seconds: float) -> None:
        """Count one time."""
        self._counts[bisect_left(_BOUNDS, seconds)] += 1.0
        self._grow()

    def add_beyond(self, seconds: float) -> None:
        """Count a time of which only is known that it is longer, as a part of each longer one known.

        That is Efron's redistribution to the right ("The two sample problem with censored data", 1967).
        """
        self._refresh()
        first, beyond = bisect_left(_BOUNDS, seconds), self._beyond
        longer = self._longer(first, seconds)
        if longer <= 0.0:
            self._counts[first] += 1.0
        else:
            self._counts[first] += (longer - beyond[first + 1]) / longer
            for index in range(first + 1, _BUCKETS + 1):
                self._counts[index] += (beyond[index] - beyond[index + 1]) / longer
        self._grow()

    def quantile(self, share: float) -> float:
        """The time that `share` of the times are not above, seconds."""
        self._refresh()
        beyond = self._beyond
        over = (1.0 - share) * beyond[0]
        index = max(bisect_left(beyond, -over, key=_negative) - 1, 0)
        inside = beyond[index] - beyond[index + 1]
        part = (beyond[index] - over) / inside if inside else 1.0
        return _MIDDLES[index] * float(_GROWTH ** (part - 0.5))

    def excess(self, waited: float, answer: float) -> float:
        """Mean seconds saved by something that takes `answer` seconds from now on, when `waited` were in vain.

        If nothing ever took that long, it is as likely to take as long again as what is known for long tails.
        """
        self._refresh()
        left = self._longer(bisect_left(_BOUNDS, waited), waited)
        if left <= 0.0:
            return max(waited - answer, 0.0)
        end = waited + answer
        index = bisect_left(_BOUNDS, end)
        saved = self._times[index + 1] - self._beyond[index + 1] * end
        if index < _BUCKETS:
            saved += (self._longer(index, end) - self._beyond[index + 1]) * (_BOUNDS[index] - end) / 2.0
        return max(saved, 0.0) / left

    def _longer(self, index: int, seconds: float) -> float:
        """How many times are above `seconds`, which are in the bucket `index`."""
        inside = self._beyond[index] - self._beyond[index + 1]
        if index >= _BUCKETS or not inside:
            return self._beyond[index]
        high = _BOUNDS[index]
        low = high / _GROWTH if index else 0.0
        return self._beyond[index] - inside * max(seconds - low, 0.0) / (high - low)

    def _grow(self) -> None:
        self._seen += 1.0
        self._new += 1.0
        if self._seen > _WINDOW:
            self._counts = array("d", [count / 2.0 for count in self._counts])
            self._seen /= 2.0

    def _refresh(self) -> None:
        if self._beyond and self._new * _STALE <= self._seen:
            return
        counts = [own + prior for own, prior in zip(self._counts, self._prior(), strict=True)]
        self._beyond = _sums_from_the_end(counts)
        self._times = _sums_from_the_end(map(float.__mul__, counts, _MIDDLES))
        self._new = 0.0

    def _prior(self) -> Iterable[float]:
        parent = self._parent
        if parent is None:
            return _IGNORANCE
        known = [count + prior for count, prior in zip(parent._counts, parent._prior(), strict=True)]
        scale = _SHRINKAGE / sum(known)
        return [count * scale for count in known]


def _sums_from_the_end(values: Iterable[float]) -> Sequence[float]:
    return array("d", [*accumulate(reversed([*values]), initial=0.0)][::-1])


def _negative(value: float) -> float:
    return -value
