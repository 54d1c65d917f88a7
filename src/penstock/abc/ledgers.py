"""The record of calls, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from penstock.core.alert import AlertEvent
from penstock.core.budget import Ask, Budget, BudgetEvent, BudgetState, Granted, Move
from penstock.core.call import Attempt, Call
from penstock.core.experiment import Outcome, Score
from penstock.core.request import Request
from penstock.core.usage import Usage


class Ledger(Protocol):
    """Where every answer and every attempt is recorded."""

    def reserve(self, request: Request, attempt: Attempt, expected: Usage) -> None:
        """Write down that `attempt` is about to be sent, so that it is known whatever happens. Never waits.

        Args:
            request: What is asked; its call's attempts are those made before.
            attempt: The new one.
            expected: Tokens that will be sent; of the output nothing is known.

        Raises:
            StoreError: ``ledger_unavailable``: it cannot be written down, so it must not be sent.
        """

    def release(self, request: Request, attempt: Attempt) -> None:
        """Nothing was sent for `attempt`, of which `reserve` was told. Never waits, never raises."""

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Take the rows of one finished call: one for the answer, one an attempt. Never waits, never raises.

        When it returns, a call with attempts survives the end of the process.
        """

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk."""


class CompletionStore(Protocol):
    """Stored completions (``store: true``), always inside one tenant."""

    async def create(self, tenant: str, completion: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep `completion` (a ``chat.completion`` object with `metadata`) and the messages it answered."""

    async def retrieve(self, tenant: str, completion_id: str) -> dict[str, Any] | None:
        """Return the completion, or None."""

    async def messages(self, tenant: str, completion_id: str) -> list[dict[str, Any]] | None:
        """Return the messages it answered, each with an ``id``, oldest first; None when there is no such completion."""

    async def list(
        self, tenant: str, *, after: str | None, limit: int, order: str, model: str | None, metadata: Mapping[str, str]
    ) -> tuple[Sequence[dict[str, Any]], bool]:
        """Return a page, and whether there is more; `order` is ``asc`` or ``desc`` by creation."""

    async def update(self, tenant: str, completion_id: str, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        """Replace the metadata; return the completion, or None."""

    async def delete(self, tenant: str, completion_id: str) -> bool:
        """Remove it; False when there is none."""


class StateStore(Protocol):
    """What people or experience decided while Penstock ran, under names such as ``prompt/greet``."""

    async def load(self, prefix: str = "") -> Mapping[str, bytes]:
        """Return all states whose name begins with `prefix`, by name.

        Raises:
            StoreError: They could not be read.
        """

    async def save(self, name: str, state: bytes) -> None:
        """Keep a state in place of the one of the same name; it is on disk when this returns.

        Raises:
            StoreError: It could not be written.
        """

    async def delete(self, name: str) -> bool:
        """Remove a state; False when there is none.

        Raises:
            StoreError: It could not be written.
        """


class ScoreStore(Protocol):
    """What applications say of answers, and what came of calls that took part in experiments."""

    async def put(self, score: Score) -> Score:
        """Keep a score, unless its tenant posted one of that name for that request before; return what is kept.

        Raises:
            StoreError: It could not be written.
        """

    async def outcomes(self, *, after: int, since: float, until: float, limit: int) -> Sequence[Outcome]:
        """Return finished calls that took part in experiments, with their scores, in the order of their numbers.

        Args:
            after: Only those with greater numbers.
            since: Only those that began at this time, seconds since the epoch, or later.
            until: Only those that began before this time.
            limit: So many at most.

        Raises:
            StoreError: They could not be read.
        """


class AlertStore(Protocol):
    """The history of alerts."""

    def record(self, event: AlertEvent) -> None:
        """Queue an event. Never waits, never raises."""

    async def events(self, limit: int) -> Sequence[AlertEvent]:
        """Return the newest events, newest first.

        Raises:
            StoreError: They could not be read.
        """


class BudgetStore(Protocol):
    """Where budgets are kept, and what is spent and held of them; all `async` methods may raise `StoreError`.

    What calls cost is added to what is spent with their rows in the ledger, whoever wrote them.
    """

    shared: bool
    """Other processes may use and change the same budgets."""

    on_event: Callable[[BudgetEvent], None]
    """Called, on the event loop, when a share in `Budget.soft` is spent: once a period, in one process."""

    def configure(self, budgets: Sequence[Budget]) -> None:
        """Count for these budgets too, besides those that are kept here."""

    async def version(self) -> int:
        """Return a number that every change by any process raises; asked every second."""

    async def load(self) -> Sequence[Budget]:
        """Return the budgets that are kept here, oldest first."""

    async def put(self, budget: Budget) -> None:
        """Add a budget, or replace the one of the same id, which keeps what was spent."""

    async def delete(self, budget_id: str) -> bool:
        """Remove a budget and what is known of it; False when there is none."""

    async def state(self, budget_id: str, start: int) -> BudgetState:
        """Return one period of a budget."""

    async def take(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """Hold for this process what `asks` want, as far as there is something; `penstock.budgeting.bill.grant`."""

    def give(self, budget_id: str, start: int, amount: int) -> None:
        """Give back what this process holds; a negative amount is held in addition, whatever is left. Never waits."""

    def settle(self, ledger_id: int, moves: Sequence[Move]) -> None:
        """When the call of that number is written, let go of what it has spent, in one step with that. Never waits."""

    async def recover(self) -> None:
        """Put what processes that died have left behind into the ledger, and free what they held."""
