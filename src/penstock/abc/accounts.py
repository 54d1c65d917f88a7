"""Keys and teams at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class KeyRecord(msgspec.Struct, frozen=True):
    """A key at rest. Times are seconds since the epoch.

    Attributes:
        id: Its name in records and in the API; no secret.
        digest: A keyed hash of it (32 bytes).
        hint: Its last characters.
        name: What people call it.
        tenant: Whose requests it makes.
        role: ``viewer``, ``user`` or ``admin``.
        models: Names and patterns of the models it may ask for; None is all.
        requests_per_minute: None is no limit.
        tokens_per_minute: None is no limit.
        created_at: When it was made.
        created_by: The key that made it, ``root``, or ``cli``.
        expires_at: When it ends; None is never.
        revoked_at: When it was ended.
        replaces: The key it was rotated from.
        seal: A keyed hash of `id`, which shows whether the secret is that of when it was made; None if nobody knows.
    """

    id: str
    digest: bytes
    hint: str
    name: str
    tenant: str
    role: str
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: float
    created_by: str | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    replaces: str | None = None
    seal: bytes | None = None


class TeamRecord(msgspec.Struct, frozen=True):
    """A team, or an organisation. Times are seconds since the epoch.

    Attributes:
        tenant: ``organisation/team``, or ``organisation`` for what holds for all its teams together.
        name: What people call it.
        models: Names and patterns of the models its keys may ask for; None is all.
        requests_per_minute: Of all its keys together; None is no limit.
        tokens_per_minute: Of all its keys together; None is no limit.
        created_at: When it was made.
        archived_at: Since when its keys are not valid.
    """

    tenant: str
    name: str
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: float
    archived_at: float | None = None


class Directory(msgspec.Struct, frozen=True):
    """All keys and teams, oldest first, and the version they are of."""

    version: int
    keys: Sequence[KeyRecord] = ()
    teams: Sequence[TeamRecord] = ()


class KeyStore(Protocol):
    """Where keys and teams are kept. Changes return when they are at rest; all methods may raise `StoreError`."""

    async def secret(self, *, create: bool) -> bytes | None:
        """Return what keys are hashed with, kept apart from them; None when there is none yet and `create` is false."""

    async def version(self) -> int:
        """Return a number that every change by any process raises; asked every second."""

    async def directory(self) -> Directory:
        """Return everything."""

    async def add_key(self, key: KeyRecord, *, retire: tuple[str, float] | None = None) -> bool:
        """Add a key and, in one step with it, let another one expire.

        Args:
            key: The new key.
            retire: Another key's id, and when it ends.

        Returns:
            False, and nothing is changed, when the one to retire is not there or was revoked.
        """

    async def change_key(self, key_id: str, changes: Mapping[str, Any]) -> bool:
        """Change only the named fields; False when there is no such key."""

    async def delete_key(self, key_id: str) -> bool:
        """Remove it; False when there is none."""

    async def add_team(self, team: TeamRecord) -> bool:
        """Add a team; False when it exists."""

    async def change_team(self, tenant: str, changes: Mapping[str, Any]) -> bool:
        """Change only the named fields; False when there is no such team."""
