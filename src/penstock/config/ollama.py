"""Where Ollama listens: the meaning of `OLLAMA_HOST`, and whether anything answers there."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

DEFAULT_PORT = 11434


def base_url(host: str) -> str:
    """Turn `OLLAMA_HOST` into a base URL, the way Ollama's own clients read it.

    The scheme defaults to http, the port to 11434 (with a scheme to that scheme's own); an address that means "listen
    everywhere" means this machine.

    Raises:
        ValueError: It is no address.
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    parts = urlsplit(f"{scheme}://{rest or '127.0.0.1'}")
    port = parts.port or ({"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT)
    name = parts.hostname or "127.0.0.1"
    if name == "0.0.0.0":
        name = "127.0.0.1"
    elif name == "::":
        name = "::1"
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}:{port}{parts.path.rstrip('/')}"


def answers(host: str = "127.0.0.1", port: int = DEFAULT_PORT, timeout_s: float = 0.3) -> bool:
    """Whether an Ollama server answers at the address within `timeout_s` seconds a step."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/api/version")
        reply = connection.getresponse()
        found = json.loads(reply.read(4096))
        return reply.status == 200 and isinstance(found, dict) and "version" in found
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
