"""Who a request is for."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from penstock.config.settings import ServerSettings
from penstock.core.errors import InvalidRequest

_TENANT_LENGTH = 200


class Gate:
    """Checks keys. Tokens are compared as digests of the whole token, so nothing is learnt from timing."""

    def __init__(self, settings: ServerSettings) -> None:
        self.configure(settings)

    def configure(self, settings: ServerSettings) -> None:
        """Put the keys of `settings` in force, e.g. after a reload; removed ones are refused from now on."""
        self._tenants = {sha256(key.key.get_secret_value().encode()).digest(): key.tenant for key in settings.keys}

    def tenant(self, headers: Mapping[bytes, bytes]) -> str:
        """Return whose request it is.

        With keys configured the key decides. Without any, everyone who can reach the loopback address is trusted, and
        may name a tenant in `x-penstock-tenant`.

        Raises:
            InvalidRequest: The key is missing or not known (401).
        """
        if not self._tenants:
            named = headers.get(b"x-penstock-tenant")
            return _checked(named) if named else "default"
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            token = headers.get(b"x-api-key", b"")
        if not token:
            raise InvalidRequest(
                "No API key: send it as 'Authorization: Bearer sk-…' or x-api-key.",
                code="missing_api_key",
                status_code=401,
            )
        tenant = self._tenants.get(sha256(token.strip()).digest())
        if tenant is None:
            raise InvalidRequest("The API key is not known here.", code="invalid_api_key", status_code=401)
        return tenant


def _checked(raw: bytes) -> str:
    name = raw.decode("latin-1").strip()
    if not name or len(name) > _TENANT_LENGTH or not name.isprintable():
        raise InvalidRequest(
            f"The header x-penstock-tenant must be 1 to {_TENANT_LENGTH} printable characters.",
            param="x-penstock-tenant",
            code="invalid_header",
        )
    return name
