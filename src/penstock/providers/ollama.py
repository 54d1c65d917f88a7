"""A machine that runs Ollama."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec

from penstock.abc import ModelInfo, Transport
from penstock.config.kinds import Kind
from penstock.config.providers import ProviderSettings
from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.providers.endpoint import Endpoint, ParseError
from penstock.providers.live import LiveAnswer
from penstock.wire import ollama_chat as wire
from penstock.wire.upstream_errors import conceal

_MAX_LINE_BYTES = 8 * 1024 * 1024
_wall = SystemClock.wall


class OllamaProvider:
    """One Ollama server: chat, completions, embeddings and the models it has."""

    def __init__(self, settings: ProviderSettings, kind: Kind, transport: Transport, key: str | None) -> None:
        """Send through `transport`, which is closed with the provider.

        Args:
            settings: The provider's settings; `base_url` comes before the kind's.
            kind: Its kind, for the default address.
            transport: Connections to the origin of the base URL.
            key: The key of a server that asks for one, as ollama.com does; usually None.
        """
        self.name = settings.name
        self._endpoint = Endpoint(
            settings, kind, transport, key, key_header="authorization", streams="application/x-ndjson"
        )

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use and idle."""
        return self._endpoint.connections

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt.

        Raises:
            ProviderError: The attempt failed; for a stream, before its first event.
            InvalidRequest: Ollama does not have what is asked for.
        """
        if request.operation == "embeddings":
            return await self._embed(request, target)
        payload, model, stream = request.payload, target.model, request.stream
        if request.operation == "chat":
            path, answer_id = "/api/chat", f"chatcmpl-{uuid.uuid4().hex}"
            body = wire.encode_request(payload, model=model, stream=stream)
        else:
            path, answer_id = "/api/generate", f"cmpl-{uuid.uuid4().hex}"
            body = wire.encode_completion(payload, model=model, stream=stream)
        reply = await self._endpoint.post(path, body, request.deadline, self._parser(model))
        created = int(_wall())
        try:
            if stream:
                # Proxies label the lines as they like, so the lines themselves are looked at.
                decoder = wire.StreamDecoder(
                    id=answer_id, created=created, provider=self.name, max_line_bytes=_MAX_LINE_BYTES
                )
                live = LiveAnswer(reply, decoder, self._endpoint.secrets)
                await live.start()
                return Response(source=live)
            data = await self._endpoint.read_json(reply)
            answer, usage, reason = wire.decode_answer(data, id=answer_id, created=created, provider=self.name)
        except BaseException as error:
            await reply.aclose()
            if isinstance(error, ProviderError):
                conceal(error, self._endpoint.secrets)
            raise
        await reply.aclose()
        return Response(body=answer, usage=usage, finish_reason=reason)

    async def models(self) -> list[ModelInfo]:
        """List the models that were pulled.

        Raises:
            ProviderError: The server cannot be asked.
        """
        data = await self._endpoint.get("/api/tags", self._parser(""))
        return [ModelInfo(name, changed, "ollama") for name, changed in wire.decode_models(data, self.name)]

    async def context_window(self, model: str) -> int:
        """What the model is loaded with, else what its file asks for, else Ollama's least default.

        Raises:
            ProviderError: The server cannot be asked, or does not have the model.
        """
        loaded = wire.decode_loaded(await self._endpoint.get("/api/ps", self._parser(model)), model, self.name)
        if loaded is not None:
            return loaded
        reply = await self._endpoint.post("/api/show", msgspec.json.encode({"model": model}), None, self._parser(model))
        try:
            asked, least = wire.decode_window(await self._endpoint.read_json(reply), self.name)
        finally:
            await reply.aclose()
        return least if asked is None else asked

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()

    async def _embed(self, request: Request, target: Target) -> Response:
        body = wire.encode_embeddings(request.payload, model=target.model)
        reply = await self._endpoint.post("/api/embed", body, request.deadline, self._parser(target.model))
        base64 = request.payload.get("encoding_format") == "base64"
        try:
            data = await self._endpoint.read_json(reply)
            answer, usage = wire.decode_embeddings(data, base64=base64, provider=self.name)
        except ProviderError as error:
            conceal(error, self._endpoint.secrets)
            raise
        finally:
            await reply.aclose()
        return Response(body=answer, usage=usage)

    def _parser(self, model: str) -> ParseError:
        def parse_error(status: int, headers: Mapping[str, str], data: bytes) -> ProviderError:
            return wire.parse_error(status, headers, data, self.name, model, secrets=self._endpoint.secrets)

        return parse_error
