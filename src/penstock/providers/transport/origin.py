"""What one transport talks to: scheme, host and port, taken from a base URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from penstock.core.errors import ConfigError

_PORTS = {"http": 80, "https": 443}
_EXPECTED = "http://HOST[:PORT][/PATH] or https://…"


class Origin(NamedTuple):
    """An origin (RFC 6454 section 4).

    Attributes:
        scheme: ``http`` or ``https``.
        host: Host name in its ASCII form, or an address; IPv6 without brackets.
        port: TCP port, the scheme's default filled in.
    """

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """TLS is spoken."""
        return self.scheme == "https"

    @property
    def place(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """The `Host` header (RFC 9110 section 7.2): without a default port, and without an IPv6 zone."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Return the origin of `url`; its path is the provider's business.

    Raises:
        ConfigError: It is no http(s) URL, or carries credentials, which belong into `api_key` or `headers`.
    """
    try:
        # urlsplit drops line breaks and tabs instead of refusing them.
        if not url.isprintable() or " " in url:
            raise ValueError("it contains white space")
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
        if parts.scheme not in _PORTS or not host or port == 0:
            raise ValueError("scheme, host or port are not usable")
        if ":" not in host:
            host = host.encode("idna").decode("ascii")
    except ValueError as error:
        raise ConfigError(f"not a usable URL: {error}", key="base_url", expected=_EXPECTED) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("the URL carries credentials; use `api_key` or `headers`", key="base_url", expected=_EXPECTED)
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme])
