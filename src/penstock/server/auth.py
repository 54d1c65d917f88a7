"""Who a request is for, and whether that one may make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.access.principal import Principal, Role
from penstock.access.ring import KeyRing
from penstock.config.settings import ServerSettings
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidRequest, Refused

Admit = Callable[[Mapping[bytes, bytes]], Principal]
"""Returns whose request it is by its headers, or raises as `Gate.admit`."""

_TENANT_LENGTH = 200
_EVERYONE = Principal("default")
_RETRY_S = 2.0
"""How soon a key may be known again after the store could not be read."""


class Gate:
    """Checks keys; see `KeyRing` for why nothing is learnt from timing."""

    def __init__(self, settings: ServerSettings, ring: KeyRing | None = None) -> None:
        self.ring = KeyRing(SystemClock()) if ring is None else ring
        self.configure(settings)

    def configure(self, settings: ServerSettings) -> None:
        """Put the keys of `settings` in force, e.g. after a reload; removed ones are refused from now on."""
        keys = [(each.key.get_secret_value(), Principal(each.tenant)) for each in settings.keys]
        if settings.admin_key is not None:
            keys.append((settings.admin_key.get_secret_value(), Principal("default", role=Role.ROOT)))
        self.ring.configure(keys)

    def admit(self, headers: Mapping[bytes, bytes], least: Role = Role.USER) -> Principal:
        """Return whose request it is.

        With keys the key decides. Without any, everyone who can reach the loopback address is trusted to call models,
        and may name a tenant in `x-penstock-tenant`.

        Raises:
            InvalidRequest: The key is missing or not known (401), or may not do what needs the role `least` (403).
            Refused: The key is not known, but the store cannot be asked now (503).
        """
        ring = self.ring
        if ring.guarded:
            value = headers.get(b"authorization", b"")
            principal = ring.seen.get(value) or _look_up(value, headers, ring)
        else:
            named = headers.get(b"x-penstock-tenant")
            principal = Principal(_checked(named)) if named else _EVERYONE
        if principal.role < least:
            raise _forbidden(principal, least, ring)
        return principal


def _look_up(value: bytes, headers: Mapping[bytes, bytes], ring: KeyRing) -> Principal:
    scheme, _, token = value.partition(b" ")
    bearer = scheme.lower() == b"bearer"
    if not bearer:
        token = headers.get(b"x-api-key", b"")
    principal = ring.find(token.strip())
    if principal is None:
        raise _unknown(token, ring)
    if bearer:
        ring.remember(value, principal)
    return principal


def check_model(principal: Principal, model: str) -> None:
    """Refuse a model that the key, or its team, may not ask for.

    Raises:
        InvalidRequest: 403, ``model_not_allowed``.
    """
    if not principal.may_ask(model):
        raise InvalidRequest(
            f"This key may not use the model '{model[:200]}'. GET /v1/models lists what it may use.",
            param="model",
            code="model_not_allowed",
            status_code=403,
        )


def _unknown(token: bytes, ring: KeyRing) -> InvalidRequest | Refused:
    if not token.strip():
        return InvalidRequest(
            "No API key: send it as 'Authorization: Bearer sk-…' or x-api-key.", code="missing_api_key", status_code=401
        )
    if not ring.reachable:
        return Refused("Keys cannot be looked up now; try again soon.", code="auth_unavailable", retry_after=_RETRY_S)
    return InvalidRequest(
        "The API key is not known here, or not valid any more.", code="invalid_api_key", status_code=401
    )


def _forbidden(principal: Principal, least: Role, ring: KeyRing) -> InvalidRequest:
    has = f"this key has '{principal.role.text}'" if ring.guarded else "set server.admin_key, and send that"
    return InvalidRequest(f"This needs a key with the role '{least.text}'; {has}.", code="forbidden", status_code=403)


def _checked(raw: bytes) -> str:
    name = raw.decode("latin-1").strip()
    if not name or len(name) > _TENANT_LENGTH or not name.isprintable():
        raise InvalidRequest(
            f"The header x-penstock-tenant must be 1 to {_TENANT_LENGTH} printable characters.",
            param="x-penstock-tenant",
            code="invalid_header",
        )
    return name
