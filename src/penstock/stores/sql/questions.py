"""Questions whose answers are cached, and what was learnt of matching them, that survive a restart."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.engine import Connection

from penstock.abc import Question
from penstock.core.errors import StoreError
from penstock.stores.sql.database import Database
from penstock.stores.sql.queries import of_tenant
from penstock.stores.sql.question_tables import learnt, questions
from penstock.stores.sql.sqlite import Insert


class _Gone(NamedTuple):
    id: int


class _Judged(NamedTuple):
    right: float
    wrong: float
    id: int


class _Learnt(NamedTuple):
    name: str
    state: bytes


_Item = Question | _Gone | _Judged | _Learnt


class SqlQuestionStore:
    """`penstock.abc.QuestionStore` in a database."""

    lasting = False

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = database.writer
        self._put = Insert(questions, database.engine, replace=True, rows=1)
        self._keep = Insert(learnt, database.engine, replace=True, rows=1)
        gone = delete(questions).where(questions.c.id == bindparam("wanted"))
        judged = update(questions).where(questions.c.id == bindparam("wanted"))
        self._judge = str(judged.values(right=bindparam("r"), wrong=bindparam("w")).compile(database.engine))
        self._delete = str(gone.compile(database.engine))

    async def partitions(self) -> Mapping[bytes, int]:
        """Return the number of questions of each partition.

        Raises:
            StoreError: They could not be read.
        """
        counts = select(questions.c.partition, func.count()).group_by(questions.c.partition)
        rows = await self._database.read(lambda connection: connection.execute(counts).all())
        return {row[0]: row[1] for row in rows}

    async def load(self, partition: bytes) -> Sequence[Question]:
        """Return one partition's questions, oldest first.

        Raises:
            StoreError: They could not be read.
        """
        wanted = select(questions).where(questions.c.partition == partition).order_by(questions.c.id)
        return await self._database.read(
            lambda connection: [_question(dict(row)) for row in connection.execute(wanted).mappings()]
        )

    async def page(self, tenant: str | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Question]:
        """Return the next questions by number, oldest first and without their vectors.

        Raises:
            StoreError: They could not be read.
        """
        columns = [column for column in questions.columns if column is not questions.c.vector]
        wanted = select(*columns).where(questions.c.id > after, of_tenant(tenant, questions))
        wanted = wanted.order_by(questions.c.id).limit(limit)
        return await self._database.read(
            lambda connection: [_question({**row, "vector": b""}) for row in connection.execute(wanted).mappings()]
        )

    def put(self, question: Question) -> None:
        """Queue `question` for writing; replaces the one of the same number."""
        self._writer.put(self, question)

    def judge(self, question_id: int, right: float, wrong: float) -> None:
        """Queue writing how often a question's answer was found right and wrong; an unknown one is ignored."""
        self._writer.put(self, _Judged(right, wrong, question_id))

    def delete(self, ids: Iterable[int]) -> None:
        """Queue the removal of questions; unknown ones are ignored."""
        for each in ids:
            self._writer.put(self, _Gone(each))

    async def learnt(self) -> Mapping[str, bytes]:
        """Return what was kept with `keep`, by name.

        Raises:
            StoreError: It could not be read.
        """
        rows = await self._database.read(lambda connection: connection.execute(select(learnt)).all())
        return {row.name: row.state for row in rows}

    def keep(self, name: str, state: bytes) -> None:
        """Queue `state` for writing under `name`; replaces what was there."""
        self._writer.put(self, _Learnt(name, state))

    def write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Write in the writer's thread; of several items for one row only the last matters."""
        last = {_row_of(item): item for item in items}
        gone = [(item.id,) for item in last.values() if isinstance(item, _Gone)]
        if gone:
            connection.exec_driver_sql(self._delete, gone)
        self._put.run(connection, [_row(item) for item in last.values() if isinstance(item, Question)])
        judged = [tuple(item) for item in last.values() if isinstance(item, _Judged)]
        if judged:
            connection.exec_driver_sql(self._judge, judged)
        self._keep.run(connection, [item for item in last.values() if isinstance(item, _Learnt)])

    def settled(self, items: Sequence[_Item], error: StoreError | None) -> None:
        """Nobody waits; the writer counts what is lost, which costs misses."""


def _row_of(item: _Item) -> Hashable:
    if isinstance(item, _Learnt):
        return item.name
    return (item.id, "judged") if isinstance(item, _Judged) else item.id


def _row(question: Question) -> tuple[Any, ...]:
    values = {name: getattr(question, name) for name in Question.__struct_fields__}
    values["asked_at"] = int(question.asked_at * 1e6)
    values["tags"] = json.dumps(list(question.tags)) if question.tags else None
    return tuple([values[column.name] for column in questions.columns])


def _question(row: dict[str, Any]) -> Question:
    return Question(**{**row, "asked_at": row["asked_at"] / 1e6, "tags": tuple(row["tags"] or ())})
