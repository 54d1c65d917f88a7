"""One database: bringing it up to date, reading it in threads, writing it through the writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, MetaData, String, Table, inspect
from sqlalchemy.engine import Connection, Engine

from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.stores.sql import sqlite
from penstock.stores.sql.question_tables import metadata
from penstock.stores.sql.tables import HEAD
from penstock.stores.sql.writer import Writer, WriterState

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent.parent / "migrations"
_READERS = 4


class Database:
    """What the ledger, the cache and the stored completions share; nothing is opened before `start`.

    Attributes:
        starting: What is done at the end of `start`.
        closing: What is done at the end of `aclose`, when everything is written.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.path = sqlite.file_of(url)
        self.engine = sqlite.open_writing(self.path)
        self.writer = Writer(self.engine, self.explain, clock)
        self.starting: list[Callable[[], Awaitable[None]]] = []
        self.closing: list[Callable[[], None]] = []
        self._reading = sqlite.open_reading(self.path)
        self._calls = _Calls()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def state(self) -> WriterState:
        """How writing goes."""
        return self.writer.state

    async def start(self) -> None:
        """Open the file, bring its tables up to date and start the threads.

        Raises:
            StoreError: It cannot be opened, is damaged, or is not Penstock's.
        """
        threads = ThreadPoolExecutor(_READERS, "penstock-reader")
        try:
            await asyncio.get_running_loop().run_in_executor(threads, prepare, self.engine, self.path)
        except BaseException:
            self.engine.dispose()
            threads.shutdown(wait=False)
            raise
        self._threads = threads
        self.writer.start()
        try:
            for begin in self.starting:
                await begin()
        except BaseException:
            await self.aclose()
            raise

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` in a thread, in a reading transaction of its own.

        Raises:
            StoreError: It could not be read, or the store is not open.
        """
        return await asyncio.get_running_loop().run_in_executor(self._open_threads(), self._read, query)

    async def execute(self, change: Callable[[Connection], T]) -> T:
        """Run `change` in the writer's next transaction; return its result once that is committed.

        Raises:
            StoreError: It could not be written, or the store is not open.
        """
        self._open_threads()
        waiting = _Waiting(change)
        if not self.writer.put(self._calls, waiting):
            raise StoreError(f"{self.path}: too much is waiting to be written; try again later")
        self.writer.hurry()
        result: T = await waiting.future
        return result

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: The newest of it could not be written, or the store is not open.
        """
        await self.execute(_nothing)

    async def compact(self) -> int:
        """Let the database learn how its tables are used by now; return how many bytes of the file are free.

        What is free is used again. A smaller file is made while nothing runs, by ``VACUUM``, which copies all of it.

        Raises:
            StoreError: It could not be written, or the store is not open.
        """
        return await self.execute(sqlite.compact)

    async def aclose(self) -> None:
        """Write out what is queued and close the file; safe to call more than once."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.get_running_loop().run_in_executor(threads, self._close)
            threads.shutdown(wait=False)

    def explain(self, error: BaseException) -> StoreError:
        """Turn an error into one that says how to mend it."""
        return sqlite.explain(error, self.path)

    def _open_threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            raise StoreError(f"{self.path}: the store is not open")
        return self._threads

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._reading.begin() as connection:
                return query(connection)
        except sqlite.ERRORS as error:
            raise self.explain(error) from error

    def _close(self) -> None:
        self.writer.close()
        for end in self.closing:
            end()
        self._reading.dispose()
        self.engine.dispose()


class _Waiting:
    """A change somebody waits for."""

    __slots__ = ("change", "future", "loop", "result")

    def __init__(self, change: Callable[[Connection], Any]) -> None:
        self.change = change
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: object = None

    def wake(self, error: StoreError | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(error)


class _Calls:
    """Runs changes somebody waits for; one that fails is run again alone, so it does not take others with it."""

    lasting = False

    def write(self, connection: Connection, items: Sequence[_Waiting]) -> None:
        for item in items:
            item.result = item.change(connection)

    def settled(self, items: Sequence[_Waiting], error: StoreError | None) -> None:
        for item in items:
            with contextlib.suppress(RuntimeError):  # its loop was closed, so nobody waits any more
                item.loop.call_soon_threadsafe(item.wake, error)


def prepare(engine: Engine, path: str) -> None:
    """Check the database and bring its tables up to date.

    Raises:
        StoreError: It cannot be opened, is damaged, or is not Penstock's.
    """
    try:
        with engine.begin() as connection:
            sqlite.check(connection, path)
            found = revision(connection, path)
            if found is None:
                create(connection)
            elif found != HEAD:
                migrate(connection)
    except sqlite.ERRORS as error:
        raise sqlite.explain(error, path) from error


def revision(connection: Connection, path: str) -> str | None:
    """Return the revision a database is at; None for an empty one.

    Raises:
        StoreError: It is another program's, or a newer Penstock's.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    found = None
    if "alembic_version" in tables and "calls" in tables:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if found is None:
        raise StoreError(f"{path} is a database of another program: set store.url to a file of its own for Penstock")
    if found > HEAD:
        raise StoreError(
            f"{path} was written by a newer Penstock (revision {found}, this one knows {HEAD}): "
            "upgrade Penstock, or set store.url to another file"
        )
    return str(found)


def create(connection: Connection) -> None:
    """Make the tables in an empty database: those the revisions lead to, without the tool that runs them."""
    metadata.create_all(connection)
    version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
    version.create(connection)
    connection.execute(version.insert().values(version_num=HEAD))


def migrate(connection: Connection) -> None:
    """Run the revisions that a database lacks."""
    from alembic import command  # noqa: PLC0415 - 0.1 s and 10 MB that only an older database needs
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


def _nothing(_connection: Connection) -> None:
    """What `flush` waits for."""
