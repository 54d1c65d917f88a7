"""Keys and teams in a database, and beside it the secret that keys are hashed with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, Table, delete, insert, select, update
from sqlalchemy.engine import Connection

from penstock.abc import Directory, KeyRecord, TeamRecord
from penstock.core.errors import StoreError
from penstock.stores.sql.account_tables import api_keys, teams, versions
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import adding

SECRET_SUFFIX = ".secret"
_NAME = "keys"
_TIMES = ("created_at", "expires_at", "revoked_at", "archived_at")


class SqlKeyStore:
    """`penstock.abc.KeyStore` in a database.

    Raises:
        StoreError: From every method, when the database could not be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = database.path + SECRET_SUFFIX

    async def secret(self, *, create: bool) -> bytes | None:
        """Return the content of the file beside the database, which only its owner may read."""
        return await asyncio.to_thread(_secret, self._path, create=create)

    async def version(self) -> int:
        """Return the number of changes."""
        return await self._database.read(_version)

    async def directory(self) -> Directory:
        """Return everything."""
        return await self._database.read(_directory)

    async def add_key(self, key: KeyRecord, *, retire: tuple[str, float] | None = None) -> bool:
        """Add a key, and let another one expire, in one transaction."""

        def change(connection: Connection) -> bool:
            if retire is not None:
                old = (api_keys.c.id == retire[0]) & api_keys.c.revoked_at.is_(None)
                ending = _row({"expires_at": retire[1]})
                if not connection.execute(update(api_keys).where(old).values(ending)).rowcount:
                    return False
            connection.execute(insert(api_keys).values(_row(msgspec.structs.asdict(key))))
            return True

        return await self._change(change)

    async def change_key(self, key_id: str, changes: Mapping[str, Any]) -> bool:
        """Change the named fields."""
        statement = update(api_keys).where(api_keys.c.id == key_id).values(_row(changes))
        return await self._change(lambda connection: connection.execute(statement).rowcount > 0)

    async def delete_key(self, key_id: str) -> bool:
        """Remove it."""
        statement = delete(api_keys).where(api_keys.c.id == key_id)
        return await self._change(lambda connection: connection.execute(statement).rowcount > 0)

    async def add_team(self, team: TeamRecord) -> bool:
        """Add a team, once."""
        tenant = team.tenant
        statement = insert(teams).values(_row(msgspec.structs.asdict(team)))

        def change(connection: Connection) -> bool:
            if connection.execute(select(teams.c.tenant).where(teams.c.tenant == tenant)).first() is not None:
                return False
            connection.execute(statement)
            return True

        return await self._change(change)

    async def change_team(self, tenant: str, changes: Mapping[str, Any]) -> bool:
        """Change the named fields."""
        statement = update(teams).where(teams.c.tenant == tenant).values(_row(changes))
        return await self._change(lambda connection: connection.execute(statement).rowcount > 0)

    async def _change(self, change: Callable[[Connection], bool]) -> bool:
        """Run `change` and, if it did something, raise the version, in one transaction."""

        def counted(connection: Connection) -> bool:
            done = change(connection)
            if done:
                connection.execute(_RAISE)
            return done

        return await self._database.execute(counted)


_RAISE = adding(versions).values(name=_NAME, version=1)


def _version(connection: Connection) -> int:
    return connection.execute(select(versions.c.version).where(versions.c.name == _NAME)).scalar() or 0


def _directory(connection: Connection) -> Directory:
    def read(table: Table) -> list[dict[str, Any]]:
        return [_fields(row) for row in connection.execute(select(table).order_by(table.c.created_at))]

    return Directory(
        _version(connection),
        [KeyRecord(**fields) for fields in read(api_keys)],
        [TeamRecord(**fields) for fields in read(teams)],
    )


def _row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write times as whole microseconds."""
    return {
        name: round(value * 1e6) if name in _TIMES and value is not None else value for name, value in fields.items()
    }


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {
        name: value / 1e6 if name in _TIMES and value is not None else value for name, value in row._mapping.items()
    }


def _secret(path: str, *, create: bool) -> bytes | None:
    try:
        if create:
            _create(path)
        with open(path, "rb") as file:
            found = bytes.fromhex(file.read(200).decode("ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}, which keys are checked with, cannot be used: {error}") from None
    if len(found) < 32:
        raise StoreError(f"{path}, which keys are checked with, is damaged: restore it from a backup")
    return found


def _create(path: str) -> None:
    """Make the file if there is none: whole or not at all, and one however many processes try."""
    if os.path.exists(path):
        return
    draft = f"{path}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_bytes(32).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
