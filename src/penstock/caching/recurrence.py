"""Which answers are worth renewing just before they go stale.

A renewal costs a call and spares at most one: the first of the next lifetime, which would be a miss; later ones are
hits in either case. So it never saves money. It saves somebody the wait, and what that is worth beside a call is for
the user to say.

How much a renewal spares depends on when the answer is next asked for. At once, a whole miss; when the next lifetime is
over, none; in between the part of the lifetime that is left, since a miss would have begun a new one only then. That
is learnt from the traffic. When an answer is about to go stale, it is noted how much it was asked for of late: the
number of requests, each counting e times less a lifetime later. A lifetime later it is known what a renewal spared, or
would have. This is pooled by that number; each key also has a record of its own, which is drawn to its pool's while it
is short (empirical Bayes). Nothing is renewed before there is evidence.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import exp, log2
from typing import Generic, NamedTuple, TypeVar

What = TypeVar("What")

_POOLS, _FIRST = 10, -4
"""Pools have one power of two each; the first has all below 2 ** -3."""
_DOUBT = 4.0
"""How many renewals for nothing a pool begins with, beside one that was not; what it counts in a key's own record."""
_POOL_KEEPS, _KEY_KEEPS = 0.999, 0.8
"""What earlier outcomes still count after another."""
_EARLY = 0.25
"""Share of its lifetime that an answer is renewed early at most."""
_MINUTE_S = 60.0


class Renewal(NamedTuple, Generic[What]):
    """An answer to renew now.

    Attributes:
        key: Its key.
        what: What came with the latest request for it.
        spares: How many misses that is expected to spare, 0 to 1.
    """

    key: bytes
    what: What
    spares: float


class _Record:
    """What renewals spared, or would have; later ones count more."""

    __slots__ = ("_keeps", "outcomes", "spared")

    def __init__(self, spared: float, outcomes: float, keeps: float) -> None:
        self.spared = spared
        self.outcomes = outcomes
        self._keeps = keeps

    def add(self, spared: float) -> None:
        self.spared = self.spared * self._keeps + spared
        self.outcomes = self.outcomes * self._keeps + 1.0


class _Known(Generic[What]):
    """What is known of one key."""

    __slots__ = ("asked_at", "fresh_until", "judged", "lifetime_s", "own", "pool", "recent", "renewed", "spares",
                 "what", "window")  # fmt: skip

    def __init__(self, what: What, now: float) -> None:
        self.what = what
        self.recent = 0.0
        self.asked_at = now
        self.own = _Record(0.0, 0.0, _KEY_KEEPS)
        self.lifetime_s = self.fresh_until = 0.0
        self.judged = True  # whether the present answer was judged; there is none yet
        self.spares = 0.0  # above 0 while the answer waits to be renewed
        self.renewed = False
        self.pool: _Record | None = None  # whose the outcome is that is not known yet
        self.window = (0.0, 0.0)  # the lifetime it is about

    def recent_at(self, now: float) -> float:
        if not self.lifetime_s:
            return self.recent
        return self.recent * exp(-max(now - self.asked_at, 0.0) / self.lifetime_s)


class Recurrence(Generic[What]):
    """Watches what is asked for, and says what to renew. All times are seconds since the epoch.

    Args:
        least: How many misses, 0 to 1, a renewal must be expected to spare.
        per_minute: How many are renewed in any minute; the likeliest go first.
        horizon_s: How long before it goes stale an answer may be renewed; a quarter of its lifetime at most.
        most: How many keys are watched; those that were not asked for the longest leave first.

    Attributes:
        renewed: How many renewals it asked for.
        used: How many of those were asked for in the lifetime they gained.
    """

    def __init__(self, *, least: float = 0.5, per_minute: int = 6, horizon_s: float = 60.0, most: int = 2000) -> None:
        self._least = least
        self._per_minute = per_minute
        self._horizon_s = horizon_s
        self._most = most
        self._known: OrderedDict[bytes, _Known[What]] = OrderedDict()
        self._pools = [_Record(1.0, 1.0 + _DOUBT, _POOL_KEEPS) for _ in range(_POOLS)]
        self._times: deque[float] = deque()
        self.renewed = 0
        self.used = 0

    def __len__(self) -> int:
        return len(self._known)

    def asked(self, key: bytes, now: float, what: What) -> None:
        """Note a request for `key`, whether it was a hit or a miss, and what is given back for its renewal."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(what, now)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
            known.what = what
            if now > known.window[0]:
                begin, end = known.window
                self._learn(known, max(end - now, 0.0) / (end - begin) if end > begin else 0.0)
        known.recent = known.recent_at(now) + 1.0
        known.asked_at = now

    def stored(self, key: bytes, now: float, fresh_until: float) -> None:
        """Note that `key` has a new answer; without this it is never renewed."""
        known = self._known.get(key)
        if known is not None and fresh_until > now:
            known.lifetime_s, known.fresh_until = fresh_until - now, fresh_until
            known.judged, known.spares = False, 0.0

    def forget(self, key: bytes) -> None:
        """Drop what is known of `key`, such as when its answer was cleared."""
        self._known.pop(key, None)

    def due(self, now: float) -> list[Renewal[What]]:
        """Return what to renew now, the likeliest first; ask at least twice in `horizon_s`.

        What is returned counts as renewed. What the rate leaves no room for is returned later, unless it goes stale.
        """
        waiting: list[Renewal[What]] = []
        for key, known in self._known.items():
            if now > known.window[1]:
                self._learn(known, 0.0)
            if not known.judged and now >= known.fresh_until - min(self._horizon_s, _EARLY * known.lifetime_s):
                self._judge(known, now)
            if known.spares and now < known.fresh_until:
                waiting.append(Renewal(key, known.what, known.spares))
        while self._times and self._times[0] <= now - _MINUTE_S:
            self._times.popleft()
        waiting.sort(key=lambda renewal: (-renewal.spares, renewal.key))
        chosen = waiting[: max(self._per_minute - len(self._times), 0)]
        for renewal in chosen:
            known = self._known[renewal.key]
            known.spares, known.renewed = 0.0, True
        self._times.extend([now] * len(chosen))
        self.renewed += len(chosen)
        return chosen

    def _judge(self, known: _Known[What], now: float) -> None:
        """The window of the answer before ends a little early with this, if it is still open."""
        self._learn(known, 0.0)
        known.judged = True
        recent = known.recent_at(now)
        place = int(log2(recent)) - _FIRST if recent >= 2.0 ** (_FIRST + 1) else 0
        pool = self._pools[min(place, _POOLS - 1)]
        known.pool = pool
        known.window = (known.fresh_until, known.fresh_until + known.lifetime_s)
        own = known.own
        spares = (own.spared + _DOUBT * pool.spared / pool.outcomes) / (own.outcomes + _DOUBT)
        known.spares = spares if spares >= self._least else 0.0

    def _learn(self, known: _Known[What], spared: float) -> None:
        if known.pool is None:
            return
        known.pool.add(spared)
        known.own.add(spared)
        self.used += spared > 0 and known.renewed
        known.pool, known.renewed = None, False
