"""All cascades of a process, and keeping what they learnt."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from penstock.abc import StateStore
from penstock.cascading.known import Known, generation_of
from penstock.core.cascade import Cascade
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.tasks import TaskGroup

PREFIX = "cascade/"
"""What the names of states begin with; the model's follows."""
_EVERY_S = 60.0
_log = logging.getLogger("penstock.cascades")


class Cascades:
    """Knows what was learnt, of each model that is a cascade; all tenants together."""

    def __init__(self, states: StateStore, clock: Clock, tasks: TaskGroup) -> None:
        self._states = states
        self._clock = clock
        self._tasks = tasks
        self._keeping = False
        self._known: dict[str, Known] = {}

    @property
    def known(self) -> Mapping[str, Known]:
        """What is known, by the model's name."""
        return self._known

    async def configure(self, wanted: Mapping[str, Cascade]) -> None:
        """Be ready for these, with what was learnt in earlier runs.

        Raises:
            StoreError: That could not be read.
        """
        if wanted and not self._keeping:
            self._keeping = True
            self._tasks.spawn(self._keep(), name="keep what cascades learnt")
        new = [name for name in wanted if name not in self._known]
        states = await self._states.load(PREFIX) if new else {}
        for name, cascade in wanted.items():
            known = self._known.get(name)
            if known is not None:
                await known.configure(cascade)
                continue
            state = states.get(PREFIX + name, b"")
            try:
                self._known[name] = Known(cascade, state)
            except ValueError as error:
                _log.warning("what was learnt for %s is not used: %s", name, error)
                self._known[name] = Known(cascade)

    async def save(self) -> None:
        """Save what is new. What another process has learnt meanwhile is taken up instead, since it has more."""
        for name, known in self._known.items():
            if not known.news:
                continue
            known.news = False
            try:
                await self._save(name, known)
            except StoreError as error:
                known.news = True
                _log.warning("what was learnt for %s could not be kept: %s", name, error)

    async def _save(self, name: str, known: Known) -> None:
        there = (await self._states.load(PREFIX + name)).get(PREFIX + name, b"")
        if generation_of(there) > known.generation:
            await known.configure(known.cascade, there)
            return
        known.generation += 1
        await self._states.save(PREFIX + name, await known.dumped())

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(_EVERY_S)
            await self.save()
