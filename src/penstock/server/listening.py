"""The listening socket: of one process, or one of several that share an address."""

from __future__ import annotations

import ipaddress
import socket

from penstock.config.settings import ServerSettings
from penstock.core.errors import ConfigError

BACKLOG = 2048


def listen(settings: ServerSettings, *, shared: bool = False) -> socket.socket:
    """Open the listening socket.

    Args:
        settings: Where to listen.
        shared: Let other processes of this user `join` the address afterwards. Before, nobody may use it.

    Raises:
        ConfigError: The address is not loopback and there are no keys, or it is in use or not this machine's.
    """
    require_keys(settings, settings.host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host}: {error.strerror or error}", key="server.host") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        if shared:
            # Not before: with it, an address that another program shares could be bound too.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Stop the program that uses it, or "
            "choose another port with --port",
            key="server.port",
        ) from error
    listening.settimeout(0)
    return listening


def join(family: int, address: tuple[object, ...], *, accept: bool = True) -> socket.socket:
    """Open another socket on an address that `listen` has opened as shared.

    Args:
        family: The address's family.
        address: As the first socket's `getsockname` has it.
        accept: Take connections; otherwise the address is only kept from others.

    Raises:
        ConfigError: It cannot be used any more.
    """
    joined = socket.socket(family, socket.SOCK_STREAM)
    try:
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        joined.bind(address)
        if accept:
            joined.listen(BACKLOG)
    except OSError as error:
        joined.close()
        raise ConfigError(f"cannot listen on {address[0]}:{address[1]} again: {error.strerror}") from error
    joined.settimeout(0)
    return joined


def url_of(listening: socket.socket) -> str:
    """Return the base URL of what listens there."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_keys(settings: ServerSettings, host: str) -> None:
    """See that strangers cannot use a gateway on `host`.

    Raises:
        ConfigError: They could.
    """
    if not settings.keys and settings.admin_key is None and not _loopback(host):
        raise ConfigError(
            f"refusing to listen on {host} without keys: everyone who reaches the address could spend your money. "
            "Set PENSTOCK_ADMIN_KEY or server.keys, or listen on 127.0.0.1",
            key="server.host",
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
