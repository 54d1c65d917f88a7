"""Where a provider's API lives, and how to ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlencode, urlsplit

from penstock.abc import Connected, HttpReply, HttpRequest, Transport
from penstock.config.kinds import CREDENTIALS, Kind
from penstock.config.providers import ProviderSettings
from penstock.config.section import SECRET_NAME
from penstock.core.errors import ProviderError
from penstock.core.quota import Quota
from penstock.providers.transport.exchange import Exchange
from penstock.providers.transport.lean import LeanTransport
from penstock.wire.quota import read_quota

ParseError = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Makes the error of a failure answer's status, headers and body."""

JSON = "application/json"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_SHORTEST_SECRET = 8
"""Header values below this length are not looked for in messages; they would be found everywhere."""


class Endpoint:
    """The base URL, headers and query of one provider.

    Attributes:
        secrets: The values of keys, headers and secret parameters, which must not be in any message.
    """

    __slots__ = ("_base", "_headers", "_lean", "_limited", "_missing", "_provider", "_query", "_transport", "secrets")

    def __init__(
        self,
        settings: ProviderSettings,
        kind: Kind,
        transport: Transport,
        key: str | None,
        *,
        key_header: str,
        streams: str,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        """Send through `transport`.

        Args:
            settings: The provider's settings; headers in them replace others of the same name.
            kind: Its kind, for the default address and the variable that should have had the key.
            transport: Connections to the origin of the base URL; closed with the endpoint.
            key: The API key; without one, and without a header in its place, every request to a kind that needs one
                fails.
            key_header: The header that carries the key; in `authorization` it follows ``Bearer``.
            streams: Media type of streams; JSON is accepted anyway.
            headers: What the dialect asks for besides; lower-case names.
        """
        self._provider = settings.name
        self._limited = bool(settings.limits)
        self._transport = transport
        self._lean = transport if isinstance(transport, LeanTransport) else None
        self._base = urlsplit(settings.base_url or kind.base_url or "").path.rstrip("/")
        self._query = urlencode(settings.query)
        fields = {"content-type": JSON, "accept": f"{JSON}, {streams}", "user-agent": "penstock", **headers}
        if key:
            fields[key_header] = f"Bearer {key}" if key_header == "authorization" else key
        fields |= {name.lower(): value for name, value in settings.headers.items()}
        # The same for all requests, because the transport checks a tuple it knows only once.
        self._headers = tuple(fields.items())
        self._missing = kind.key_env if CREDENTIALS.isdisjoint(fields) else None
        queried = [value for name, value in settings.query.items() if SECRET_NAME.search(name)]
        known = (key or "", *settings.headers.values(), *queried)
        self.secrets = tuple(secret for secret in known if len(secret) >= _SHORTEST_SECRET)

    def post(self, path: str, body: bytes, deadline: float | None, parse_error: ParseError) -> Awaitable[HttpReply]:
        """Post JSON and return the successful reply, which the caller closes.

        Raises:
            ProviderError: There was no reply, or one of failure, or there is no key.
        """
        return self._exchange(HttpRequest("POST", self._url(path), self._headers, body, deadline), parse_error)

    def begin(self, path: str, body: bytes, deadline: float | None) -> Exchange | None:
        """As `post`, if a connection is at hand, for `whole_of`; None if none is.

        Raises:
            ProviderError: It cannot be sent.
        """
        if self._lean is None or self._missing is not None:
            return None
        return self._lean.begin(HttpRequest("POST", self._url(path), self._headers, body, deadline))

    def whole_of(self, exchange: Exchange, parse_error: ParseError) -> bytes:
        """Return the body of a successful JSON reply, of an exchange that has ended.

        Raises:
            ProviderError: There is none.
        """
        body = exchange.body()
        if not 200 <= exchange.status < 300:
            raise self._failure(exchange, parse_error(exchange.status, exchange.headers, body))
        self._check_media(exchange)
        return body

    async def get(self, path: str, parse_error: ParseError) -> bytes:
        """Return the body of a successful JSON reply.

        Raises:
            ProviderError: There was none.
        """
        reply = await self._exchange(HttpRequest("GET", self._url(path), self._headers), parse_error)
        try:
            return await self.read_json(reply)
        finally:
            await reply.aclose()

    async def read_json(self, reply: HttpReply) -> bytes:
        """Return the whole body of `reply`.

        Raises:
            ProviderError: It does not say that it is JSON, or it broke off.
        """
        self._check_media(reply)
        return await reply.read()

    def _check_media(self, reply: HttpReply) -> None:
        media = media_type(reply)
        if media != JSON and not media.endswith("+json"):
            raise ProviderError(
                f"provider {self._provider} answered {media or 'without a content type'} where JSON was expected; "
                "check its base_url",
                status_code=reply.status,
                code="upstream_invalid",
                provider=self._provider,
            )

    def not_streamed(self) -> ProviderError:
        """The error for a whole answer where a stream was asked for."""
        return ProviderError(
            f"provider {self._provider} answered with JSON where a stream was asked for",
            status_code=200,
            code="upstream_invalid",
            provider=self._provider,
        )

    def quota(self, reply: HttpReply) -> Quota | None:
        """What `reply` says is left of the provider's limits; not looked at when the settings have none."""
        return read_quota(reply.headers) if self._limited else None

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use and idle, as far as the transport can say."""
        return self._transport.connections if isinstance(self._transport, Connected) else (0, 0)

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()

    def _url(self, path: str) -> str:
        if not self._query:
            return self._base + path
        return f"{self._base}{path}{'&' if '?' in path else '?'}{self._query}"

    async def _exchange(self, request: HttpRequest, parse_error: ParseError) -> HttpReply:
        if self._missing is not None:
            raise ProviderError(
                f"provider {self._provider} has no API key: set {self._missing}, or api_key in its settings",
                code="upstream_auth",
                provider=self._provider,
            )
        reply = await self._transport.send(request)
        if 200 <= reply.status < 300:
            return reply
        try:
            body = await reply.read()
        finally:
            await reply.aclose()
        raise self._failure(reply, parse_error(reply.status, reply.headers, body))

    def _failure(self, reply: HttpReply, error: ProviderError) -> ProviderError:
        error.quota = self.quota(reply)
        return error


def media_type(reply: HttpReply) -> str:
    """The reply's content type, lower case, without parameters; empty when it has none."""
    value = reply.headers.get("content-type", "")
    return value if value == JSON else value.partition(";")[0].strip().lower()


def unsupported(vendor: str, operation: str, provider: str) -> ProviderError:
    """The error for an operation a vendor does not have; another target may."""
    return ProviderError(
        f"provider {provider} cannot do {operation}: {vendor} has no such API",
        status_code=404,
        code="unsupported_operation",
        provider=provider,
    )
