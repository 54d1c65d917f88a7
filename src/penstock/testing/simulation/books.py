"""Stores and a ledger that remember everything, for what is checked at the end."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random

import msgspec

from penstock.abc import Question, StoredAnswer
from penstock.core.budget import Ask, Granted
from penstock.core.call import Attempt, Call
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.memory_budgets import MemoryBudgetStore

_SERIAL = re.compile(rb"\|(\d+)\|")
_SLOW_S = (0.0, 0.001, 0.05)
_HANGS_S = 30.0
FAULT = "a simulated fault"


def serial_in(answer: StoredAnswer) -> int | None:
    """Return the number of the request to a provider that `answer` is the answer to; None when it says none."""
    found = _SERIAL.search(answer.data)
    return None if found is None else int(found[1])


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
    """A `penstock.abc.Ledger` that keeps all rows, in order, and tells budgets of them."""

    def __init__(self, budgets: MemoryBudgetStore | None = None) -> None:
        self.rows: list[Row] = []
        self._budgets = budgets
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
        if self._budgets is not None:
            self._budgets.count(request, call)

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
        self._of_serial: dict[int, list[StoredAnswer]] = {}

    def calm(self) -> None:
        """Be quick, and fail no more."""
        self.faults = self.hangs = 0.0
        self.delays_s = (0.0,)

    def of_serial(self, serial: int) -> Sequence[StoredAnswer]:
        """Return all that was ever put of the answer to one request to a provider."""
        return self._of_serial.get(serial, ())

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
            raise StoreError(FAULT)
        return self._now.get(key)

    def put(self, answer: StoredAnswer) -> None:
        """Keep `answer`."""
        self.kept.append(answer)
        serial = serial_in(answer)
        if serial is not None:
            self._of_serial.setdefault(serial, []).append(answer)
        self._now[answer.key] = answer

    def delete(self, keys: Iterable[bytes]) -> None:
        """Drop `keys`."""
        for key in keys:
            self._now.pop(key, None)


class Purser(MemoryBudgetStore):
    """Budgets whose store takes its time and fails now and then."""

    def __init__(self, clock: Clock, random: Random, *, faults: float) -> None:
        """`faults` is the share of the requests for money that fail."""
        super().__init__(clock)
        self.faults = faults
        self._random = random

    async def take(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """Hold what `asks` want.

        Raises:
            StoreError: As often as `faults` says.
        """
        await asyncio.sleep(self._random.choice(_SLOW_S))
        if self._random.random() < self.faults:
            raise StoreError(FAULT)
        return await super().take(asks)

    def spent(self, name: str) -> int:
        """Return the most that was spent of a budget in a period."""
        return max((state.spent for (budget, _), state in self._states.items() if budget == name), default=0)

    def held(self) -> dict[str, int]:
        """Return what is held of which budgets."""
        return {name: state.held for (name, _), state in self._states.items() if state.held}


class Notebook:
    """A `penstock.abc.QuestionStore` that takes its time and fails now and then.

    Attributes:
        faults: Share of the reads that fail.
        hangs: Share of the reads that take half a minute.
        questions: What it has, by number.
        given: Numbers of the questions that were read.
    """

    def __init__(self, random: Random, *, faults: float, hangs: float = 0.0) -> None:
        self.faults = faults
        self.hangs = hangs
        self.given: set[int] = set()
        self._random = random
        self.questions: dict[int, Question] = {}
        self._learnt: dict[str, bytes] = {}

    def calm(self) -> None:
        """Be quick, and fail no more."""
        self.faults = self.hangs = 0.0

    async def partitions(self) -> Mapping[bytes, int]:
        """Return how many questions each partition has.

        Raises:
            StoreError: As often as `faults` says.
        """
        await self._wait()
        return Counter(each.partition for each in self.questions.values())

    async def load(self, partition: bytes) -> Sequence[Question]:
        """Return one partition's questions.

        Raises:
            StoreError: As often as `faults` says.
        """
        await self._wait()
        found = [each for each in self.questions.values() if each.partition == partition]
        self.given.update(each.id for each in found)
        return found

    async def page(self, tenant: str | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Question]:
        """Return the next questions by number.

        Raises:
            StoreError: As often as `faults` says.
        """
        await self._wait()
        mine = (each for each in self.questions.values() if tenant in (None, each.tenant) and each.id > after)
        return sorted(mine, key=lambda question: question.id)[:limit]

    def put(self, question: Question) -> None:
        """Keep `question`."""
        self.questions[question.id] = question

    def judge(self, question_id: int, right: float, wrong: float) -> None:
        """Keep how often its answer was found right and wrong."""
        known = self.questions.get(question_id)
        if known is not None:
            self.questions[question_id] = msgspec.structs.replace(known, right=right, wrong=wrong)

    def delete(self, ids: Iterable[int]) -> None:
        """Drop questions."""
        for each in ids:
            self.questions.pop(each, None)

    async def learnt(self) -> Mapping[str, bytes]:
        """Return what was kept.

        Raises:
            StoreError: As often as `faults` says.
        """
        await self._wait()
        return dict(self._learnt)

    def keep(self, name: str, state: bytes) -> None:
        """Keep `state`."""
        self._learnt[name] = state

    async def _wait(self) -> None:
        hangs = self._random.random() < self.hangs
        await asyncio.sleep(_HANGS_S if hangs else self._random.choice(_SLOW_S))
        if self._random.random() < self.faults:
            raise StoreError(FAULT)
