"""Whether a proxy stands between Penstock and an upstream."""

from __future__ import annotations

import ipaddress
import os
import sys

from penstock.config.providers import ProviderSettings
from penstock.providers.transport.origin import Origin, parse_origin


def proxy_for(url: str, settings: ProviderSettings) -> str | None:
    """Return the URL of the proxy for requests to `url`, or None for a direct connection.

    `settings.proxy` decides if it is set (``none`` for no proxy). Otherwise it is the environment, as curl and Python
    read it: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (on macOS and Windows the system's settings too), which
    never apply to loopback addresses.

    Raises:
        ConfigError: `url` is no http(s) URL.
    """
    origin = parse_origin(url)
    proxy = settings.proxy
    if proxy is not None:
        return None if proxy.lower() == "none" else _with_scheme(proxy)
    if _is_loopback(origin.host):
        return None
    return _from_environment(origin)


def _from_environment(origin: Origin) -> str | None:
    system_settings = sys.platform in {"darwin", "win32"}
    if not system_settings and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 takes 30 ms, for the few behind a proxy

    proxies = getproxies()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(origin.place):
        return None
    return _with_scheme(proxy)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
