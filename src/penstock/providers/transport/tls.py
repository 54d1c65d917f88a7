"""TLS for upstreams: certificates and host names are always checked."""

from __future__ import annotations

import functools
import os
import ssl

from penstock.core.errors import ConfigError


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the (cached) TLS context that trusts the system's authorities, or those in the PEM file `ca_file` alone.

    Raises:
        ConfigError: The file cannot be read or holds no certificate.
    """
    try:
        return _context(ca_file, os.stat(ca_file).st_mtime_ns if ca_file is not None else 0)
    except OSError as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no usable certificate"
        raise ConfigError(f"{ca_file}: {reason}", key="ca_file", expected="a PEM file of certificates") from None


@functools.lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed_ns: int) -> ssl.SSLContext:
    """Loading the system's authorities takes milliseconds; a changed file is loaded again."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
