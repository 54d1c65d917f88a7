"""Stored completions (``store: true``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, select, tuple_, update
from sqlalchemy.engine import Connection

from penstock.core.errors import InvalidRequest
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import pairs, replacing
from penstock.stores.sql.tables import completions

_BODY = (completions.c.body, completions.c.metadata)


class SqlCompletionStore:
    """`penstock.abc.CompletionStore` in a database; changes return once they are committed.

    Raises:
        StoreError: From every method, when the database could not be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: str, completion: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep `completion` and the messages it answered; replaces one of the same id."""
        ident = completion["id"]
        row = {
            "tenant": tenant,
            "id": ident,
            "created": int(completion.get("created") or 0),
            "model": str(completion.get("model") or ""),
            "metadata": dict(completion.get("metadata") or {}),
            "body": {name: value for name, value in completion.items() if name != "metadata"},
            "messages": [{**message, "id": f"{ident}-{index}"} for index, message in enumerate(messages)],
        }
        statement = replacing(completions).values(row)
        await self._database.execute(lambda connection: connection.execute(statement).close())

    async def retrieve(self, tenant: str, completion_id: str) -> dict[str, Any] | None:
        """Return the completion, or None."""
        return await self._database.read(_one(tenant, completion_id))

    async def messages(self, tenant: str, completion_id: str) -> list[dict[str, Any]] | None:
        """Return the messages it answered, each with an ``id``, oldest first; None when there is no such completion."""
        statement = select(completions.c.messages).where(*_is(tenant, completion_id))
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one_or_none())

    async def list(
        self, tenant: str, *, after: str | None, limit: int, order: str, model: str | None, metadata: Mapping[str, str]
    ) -> tuple[Sequence[dict[str, Any]], bool]:
        """Return a page, and whether there is more; `order` is ``asc`` or ``desc`` by creation.

        Raises:
            InvalidRequest: There is no completion `after`.
        """
        statement = select(*_BODY).where(completions.c.tenant == tenant).limit(limit + 1)
        if model is not None:
            statement = statement.where(completions.c.model == model)
        for name, value in metadata.items():
            member = pairs(completions.c.metadata)
            statement = statement.where(
                select(member.c.key).where(member.c.key == name, member.c.value == value).exists()
            )
        keys = (completions.c.created, completions.c.id)
        statement = statement.order_by(*(key.desc() if order == "desc" else key for key in keys))
        rows = await self._database.read(_page(statement, tenant, after, order))
        return rows[:limit], len(rows) > limit

    async def update(self, tenant: str, completion_id: str, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        """Replace the metadata; return the completion, or None."""
        statement = update(completions).where(*_is(tenant, completion_id)).values(metadata=dict(metadata))
        read = _one(tenant, completion_id)

        def change(connection: Connection) -> dict[str, Any] | None:
            connection.execute(statement)
            return read(connection)

        return await self._database.execute(change)

    async def delete(self, tenant: str, completion_id: str) -> bool:
        """Remove it; False when there is none."""
        statement = delete(completions).where(*_is(tenant, completion_id))
        return await self._database.execute(lambda connection: connection.execute(statement).rowcount > 0)


def _is(tenant: str, completion_id: str) -> tuple[Any, ...]:
    return completions.c.tenant == tenant, completions.c.id == completion_id


def _one(tenant: str, completion_id: str) -> Callable[[Connection], dict[str, Any] | None]:
    statement = select(*_BODY).where(*_is(tenant, completion_id))

    def read(connection: Connection) -> dict[str, Any] | None:
        row = connection.execute(statement).one_or_none()
        return None if row is None else {**row.body, "metadata": row.metadata}

    return read


def _page(
    statement: Select[Any], tenant: str, after: str | None, order: str
) -> Callable[[Connection], list[dict[str, Any]]]:
    keys = tuple_(completions.c.created, completions.c.id)

    def read(connection: Connection) -> list[dict[str, Any]]:
        page = statement
        if after is not None:
            found = connection.execute(select(completions.c.created).where(*_is(tenant, after))).scalar_one_or_none()
            if found is None:
                raise InvalidRequest(f"There is no stored completion {after[:200]!r} to list after.", param="after")
            edge = tuple_(found, after)
            page = page.where(keys < edge if order == "desc" else keys > edge)
        return [{**row.body, "metadata": row.metadata} for row in connection.execute(page)]

    return read
