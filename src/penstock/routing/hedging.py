"""When a second request is worth its tokens, decided from the times to first token of those before.

    sketch of the route ──────► when a request is late
    sketch of its target ─────► how much longer it will take ──┐
    sketch of the other one ──► how long that one would take ──┴─► what a hedge would save
    token bucket of the route ► whether it may be spent

A hedge is wasted unless the first request takes longer still, so it waits until only the slowest few are left (Dean and
Barroso, "The Tail at Scale", 2013): those beyond a quantile of what clients of that model name wait, whichever target
keeps them waiting. When the budget pays for fewer than that quantile leaves, hedging at it would use the tokens up on
whoever is late first; so the quantile moves out to where the budget covers all but those that may stay late (after
Kaler, He and Elnikety, "Optimal Reissue Policies for Reducing Tail Latency", 2017).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

import msgspec

from penstock.core.route import HedgeTerms, Route, Target
from penstock.routing.sketch import Sketch

T = TypeVar("T")

_KEYS = 512
"""Sketches and buckets kept, the least recently used forgotten first: with patterns their names come from clients."""
_SPARED = 0.0075
"""Share of the requests that may stay late: three quarters of those beyond the 99th percentile, a margin for error."""
_BURST = 10.0
"""Hedges of a typical request that can be saved up."""
_LEAST_SAVING = 0.1
"""What a hedge must be expected to save, as a share of the time waited so far."""
_SMOOTHING = 0.02
_CROWD = 3
"""Late requests that, with a quarter of all that wait, say that a target is slow, not a request."""
_CLASSES = (1_000, 8_000, 32_000)
"""Input tokens that part requests into classes: the time to first token grows with what has to be read."""

_Key = tuple[str, str, int]


class Counts(msgspec.Struct):
    """What became of late requests since the start.

    Attributes:
        late: Requests that were late. The next three are those not hedged at once, by the reason.
        saturated: No other target was fit for it.
        futile: It would not have saved enough time.
        unaffordable: The budget had too few tokens.
        sent: Second requests.
        won: Second requests that answered first.
        tokens: Estimated tokens of second requests.
    """

    late: int = 0
    saturated: int = 0
    futile: int = 0
    unaffordable: int = 0
    sent: int = 0
    won: int = 0
    tokens: int = 0


class _Bucket:
    """A route's tokens for hedges, and what its requests are like: input tokens, and all tokens."""

    __slots__ = ("inputs", "level", "total")

    def __init__(self) -> None:
        self.level = 0.0
        self.inputs = 0.0
        self.total = 0.0


class _Crowd:
    """Who waits for a target's first token."""

    __slots__ = ("late", "waiting")

    def __init__(self) -> None:
        self.late = 0
        self.waiting = 0


class Hedging:
    """Decides; `penstock.layers.hedge` does. It has no clock: times are seconds since a request was sent.

    Attributes:
        counts: What became of late requests.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._sketches: OrderedDict[_Key, Sketch] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._crowds: dict[tuple[str, str], _Crowd] = {}

    def late_after(self, route: Route, terms: HedgeTerms, inputs: int) -> float:
        """Seconds after which a request of `inputs` input tokens is late."""
        bucket = self._bucket(route)
        affordable = terms.budget * bucket.total / bucket.inputs if bucket.inputs else 0.0
        return self._of_route(route, inputs).quantile(max(terms.quantile, 1.0 - affordable - _SPARED))

    def expected(self, route: Route, target: Target, inputs: int) -> float:
        """Median seconds until `target` answers a request of `inputs` input tokens."""
        return self._of_target(route, target, inputs).quantile(0.5)

    def saving(self, route: Route, target: Target, other: Target, inputs: int, waited: float) -> float:
        """Seconds `other` is expected to save a request that waited for `target` so long; 0 for too few to matter."""
        saved = self._of_target(route, target, inputs).excess(waited, self.expected(route, other, inputs))
        return saved if saved >= _LEAST_SAVING * waited else 0.0

    def learn(self, route: Route, target: Target, inputs: int, seconds: float) -> None:
        """`target` took so long to answer."""
        self._of_target(route, target, inputs).add(seconds)
        self._of_route(route, inputs).add(seconds)

    def cut_short(self, route: Route, target: Target, inputs: int, seconds: float) -> None:
        """`target` was given up after so long; nobody knows how long it would have taken."""
        self._of_target(route, target, inputs).add_beyond(seconds)
        self._of_route(route, inputs).add_beyond(seconds)

    def earn(self, route: Route, terms: HedgeTerms, inputs: int, total: int) -> None:
        """A request of `inputs` input tokens was answered; it took `total` tokens in all."""
        bucket = self._bucket(route)
        weight = _SMOOTHING if bucket.inputs else 1.0
        bucket.inputs += weight * (inputs - bucket.inputs)
        bucket.total += weight * (total - bucket.total)
        bucket.level = max(min(bucket.level + terms.budget * total, _BURST * bucket.inputs), bucket.level)

    def spend(self, route: Route, inputs: int) -> bool:
        """Take the tokens of one hedge from the route's budget; False if there are too few."""
        bucket = self._bucket(route)
        if bucket.level < inputs:
            return False
        bucket.level -= inputs
        self.counts.sent += 1
        self.counts.tokens += inputs
        return True

    def refund(self, route: Route, inputs: int) -> None:
        """The hedge was not sent after all."""
        self._bucket(route).level += inputs
        self.counts.sent -= 1
        self.counts.tokens -= inputs

    def enter(self, target: Target) -> None:
        """A request begins to wait for `target`."""
        key = (target.provider, target.model)
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = _Crowd()
        crowd.waiting += 1

    def tarry(self, target: Target) -> None:
        """One that waits for `target` is late."""
        self.counts.late += 1
        self._crowds[target.provider, target.model].late += 1

    def leave(self, target: Target, *, late: bool) -> None:
        """A request no longer waits."""
        key = (target.provider, target.model)
        crowd = self._crowds[key]
        crowd.waiting -= 1
        crowd.late -= late
        if not crowd.waiting:
            del self._crowds[key]

    def crowded(self, target: Target) -> bool:
        """Whether so many of those that wait for `target` are late that another one would be too."""
        crowd = self._crowds.get((target.provider, target.model))
        return crowd is not None and crowd.late >= _CROWD and 4 * crowd.late >= crowd.waiting

    def _bucket(self, route: Route) -> _Bucket:
        bucket = self._buckets.get(route.model)
        return _keep(self._buckets, route.model, bucket or _Bucket())

    def _of_route(self, route: Route, inputs: int) -> Sketch:
        key = ("", route.model, _class(inputs))
        return _keep(self._sketches, key, self._sketches.get(key) or Sketch())

    def _of_target(self, route: Route, target: Target, inputs: int) -> Sketch:
        key = (target.provider, target.model, _class(inputs))
        return _keep(self._sketches, key, self._sketches.get(key) or Sketch(self._of_route(route, inputs)))


K = TypeVar("K")


def _keep(kept: OrderedDict[K, T], key: K, value: T) -> T:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _KEYS:
        kept.popitem(last=False)
    return value


def _class(inputs: int) -> int:
    return sum(inputs >= bound for bound in _CLASSES)
