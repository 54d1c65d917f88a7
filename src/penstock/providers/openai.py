"""Every server that speaks OpenAI's API: OpenAI, Azure's v1, vLLM, llama.cpp, LM Studio and many more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.abc import ModelInfo, Sending, Transport
from penstock.config.kinds import Kind
from penstock.config.providers import ProviderSettings
from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.request import Operation, Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.providers.asked import Asked, AskedStream
from penstock.providers.endpoint import Endpoint, media_type
from penstock.providers.live import LiveAnswer
from penstock.providers.profiles import DEFAULT, PROFILES
from penstock.providers.transport.exchange import Exchange
from penstock.wire.openai_answers import parse_answer, parse_models
from penstock.wire.openai_chat import encode_request
from penstock.wire.openai_errors import parse_error
from penstock.wire.openai_stream import StreamReader
from penstock.wire.upstream_errors import conceal

_PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
_STREAM = "text/event-stream"


class OpenAIProvider:
    """One account at an OpenAI-compatible server."""

    def __init__(self, settings: ProviderSettings, kind: Kind, transport: Transport, key: str | None) -> None:
        """Send through `transport`, which is closed with the provider.

        Args:
            settings: The provider's settings; `base_url` comes before the kind's.
            kind: Its kind, for the default address and the variable that should have had the key.
            transport: Connections to the origin of the base URL.
            key: The API key; without one, and without a header of the settings' in its place, every request to a kind
                that needs one fails.
        """
        self.name = settings.name
        self._profile = PROFILES.get(kind.name, DEFAULT)
        self._endpoint = Endpoint(settings, kind, transport, key, key_header=self._profile.key_header, streams=_STREAM)

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use and idle."""
        return self._endpoint.connections

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt.

        Raises:
            ProviderError: The attempt failed; for a stream, before its first event.
            InvalidRequest: The payload, given as Python values, cannot be written as JSON.
        """
        body = self._encode(request, target)
        reply = await self._endpoint.post(_PATHS[request.operation], body, request.deadline, self._parse_error)
        try:
            if request.stream and media_type(reply) == _STREAM:
                live = LiveAnswer(reply, StreamReader(self.name), self._endpoint.secrets)
                await live.start()
                return Response(source=live, quota=self._endpoint.quota(reply))
            answer = await self._endpoint.read_json(reply)
            usage, finish_reason = parse_answer(answer, self.name, operation=request.operation)
            if request.stream:
                raise self._endpoint.not_streamed()
        except BaseException as error:
            await reply.aclose()
            if isinstance(error, ProviderError):
                conceal(error, self._endpoint.secrets)
            raise
        await reply.aclose()
        return Response(body=answer, usage=usage, finish_reason=finish_reason, quota=self._endpoint.quota(reply))

    def begin(
        self, request: Request, target: Target, then: Callable[[], None], hear: Callable[[Batch], None] | None = None
    ) -> Sending | None:
        """As `penstock.abc.Immediate`."""
        body = self._encode(request, target)
        exchange = self._endpoint.begin(_PATHS[request.operation], body, request.deadline)
        if exchange is None:
            return None
        if hear is None:
            exchange.then = then
            return Asked(request, exchange, self.answer)
        return AskedStream(request, exchange, self.answer, StreamReader(self.name), hear, then, self._endpoint)

    def answer(self, request: Request, exchange: Exchange) -> Response:
        """Return the answer of an exchange that has ended.

        Raises:
            ProviderError: There is none.
        """
        try:
            answer = self._endpoint.whole_of(exchange, self._parse_error)
            usage, finish_reason = parse_answer(answer, self.name, operation=request.operation)
            if request.stream:
                raise self._endpoint.not_streamed()
        except ProviderError as error:
            conceal(error, self._endpoint.secrets)
            raise
        return Response(body=answer, usage=usage, finish_reason=finish_reason, quota=self._endpoint.quota(exchange))

    async def models(self) -> list[ModelInfo]:
        """List the models on offer.

        Raises:
            ProviderError: The provider cannot be asked.
        """
        data = await self._endpoint.get("/models", self._parse_error)
        try:
            return parse_models(data, self.name)
        except ProviderError as error:
            conceal(error, self._endpoint.secrets)
            raise

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()

    def _encode(self, request: Request, target: Target) -> bytes:
        profile = self._profile
        return encode_request(
            request,
            target.model,
            stream_options=profile.stream_options,
            omit=profile.omit,
            marks=profile.marks,
            prompt_cache_key=profile.prompt_cache_key,
        )

    def _parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return parse_error(status, headers, body, self.name, secrets=self._endpoint.secrets)
