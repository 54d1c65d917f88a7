"""Keys: ``/admin/keys``, and who one is: ``/admin/whoami``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.abc import KeyRecord
from penstock.accounts.directory import Accounts
from penstock.accounts.keys import OVERLAP_S, Keys, KeyTerms, describe_key
from penstock.accounts.terms import whole_seconds
from penstock.core.errors import InvalidRequest
from penstock.server.admin.frame import answer, body_of, given, listing
from penstock.server.permissions import principal_of

_LONGEST_OVERLAP_S = 366 * 86_400.0


class KeyChanges(msgspec.Struct, forbid_unknown_fields=True):
    """What of a key is to change."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    role: str | msgspec.UnsetType = msgspec.UNSET
    models: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    tokens_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: float | msgspec.UnsetType | None = msgspec.UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """How long the old key stays valid, seconds."""

    overlap_s: float = OVERLAP_S


class KeyRoutes:
    """The routes under `/admin/keys`."""

    def __init__(self, accounts: Callable[[], Accounts]) -> None:
        self._accounts = accounts

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        one = "/admin/keys/{key_id}"
        return [
            Route("/admin/whoami", self.whoami, methods=["GET"]),
            Route("/admin/keys", self.list, methods=["GET"]),
            Route("/admin/keys", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/rotate", self.rotate, methods=["POST"]),
            Route(one + "/revoke", self.revoke, methods=["POST"]),
        ]

    async def whoami(self, request: HttpRequest) -> HttpResponse:
        """Say what the key that is used may do."""
        by = principal_of(request)
        return answer({
            "object": "principal", "tenant": by.tenant, "organisation": by.organisation, "key_id": by.key_id or None,
            "role": by.role.text, "models": [rule.patterns for rule in by.models] or None,
            "requests_per_minute": by.requests_per_minute, "tokens_per_minute": by.tokens_per_minute,
            "expires_at": whole_seconds(by.expires_at),
        })  # fmt: skip

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List keys, oldest first; of one `tenant`, if it is named."""
        return listing([self._shown(key) for key in await self._keys(request).list(request.query_params.get("tenant"))])

    async def create(self, request: HttpRequest) -> HttpResponse:
        """Make a key; this answer is the only place it is ever in."""
        key, text = await self._keys(request).create(await body_of(request, KeyTerms))
        return answer({**self._shown(key), "key": text}, status=201)

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Return one."""
        return answer(self._shown(await self._keys(request).get(request.path_params["key_id"])))

    async def update(self, request: HttpRequest) -> HttpResponse:
        """Change what is in the body."""
        changes = given(await body_of(request, KeyChanges))
        return answer(self._shown(await self._keys(request).update(request.path_params["key_id"], changes)))

    async def rotate(self, request: HttpRequest) -> HttpResponse:
        """Make a key that takes another's place."""
        overlap_s = (await body_of(request, Rotation)).overlap_s
        if not 0 <= overlap_s <= _LONGEST_OVERLAP_S:
            raise InvalidRequest(
                "'overlap_s' must be seconds, from 0 to a year.", param="overlap_s", code="invalid_value"
            )
        key, text = await self._keys(request).rotate(request.path_params["key_id"], overlap_s=overlap_s)
        return answer({**self._shown(key), "key": text}, status=201)

    async def revoke(self, request: HttpRequest) -> HttpResponse:
        """End one at once."""
        return answer(self._shown(await self._keys(request).revoke(request.path_params["key_id"])))

    async def delete(self, request: HttpRequest) -> HttpResponse:
        """Remove one."""
        key_id = request.path_params["key_id"]
        await self._keys(request).delete(key_id)
        return answer({"object": "key.deleted", "id": key_id, "deleted": True})

    def _keys(self, request: HttpRequest) -> Keys:
        return Keys(self._accounts(), principal_of(request))

    def _shown(self, key: KeyRecord) -> dict[str, Any]:
        return describe_key(key, self._accounts().clock.wall())
