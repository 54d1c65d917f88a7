"""The errors of the transports: which provider failed, where, in which phase. Never a header or a body."""

from __future__ import annotations

import os
import socket
import ssl

from penstock.core.errors import ProviderError


def place_of(provider: str, where: str) -> str:
    """Name what errors speak of: the provider, and `where` it was looked for."""
    return f"provider {provider} ({where})"


def timed_out(place: str, phase: str, seconds: float | None = None) -> ProviderError:
    """A phase took too long; without `seconds` it was the time for the whole exchange that ran out."""
    limit = f"{seconds:g} s" if seconds is not None else "the time allowed was over"
    return ProviderError(f"{place}: timed out {phase} ({limit})", code="upstream_timeout", retryable=True)


def incomplete(place: str, detail: str) -> ProviderError:
    """The connection ended before the answer did."""
    return ProviderError(f"{place}: {detail}", code="upstream_incomplete", retryable=True)


def stale(place: str) -> ProviderError:
    """A connection used before was closed before it answered anything: in all likelihood nobody read the request."""
    error = incomplete(place, "the connection was closed before it was used again")
    error.stale = True
    return error


def invalid(place: str, detail: str) -> ProviderError:
    """What was answered, or was to be sent, is not valid or is too large."""
    return ProviderError(f"{place}: {detail}", code="upstream_invalid")


def closed(place: str) -> ProviderError:
    """The transport was closed by its owner."""
    return ProviderError(f"{place}: the transport is closed", code="upstream_connect")


def refused(place: str) -> ProviderError:
    """The connection was closed as soon as it was there."""
    return ProviderError(f"{place}: the connection was closed at once", code="upstream_connect", retryable=True)


def connect_failed(place: str, error: OSError, *, secure: bool) -> ProviderError:
    """No connection: the name, the TCP connection or TLS failed."""
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN
        return ProviderError(f"{place}: {_reason(error)} (DNS)", code="upstream_dns", retryable=again)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or error.reason or str(error)
        return ProviderError(f"{place}: TLS failed: {reason}", code="upstream_tls")
    # A refused connection has a class of its own, so a reset or an early end is the answer to the TLS handshake.
    if secure and isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        return ProviderError(f"{place}: the connection was closed during the TLS handshake", code="upstream_tls")
    return ProviderError(f"{place}: cannot connect: {_reason(error)}", code="upstream_connect", retryable=True)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
