"""Making, changing, rotating and ending keys, for those who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.abc import KeyRecord
from penstock.access.grants import check_grant, inherited
from penstock.access.principal import GRANTABLE, Principal, organisation_of
from penstock.access.ring import IDS, PURPOSE
from penstock.access.sealing import HINT, Sealer, new_key, new_key_id
from penstock.accounts.directory import Accounts
from penstock.accounts.terms import DEFAULT, check_end, check_name, check_terms, invalid, whole_seconds
from penstock.core.errors import InvalidRequest
from penstock.telemetry.logs import audit

OVERLAP_S = 86_400.0
"""How long a rotated key stays valid, unless it is said."""

_EMPTY: Mapping[str, Any] = {}


class KeyTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key is to be.

    Attributes:
        name: What people call it.
        tenant: Whose requests it makes.
        role: ``viewer``, ``user`` or ``admin``.
        models: Names and patterns of the models it may ask for; None is all that its maker may.
        requests_per_minute: None is what its maker has.
        tokens_per_minute: None is what its maker has.
        expires_at: Seconds since the epoch; None is when its maker's does.
    """

    name: str
    tenant: str = DEFAULT
    role: str = "user"
    models: list[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: float | None = None


CHANGEABLE = frozenset(KeyTerms.__struct_fields__) - {"tenant"}


class Keys:
    """The keys that `by` sees: all of its organisation, to root all there are."""

    def __init__(self, accounts: Accounts, by: Principal) -> None:
        self._accounts = accounts
        self._by = by

    async def list(self, tenant: str | None = None) -> Sequence[KeyRecord]:
        """Return them, oldest first; those of one tenant, or of all.

        Raises:
            StoreError: They could not be read.
        """
        await self._accounts.refresh()
        return [
            key
            for key in self._accounts.keys.values()
            if self._by.covers(key.tenant) and tenant in (None, key.tenant, organisation_of(key.tenant))
        ]

    async def get(self, key_id: str) -> KeyRecord:
        """Return one.

        Raises:
            InvalidRequest: There is none, or it is another organisation's (404).
        """
        await self._accounts.refresh()
        key = self._accounts.keys.get(key_id)
        if key is None or not self._by.covers(key.tenant):
            raise _missing(key_id)
        return key

    async def create(self, terms: KeyTerms) -> tuple[KeyRecord, str]:
        """Make a key; return it and its text, which nobody can read again.

        Raises:
            InvalidRequest: Something is wrong (400), it is more than the maker has (403), there is no such team (404).
            StoreError: The other keys were made with another secret.
        """
        await self._accounts.refresh()
        self._check_tenant(terms.tenant)
        text, sealed = await self._new()
        fields = msgspec.structs.asdict(terms)
        key = KeyRecord(**fields, **sealed, created_at=self._now, created_by=self._by.name)
        key = inherited(self._by, self._checked(key))
        check_grant(self._by, key)
        await self._accounts.store.add_key(key)
        await self._done("key.create", key)
        return key, text

    async def update(self, key_id: str, changes: Mapping[str, Any]) -> KeyRecord:
        """Change some of a key's terms.

        Raises:
            InvalidRequest: As `get` and `create`.
        """
        key = await self.get(key_id)
        new = inherited(self._by, self._checked(msgspec.structs.replace(key, **changes), changes))
        check_grant(self._by, new)
        changed = {name: getattr(new, name) for name in CHANGEABLE if getattr(new, name) != getattr(key, name)}
        await self._change(new, changed)
        await self._done("key.update", new, fields=sorted(changed))
        return new

    async def rotate(self, key_id: str, *, overlap_s: float = OVERLAP_S) -> tuple[KeyRecord, str]:
        """Make a key that replaces another, which stays valid for `overlap_s` seconds more.

        Raises:
            InvalidRequest: As `get`; the key is over (409); it may more than the one who asks (403).
        """
        old = await self.get(key_id)
        now = self._now
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise _over(key_id)
        check_grant(self._by, old)
        text, sealed = await self._new()
        new = msgspec.structs.replace(
            old, **sealed, created_at=now, created_by=self._by.name, replaces=key_id, revoked_at=None
        )
        ends = now + overlap_s if old.expires_at is None else min(now + overlap_s, old.expires_at)
        if not await self._accounts.store.add_key(new, retire=(key_id, ends)):
            raise _over(key_id)
        await self._done("key.rotate", new, replaces=key_id, overlap_s=overlap_s)
        return new, text

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key at once and for good; harmless when it is over.

        Raises:
            InvalidRequest: As `get`.
        """
        key = await self.get(key_id)
        if key.revoked_at is None:
            key = msgspec.structs.replace(key, revoked_at=self._now)
            await self._change(key, {"revoked_at": key.revoked_at})
            await self._done("key.revoke", key)
        return key

    async def delete(self, key_id: str) -> None:
        """Remove a key; the record keeps its id.

        Raises:
            InvalidRequest: As `get`.
        """
        key = await self.get(key_id)
        if not await self._accounts.store.delete_key(key_id):
            raise _missing(key_id)
        await self._done("key.delete", key)

    @property
    def _now(self) -> float:
        return self._accounts.clock.wall()

    async def _new(self) -> tuple[str, dict[str, Any]]:
        await self._accounts.check()
        secret = await self._accounts.secret(create=True)
        if secret is None:
            raise AssertionError("a store makes a secret when it is asked to")
        text, key_id = new_key(), new_key_id()
        return text, {
            "id": key_id,
            "digest": Sealer(secret, PURPOSE).seal(text.encode()),
            "hint": text[-HINT:],
            "seal": Sealer(secret, IDS).seal(key_id.encode()),
        }

    async def _change(self, key: KeyRecord, changes: Mapping[str, Any]) -> None:
        if changes and not await self._accounts.store.change_key(key.id, changes):
            raise _missing(key.id)

    async def _done(self, action: str, key: KeyRecord, **fields: object) -> None:
        audit(action, by=self._by.name, key_id=key.id, tenant=key.tenant, role=key.role, **fields)
        await self._accounts.refresh()

    def _check_tenant(self, tenant: str) -> None:
        team = self._accounts.teams.get(tenant)
        known = team.archived_at is None if team is not None else tenant == DEFAULT
        if not known or not self._by.covers(tenant):
            raise InvalidRequest(
                f"There is no team '{tenant[:200]}'; make it first, with POST /admin/teams or `penstock teams create`.",
                param="tenant",
                code="team_not_found",
                status_code=404,
            )

    def _checked(self, key: KeyRecord, changes: Mapping[str, Any] = _EMPTY) -> KeyRecord:
        if key.role not in GRANTABLE:
            raise invalid("role", f"one of {', '.join(GRANTABLE)}")
        check_name(key.name)
        check_terms(key.models, key.requests_per_minute, key.tokens_per_minute)
        if key.expires_at is not None and (not changes or "expires_at" in changes):
            check_end(key.expires_at, self._now)
        return key


def describe_key(key: KeyRecord, now: float) -> dict[str, Any]:
    """Return what people may see of a key."""
    expired = key.expires_at is not None and key.expires_at <= now
    return {
        "object": "key", "id": key.id, "name": key.name, "hint": f"sk-…{key.hint}", "tenant": key.tenant,
        "role": key.role, "models": key.models, "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute, "created_at": whole_seconds(key.created_at),
        "created_by": key.created_by, "expires_at": whole_seconds(key.expires_at),
        "revoked_at": whole_seconds(key.revoked_at), "replaces": key.replaces,
        "status": "revoked" if key.revoked_at is not None else "expired" if expired else "valid",
    }  # fmt: skip


def _missing(key_id: str) -> InvalidRequest:
    return InvalidRequest(f"There is no key '{key_id[:100]}'.", param="key_id", code="key_not_found", status_code=404)


def _over(key_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"The key '{key_id[:100]}' is revoked or has expired; make a new one.",
        param="key_id",
        code="key_not_valid",
        status_code=409,
    )
