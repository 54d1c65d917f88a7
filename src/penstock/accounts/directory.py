"""The keys and teams in force, kept up to date with the store, which other processes change too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from hmac import compare_digest

from penstock.abc import Directory, KeyRecord, KeyStore, TeamRecord
from penstock.access.principal import GRANTABLE, ModelRule, Principal, organisation_of
from penstock.access.ring import IDS, KeyRing
from penstock.access.sealing import Sealer
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.limiting.tenants import TenantLimits

_log = logging.getLogger("penstock.accounts")
_INTERVAL_S = 1.0
"""How often the store is asked for changes by others; with the time to read them, they hold within two seconds."""
_PATIENCE_S = 5.0
_IF_LOST = "; if it is lost, so are the keys: end them with `penstock keys revoke` and make new ones"


class Accounts:
    """What the store knows, in memory.

    Attributes:
        store: Where it is kept.
        keys: All keys by id, also those that are over.
        teams: All teams by tenant, also archived ones.
    """

    def __init__(
        self, store: KeyStore, ring: KeyRing, clock: Clock, *, secret: str | None = None, serving: bool = True
    ) -> None:
        """Nothing is read yet.

        Args:
            store: Where keys and teams are kept.
            ring: Gets the keys that are valid.
            clock: Where time comes from.
            secret: What keys are hashed with, instead of the store's own.
            serving: Keys are to be known by their text, so reading them fails without what they were hashed with.
        """
        self.store = store
        self.clock = clock
        self.keys: dict[str, KeyRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self._ring = ring
        self._secret = None if secret is None else secret.encode()
        self._serving = serving
        self._version = -1
        self._refreshing = asyncio.Lock()
        self._seen = clock.monotonic()
        self._changed: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever keys or teams have changed, and once now."""
        self._changed.append(callback)
        callback()

    async def refresh(self) -> None:
        """Read the store, if it has changed.

        Raises:
            StoreError: It could not be read, or what its keys were hashed with is gone or another.
        """
        async with self._refreshing:  # so that what was read earlier is not put in force later
            if await self.store.version() != self._version:
                directory = await self.store.directory()
                secret = await self.secret(create=False)
                if self._serving:
                    self._check(directory.keys, secret)
                self._take(directory, secret)
            self._seen = self.clock.monotonic()
            self._ring.reachable = True

    async def secret(self, *, create: bool) -> bytes | None:
        """Return what keys are hashed with; None when there is nothing yet and `create` is false.

        Raises:
            StoreError: It cannot be read or made.
        """
        return self._secret or await self.store.secret(create=create)

    async def check(self) -> None:
        """See that the secret is the one that the keys which are valid were made with.

        Raises:
            StoreError: It is another, or gone; says what to do.
        """
        self._check(self.keys.values(), await self.secret(create=False))

    def limits(self) -> tuple[dict[str, TenantLimits], dict[str, TenantLimits]]:
        """Return the limits of keys, by id, and of teams, by tenant."""
        return {key.id: _limits(key) for key in self.keys.values()}, {
            team.tenant: _limits(team) for team in self.teams.values()
        }

    async def follow(self, ttl_s: Callable[[], float]) -> None:
        """Keep up with changes by other processes, for ever.

        While the store cannot be read, known keys are served for `ttl_s` seconds and others not refused for good.
        """
        while True:
            await self.clock.sleep(_INTERVAL_S)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self.refresh()
            except (StoreError, TimeoutError) as error:
                self._unreachable(error, ttl_s())

    def _check(self, keys: Iterable[KeyRecord], secret: bytes | None) -> None:
        now = self.clock.wall()
        valid = [key for key in keys if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)]
        if not valid:
            return
        if secret is None:
            raise StoreError(
                "the secret that keys are checked with is gone: restore the file that was beside the database, or set "
                f"PENSTOCK_SECRET to what it was{_IF_LOST}"
            )
        seal = Sealer(secret, IDS).seal
        other = [
            key.id for key in valid if key.seal is not None and not compare_digest(seal(key.id.encode()), key.seal)
        ]
        if other:
            where = (
                "the file beside the database is not what it was: restore it, or set PENSTOCK_SECRET to what it was"
                if self._secret is None
                else "set PENSTOCK_SECRET (store.secret) to what it was, or leave it out if there was none"
            )
            raise StoreError(
                f"{len(other)} of {len(valid)} valid keys, such as {other[0]}, were made with another secret, so "
                f"nobody could use them: {where}{_IF_LOST}"
            )

    def _unreachable(self, error: Exception, ttl_s: float) -> None:
        if self._ring.reachable:
            self._ring.reachable = False
            _log.error("keys cannot be read, those in memory are served for %g s: %s", ttl_s, error or "no answer")
        if self._version >= 0 and self.clock.monotonic() - self._seen >= ttl_s:
            self._version = -1
            self._ring.store([], guarded=bool(self.keys))
            _log.error("keys could not be read for %g s: none is served from memory any more", ttl_s)

    def _take(self, directory: Directory, secret: bytes | None) -> None:
        self.keys = {key.id: key for key in directory.keys}
        self.teams = {team.tenant: team for team in directory.teams}
        rules: dict[tuple[str, ...], ModelRule] = {}
        sealed = [
            (key.digest, principal) for key in directory.keys if (principal := self._principal(key, rules)) is not None
        ]
        self._ring.store(sealed, secret=secret, guarded=bool(self.keys))
        self._version = directory.version
        for callback in self._changed:
            callback()

    def _principal(self, key: KeyRecord, rules: dict[tuple[str, ...], ModelRule]) -> Principal | None:
        """Return whom a key is for; None when it is over."""
        teams = [self.teams[name] for name in (key.tenant, organisation_of(key.tenant)) if name in self.teams]
        if key.revoked_at is not None or any(team.archived_at is not None for team in teams):
            return None
        lists = [key.models, *(team.models for team in teams)]
        named = dict.fromkeys(tuple(models) for models in lists if models is not None)
        return Principal(
            tenant=key.tenant,
            key_id=key.id,
            role=GRANTABLE[key.role],
            models=tuple(rules.setdefault(patterns, ModelRule(patterns)) for patterns in named),
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            expires_at=key.expires_at,
        )


def _limits(of: KeyRecord | TeamRecord) -> TenantLimits:
    return TenantLimits(of.requests_per_minute, of.tokens_per_minute)
