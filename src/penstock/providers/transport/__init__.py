"""The only client I/O of Penstock: HTTP/1.1 to one origin, directly or through a proxy.

A direct connection is served by `lean`: `head` writes the request, `pool` finds a `connection`, whose bytes `parsing`
(and `framing`) turns into an `exchange`, which the caller reads through `decoding`. Behind a proxy it is
`penstock.providers.http`. All failures are made in `failures`. The reasons are in `docs/adr/0003-transport.md`.
"""

from __future__ import annotations

from penstock.abc import Transport
from penstock.config.providers import ProviderSettings
from penstock.core.errors import ConfigError
from penstock.providers.transport.head import RESERVED
from penstock.providers.transport.lean import LeanTransport
from penstock.providers.transport.origin import parse_origin
from penstock.providers.transport.proxies import proxy_for

__all__ = ["open_transport", "proxy_for"]


def open_transport(base_url: str, settings: ProviderSettings) -> Transport:
    """Return a transport to the origin of `base_url`, through a proxy if one applies; connects to nothing yet.

    Raises:
        ConfigError: `base_url`, or one of the settings `ca_file`, `headers` and `proxy`, cannot be used.
    """
    origin = parse_origin(base_url)
    for name in settings.headers:
        if name.lower() in RESERVED:
            raise ConfigError("the transport writes this header itself", key=f"headers.{name}")
    proxy = proxy_for(base_url, settings)
    if proxy is None:
        return LeanTransport(origin, settings)
    from penstock.providers.http import ProxiedTransport  # noqa: PLC0415 httpx2 takes 100 ms, for the few behind a proxy

    return ProxiedTransport(origin, settings, proxy)
