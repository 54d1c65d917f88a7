"""All that is SQLite's own: addresses, pragmas, what its errors mean, and SQL that other databases spell otherwise.

SQLite runs in WAL mode, where readers and the writer do not wait for each other, with ``synchronous=NORMAL``: a killed
process loses nothing that was committed; a power cut may lose the last commits, never the file's consistency.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Sequence
from functools import reduce
from operator import iconcat
from typing import Any

from sqlalchemy import Column, Table, TableValuedAlias, create_engine, event, func, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql import dml

from penstock.core.errors import ConfigError, StoreError

SCHEME = "sqlite:///"
ERRORS = (SQLAlchemyError, sqlite3.Error)
"""What goes wrong with a database."""
TRANSIENT = (OperationalError, sqlite3.OperationalError)
"""What may pass: it is locked, full or out of reach."""
BUSY_TIMEOUT_S = 12.0
CHECKED_BYTES = 64 * 1024 * 1024
"""Files up to this size are checked whole at start, in about 0.15 s; damage in larger ones shows when it is read."""
_WAL_BYTES = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 4_000
"""What is committed is copied into the file after so many pages, 16 MB; pages written again until then are copied once,
and so many fewer times is waited for the disk."""
_CACHE_KIB = 8 * 1024
"""Pages held of the file: with SQLite's own 2 MB the index of the cached answers is read again for each batch."""
_READERS = 4


def file_of(url: str) -> str:
    """Return the path in a ``sqlite:///FILE`` URL; ``~`` is the home directory.

    Raises:
        ConfigError: It is another kind of URL, or names no file.
    """
    path = url.removeprefix(SCHEME)
    if path == url or path in ("", ":memory:"):
        shown = url.split("@")[-1]
        raise ConfigError(f"cannot use {shown!r} as a store", key="store.url", expected="sqlite:///FILE or memory:")
    return os.path.expanduser(path)


def open_writing(path: str) -> Engine:
    """Make the engine of the one connection that writes; its transactions take the write lock when they begin."""
    return _engine(
        path,
        "BEGIN IMMEDIATE",
        (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            f"journal_size_limit={_WAL_BYTES}",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            f"cache_size=-{_CACHE_KIB}",
        ),
        connections=1,
    )


def open_reading(path: str) -> Engine:
    """Make an engine whose connections cannot write; it works while another process writes."""
    return _engine(path, "BEGIN", ("query_only=ON",), connections=_READERS)


def _engine(path: str, begin: str, pragmas: tuple[str, ...], *, connections: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=path),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "isolation_level": None},
        pool_size=connections,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            _set(cursor, pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        raw(connection).execute(begin)

    return engine


def _set(cursor: DBAPICursor, pragma: str) -> None:
    """Set `pragma`; waits for a lock as statements do, which SQLite does not while another process changes to WAL."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def check(connection: Connection, path: str) -> None:
    """Read a file of moderate size through.

    Raises:
        StoreError: It is damaged.
    """
    if os.path.getsize(path) <= CHECKED_BYTES:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise StoreError(_damaged(path, str(found)), code="store_corrupt")


def compact(connection: Connection) -> int:
    """Gather the statistics that are out of date; return how many bytes of the file are free."""
    connection.exec_driver_sql("PRAGMA analysis_limit=1000")
    connection.exec_driver_sql("PRAGMA optimize")
    pages = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    size: int = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return size * int(pages)


def explain(error: BaseException, path: str) -> StoreError:
    """Turn an error into one that says which file it is about and how to mend it."""
    if isinstance(error, StoreError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "") if isinstance(cause, sqlite3.Error) else ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(_damaged(path, str(cause)), code="store_corrupt")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(_unopenable(path))
    for prefix, advice in _ADVICE.items():
        if name.startswith(prefix):
            return StoreError(f"{path}: {cause}: {advice}")
    return StoreError(f"{path}: {cause!r}")


_ADVICE = {
    "SQLITE_FULL": "free some space on its disk, or move it and set store.url",
    "SQLITE_BUSY": f"another process has held it for {BUSY_TIMEOUT_S:g} s; end that process, or set another store.url",
    "SQLITE_LOCKED": "another connection holds it; end the program that does",
    "SQLITE_READONLY": "make the file and its directory writable for this user, or set another store.url",
    "SQLITE_PERM": "make the file and its directory writable for this user, or set another store.url",
    "SQLITE_IOERR": "the disk or file system failed; check both, or move the file and set store.url",
}


def _damaged(path: str, found: str) -> str:
    return (
        f"{path} is damaged or not an SQLite database ({found}): save what can be read with "
        f"`sqlite3 {path} .recover | sqlite3 recovered.db` and put that in its place, restore a backup, "
        "or move the file away to start with an empty one"
    )


def _unopenable(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return f"{path} is a directory: set store.url to a file in it"
    if not os.path.isdir(folder):
        return f"{path} cannot be opened: there is no directory {folder}; create it, or set another store.url"
    return f"{path} cannot be opened: this user may not write in {folder}; change that, or set another store.url"


def elements(column: Column[object]) -> TableValuedAlias:
    """Make a table of a JSON array's elements, in its column ``value``."""
    return func.json_each(column).table_valued("value")


def pairs(column: Column[object]) -> TableValuedAlias:
    """Make a table of a JSON object's members, in its columns ``key`` and ``value``."""
    return func.json_each(column).table_valued("key", "value")


def replacing(table: Table) -> dml.Insert:
    """Make an INSERT that replaces the row of the same primary key."""
    statement = sqlite.insert(table)
    others = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=others)


def adding(table: Table, *names: str) -> dml.Insert:
    """Make an INSERT that adds its values of `names`, by default of all, to the row of the same primary key."""
    statement = sqlite.insert(table)
    added = names or [column.name for column in table.columns if not column.primary_key]
    sums = {name: table.c[name] + statement.excluded[name] for name in added}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=sums)


def if_new(table: Table, names: Sequence[str]) -> dml.Insert:
    """Make an INSERT of the columns `names` that does nothing when it would repeat what must be unique."""
    return sqlite.insert(table).values(dict.fromkeys(names)).on_conflict_do_nothing()


def raw(connection: Connection) -> DBAPICursor:
    """Return a cursor of the driver's own, for what is done many times a second: SQLAlchemy's takes ten times as long.

    What it raises are `ERRORS`.
    """
    return connection.connection.cursor()


class Insert:
    """An INSERT compiled once, for one row and for several at a time.

    The interpreter is free while SQLite runs a statement and has to be taken back after it, so few statements of many
    rows are cheaper, and disturb the threads that serve requests less, than a statement a row. Not where rows go to
    pages all over the table: a statement of several keeps each page as it was before, to undo half of itself.

    Args:
        table: Where.
        engine: Tells how SQL is spelled.
        replace: Replace rows of the same primary key.
        add: Add to rows of the same primary key.
        rows: How many rows one statement inserts at most; what is left is halved until a statement of so many fits.
        columns: The order of a row's values; by default that of the table's columns.
        usual: How many values rows have whose others are all null: each of those costs as much as one that is not.
    """

    def __init__(
        self,
        table: Table,
        engine: Engine,
        *,
        replace: bool = False,
        add: bool = False,
        rows: int = 128,
        columns: Sequence[str] = (),
        usual: int | None = None,
    ) -> None:
        statement = adding(table) if add else replacing(table) if replace else insert(table)
        names = list(columns) or [column.name for column in table.columns]
        self._sizes = [rows >> halved for halved in range(rows.bit_length())]
        self._all = self._compiled(statement, names, engine)
        self._usual = usual
        if usual is not None:
            self._few = self._compiled(statement, names[:usual], engine)

    def _compiled(self, statement: dml.Insert, names: Sequence[str], engine: Engine) -> list[str]:
        """Compile it for each number of rows, with the columns in the order of `names`."""
        compiled = str(statement.values(dict.fromkeys(names)).compile(engine))
        before, values, after = re.split(r"(?<= VALUES )(\([^()]*\))", compiled, maxsplit=1)
        listed = ", ".join(map(engine.dialect.identifier_preparer.quote, names))
        before = re.sub(r"\([^()]*\)", lambda _: f"({listed})", before, count=1)
        # SQLAlchemy would take 20 ms for each.
        return [before + ", ".join([values] * size) + after for size in self._sizes]

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert `rows`, whose values are the driver's own."""
        if self._usual is None:
            self._run(connection, self._all, rows)
            return
        usual = self._usual
        few = [row for row in rows if len(row) == usual]
        self._run(connection, self._few, few)
        if len(few) < len(rows):
            self._run(connection, self._all, [row for row in rows if len(row) != usual])

    def _run(self, connection: Connection, statements: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        start, left = 0, len(rows)
        if not left:
            return
        cursor = raw(connection)
        for size, statement in zip(self._sizes, statements, strict=True):
            while left >= size > 1:
                cursor.execute(statement, reduce(iconcat, rows[start : start + size], []))
                start += size
                left -= size
        if left:
            cursor.executemany(statements[-1], rows[start:])
