"""Every server that speaks OpenAI's API: OpenAI, Azure's v1, vLLM, llama.cpp, LM Studio and many more."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from penstock.abc import HttpReply, HttpRequest, ModelInfo, Transport
from penstock.config.kinds import Kind
from penstock.config.settings import ProviderSettings
from penstock.core.errors import ProviderError
from penstock.core.request import Operation, Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.providers.live import LiveAnswer
from penstock.providers.profiles import DEFAULT, PROFILES
from penstock.wire.openai_answers import StreamReader, parse_answer, parse_models
from penstock.wire.openai_chat import encode_request
from penstock.wire.openai_errors import parse_error

_PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
_JSON, _STREAM = "application/json", "text/event-stream"
_SHORTEST_SECRET = 8
"""Header values below this length are not looked for in messages; they would be found everywhere."""


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
        self._transport = transport
        self._profile = PROFILES.get(kind.name, DEFAULT)
        base = urlsplit(settings.base_url or kind.base_url or "")
        self._base = base.path.rstrip("/")
        self._query = f"?{urlencode(settings.query)}" if settings.query else ""
        self._paths = {operation: self._url(path) for operation, path in _PATHS.items()}
        # The same for all requests, because the transport checks a tuple it knows only once.
        headers = {"content-type": _JSON, "accept": f"{_JSON}, {_STREAM}", "user-agent": "penstock"}
        if key:
            bearer = self._profile.key_header == "authorization"
            headers[self._profile.key_header] = f"Bearer {key}" if bearer else key
        headers |= {name.lower(): value for name, value in settings.headers.items()}
        self._missing = kind.key_env if headers.keys().isdisjoint(("authorization", "api-key")) else None
        self._headers = tuple(headers.items())
        known = (key or "", *settings.headers.values())
        self._secrets = tuple(secret for secret in known if len(secret) >= _SHORTEST_SECRET)

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt.

        Raises:
            ProviderError: The attempt failed; for a stream, before its first event.
            InvalidRequest: The payload, given as Python values, cannot be written as JSON.
        """
        profile = self._profile
        body = encode_request(request, target.model, stream_options=profile.stream_options, omit=profile.omit)
        path = self._paths[request.operation]
        reply = await self._exchange(HttpRequest("POST", path, self._headers, body, request.deadline))
        try:
            media = _media_type(reply)
            if media == _STREAM and request.stream:
                live = LiveAnswer(reply, StreamReader(self.name))
                await live.start()
                return Response(source=live)
            answer = await self._read_json(reply, media)
            usage, finish_reason = parse_answer(answer, self.name, operation=request.operation)
        except BaseException:
            await reply.aclose()
            raise
        await reply.aclose()
        return Response(body=answer, usage=usage, finish_reason=finish_reason)

    async def models(self) -> list[ModelInfo]:
        """List the models on offer.

        Raises:
            ProviderError: The provider cannot be asked.
        """
        reply = await self._exchange(HttpRequest("GET", self._url("/models"), self._headers))
        try:
            return parse_models(await self._read_json(reply, _media_type(reply)), self.name)
        finally:
            await reply.aclose()

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()

    def _url(self, path: str) -> str:
        return f"{self._base}{path}{self._query}"

    async def _exchange(self, request: HttpRequest) -> HttpReply:
        """Send, and raise what a failure status means."""
        if self._missing is not None:
            raise ProviderError(
                f"provider {self.name} has no API key: set {self._missing}, or api_key in its settings",
                code="upstream_auth",
                provider=self.name,
            )
        reply = await self._transport.send(request)
        if 200 <= reply.status < 300:
            return reply
        try:
            body = await reply.read()
        finally:
            await reply.aclose()
        raise parse_error(reply.status, reply.headers, body, self.name, secrets=self._secrets)

    async def _read_json(self, reply: HttpReply, media: str) -> bytes:
        if media != _JSON and not media.endswith("+json"):
            raise ProviderError(
                f"provider {self.name} answered {media or 'without a content type'} where JSON was expected; "
                "check its base_url",
                status_code=reply.status,
                code="upstream_invalid",
                provider=self.name,
            )
        return await reply.read()


def _media_type(reply: HttpReply) -> str:
    value = reply.headers.get("content-type", "")
    return value if value == _JSON else value.partition(";")[0].strip().lower()
