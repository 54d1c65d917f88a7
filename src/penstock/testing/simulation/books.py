"""A cache store and a ledger that remember everything, for what is checked at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from random import Random

import msgspec

from penstock.abc import StoredAnswer
from penstock.core.call import Attempt, Call
from penstock.core.errors import StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage

_SLOW_S = (0.0, 0.001, 0.05)
_HANGS_S = 30.0


class Row(msgspec.Struct):
    """One recorded call.

    Attributes:
        request: What was asked.
        call: Its notes, which may still change.
        outcome: How it ended.
        open_attempts: Attempts whose end was not noted yet when the call was recorded.
    """

    request: Request
    call: Call
    outcome: str
    open_attempts: int

    @property
    def attempts(self) -> list[Attempt]:
        """Every try, in order."""
        return self.call.attempts


class Book:
    """A `penstock.abc.Ledger` that keeps all rows, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._numbers = itertools.count(1)

    def reserve(self, request: Request, attempt: Attempt, expected: Usage) -> None:
        """Give the call a number, as a ledger does."""
        known = (each.ledger_id for each in request.call.attempts if each.ledger_id)
        attempt.ledger_id = next(known, 0) or next(self._numbers)

    def release(self, request: Request, attempt: Attempt) -> None:
        """Nothing is kept of it."""

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Keep one finished call."""
        if duration_s < 0:
            raise AssertionError(f"{call.id} took {duration_s} s")
        self.rows.append(Row(request, call, outcome, sum(each.running for each in call.attempts)))

    async def flush(self) -> None:
        """Nothing is ever waiting."""


class Shelf:
    """A `penstock.abc.CacheStore` that takes its time and fails now and then.

    Attributes:
        kept: All answers that were ever put, in order.
    """

    def __init__(self, random: Random, *, faults: float, hangs: float = 0.0) -> None:
        """`faults` is the share of reads that fail, `hangs` of those that take half a minute."""
        self.kept: list[StoredAnswer] = []
        self.faults = faults
        self.hangs = hangs
        self.delays_s: tuple[float, ...] = _SLOW_S
        self._random = random
        self._now: dict[bytes, StoredAnswer] = {}

    def calm(self) -> None:
        """Be quick, and fail no more."""
        self.faults = self.hangs = 0.0
        self.delays_s = (0.0,)

    async def index(self) -> Sequence[StoredAnswer]:
        """Nothing survived."""
        return ()

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Return one entry.

        Raises:
            StoreError: As often as `faults` says.
        """
        hangs = self._random.random() < self.hangs
        await asyncio.sleep(_HANGS_S if hangs else self._random.choice(self.delays_s))
        if self._random.random() < self.faults:
            raise StoreError("a simulated fault")
        return self._now.get(key)

    def put(self, answer: StoredAnswer) -> None:
        """Keep `answer`."""
        self.kept.append(answer)
        self._now[answer.key] = answer

    def delete(self, keys: Iterable[bytes]) -> None:
        """Drop `keys`."""
        for key in keys:
            self._now.pop(key, None)
