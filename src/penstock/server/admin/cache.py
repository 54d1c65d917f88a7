"""The caches: ``/admin/cache``; of one's own tenant, an admin's organisation, to root all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.responses import StreamingResponse
from starlette.routing import Route

from penstock.abc.workers import Bus
from penstock.access.principal import Principal
from penstock.client import AsyncClient
from penstock.core.errors import PenstockError
from penstock.core.request import Request
from penstock.semantic.whose import Whose
from penstock.server import controls
from penstock.server.admin.frame import answer, body_of, listing, scope_of, tenant_of, whole_number
from penstock.server.auth import check_model
from penstock.server.errors import body_of as error_body
from penstock.server.errors import status_of
from penstock.server.http import read_body
from penstock.server.permissions import principal_of

_EXPORT = "cache.export"
NDJSON = "application/x-ndjson"
_MOST_LISTED = 1000
_MOST_AT_ONCE = 64
_SAID = {True: "right", False: "wrong"}

_log = logging.getLogger("penstock.cache")


class _Line(msgspec.Struct):
    """What tells one answer of a file from the others."""

    key: str | None = None


_line = msgspec.json.Decoder(_Line)


class Clearing(msgspec.Struct, forbid_unknown_fields=True):
    """What to drop; nothing named is everything."""

    tenant: str | None = None
    model: str | None = None
    tag: str | None = None
    learnt: bool = False


class Labelling(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the answer to a request was right."""

    request_id: str
    right: bool
    tenant: str | None = None


class CacheRoutes:
    """The routes under `/admin/cache`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        if client.bus is not None:
            client.bus.supply(_EXPORT, lambda _, tenant: client.cache.export(tenant.decode()))

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [
            Route("/admin/cache/stats", self.stats, methods=["GET"]),
            Route("/admin/cache/entries", self.entries, methods=["GET"]),
            Route("/admin/cache/explain", self.explain, methods=["POST"]),
            Route("/admin/cache/clear", self.clear, methods=["POST"]),
            Route("/admin/cache/cleanup", self.cleanup, methods=["POST"]),
            Route("/admin/cache/optimize", self.optimize, methods=["POST"]),
            Route("/admin/cache/warm", self.warm, methods=["POST"]),
            Route("/admin/cache/export", self.export, methods=["GET"]),
            Route("/admin/cache/import", self.load, methods=["POST"]),
            Route("/admin/cache/labels", self.label, methods=["POST"]),
        ]

    async def stats(self, request: HttpRequest) -> HttpResponse:
        """How much there is, and what can be promised of answers given by meaning."""
        report = await self._client.cache.stats(Whose(*scope_of(request)))
        return answer({"object": "cache.stats", **msgspec.to_builtins(report)})

    async def entries(self, request: HttpRequest) -> HttpResponse:
        """List answers, newest first; of a `model`, with a `tag`, with a question that `contains` a text."""
        query = request.query_params
        found = await self._client.cache.inspect(
            Whose(*scope_of(request)),
            model=query.get("model"),
            tag=query.get("tag"),
            contains=query.get("contains"),
            limit=whole_number(request, "limit", 100, _MOST_LISTED),
        )
        return listing(msgspec.to_builtins(found))

    async def explain(self, request: HttpRequest) -> HttpResponse:
        """Say what would be done with a request: the body is one, or has a `question` instead of `messages`."""
        item = await body_of(request, dict[str, Any])
        said = await self._client.cache.explain(item, make=self._maker(request))
        return answer({"object": "cache.explanation", **msgspec.to_builtins(said)})

    async def clear(self, request: HttpRequest) -> HttpResponse:
        """Drop answers, and the questions they answer."""
        body = await body_of(request, Clearing)
        whose = Whose(*scope_of(request, body.tenant))
        done = await self._client.cache.clear(whose, model=body.model, tag=body.tag, learnt=body.learnt)
        by = principal_of(request).name
        _log.info("cache.clear by %s: %d answers of %s", by, done.answers, whose.tenant or "everybody")
        return answer({"object": "cache.cleared", **msgspec.to_builtins(done)})

    async def cleanup(self, request: HttpRequest) -> HttpResponse:
        """Drop what is of no use to anybody any more."""
        del request
        return answer({"object": "cache.cleared", **msgspec.to_builtins(await self._client.cache.cleanup())})

    async def optimize(self, request: HttpRequest) -> HttpResponse:
        """Build indexes anew, and put the store in order."""
        del request
        return answer({"object": "cache.optimized", **msgspec.to_builtins(await self._client.cache.optimize())})

    async def warm(self, request: HttpRequest) -> HttpResponse:
        """Take questions in, a line each; answers a line each as they end, then one with the counts."""
        concurrency = whole_number(request, "concurrency", 4, _MOST_AT_ONCE)
        make, lines = self._maker(request), await self._lines(request)
        return _lines(self._warmed(self._client.cache.warm(lines, concurrency=concurrency, make=make)))

    async def export(self, request: HttpRequest) -> HttpResponse:
        """Write one tenant's answers and questions, a line each."""
        tenant = tenant_of(request)
        _log.info("cache.export by %s: %s", principal_of(request).name, tenant)
        bus, lines = self._client.bus, self._client.cache.export(tenant)
        return _lines(lines if bus is None else _of_all(bus, lines, tenant))

    async def load(self, request: HttpRequest) -> HttpResponse:
        """Take in what was exported."""
        tenant = tenant_of(request)
        done = await self._client.cache.load(await self._lines(request), tenant)
        _log.info("cache.import by %s: %d answers of %s", principal_of(request).name, done.answers, tenant)
        return answer({"object": "cache.imported", **msgspec.to_builtins(done)})

    async def label(self, request: HttpRequest) -> HttpResponse:
        """Learn whether the answer to a request was right."""
        body = await body_of(request, Labelling)
        tenant = tenant_of(request, body.tenant)
        await self._client.cache.label(body.request_id, right=body.right, tenant=tenant)
        _log.info("cache.label by %s: %s is %s", principal_of(request).name, body.request_id, _SAID[body.right])
        return answer({"object": "cache.label", "request_id": body.request_id, "right": body.right})

    def _maker(self, request: HttpRequest) -> _Maker:
        return _Maker(self._client, principal_of(request), tenant_of(request))

    async def _lines(self, request: HttpRequest) -> list[bytes]:
        headers = controls.pick(request.scope["headers"])
        body = await read_body(headers, request.receive, self._client.settings.server.max_body_bytes)
        return [line for line in body.split(b"\n") if line.strip()]

    async def _warmed(self, warming: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
        counts: Counter[str] = Counter()
        async with aclosing(warming):
            async for each in warming:
                counts[each.outcome] += 1
                yield msgspec.json.encode(each) + b"\n"
        counted = {outcome: counts[outcome] for outcome in ("asked", "known", "seeded", "failed")}
        yield msgspec.json.encode({"object": "cache.warmed", **counted}) + b"\n"


class _Maker:
    """Makes a tenant's requests, on its account, as far as a key may ask for the model."""

    def __init__(self, client: AsyncClient, principal: Principal, tenant: str) -> None:
        self._client = client
        self._principal = principal
        self._tenant = tenant

    def __call__(self, operation: Any, model: Any, payload: dict[str, Any], **options: Any) -> Request:  # noqa: ANN401
        request = self._client.request(operation, model, payload, tenant=self._tenant, **options)
        check_model(self._principal, request.model)
        return msgspec.structs.replace(request, key_id=self._principal.key_id)


async def _of_all(bus: Bus, lines: AsyncGenerator[bytes, None], tenant: str) -> AsyncGenerator[bytes, None]:
    """Yield what this worker exports, then of each other one what none had before."""
    known: set[str] = set()
    sources = [lines, *(bus.stream(number, _EXPORT, tenant.encode()) for number in bus.others)]
    for position, source in enumerate(sources):
        async with aclosing(source):
            async for line in source:
                key = _line.decode(line).key
                if key in known or (key is None and position):  # a line without a key is the head
                    continue
                if key is not None:
                    known.add(key)
                yield line


def _lines(lines: AsyncGenerator[bytes, None]) -> HttpResponse:
    return StreamingResponse(_told(lines), media_type=NDJSON, headers={"cache-control": "no-store"})


async def _told(lines: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Tell an error after the first byte in a line of its own, which is the last."""
    async with aclosing(lines):
        try:
            async for line in lines:
                yield line
        except PenstockError as error:
            yield msgspec.json.encode(error_body(error, status_of(error))) + b"\n"
