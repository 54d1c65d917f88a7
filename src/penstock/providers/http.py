"""The transport through a proxy, on httpx2: slower than `transport.lean`, with the same errors, limits and caps."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

from penstock.abc import HttpReply, HttpRequest
from penstock.config.providers import ProviderSettings
from penstock.core.errors import ConfigError, ProviderError
from penstock.providers.transport.connection import KEEP_ALIVE_S
from penstock.providers.transport.decoding import ACCEPTED, Decoder, decoder_for, too_large
from penstock.providers.transport.failures import closed, connect_failed, incomplete, invalid, place_of, timed_out
from penstock.providers.transport.head import HeadWriter
from penstock.providers.transport.origin import Origin
from penstock.providers.transport.parsing import HEAD_BYTES
from penstock.providers.transport.tls import client_context


class ProxiedTransport:
    """An `abc.Transport` through an HTTP proxy: CONNECT for https origins, absolute request targets for http ones."""

    def __init__(self, origin: Origin, settings: ProviderSettings, proxy: str) -> None:
        """Connects to nothing yet.

        Raises:
            ConfigError: `proxy` or `settings.ca_file` cannot be used.
        """
        self._origin = origin
        self._settings = settings
        self._url = f"{origin.scheme}://{origin.authority}"
        self._closed = False
        try:
            parsed = httpx2.Proxy(proxy)
            if not parsed.url.host:
                raise ValueError("no host")
            via = f"{parsed.url.host}:{parsed.url.port or 80}"
            self._place = place_of(settings.name, f"{origin.place} through the proxy {via}")
            self._http = httpx2.AsyncHTTPTransport(
                verify=client_context(settings.ca_file),
                trust_env=False,
                limits=httpx2.Limits(
                    max_connections=settings.max_connections,
                    max_keepalive_connections=None,
                    keepalive_expiry=KEEP_ALIVE_S,
                ),
                proxy=parsed,
            )
            self._heads = HeadWriter(origin, self._place)
        except ImportError:
            raise ConfigError(
                "SOCKS proxies need the package socksio, which is not installed",
                key="proxy",
                expected="http://HOST:PORT",
            ) from None
        except (ValueError, httpx2.InvalidURL):
            raise ConfigError("not a usable proxy URL", key="proxy", expected="http://HOST:PORT") from None

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send `request` and wait for the answer's headers.

        Raises:
            ProviderError: As `abc.Transport.send` says.
        """
        if self._closed:
            raise closed(self._place)
        self._heads.encode(request)  # for its checks
        now = asyncio.get_running_loop().time()
        timeouts = self._settings.timeouts
        until = now + timeouts.total_s
        if request.deadline is not None:
            until = min(until, request.deadline)
        limits = {"connect": timeouts.connect_s, "read": timeouts.first_byte_s, "write": None, "pool": None}
        headers = [*request.headers, ("accept-encoding", ACCEPTED)]
        try:
            async with asyncio.timeout_at(until):
                response = await self._http.handle_async_request(
                    httpx2.Request(
                        request.method,
                        self._url + request.path,
                        headers=headers,
                        content=request.body or None,
                        extensions={"timeout": limits},
                    )
                )
        except TimeoutError:
            raise timed_out(self._place, "waiting for the answer's headers") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._failure(error) from error
        # The reply watches over the idle time; httpx2 reads this mapping anew when the body is read.
        limits["read"] = None
        reply = _Reply(response, self, until)
        if sum(len(name) + len(value) for name, value in response.headers.raw) > HEAD_BYTES:
            await reply.aclose()
            raise invalid(self._place, f"the answer's head is larger than {HEAD_BYTES} bytes")
        return reply

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._http.aclose()

    def decoder(self, headers: Mapping[str, str]) -> Decoder | None:
        """As `decoder_for`, for this transport's answers."""
        return decoder_for(headers.get("content-encoding"), self._settings.max_response_bytes, self._place)

    async def next_raw(self, source: AsyncIterator[bytes], until: float) -> bytes | None:
        """Return the next piece of a body as it was transferred; None at its end.

        Raises:
            ProviderError: As the iteration of an `abc.HttpReply`.
        """
        idle_s = self._settings.timeouts.idle_s
        idle_until = asyncio.get_running_loop().time() + idle_s
        try:
            async with asyncio.timeout_at(min(idle_until, until)):
                return await anext(source, None)
        except TimeoutError:
            if idle_until <= until:
                raise timed_out(self._place, "waiting for more of the answer", idle_s) from None
            raise timed_out(self._place, "reading the answer") from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise self._failure(error) from error

    def too_large(self, received: int) -> ProviderError | None:
        """Return the error for a body of this many bytes, if it is one."""
        limit = self._settings.max_response_bytes
        return too_large(self._place, limit) if received > limit else None

    def cut_short(self) -> ProviderError:
        """Return the error of an answer whose reader closed it."""
        return incomplete(self._place, "the answer was closed before its end")

    def _failure(self, error: Exception) -> ProviderError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (socket.gaierror, ssl.SSLError)):
                return connect_failed(self._place, cause, secure=self._origin.secure)
            cause = cause.__cause__ or cause.__context__
        timeouts = self._settings.timeouts
        if isinstance(error, httpx2.ConnectTimeout):
            return timed_out(self._place, "connecting", timeouts.connect_s)
        if isinstance(error, httpx2.TimeoutException):
            return timed_out(self._place, "waiting for the answer's headers", timeouts.first_byte_s)
        if isinstance(error, (httpx2.ConnectError, httpx2.ProxyError)):
            return ProviderError(f"{self._place}: cannot connect: {error}", code="upstream_connect", retryable=True)
        if isinstance(error, (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, OSError)):
            return incomplete(self._place, "the connection was reset")
        # h11 and httpcore have one class for malformed answers and for those that are cut off.
        if isinstance(error, httpx2.RemoteProtocolError) and "without sending" in str(error):
            return incomplete(self._place, "the connection was closed before the end of the answer")
        return invalid(self._place, f"the exchange is not valid HTTP: {str(error)[:100]}")


class _Reply:
    """An `abc.HttpReply` over an httpx2 response."""

    def __init__(self, response: httpx2.Response, transport: ProxiedTransport, until: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        self._response = response
        self._source: Any = response.aiter_raw()
        self._transport = transport
        self._until = until
        self._received = 0
        self._decoder: Decoder | None = None
        self._error: ProviderError | None = None
        self._started = False
        self._complete = False
        self._ended = False

    async def read(self) -> bytes:
        """Return the rest of the body, decoded, once."""
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate the decoded body as it arrives."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for more; a failure closes the connection."""
        if self._ended:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        try:
            piece = await self._next()
        except BaseException as error:
            self._error = error if isinstance(error, ProviderError) else self._transport.cut_short()
            await self.aclose()
            raise
        if piece is None:
            self._complete = True
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close an unfinished exchange's connection, give back a finished one's."""
        if not self._ended:
            self._ended = True
            if not self._complete and self._error is None:
                self._error = self._transport.cut_short()
            await self._source.aclose()
            await self._response.aclose()

    async def _next(self) -> bytes | None:
        if not self._started:
            self._started = True
            self._decoder = self._transport.decoder(self.headers)
        decoder = self._decoder
        while True:
            if decoder is not None and decoder.pending and (piece := decoder.decode()):
                return piece
            data = await self._transport.next_raw(self._source, self._until)
            if data is None:
                if decoder is not None:
                    decoder.finish()
                return None
            self._received += len(data)
            if (error := self._transport.too_large(self._received)) is not None:
                raise error
            if piece := data if decoder is None else decoder.decode(data):
                return piece
