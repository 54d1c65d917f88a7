"""Which addresses a URL somebody gave may lead to: those of the public Internet only, unless he may name others.

A name is resolved once, all its addresses are checked, and the connection goes to a checked one, so that a name that
resolves to something else a moment later (DNS rebinding) gains nothing. Redirects are for nobody to follow.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from penstock.core.errors import ConfigError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NUMBERS = frozenset("0123456789abcdefx.")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Place(NamedTuple):
    """Where a URL leads.

    Attributes:
        secure: By TLS.
        host: The name, or the address, in the URL.
        port: The port.
        target: Path and query.
    """

    secure: bool
    host: str
    port: int
    target: str


def parse(url: str) -> Place:
    """Take a URL apart, strictly.

    Raises:
        ConfigError: It is no http(s) URL, names a user, has a fragment, or its host is a number in disguise.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigError("a URL has printable ASCII characters only, no spaces and no backslashes", key="url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a URL: {error}", key="url") from error
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("a URL begins with http:// or https:// and a host", key="url")
    if "@" in parts.netloc or parts.fragment or "#" in url:
        raise ConfigError("a URL may not name a user or have a fragment", key="url")
    if port == 0:
        raise ConfigError("0 is no port", key="url")
    if not _is_address(host) and set(host.rstrip(".").lower()) <= _NUMBERS and host[0].isdigit():
        # 0177.0.0.1, 2130706433 and 0x7f.1 are addresses to some resolvers and names to others.
        raise ConfigError(f"write the address {host} as four decimal numbers", key="url")
    target = parts.path or "/"
    return Place(
        parts.scheme == "https",
        host,
        port or (443 if parts.scheme == "https" else 80),
        target + (f"?{parts.query}" if parts.query else ""),
    )


def resolve(place: Place, *, private: bool) -> str:
    """Return an address of `place` that may be connected to. Blocks while the name is looked up.

    Args:
        place: Where to.
        private: Addresses that are not of the public Internet are allowed.

    Raises:
        ConfigError: One of its addresses is not allowed.
        OSError: The name cannot be resolved.
    """
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses:
        raise OSError(f"{place.host} has no address")
    if not private:
        for address in addresses:
            if not public(ipaddress.ip_address(address)):
                raise ConfigError(
                    f"{place.host} leads to {address}, which is not on the public Internet; "
                    "allow it with allow_private: true if that is meant",
                    key="url",
                )
    return addresses[0]


def public(address: Address) -> bool:
    """Whether an address, or the IPv4 address inside it, is one of the public Internet."""
    inner = _inside(address)
    return address.is_global and not address.is_multicast and (inner is None or public(inner))


def _inside(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
