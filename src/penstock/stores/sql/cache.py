"""Cached answers that survive a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence

from sqlalchemy import bindparam, delete, select
from sqlalchemy.engine import Connection

from penstock.abc import StoredAnswer
from penstock.core.errors import StoreError
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import Insert, raw
from penstock.stores.sql.tables import answers

MAX_PENDING_BYTES = 64 * 1024 * 1024
_MUCH_BYTES = MAX_PENDING_BYTES // 4
"""So much does not wait for more."""
_COLUMNS = StoredAnswer.__struct_fields__

_Item = StoredAnswer | tuple[bytes]
"""An answer to write, or the key of one to delete; told apart by identity, for a key may change again meanwhile."""


class SqlCacheStore:
    """`penstock.abc.CacheStore` in a database.

    Answers wait in memory until they are written, 64 MiB of them at most, and can be read from there. When the queue is
    half full answers are no longer taken, so that the ledger's rows still find room: losing one only costs a miss.
    """

    lasting = False

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = database.writer
        self._writer.unhurried.add(self)
        self._insert = Insert(answers, database.engine, replace=True, rows=1, columns=_COLUMNS)
        known = [answers.c[name] for name in _COLUMNS if name != "data"]
        self._index = str(select(*known).order_by(answers.c.stored_at).compile(database.engine))
        self._get = select(answers).where(answers.c.key == bindparam("wanted"))
        self._delete = str(delete(answers).where(answers.c.key == bindparam("wanted")).compile(database.engine))
        self._loop: asyncio.AbstractEventLoop | None = None
        # What waited is forgotten many at a time, once all that was queued before the newer ones is written: to look
        # for each of them took as long as to queue it.
        self._newer: dict[bytes, _Item] = {}
        self._older: dict[bytes, _Item] = {}
        self._newer_bytes = self._older_bytes = 0
        self._queued = self._older_queued = self._settled = 0

    async def index(self) -> Sequence[StoredAnswer]:
        """All entries with empty `data`, oldest first.

        Raises:
            StoreError: They could not be read.
        """
        return await self._database.read(self._read_index)

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Return one entry; None when it is gone.

        Raises:
            StoreError: It could not be read.
        """
        pending = self._newer.get(key) or self._older.get(key)
        if pending is not None:
            return pending if isinstance(pending, StoredAnswer) else None
        return await self._database.read(lambda connection: self._read(connection, key))

    def put(self, answer: StoredAnswer) -> None:
        """Queue `answer` for writing; replaces an entry of the same key."""
        writer, size = self._writer, self._newer_bytes + len(answer.data)
        if size + self._older_bytes > MAX_PENDING_BYTES or writer.pending * 2 >= writer.limit:
            writer.drop()
            self.delete((answer.key,))  # an older answer must not stay in its place
        elif self._queue(answer.key, answer):
            self._newer_bytes = size
            if size > _MUCH_BYTES:
                writer.hurry()

    def delete(self, keys: Iterable[bytes]) -> None:
        """Queue the removal of `keys`; unknown ones are ignored."""
        for key in keys:
            self._queue(key, (key,))

    def write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Write in the writer's thread; of several items for one key only the last matters."""
        last = {item[0] if isinstance(item, tuple) else item.key: item for item in items}
        rows: list[tuple[object, ...]] = []
        gone: list[tuple[object, ...]] = []
        for item in last.values():
            if isinstance(item, tuple):
                gone.append((bytearray(item[0]),))
            else:
                rows.append(_row(item))
        if gone:
            raw(connection).executemany(self._delete, gone)
        self._insert.run(connection, rows)

    def settled(self, items: Sequence[_Item], error: StoreError | None) -> None:
        """Forget in the event loop what is written, or lost."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed, so nobody will ask
                self._loop.call_soon_threadsafe(self._forget, len(items))

    def _queue(self, key: bytes, item: _Item) -> bool:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        queued = self._writer.put(self, item)
        if queued:
            self._newer[key] = item
            self._queued += 1
        else:
            self._newer.pop(key, None)
            self._older.pop(key, None)
        return queued

    def _forget(self, settled: int) -> None:
        """The next `settled` of what was queued need not be kept any more."""
        self._settled += settled
        if self._settled >= self._older_queued:
            self._older, self._older_bytes, self._older_queued = self._newer, self._newer_bytes, self._queued
            self._newer, self._newer_bytes = {}, 0
        if self._settled == self._queued:
            self._older, self._older_bytes = {}, 0

    def _read_index(self, connection: Connection) -> list[StoredAnswer]:
        # A start waits for this: SQLAlchemy's rows, which know their columns' names, take three times as long.
        with contextlib.closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._index)
            rows = cursor.fetchall()
        return [StoredAnswer(*(*row[:3], b"", *row[3:-1], _tags(row[-1]))) for row in rows]

    def _read(self, connection: Connection, key: bytes) -> StoredAnswer | None:
        row = connection.execute(self._get, {"wanted": key}).mappings().one_or_none()
        return None if row is None else StoredAnswer(**{**row, "tags": _tags(row["tags"])})


def _row(answer: StoredAnswer) -> tuple[object, ...]:
    """Return `answer` as the driver takes it, which would ask for an adapter of each `bytes`."""
    return (
        bytearray(answer.key), answer.tenant, answer.form, bytearray(answer.data), answer.stored_at, answer.fresh_until,
        answer.cost_pusd, answer.input_tokens, answer.output_tokens, answer.finish_reason, answer.model,
        json.dumps(answer.tags) if answer.tags else None,
    )  # fmt: skip


def _tags(written: str | None) -> tuple[str, ...]:
    return tuple(json.loads(written)) if written else ()
