"""Sends messages in the background, several times if need be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import DeliveryFailed
from penstock.core.tasks import TaskGroup
from penstock.notify.message import Message, Sink

PAUSES_S = (5.0, 30.0, 300.0, 1800.0)
"""Before the second try, the third and so on; a message that is not delivered then is given up."""
MOST_WAITING = 1000

_log = logging.getLogger("penstock.notify")


class OutboxState(msgspec.Struct):
    """How sending goes: messages on their way, delivered and given up since the start."""

    waiting: int = 0
    delivered: int = 0
    failed: int = 0


class Outbox:
    """The sinks of a process.

    Attributes:
        sinks: By name.
        state: How sending goes.
    """

    def __init__(self, tasks: TaskGroup, clock: Clock) -> None:
        self.sinks: Mapping[str, Sink] = {}
        self.state = OutboxState()
        self._tasks = tasks
        self._clock = clock

    def send(self, message: Message, names: Sequence[str]) -> None:
        """Send `message` to the sinks of those names, soon; never waits, never raises."""
        for name in names:
            sink = self.sinks.get(name)
            if sink is None:
                _log.error("%s is not sent: there is no sink %s", message.id, name)
            elif self.state.waiting >= MOST_WAITING:
                self.state.failed += 1
                _log.error("%s is not sent to %s: too many messages are on their way", message.id, name)
            else:
                self.state.waiting += 1
                self._tasks.spawn(self._deliver(message, sink), name=f"notify {name}")

    async def _deliver(self, message: Message, sink: Sink) -> None:
        try:
            if await self._tried(message, sink):
                self.state.delivered += 1
            else:
                self.state.failed += 1
        except asyncio.CancelledError:
            self.state.failed += 1
            _log.error("%s is given up: Penstock stops before it was delivered", message.id)
            raise
        finally:
            self.state.waiting -= 1

    async def _tried(self, message: Message, sink: Sink) -> bool:
        for pause in (*PAUSES_S, None):
            try:
                await sink.send(message)
            except DeliveryFailed as error:
                if error.permanent or pause is None:
                    _log.error("%s is given up: %s", message.id, error)
                    return False
                _log.warning("%s is sent again in %g s: %s", message.id, pause, error)
                await self._clock.sleep(pause)
            else:
                return True
        return False
