"""From a store's URL to the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Protocol

from penstock.abc import AlertStore, CacheStore, CompletionStore, KeyStore, Ledger
from penstock.core.call import CostSource
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError
from penstock.core.usage import Usage
from penstock.stores.memory import (
    MemoryAlertStore,
    MemoryCacheStore,
    MemoryCompletionStore,
    MemoryKeyStore,
    MemoryLedger,
)

MEMORY = "memory:"
Price = Callable[[str, str, Usage], tuple[Decimal | None, CostSource]]


class _Backend(Protocol):
    async def start(self) -> None: ...
    async def flush(self) -> None: ...
    async def aclose(self) -> None: ...
    @property
    def state(self) -> tuple[int, int, int, str]: ...


class Stores:
    """The stores of one process, and their common lifetime.

    Attributes:
        cache: Cached answers.
        ledger: The record of calls.
        completions: Stored completions.
        keys: Keys and teams.
        alerts: The history of alerts.
    """

    def __init__(
        self,
        cache: CacheStore,
        ledger: Ledger,
        completions: CompletionStore,
        keys: KeyStore,
        alerts: AlertStore,
        backend: _Backend | None = None,
        recovered: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.cache = cache
        self.ledger = ledger
        self.completions = completions
        self.keys = keys
        self.alerts = alerts
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
    if url == MEMORY:
        raise ConfigError("store.url is memory:, which keeps no keys; set it to sqlite:///FILE", key="store.url")
    from penstock.stores.sql.database import Database  # noqa: PLC0415 - see below
    from penstock.stores.sql.keys import SqlKeyStore  # noqa: PLC0415 - see below

    database = Database(url, clock)
    await database.start()
    try:
        yield SqlKeyStore(database)
    finally:
        await database.aclose()


def open_store(url: str, clock: Clock, price: Price | None = None) -> Stores:
    """Make the stores `url` names: ``sqlite:///FILE``, or ``memory:``. Nothing is opened yet.

    Args:
        url: The URL.
        clock: Where time comes from.
        price: Prices what calls have probably used that were running when their process was killed, by the provider's
            name, its model and the tokens; without it their cost is unknown.

    Raises:
        ConfigError: `url` is something else.
    """
    if url == MEMORY:
        return Stores(MemoryCacheStore(), MemoryLedger(), MemoryCompletionStore(), MemoryKeyStore(),
                      MemoryAlertStore())  # fmt: skip
    # A library of 0.2 s that `memory:` does without.
    from penstock.stores.sql.alerts import SqlAlertStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.cache import SqlCacheStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.completions import SqlCompletionStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.database import Database  # noqa: PLC0415 - see above
    from penstock.stores.sql.keys import SqlKeyStore  # noqa: PLC0415 - see above
    from penstock.stores.sql.ledger import SqlLedger  # noqa: PLC0415 - see above
    from penstock.stores.sql.rollups import Rollup  # noqa: PLC0415 - see above

    database = Database(url, clock)
    ledger = SqlLedger(database, [Rollup(database.engine)], price)
    return Stores(SqlCacheStore(database), ledger, SqlCompletionStore(database), SqlKeyStore(database),
                  SqlAlertStore(database), database,
                  lambda: (ledger.recovered.settled, ledger.recovered.interrupted))  # fmt: skip
