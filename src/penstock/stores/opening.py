"""From a store's URL to the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from penstock.abc import (
    AlertStore,
    BudgetStore,
    CacheStore,
    CompletionStore,
    KeyStore,
    Ledger,
    QuestionStore,
    ScoreStore,
    StateStore,
)
from penstock.core.call import CostSource
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError
from penstock.core.usage import Usage
from penstock.reporting.statistics import Statistics
from penstock.stores.memory import (
    MemoryAlertStore,
    MemoryCacheStore,
    MemoryCompletionStore,
    MemoryKeyStore,
    MemoryLedger,
    MemoryQuestionStore,
    MemoryStateStore,
)
from penstock.stores.memory_books import MemoryBooks
from penstock.stores.memory_budgets import MemoryBudgetStore
from penstock.stores.memory_scores import MemoryScoreStore

if TYPE_CHECKING:
    from penstock.stores.sql.database import Database

MEMORY = "memory:"
Price = Callable[[str, str, Usage], tuple[Decimal | None, CostSource]]


class _Backend(Protocol):
    async def start(self) -> None: ...
    async def flush(self) -> None: ...
    async def compact(self) -> int: ...
    async def aclose(self) -> None: ...
    @property
    def state(self) -> tuple[int, int, int, str]: ...


class Books(Protocol):
    """What is done with the ledger beside writing and reporting."""

    async def keep(self, days: float | None) -> None:
        """Do the upkeep that is due, and go on so for ever; calls are kept for `days`, None for ever."""

    async def claim(self, name: str, due: int) -> bool:
        """Return whether what is `due` (epoch seconds) is still to be done; of all who ask, one is told so.

        Raises:
            StoreError: The store cannot be written.
        """

    async def claimed(self, name: str) -> int | None:
        """Return what was claimed last; None when nothing was.

        Raises:
            StoreError: The store cannot be read.
        """

    async def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """Count everything, and what came since the last reset; `alone` leaves out an organisation's teams.

        Raises:
            StoreError: The store cannot be read or written.
        """

    async def reset_statistics(self, tenant: str | None = None, by: str | None = None) -> Statistics:
        """Let `since_reset` begin now; return what had been counted until then.

        Raises:
            StoreError: The store cannot be written.
        """


class Stores:
    """The stores of one process, and their common lifetime.

    Attributes:
        cache: Cached answers.
        ledger: The record of calls.
        completions: Stored completions.
        keys: Keys and teams.
        alerts: The history of alerts.
        books: Upkeep and statistics of the ledger.
        budgets: What may be spent, and what is.
        questions: Questions whose answers are cached.
        states: What was decided while Penstock ran.
        scores: How good answers were, and what came of experiments.
    """

    def __init__(  # noqa: PLR0913 one for each store
        self,
        cache: CacheStore,
        ledger: Ledger,
        completions: CompletionStore,
        keys: KeyStore,
        alerts: AlertStore,
        books: Books,
        budgets: BudgetStore,
        questions: QuestionStore,
        states: StateStore,
        scores: ScoreStore,
        backend: _Backend | None = None,
        recovered: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.cache = cache
        self.ledger = ledger
        self.completions = completions
        self.keys = keys
        self.alerts = alerts
        self.books = books
        self.budgets = budgets
        self.questions = questions
        self.states = states
        self.scores = scores
        self._backend = backend
        self._recovered = recovered

    @property
    def recovered(self) -> tuple[int, int]:
        """Calls of killed processes that this one put into the ledger when it began: ended ones, and running ones."""
        return self._recovered()

    @property
    def state(self) -> tuple[int, int, int, str]:
        """How writing goes: rows waiting, rows dropped, rows lost, and the error of the newest try, if it failed."""
        return (0, 0, 0, "") if self._backend is None else self._backend.state

    async def start(self) -> None:
        """Open what has to be opened; once, before anything else.

        Raises:
            StoreError: The store cannot be opened; says why and how to mend it.
        """
        if self._backend is not None:
            await self._backend.start()

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: The newest of it could not be written.
        """
        if self._backend is not None:
            await self._backend.flush()

    async def compact(self) -> int | None:
        """Put the file in order; return how many bytes of it are free, or None when there is no file.

        Raises:
            StoreError: It cannot be written.
        """
        return None if self._backend is None else await self._backend.compact()

    async def aclose(self) -> None:
        """Write out what is queued, then close; safe to call more than once, and without `start`."""
        if self._backend is not None:
            await self._backend.aclose()


@asynccontextmanager
async def open_keys(url: str, clock: Clock) -> AsyncIterator[KeyStore]:
    """Open keys and teams alone, for commands; servers may be using the same file.

    Raises:
        ConfigError: `url` names no file.
        StoreError: The store cannot be opened.
    """
    async with _opened(url, clock, "keys") as database:
        from penstock.stores.sql.keys import SqlKeyStore  # noqa: PLC0415 - see `open_store`

        yield SqlKeyStore(database)


@asynccontextmanager
async def open_budgets(url: str, clock: Clock) -> AsyncIterator[tuple[BudgetStore, KeyStore]]:
    """Open budgets and keys alone, for commands, which hold nothing; otherwise as `open_keys`."""
    async with _opened(url, clock, "budgets") as database:
        from penstock.stores.sql.budgets import BudgetTally, SqlBudgetStore  # noqa: PLC0415 - see `open_store`
        from penstock.stores.sql.keys import SqlKeyStore  # noqa: PLC0415 - see `open_store`

        yield SqlBudgetStore(database, None, BudgetTally(database.engine, clock)), SqlKeyStore(database)


@asynccontextmanager
async def open_states(url: str, clock: Clock) -> AsyncIterator[StateStore]:
    """Open what was decided while Penstock ran alone, for commands; otherwise as `open_keys`."""
    async with _opened(url, clock, "decisions") as database:
        from penstock.stores.sql.states import SqlStateStore  # noqa: PLC0415 - see `open_store`

        yield SqlStateStore(database, clock)


@asynccontextmanager
async def open_desk(url: str, clock: Clock) -> AsyncIterator[tuple[StateStore, ScoreStore]]:
    """Open what experiments need alone, for commands; otherwise as `open_keys`."""
    async with _opened(url, clock, "experiments") as database:
        from penstock.stores.sql.scores import SqlScoreStore  # noqa: PLC0415 - see `open_store`
        from penstock.stores.sql.states import SqlStateStore  # noqa: PLC0415 - see `open_store`

        yield SqlStateStore(database, clock), SqlScoreStore(database)


@asynccontextmanager
async def _opened(url: str, clock: Clock, kept: str) -> AsyncIterator[Database]:
    if url == MEMORY:
        raise ConfigError(f"store.url is memory:, which keeps no {kept}; set it to sqlite:///FILE", key="store.url")
    from penstock.stores.sql import database as sql  # noqa: PLC0415 - see `open_store`

    database = sql.Database(url, clock)
    await database.start()
    try:
        yield database
    finally:
        await database.aclose()


def open_store(url: str, clock: Clock, price: Price | None = None, hit_rows_per_s: float | None = None) -> Stores:
    """Make the stores `url` names: ``sqlite:///FILE``, or ``memory:``. Nothing is opened yet.

    Args:
        url: The URL.
        clock: Where time comes from.
        price: Prices what calls have probably used that were running when their process was killed, by the provider's
            name, its model and the tokens; without it their cost is unknown.
        hit_rows_per_s: How many calls a second that are plain hits get a row of their own; None for all.

    Raises:
        ConfigError: `url` is something else.
    """
    if url == MEMORY:
        books, budgets = MemoryBooks(clock), MemoryBudgetStore(clock)
        calls = MemoryLedger(books, budgets)
        return Stores(MemoryCacheStore(), calls, MemoryCompletionStore(), MemoryKeyStore(), MemoryAlertStore(), books,
                      budgets, MemoryQuestionStore(), MemoryStateStore(), MemoryScoreStore(calls.finished))  # fmt: skip
    # A library of 0.2 s that `memory:` does without.
    from penstock.stores.sql.alerts import SqlAlertStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.books import SqlBooks  # noqa: PLC0415 - see above
    from penstock.stores.sql.budgets import BudgetTally, SqlBudgetStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.cache import SqlCacheStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.completions import SqlCompletionStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.database import Database  # noqa: PLC0415 - see above
    from penstock.stores.sql.keys import SqlKeyStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.ledger import SqlLedger  # noqa: PLC0415 - see above
    from penstock.stores.sql.questions import SqlQuestionStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.rollups import Rollup  # noqa: PLC0415 - see above
    from penstock.stores.sql.scores import SqlScoreStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.states import SqlStateStore  # noqa: PLC0415 - see above

    database = Database(url, clock)
    spending = BudgetTally(database.engine, clock)
    ledger = SqlLedger(database, Rollup(database.engine), [spending], price, hit_rows_per_s)
    budgets_store = SqlBudgetStore(database, ledger, spending)
    return Stores(SqlCacheStore(database), ledger, SqlCompletionStore(database), SqlKeyStore(database),
                  SqlAlertStore(database), SqlBooks(database, clock), budgets_store, SqlQuestionStore(database),
                  SqlStateStore(database, clock), SqlScoreStore(database), database,
                  lambda: (ledger.recovered.settled, ledger.recovered.interrupted))  # fmt: skip
