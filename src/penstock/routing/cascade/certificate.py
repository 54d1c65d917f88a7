"""From which quality on a cheap answer is served, so that a stated share of losses is kept with a stated confidence.

Learn then test (Angelopoulos, Bates, Candès, Jordan & Lei 2021): thresholds are tried from the strictest down while a
test on labels refuses "more is lost than `alpha`". The share that is lost can only grow as the threshold falls, so that
trying many costs nothing: the certificate fails only if the test fails at the one threshold where the share passes
`alpha` (fixed-sequence testing; Bates et al. 2021).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from math import exp, inf, lgamma, log, log1p

import msgspec


class Certificate(msgspec.Struct, frozen=True):
    """What may be served, and what is promised of it.

    A request is *lost* if the cheap answer is served and is worse than the large model's would be.

    Attributes:
        threshold: The quality from which on cheap answers are served; infinity where none may be.
        alpha: At most this share of all requests is lost,
        delta: or the certificate is one of those that fail: at most this share of certificates.
        labels: Of how many requests, drawn at random, both answers were compared.
        lost: How many of those would be lost at `threshold`.
        accepted: How many of those would be served the cheap answer.
        horizon: Of how many requests to come the promise is; None is "in the long run".
        drifted: Audits showed that more was lost than an earlier certificate promised, and it was withdrawn.
    """

    threshold: float = inf
    alpha: float = 0.02
    delta: float = 0.05
    labels: int = 0
    lost: int = 0
    accepted: int = 0
    horizon: int | None = None
    drifted: bool = False

    @property
    def holds(self) -> bool:
        """Whether anything may be served."""
        return self.threshold < inf

    @property
    def reason(self) -> str:
        """What the certificate rests on, or why there is none."""
        needed = labels_needed(self.alpha, self.delta, horizon=self.horizon)
        promise = f"at most {100 * self.alpha:g} % of requests lost, with confidence {100 * (1 - self.delta):g} %"
        if self.drifted:
            return f"no certificate: audits showed that more is lost by now than {promise}; labels are gathered anew"
        if not self.labels:
            return f"no certificate: no labels yet, and {needed} are needed for {promise}"
        if self.holds:
            return f"{promise}: {self.lost} of {self.labels} labelled requests would be"
        if self.labels < needed:
            return f"no certificate: {self.labels} labels, and {needed} are needed for {promise}"
        return f"no certificate: the best cheap answers are lost too often for {promise}"


def certify(
    labels: Iterable[tuple[float, bool]], *, alpha: float = 0.02, delta: float = 0.05, horizon: int | None = None
) -> Certificate:
    """Choose the lowest threshold that keeps the promise.

    Args:
        labels: For requests drawn at random, each in the same way, the quality of the cheap answer and whether serving
            it would be a loss. What gave the qualities must not have been fitted on them.
        alpha: The share of requests that may be lost.
        delta: The share of certificates that may fail.
        horizon: The promise is of the next so many requests, luck included, instead of the long run.

    Raises:
        ValueError: `alpha` or `delta` is not between 0 and 1, or `horizon` is less than 1.
    """
    for name, share in (("alpha", alpha), ("delta", delta)):
        if not 0 < share < 1:
            raise ValueError(f"{name} is {share}; it is a share between 0 and 1, such as 0.02 for 2 %")
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon is {horizon}; it is a number of requests, 1 or more")
    falling = sorted(labels, key=lambda label: -label[0])
    allowed = losses_allowed(len(falling), alpha, delta, horizon)
    none = Certificate(inf, alpha, delta, len(falling), 0, 0, horizon)
    if allowed < 0:
        return none
    best, lost = none, 0
    for place, (quality, loss) in enumerate(falling):
        lost += loss
        if lost > allowed:
            break
        if place + 1 == len(falling) or falling[place + 1][0] < quality:
            best = Certificate(quality, alpha, delta, len(falling), lost, place + 1, horizon)
    return best


def labels_needed(alpha: float, delta: float, *, horizon: int | None = None) -> int:
    """Return the least number of labels with which anything can be certified, if none of them is a loss."""
    low, high = 0, 1
    while losses_allowed(high, alpha, delta, horizon) < 0:
        low, high = high, 2 * high
        if high > 1 << 30:
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if losses_allowed(middle, alpha, delta, horizon) < 0 else (low, middle)
    return high


@lru_cache(maxsize=4096)
def losses_allowed(labels: int, alpha: float, delta: float, horizon: int | None = None) -> int:
    """Return how many of so many labels may be losses, -1 if even none are too many.

    In the long run that is the binomial tail of Clopper & Pearson (1934). With a horizon, labels and requests to come
    are a random division of all of them, which makes the tail hypergeometric, and exact.
    """
    refused = bisect_right(range(labels + 1), delta, key=lambda losses: _tail(labels, losses, alpha, horizon))
    return refused - 1


def _tail(labels: int, losses: int, alpha: float, horizon: int | None) -> float:
    """Return the greatest chance of so few losses among the labels if the promise is broken."""
    if horizon is None:
        return sum(_binomial(labels, each, alpha) for each in range(losses + 1))
    everything = losses + int(alpha * horizon + 1e-9) + 1
    if everything > labels + horizon:
        return 0.0
    return sum(_hypergeometric(labels, horizon, each, everything) for each in range(losses + 1))


def _binomial(n: int, k: int, share: float) -> float:
    return exp(_choose(n, k) + k * log(share) + (n - k) * log1p(-share))


def _hypergeometric(one: int, other: int, k: int, drawn: int) -> float:
    if k > one or drawn - k > other:
        return 0.0
    return exp(_choose(one, k) + _choose(other, drawn - k) - _choose(one + other, drawn))


def _choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
