"""How often, and for how much money, a judge may be asked."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from penstock.core.clock import Clock
from penstock.core.money import to_picodollars

_MINUTE_S, _DAY_S = 60.0, 86_400


class Judged(msgspec.Struct):
    """What became of the answers a judge was to compare.

    Attributes:
        asked: Calls made.
        same: Verdicts that they are the same.
        different: Verdicts that they are not.
        unreadable: Answers of the judge without a verdict.
        failed: Calls that failed.
        too_long: Not asked, because the texts are too long.
        busy: Not asked, because it was asked often enough in that minute.
        spent: Not asked, because the day's money is spent.
        unpriced: Not asked, because there is a limit in dollars and nobody knows what a call costs.
        cost_pusd: What the calls cost, where it is known, in picodollars.
    """

    asked: int = 0
    same: int = 0
    different: int = 0
    unreadable: int = 0
    failed: int = 0
    too_long: int = 0
    busy: int = 0
    spent: int = 0
    unpriced: int = 0
    cost_pusd: int = 0


class _Day(msgspec.Struct):
    number: int = -1
    cost_pusd: int = 0
    dearest_pusd: int | None = None
    unpriced: bool = False


class Allowance:
    """At most so many calls in any minute, and so much money between two midnights (UTC).

    What a call will cost is not known before it is over, so with a limit in dollars every call under way is counted as
    the dearest so far, and the first of a day goes alone. So only a call dearer than all before it that day can pass
    the limit, by the difference. Each process counts for itself.

    Args:
        per_minute: Calls in any minute.
        usd_per_day: None is no limit.
        clock: The calendar is `wall`'s.

    Attributes:
        counts: What became of what was to be judged, since the start.
    """

    def __init__(self, per_minute: int, usd_per_day: Decimal | None, clock: Clock) -> None:
        self.counts = Judged()
        self._per_minute = per_minute
        self._limit_pusd = None if usd_per_day is None else to_picodollars(usd_per_day)
        self._clock = clock
        self._recent: deque[float] = deque()
        self._under_way = 0
        self._day = _Day()

    def take(self) -> bool:
        """Ask for a call; if it is granted, `settle` must follow."""
        now, day = self._clock.monotonic(), self._today()
        while self._recent and self._recent[0] <= now - _MINUTE_S:
            self._recent.popleft()
        if len(self._recent) >= self._per_minute:
            self.counts.busy += 1
        elif self._limit_pusd is not None and day.unpriced:
            self.counts.unpriced += 1
        elif self._limit_pusd is not None and not self._affordable(day, self._limit_pusd):
            self.counts.spent += 1
        else:
            self._recent.append(now)
            self._under_way += 1
            self.counts.asked += 1
            return True
        return False

    def settle(self, cost_pusd: int | None) -> None:
        """Say what a call that was granted cost, in picodollars; None when that is not known, 0 when nothing."""
        self._under_way -= 1
        day = self._today()
        if cost_pusd is None:
            day.unpriced = True
            return
        self.counts.cost_pusd += cost_pusd
        day.cost_pusd += cost_pusd
        day.dearest_pusd = max(day.dearest_pusd or 0, cost_pusd)

    def dump(self) -> bytes:
        """Return what was spent today, so that a restart does not forget it."""
        return msgspec.msgpack.encode(self._today())

    def restore(self, state: bytes) -> None:
        """Take up what `dump` returned; of another day nothing counts.

        Raises:
            msgspec.DecodeError: It is no such state.
        """
        self._day = msgspec.msgpack.decode(state, type=_Day)

    def _affordable(self, day: _Day, limit_pusd: int) -> bool:
        if day.dearest_pusd is None:
            return limit_pusd > 0 and not self._under_way
        return day.cost_pusd + (self._under_way + 1) * day.dearest_pusd <= limit_pusd

    def _today(self) -> _Day:
        number = int(self._clock.wall()) // _DAY_S
        if number != self._day.number:
            self._day = _Day(number)
        return self._day
