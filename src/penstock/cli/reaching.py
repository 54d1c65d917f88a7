"""Asking providers for their models, as a check: one plain request each, apart from the gateway's own client."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import IO, Any, NamedTuple
from urllib.parse import urlencode

from penstock.config.kinds import KINDS
from penstock.config.providers import ProviderSettings

TIMEOUT_S = 5.0
_LISTINGS = {"openai": "/models", "anthropic": "/v1/models?limit=1000", "ollama": "/api/tags"}
_MAX_BYTES = 8 * 1024 * 1024


class Reached(NamedTuple):
    """What came of asking a provider.

    Attributes:
        status: HTTP status; None when there was no answer.
        error: Why there was none.
        models: Names on offer; None when the provider did not say.
        date: The answer's ``Date`` header, if it had one.
    """

    status: int | None = None
    error: str = ""
    models: frozenset[str] | None = None
    date: str | None = None


def reach_all(providers: Iterable[ProviderSettings]) -> dict[str, Reached]:
    """Ask all of `providers` at once; the simulated ones are left out."""
    asked = [provider for provider in providers if KINDS[provider.kind].dialect != "simulated"]
    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip((provider.name for provider in asked), pool.map(_reach, asked), strict=True))


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key elsewhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow none."""


def _reach(provider: ProviderSettings) -> Reached:
    dialect = KINDS[provider.kind].dialect
    base_url = provider.base_url or ""
    if dialect == "anthropic":
        base_url = base_url.removesuffix("/v1")
    url = f"{base_url}{_LISTINGS[dialect]}"
    if provider.query:
        url += ("&" if "?" in url else "?") + urlencode(provider.query)
    request = urllib.request.Request(url, headers=_headers(provider))
    try:
        with _opener(provider).open(request, timeout=TIMEOUT_S) as reply:
            return Reached(reply.status, models=_models(reply.read(_MAX_BYTES)), date=reply.headers.get("date"))
    except urllib.error.HTTPError as error:
        with error:
            return Reached(error.code, date=error.headers.get("date"))
    except urllib.error.URLError as error:
        reason = error.reason
        return Reached(error=str(getattr(reason, "strerror", None) or reason))
    except (OSError, ValueError) as error:
        return Reached(error=str(error) or type(error).__name__)


def _opener(provider: ProviderSettings) -> urllib.request.OpenerDirector:
    proxies: dict[str, str] | None = None if provider.proxy is None else {}
    if provider.proxy not in (None, "none"):
        proxies = {scheme: str(provider.proxy) for scheme in ("http", "https")}
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=provider.ca_file)),
        NoRedirects(),
    )


def _headers(provider: ProviderSettings) -> dict[str, str]:
    headers = {"user-agent": "penstock", **provider.headers}
    if provider.api_key is not None:
        key = provider.api_key.get_secret_value()
        if KINDS[provider.kind].dialect == "anthropic":
            headers["x-api-key"] = key
        elif provider.kind == "azure":
            headers["api-key"] = key
        else:
            headers["authorization"] = f"Bearer {key}"
    if KINDS[provider.kind].dialect == "anthropic":
        headers.setdefault("anthropic-version", "2023-06-01")
    return headers


def _models(body: bytes) -> frozenset[str] | None:
    try:
        listing: Any = json.loads(body)
        rows = listing["models"] if "models" in listing else listing["data"]
        return frozenset(str(row["id"] if "id" in row else row["name"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return None
