"""Watching several workers as one: the elected one asks the others what they measure, and they do what it decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.abc.workers import Bus
from penstock.insight.measures import Totals

MEASURED, ACTIONS = "monitor.measured", "monitor.actions"
ADDED = frozenset({"active_requests", "store_pending"})
"""Gauges of all workers together; of the others the worst is taken."""
_PATIENCE_S = 2.0

Actions = dict[str, tuple[str, ...]]
"""What is done while alerts fire, by the name of the rule."""


class _Measured(msgspec.Struct, array_like=True):
    totals: Totals
    gauges: dict[str, float]


class _Told(msgspec.Struct, array_like=True):
    actions: Actions
    collect: bool


_measured = msgspec.msgpack.Decoder(_Measured)
_told = msgspec.msgpack.Decoder(_Told)


class Colleagues:
    """The other workers, as what watches knows them.

    Args:
        bus: Reaches them.
        totals: Reads this worker's counters.
        gauges: Reads this worker's gauges.
        obey: Does what the elected worker has decided: what is done from now on, and whether to collect garbage once.
    """

    def __init__(
        self,
        bus: Bus,
        totals: Callable[[], Totals],
        gauges: Callable[[], Mapping[str, float]],
        obey: Callable[[Actions, bool], None],
    ) -> None:
        self._bus = bus
        self._totals = totals
        self._last: dict[int, _Measured] = {}
        self._ended = Totals()
        self._actions: Actions = {}
        bus.reply(MEASURED, lambda *_: msgspec.msgpack.encode(_Measured(totals(), dict(gauges()))))
        bus.hear(ACTIONS, lambda _, data: self._hear(data, obey))
        bus.watch(self._changed)

    @property
    def elected(self) -> bool:
        """Whether this worker watches."""
        return self._bus.elected

    async def gather(self) -> None:
        """Learn what the others measure; of one that does not say it in time, what it measured last counts."""
        asked = {self._bus.ask(number, MEASURED): number for number in self._bus.others}
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE_S)
        for future, number in asked.items():
            if not future.done():
                future.cancel()
            elif future.exception() is None:
                self._last[number] = _measured.decode(future.result())

    def totals(self) -> Totals:
        """Return the counters of all, also of those that have ended."""
        found = _sum(self._totals(), self._ended)
        for measured in self._last.values():
            found = _sum(found, measured.totals)
        return found

    def gauges(self, own: Mapping[str, float]) -> dict[str, float]:
        """Return the gauges of all; those only this worker has as they are."""
        found = dict(own)
        for measured in self._last.values():
            for name, value in measured.gauges.items():
                known = found.get(name, 0.0)
                found[name] = known + value if name in ADDED else max(known, value)
        return found

    def tell(self, actions: Mapping[str, tuple[str, ...]], *, collect: bool = False) -> None:
        """Have the others do as this worker does."""
        self._actions = dict(actions)
        self._bus.broadcast(ACTIONS, msgspec.msgpack.encode(_Told(self._actions, collect)))

    def _hear(self, data: bytes, obey: Callable[[Actions, bool], None]) -> None:
        told = _told.decode(data)
        self._actions = told.actions
        obey(told.actions, told.collect)

    def _changed(self, number: int, lives: bool) -> None:  # noqa: FBT001 the bus says which
        if lives and self._bus.elected and self._actions:
            self.tell(self._actions)
        measured = None if lives else self._last.pop(number, None)
        if measured is not None:
            self._ended = _sum(self._ended, measured.totals)


def _sum(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: _plus(getattr(one, name), getattr(other, name)) for name in Totals.__struct_fields__})


def _plus(one: Any, other: Any) -> Any:  # noqa: ANN401 a number, or some
    if not isinstance(one, tuple):
        return one + other
    if not one or not other:
        return one or other
    return tuple(mine + its for mine, its in zip(one, other, strict=True))
