"""Where a vendor's own API lives, and how to ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

from penstock.abc import HttpReply, HttpRequest, Transport
from penstock.config.settings import ProviderSettings
from penstock.core.errors import ProviderError

ParseError = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Makes the error of a failure answer's status, headers and body."""


class Endpoint:
    """The base URL, headers and query of one provider."""

    __slots__ = ("_base", "_headers", "_provider", "_query", "transport")

    def __init__(
        self, settings: ProviderSettings, base_url: str, transport: Transport, headers: Mapping[str, str]
    ) -> None:
        """Send through `transport`.

        Args:
            settings: The provider's settings, for headers (which replace `headers` of the same name) and query.
            base_url: The API's address, of which the transport knows only the origin.
            transport: Connections to that origin.
            headers: Sent with every request; lower-case names.
        """
        self._provider = settings.name
        self.transport = transport
        base = urlsplit(base_url)
        query = "&".join(part for part in (base.query, urlencode(settings.query)) if part)
        self._base = base.path.rstrip("/")
        self._query = query
        own = {name.lower(): value for name, value in settings.headers.items()}
        self._headers = {"user-agent": "penstock", **headers, **own}

    def has_header(self, *names: str) -> bool:
        """Whether any of `names` (lower case) is sent."""
        return any(name in self._headers for name in names)

    async def post(
        self, path: str, body: bytes, *, accept: str, deadline: float | None, parse_error: ParseError
    ) -> HttpReply:
        """Post JSON and return the successful reply, which the caller closes.

        Raises:
            ProviderError: There was no reply, or one of failure.
        """
        headers = {"content-type": "application/json", "accept": accept, **self._headers}
        request = HttpRequest("POST", self._url(path), tuple(headers.items()), body, deadline)
        return await self._exchange(request, parse_error)

    async def get(self, path: str, *, parse_error: ParseError) -> bytes:
        """Return the body of a successful JSON reply.

        Raises:
            ProviderError: There was none.
        """
        headers = {"accept": "application/json", **self._headers}
        reply = await self._exchange(HttpRequest("GET", self._url(path), tuple(headers.items())), parse_error)
        try:
            return await self.read_json(reply)
        finally:
            await reply.aclose()

    async def read_json(self, reply: HttpReply) -> bytes:
        """Return the whole body of `reply`.

        Raises:
            ProviderError: It does not say that it is JSON, or it broke off.
        """
        media = media_type(reply)
        if media != "application/json":
            raise self.unexpected(media, "JSON")
        return await reply.read()

    def unexpected(self, media: str, wanted: str) -> ProviderError:
        """The error for an answer of another type than was asked for."""
        return ProviderError(
            f"provider {self._provider} answered {media or 'without a content type'} where {wanted} was expected; "
            "check its base_url",
            code="upstream_invalid",
            provider=self._provider,
        )

    def _url(self, path: str) -> str:
        if not self._query:
            return self._base + path
        return f"{self._base}{path}{'&' if '?' in path else '?'}{self._query}"

    async def _exchange(self, request: HttpRequest, parse_error: ParseError) -> HttpReply:
        reply = await self.transport.send(request)
        if 200 <= reply.status < 300:
            return reply
        try:
            body = await reply.read()
        finally:
            await reply.aclose()
        raise parse_error(reply.status, reply.headers, body)


def media_type(reply: HttpReply) -> str:
    """The reply's content type, lower case, without parameters; empty when it has none."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(vendor: str, operation: str, provider: str) -> ProviderError:
    """The error for an operation a vendor does not have; another target may."""
    return ProviderError(
        f"provider {provider} cannot do {operation}: {vendor} has no such API",
        status_code=404,
        code="unsupported_operation",
        provider=provider,
    )
