"""The hot routes of OpenAI's API: chat completions, completions, embeddings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

import msgspec

from penstock.access.principal import Principal
from penstock.caching.directives import read_directives
from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.errors import InvalidRequest, PenstockError
from penstock.core.request import Operation, Request
from penstock.core.response import Response
from penstock.core.route import ContextTerms
from penstock.pipeline import Pipeline
from penstock.server import controls
from penstock.server.answering import JSON, SSE, StreamReply, answered, describe, refuse, respond
from penstock.server.auth import Admit, check_model
from penstock.server.errors import INTERNAL, body_of, status_of
from penstock.server.hot import Again, Client, Under
from penstock.server.http import (
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    Watch,
    Watchers,
    read_body,
    send_error,
    send_whole,
)
from penstock.server.lifecycle import Lifecycle, shutting_down
from penstock.server.seen import Seen, SeenBytes
from penstock.server.stored import Keeper
from penstock.wire.json_body import LARGE_BYTES
from penstock.wire.openai_chat import DONE, Inbound, decode_request, error_frame, frame

_log = logging.getLogger("penstock.server")
_replace = msgspec.structs.replace
_SEEN_BYTES = 2 * 1024 * 1024


class Decoded(msgspec.Struct, frozen=True):
    """A request that was decoded and not answered yet, and whether to keep its completion."""

    request: Request
    keep: bool


class ModelRoute:
    """One hot route, as plain ASGI."""

    def __init__(
        self, operation: Operation, client: AsyncClient, admit: Admit, keeper: Keeper, lifecycle: Lifecycle
    ) -> None:
        self._operation = operation
        self._client = client
        self._admit = admit
        self._keeper = keeper
        self._lifecycle = lifecycle
        self._watchers = Watchers()
        self._seen = SeenBytes[Seen](_SEEN_BYTES)
        self.again: Again | None = None

    def known(self, headers: Mapping[bytes, bytes], body: bytes, default: Headers) -> tuple[bytes | None, object]:
        """Answer from memory, on the spot, if that is possible; see `penstock.server.hot`.

        An answer was authenticated, counted and recorded like any other, by the same pipeline. Otherwise None comes
        with what was decoded, so that `__call__` need not do it again; whatever is wrong with a request is for
        `__call__` to say.
        """
        if b"content-encoding" in headers or len(body) > self._client.settings.server.max_body_bytes:
            return None, None
        seen = self._seen.get(body)
        try:
            pipeline = self._client.pipeline
            inbound = seen.inbound if seen is not None else decode_request(self._operation, body)
            principal = self._admit(headers)
            decoded = self._read(headers, inbound, controls.request_id(headers), principal)
            request, keep = pipeline.prepare(decoded.request), decoded.keep
        except PenstockError:
            return None, None
        call = request.call
        # What a prompt says and what an experiment does can change while the body stays the same.
        made = call.prompt or call.arms
        if seen is not None and not made and seen.source == _source(request):
            call.key = seen.key
        response = None if keep else _at_once(request, pipeline, default)
        if response is None:
            return None, Decoded(request, keep)
        self.again = None
        # Nor is it likely that other words for what is known come again in the same bytes.
        if call.key is not None and not made and not call.at_hand:
            if seen is None:
                self._seen.remember(body, Seen(_replace(inbound, written=None), _source(request), call.key))
            self.again = partial(self._again, headers, principal, pipeline, request)
        return response, None

    def _again(
        self,
        headers: Mapping[bytes, bytes],
        principal: Principal,
        pipeline: Pipeline,
        before: Request,
        default: Headers,
    ) -> bytes | None:
        """Answer a request that came before in the same bytes; all but reading it is done anew.

        Returns:
            None when its key, the configuration or the answer has changed since.
        """
        try:
            if self._client.pipeline is not pipeline or self._admit(headers) != principal:
                return None
        except PenstockError:
            return None
        known = before.call
        call = Call(controls.request_id(headers), key=known.key, asked_bytes=known.asked_bytes)
        request = _replace(before, call=call)
        return _at_once(request, pipeline, default)

    def begin(self, decoded: object, client: Client) -> Under | None:
        """Answer on the short way what `known` handed on; see `penstock.lane` and `penstock.server.hot`."""
        if type(decoded) is not Decoded or decoded.keep:
            return None
        request = decoded.request
        if (request.semantic or request.context or request.context_tokens) is not None:
            return None
        pipeline = self._client.pipeline
        if request.stream:
            return pipeline.stream_passage(request, StreamReply(request, client))

        def done(response: Response | None, error: BaseException | None) -> None:
            client.reply(partial(answered, request, response, error))

        return pipeline.passage(request, done)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error before the answer's first byte is sent in OpenAI's shape."""
        decoded = scope.get("penstock")
        if decoded is None:
            headers = controls.pick(scope["headers"])
            request_id = controls.request_id(headers)
        else:
            request_id = decoded.request.call.id
        try:
            if decoded is None:
                principal = self._admit(headers)
                body = await read_body(headers, receive, self._client.settings.server.max_body_bytes)
                inbound = await self._decode(body)
                decoded = self._read(headers, inbound, request_id, principal)
            # Otherwise `known` has admitted, read and decoded it.
            decoded = self._as_kept(decoded)
            request, keep = decoded.request, decoded.keep
            with Watch(self._watchers, receive):
                response = await self._client.handle(request)
                if keep:
                    self._keeper.watch(request, response)
                if request.stream:
                    await self._stream(request, response, send)
                else:
                    whole = await response.read()
                    await send_whole(send, 200, [JSON, *describe(request.call, whole=True)], whole)
        except PenstockError as error:
            await send_error(send, error, request_id)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if not self._lifecycle.ending:
                raise
            await send_error(send, shutting_down(), request_id)
        except Exception:  # noqa: BLE001 the last resort: whatever broke, the client gets an answer and the log a trace
            _log.exception("request %s failed", request_id)
            await send_error(send, INTERNAL, request_id)

    def _as_kept(self, decoded: Decoded) -> Decoded:
        """Prepare a request whose completion is kept: with it is kept what was really asked."""
        if decoded.keep and decoded.request.route is None:
            return Decoded(self._client.pipeline.prepare(decoded.request), keep=True)
        return decoded

    async def _decode(self, body: bytes) -> Inbound:
        if len(body) <= LARGE_BYTES:
            return decode_request(self._operation, body)
        # In a thread, so that others' requests get their turn between one pass over the body and the next.
        return await asyncio.to_thread(decode_request, self._operation, body)

    def _read(self, headers: Mapping[bytes, bytes], inbound: Inbound, request_id: str, principal: Principal) -> Decoded:
        if inbound.stream and self._operation == "embeddings":
            raise InvalidRequest("Embeddings cannot be streamed.", param="stream", code="invalid_value")
        if principal.models:
            check_model(principal, inbound.model)
        call = Call(id=request_id)
        if inbound.cache_field is None and not inbound.store and controls.PLAIN.issuperset(headers):
            request = Request(
                self._operation, inbound.model, inbound.payload, call, inbound.stream, inbound.include_usage,
                inbound.stream_options, "openai_chat", principal.tenant, principal.key_id, prompt=inbound.prompt,
                written=inbound.written,
            )  # fmt: skip
            return Decoded(request, keep=False)
        control = headers.get(b"cache-control")
        request = Request(
            operation=self._operation,
            model=inbound.model,
            payload=inbound.payload,
            call=call,
            stream=inbound.stream,
            include_usage=inbound.include_usage,
            stream_options=inbound.stream_options,
            tenant=principal.tenant,
            key_id=principal.key_id,
            tags=controls.tags(headers),
            metadata=controls.metadata(headers),
            cache=read_directives(control.decode("latin-1") if control else None, inbound.cache_field),
            timeout_s=controls.timeout_s(headers),
            fallback=controls.fallback(headers),
            priority=controls.priority(headers),
            semantic=controls.semantic(headers),
            context=controls.context(headers),
            context_tokens=controls.context_tokens(headers),
            prompt=inbound.prompt,
            unit=controls.unit(headers),
            written=inbound.written,
        )
        if not inbound.store or self._operation != "chat":
            return Decoded(request, keep=False)
        return Decoded(self._keeper.prepare(request), keep=True)

    async def _stream(self, request: Request, response: Response, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*SSE, *describe(request.call, whole=False)]}
        )
        usage = request.include_usage
        try:
            async for batch in response:
                data = frame(batch, include_usage=usage)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            last = DONE
        except PenstockError as error:
            last = error_frame(body_of(error, status_of(error)))
        except asyncio.CancelledError:
            if not self._lifecycle.ending:
                raise
            cut_off = shutting_down()
            last = error_frame(body_of(cut_off, status_of(cut_off)))
        except Exception:  # noqa: BLE001 as above, after the first byte
            _log.exception("stream of request %s failed", request.call.id)
            last = error_frame(body_of(INTERNAL, 500))
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": last})


def _source(request: Request) -> tuple[str, bytes, ContextTerms | None]:
    """Return what a cache key is made of beside the body."""
    return request.tenant, request.route.identity if request.route is not None else b"", request.context_terms()


def _at_once(request: Request, pipeline: Pipeline, default: Headers) -> bytes | None:
    """Answer a request whose answer is in memory, with a whole HTTP/1.1 response; None for others."""
    try:
        response = pipeline.at_once(request)
        return None if response is None else respond(request, response, default)
    except PenstockError as error:
        return refuse(request, error, default)
    except Exception:  # noqa: BLE001 an answer that cannot be given early is given by the normal way, or its error is
        _log.exception("request %s could not be answered early", request.call.id)
        return None
