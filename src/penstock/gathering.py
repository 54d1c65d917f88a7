"""The independent operations of one turn at once: the turn takes as long as the slowest, not as all together."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from penstock.client import AsyncClient
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import DeadlineExceeded
from penstock.core.money import to_picodollars, to_usd
from penstock.core.spending import IN_FORCE, Spending
from penstock.core.tasks import TaskGroup


class Gathered(Mapping[str, Any]):
    """What came of each operation, by its name: its result, or the error in its place.

    Attributes:
        errors: The errors alone.
        cost_usd: What the model calls of all operations cost so far; None when the price of one is unknown.
        seconds: How long it took.
    """

    def __init__(
        self, results: Mapping[str, Any], errors: Mapping[str, Exception], cost_usd: Decimal | None, seconds: float
    ) -> None:
        self._found = {**results, **errors}
        self.errors = dict(errors)
        self.cost_usd = cost_usd
        self.seconds = seconds

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the operation returned
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def value(self, name: str, otherwise: Any = None) -> Any:  # noqa: ANN401 - whatever the operation returned
        """Return the result of `name`, or `otherwise` if there is an error in its place."""
        return otherwise if name in self.errors else self._found[name]


async def gather(
    client: AsyncClient | None = None,
    /,
    *,
    required: Collection[str] = (),
    timeout_s: float | None = None,
    budget_usd: Decimal | int | str | None = None,
    **operations: Awaitable[Any],
) -> Gathered:
    """Run independent operations at once and wait for all of them.

    An operation that fails has its error in its place, and the others go on. The budget counts what the operations ask
    of any `AsyncClient`: a call begins only while what was spent, what calls under way are expected to cost and what it
    is itself expected to cost (its prompt, and `max_tokens` of answer or 1,024) fit; otherwise it is answered from the
    cache or fails with `BudgetExceeded`. A call under way is never broken off for money, since it is paid for anyway.

    Args:
        client: Whose clock measures the time; the system's without one.
        required: Names of operations without which the others are in vain: when one fails they are cancelled.
        timeout_s: Seconds for all together; what is not done by then is cancelled, with `DeadlineExceeded` in its
            place. No call inside gets more time either.
        budget_usd: US dollars for all model calls together. Tasks that were started before do not count towards it.
        operations: Coroutines or other awaitables, by name.

    Raises:
        ValueError: An argument makes no sense.
        Exception: The error of a required operation, after the others have ended.
    """
    clock = client.clock if client is not None else SystemClock()
    try:
        spending = spending_of(clock, timeout_s, budget_usd)
        if unknown := sorted(set(required) - set(operations)):
            raise ValueError(f"required: there is no operation {unknown[0]!r}, only {', '.join(operations)}")
    except ValueError:
        for operation in operations.values():
            if inspect.iscoroutine(operation):
                operation.close()  # it would warn that nobody awaited it
        raise
    began = clock.monotonic()
    tasks = TaskGroup()
    token = IN_FORCE.set(spending)
    try:  # a task takes the context it is started in
        running = {name: tasks.spawn(_outcome(each), name=f"gather {name}") for name, each in operations.items()}
    finally:
        IN_FORCE.reset(token)
    try:
        await _finished(running, tasks, required, clock, spending.deadline)
    finally:
        await tasks.aclose()
    outcomes = {name: _found(name, task) for name, task in running.items()}
    for name in required:
        if isinstance(error := outcomes[name], _Failed):
            raise error.error
    cost = None if spending.unpriced else to_usd(spending.spent_pusd)
    return Gathered(
        {name: each for name, each in outcomes.items() if not isinstance(each, _Failed)},
        {name: each.error for name, each in outcomes.items() if isinstance(each, _Failed)},
        cost,
        clock.monotonic() - began,
    )


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error


async def _outcome(operation: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the operation returns
    try:
        return await operation
    except Exception as error:  # noqa: BLE001 - whoever gathers handles it
        return _Failed(error)


async def _finished(
    running: Mapping[str, asyncio.Task[Any]],
    tasks: TaskGroup,
    required: Collection[str],
    clock: Clock,
    deadline: float | None,
) -> None:
    """Wait until all have ended, time is over, or a required one has failed."""
    timer = None
    if deadline is not None:
        timer = tasks.spawn(clock.sleep(deadline - clock.monotonic()), name="gather: the deadline")
    needed = [running[name] for name in required]
    pending = set(running.values())
    while pending and not (timer is not None and timer.done()):
        waited = pending if timer is None else {*pending, timer}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        pending -= done
        if any(task in done and _in_vain(task) for task in needed):
            return


def _in_vain(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or isinstance(task.result(), _Failed)


def _found(name: str, task: asyncio.Task[Any]) -> Any:  # noqa: ANN401 - whatever the operation returned
    if not task.cancelled():
        return task.result()
    return _Failed(DeadlineExceeded(f"'{name}' was not done in the time allowed for all together"))


def spending_of(clock: Clock, timeout_s: float | None, budget_usd: Decimal | int | str | None) -> Spending:
    """Make a deadline and a budget inside those in force.

    Raises:
        ValueError: One of them makes no sense.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s: expected more than 0 seconds, not {timeout_s}")
    limit = None
    if budget_usd is not None:
        try:
            limit = to_picodollars(Decimal(budget_usd))
        except (ArithmeticError, ValueError, TypeError):
            limit = -1
        if limit < 0:
            raise ValueError(f"budget_usd: expected 0 or more US dollars, not {budget_usd}")
    deadline = None if timeout_s is None else clock.monotonic() + timeout_s
    return Spending(deadline=deadline, limit_pusd=limit, outer=IN_FORCE.get())
