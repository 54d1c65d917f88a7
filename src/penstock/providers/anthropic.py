"""Anthropic's Messages API, and servers that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from penstock.abc import ModelInfo, Transport
from penstock.config.kinds import Kind
from penstock.config.providers import ProviderSettings
from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.providers.endpoint import Endpoint, media_type, unsupported
from penstock.providers.live import LiveAnswer
from penstock.wire import anthropic_messages as wire
from penstock.wire.upstream_errors import conceal

_MAX_LINE_BYTES = 8 * 1024 * 1024
_MOST_PAGES = 20
_STREAM = "text/event-stream"
_wall = SystemClock.wall


class AnthropicProvider:
    """One account at Anthropic."""

    def __init__(self, settings: ProviderSettings, kind: Kind, transport: Transport, key: str | None) -> None:
        """Send through `transport`, which is closed with the provider.

        Args:
            settings: The provider's settings; a `base_url` may end with ``/v1`` or not.
            kind: Its kind, for the default address and the variable that should have had the key.
            transport: Connections to the origin of the base URL.
            key: The API key; without one, and without a header for it in the settings, every request fails.
        """
        self.name = settings.name
        self._root = "" if (settings.base_url or "").endswith("/v1") else "/v1"
        self._endpoint = Endpoint(
            settings,
            kind,
            transport,
            key,
            key_header="x-api-key",
            streams=_STREAM,
            headers={"anthropic-version": wire.VERSION},
        )

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use and idle."""
        return self._endpoint.connections

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt.

        Raises:
            ProviderError: The attempt failed, for a stream before its first event; or the operation is not chat.
            InvalidRequest: Anthropic does not have what is asked for.
        """
        if request.operation != "chat":
            raise unsupported("Anthropic", request.operation, self.name)
        points = None if request.prefix is None else request.prefix.points
        body = wire.encode_request(request.payload, model=target.model, stream=request.stream, points=points)
        reply = await self._endpoint.post(f"{self._root}/messages", body, request.deadline, self._parse_error)
        created = int(_wall())
        try:
            if request.stream and media_type(reply) == _STREAM:
                decoder = wire.StreamDecoder(created=created, provider=self.name, max_line_bytes=_MAX_LINE_BYTES)
                live = LiveAnswer(reply, decoder, self._endpoint.secrets)
                await live.start()
                return Response(source=live, quota=self._endpoint.quota(reply))
            data = await self._endpoint.read_json(reply)
            answer, usage, reason = wire.decode_answer(data, created=created, provider=self.name)
            if request.stream:
                raise self._endpoint.not_streamed()
        except BaseException as error:
            await reply.aclose()
            if isinstance(error, ProviderError):
                conceal(error, self._endpoint.secrets)
            raise
        await reply.aclose()
        return Response(body=answer, usage=usage, finish_reason=reason, quota=self._endpoint.quota(reply))

    async def models(self) -> list[ModelInfo]:
        """List the models of the account, all pages.

        Raises:
            ProviderError: The provider cannot be asked.
        """
        found: list[ModelInfo] = []
        path = f"{self._root}/models?limit=1000"
        for _ in range(_MOST_PAGES):
            data = await self._endpoint.get(path, self._parse_error)
            models, after = wire.decode_models(data, self.name)
            found += [ModelInfo(id, created, "anthropic") for id, created in models]
            if after is None:
                break
            path = f"{self._root}/models?limit=1000&after_id={quote(after, safe='')}"
        return found

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()

    def _parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return wire.parse_error(status, headers, body, self.name, secrets=self._endpoint.secrets)
