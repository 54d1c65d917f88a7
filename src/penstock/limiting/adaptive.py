"""How many requests at once an upstream does best with, found by trying.

By Little's law an upstream that takes R times as long for each of L concurrent requests does L ÷ R of the work it would
do for one at a time. R is the residual latency, observed ÷ predicted from tokens, so that long answers are not taken
for congestion. The limit climbs ln L − mean ln R: raised while that brings more work done, lowered while it costs none.

One comparison is a *base*, a stretch of requests that all started at the present limit while it was fully used, and a
*trial* at a limit a step above or below, judged by the same model of latency. A better trial is the new base, and
further ones go the same way with longer steps; one that is clearly worse is given up early, and the other direction is
tried; when neither is better, steps become shorter and at last rare. A refusal for
overload lowers the limit at once (AIMD), and what has been learnt starts anew from there.
"""

from __future__ import annotations

import math
from typing import Literal

from penstock.limiting.latency import LatencyModel

START = 6
"""The limit to begin with."""
_FIRST_STEP = math.log(1.65)
"""Steps until the first one that was too long;"""
_LONGEST_STEP = math.log(1.25)
_SHORTEST_STEP = math.log(1.07)
"""and afterwards."""
_DECREASE = 0.75
"""What remains of the limit when the upstream says that it is too much."""
_SATURATED = 0.9
"""A request tells something about the limit if at least this share of it was in use when it started."""
_ENOUGH = 0.8
"""Share of a stretch that must have ended; the rest may be streams without end."""
_FIRST, _FEWEST, _MOST_SAMPLES = 16, 40, 160
"""Requests of a stretch: during the first steps, afterwards, and at most."""
_CONFIDENCE = 3.5
"""Standard deviations of a stretch's mean that one step is to be wide."""
_WORTH_UP = 0.15
"""A step up must bring this share of itself in work done;"""
_WORTH_DOWN = 0.08
"""one down may cost this share."""
_LONGEST_REST = 32
_LOOK = 8
"""After so many requests each, a trial may be given up early,"""
_CLEARLY = 1.5
"""if it is so many standard errors below what it must bring."""
_SHIFT = 0.15
"""How far a rest's score may be from the base's before it: more means that the upstream has changed."""
_NONE = 0
"""The mark of a request that tells nothing."""

_TRIMMED = 1.5
"""Standard deviation of a normal distribution by that of its middle four fifths."""

Sample = tuple[LatencyModel, float, float, float]
"""The model of latency, input and output tokens, and the seconds it took."""


class AdaptiveLimit:
    """A limit that follows the upstream. It has no clock and no chance in it: the same requests lead to the same limit.

    Attributes:
        limit: Requests that may be under way at once.
    """

    __slots__ = ("_base", "_base_samples", "_direction", "_epoch", "_most", "_pause", "_phase", "_refused",
                 "_rest", "_returned", "_run", "_samples", "_settling", "_spread", "_step", "_turned", "_wanted",
                 "_window", "limit")  # fmt: skip

    def __init__(self, most: int, start: int = START) -> None:
        """Never more than `most`; begins with `start`."""
        self._most = most
        self.limit = self._base = min(start, most)
        self._phase: Literal["base", "rest", "trial"] = "base"
        self._direction = 1
        self._step = _FIRST_STEP
        self._spread = 0.5
        self._turned = 0
        self._run = 0
        self._pause = 1
        self._rest = 0
        self._refused = False
        self._epoch = _NONE
        self._settling = 0
        self._samples: list[Sample] = []
        self._base_samples: list[Sample] = []
        self._measure()

    def bound(self, most: int) -> None:
        """Never more than `most` from now on."""
        self._most = most
        self._base = min(self._base, most)
        if self.limit > most:
            self._go(self._base, "base")

    def start(self, in_use: int) -> int:
        """A request starts, with so many in use, itself included; returns its mark for `finish`."""
        if self._wanted <= 0 or self._settling > 0 or in_use < self.limit * _SATURATED:
            return _NONE
        self._wanted -= 1
        return self._epoch

    def finish(self, mark: int, sample: Sample | None) -> None:
        """The request of `mark` ended; None if it says nothing about latency, such as one that was given up."""
        if self._settling > 0:
            self._settling -= 1
        elif mark == self._epoch:
            self._returned += 1
            if sample is not None:
                self._samples.append(sample)
            if self._returned >= self._window * _ENOUGH or (self._returned % _LOOK == 0 and self._hopeless()):
                self._conclude()

    def overloaded(self) -> None:
        """The upstream refused a request because it is too much; ends the request as `finish` does."""
        if self._settling > 0 and self._refused:
            self._settling -= 1  # it was under way when the limit was lowered: part of the same refusal
            return
        self._refused = True
        self._base = max(1, math.floor(self.limit * _DECREASE))
        self._step = _SHORTEST_STEP
        self._direction = 1
        self._rest = self._pause = 1
        self._settling = self.limit
        self._go(self._base, "base")

    def _go(self, limit: int, phase: Literal["base", "trial"]) -> None:
        """Start a stretch at `limit`; what started before it is not of it."""
        self._phase = phase
        self.limit = limit
        self._measure()

    def _measure(self) -> None:
        self._epoch += 1
        stride = max(self._step, 1 / self.limit)
        window = math.ceil((_CONFIDENCE * self._spread / stride) ** 2)
        fewest = _FIRST if self._step == _FIRST_STEP else _FEWEST
        self._window = self._wanted = max(fewest, min(window, _MOST_SAMPLES))
        self._returned = 0
        self._samples = []

    def _conclude(self) -> None:
        self._refused = False
        if len(self._samples) < _LOOK:
            self._measure()
        elif self._phase == "trial":
            self._judge()
        elif self._phase == "rest" and not self._shifted():
            self._relax()
        else:
            self._base_samples = self._samples
            self._relax()

    def _relax(self) -> None:
        """Measure the base some more before the next trial."""
        if self._rest > 0:
            self._rest -= 1
            self._phase = "rest"
            self._measure()
        else:
            self._try()

    def _shifted(self) -> bool:
        """Whether the upstream does better or worse than at the base before; then trials are due, with long steps."""
        if abs(self._gain()) <= _SHIFT:
            return False
        self._rest, self._pause = 0, 1
        self._step = _LONGEST_STEP
        return True

    def _try(self) -> None:
        """Start a trial one step from the base, or go on measuring when there is nowhere to go."""
        stride = max(self._step, min(self._step * 1.5 ** (self._run - 1), _LONGEST_STEP))
        for _ in range(2):
            aim = round(self._base * math.exp(self._direction * stride))
            if aim == self._base:
                aim += self._direction
            aim = max(1, min(aim, self._most))
            if aim != self._base:
                self._go(aim, "trial")
                return
            self._direction = -self._direction
        self._phase = "base"
        self._measure()

    def _hopeless(self) -> bool:
        """Whether a trial is so much worse already that the rest of it can be spared."""
        if self._phase != "trial" or len(self._samples) < _LOOK:
            return False
        error = self._spread * math.sqrt(1 / len(self._samples) + 1 / len(self._base_samples))
        return self._gain() + _CLEARLY * error < self._worth()

    def _worth(self) -> float:
        """The gain from which on a trial is better than the base."""
        stride = math.log(self.limit / self._base)
        return stride * (_WORTH_UP if stride > 0 else _WORTH_DOWN)

    def _judge(self) -> None:
        if self._gain() > self._worth():
            self._base, self._base_samples = self.limit, self._samples
            self._turned = 0
            self._pause = max(self._pause // 2, 1)
            self._run += 1
            self._try()
            return
        self._run = 0
        self._direction = -self._direction
        self._turned += 1
        self._step = min(self._step, _LONGEST_STEP)
        if self._turned < 2:
            self._try()
            return
        self._turned = 0
        if self._step == _SHORTEST_STEP:
            self._rest = self._pause
            self._pause = min(self._pause * 2, _LONGEST_REST)
        self._step = max(self._step / 2, _SHORTEST_STEP)
        self._go(self._base, "base")

    def _gain(self) -> float:
        """By how much ln L − mean ln R is higher in this stretch than at the base, by what is known of latency now."""
        for model in {id(sample[0]): sample[0] for sample in self._samples}.values():
            model.pin()
        mean, spread = _statistics(self._samples)
        base_mean, _ = _statistics(self._base_samples)
        # Looks into a trial see few requests, and the same ones again.
        self._spread += (0.5 if len(self._samples) > 2 * _LOOK else 0.2) * (max(spread, 0.05) - self._spread)
        return math.log(self.limit / self._base) - mean + base_mean


def _statistics(samples: list[Sample]) -> tuple[float, float]:
    """Mean and standard deviation of the residuals, without the tenth at either end."""
    residuals = sorted(model.residual(given, made, seconds) for model, given, made, seconds in samples)
    cut = len(residuals) // 10
    residuals = residuals[cut : len(residuals) - cut]
    mean = sum(residuals) / len(residuals)
    return mean, _TRIMMED * math.sqrt(sum((each - mean) ** 2 for each in residuals) / len(residuals))
