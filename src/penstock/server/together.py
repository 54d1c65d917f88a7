"""What one worker is asked and concerns all: done in each or by the elected one, and answered as one.

A request is sent on as it came, so each worker asks its own guard; it passes it on no further.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.abc.workers import Bus
from penstock.core.errors import InvalidRequest, WorkerError
from penstock.server import controls
from penstock.server.admin.frame import MOST_BYTES, answer
from penstock.server.http import Message, Receive, Scope, Send, read_body
from penstock.server.merging import Merge, concatenated, entries, largest, stats
from penstock.server.permissions import Endpoint

REQUEST, REFRESH = "admin.request", "admin.refresh"
_RELAYED = "penstock.relayed"
_PATIENCE_S = 10.0

_log = logging.getLogger("penstock.server")


class All(NamedTuple):
    """Done in every worker; `merge` makes one answer of theirs."""

    merge: Merge


class AnyOf(NamedTuple):
    """Done by whichever worker knows what is meant."""


class Elected(NamedTuple):
    """Done by the elected worker, which alone knows."""


class Then(NamedTuple):
    """Done by one, and then the others take it over from the store."""

    what: str


class After(NamedTuple):
    """Done by one, after the others have written out what they have."""

    what: str


Rule = All | AnyOf | Elected | Then | After

RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/admin/cache/stats"): All(stats),
    ("GET", "/admin/cache/entries"): All(entries),
    ("POST", "/admin/cache/clear"): All(largest),
    ("POST", "/admin/cache/cleanup"): All(largest),
    ("POST", "/admin/cache/optimize"): All(largest),
    ("POST", "/admin/cache/labels"): AnyOf(),
    ("GET", "/admin/cascades"): All(concatenated),
    ("GET", "/admin/health"): Elected(),
    ("GET", "/admin/alerts"): Elected(),
    ("POST", "/admin/keys"): Then("accounts"),
    ("POST", "/admin/keys/{key_id}"): Then("accounts"),
    ("DELETE", "/admin/keys/{key_id}"): Then("accounts"),
    ("POST", "/admin/keys/{key_id}/rotate"): Then("accounts"),
    ("POST", "/admin/keys/{key_id}/revoke"): Then("accounts"),
    ("POST", "/admin/teams"): Then("accounts"),
    ("POST", "/admin/teams/{tenant:path}"): Then("accounts"),
    ("POST", "/admin/budgets"): Then("budgets"),
    ("DELETE", "/admin/budgets/{budget_id:path}"): Then("budgets"),
    ("POST", "/admin/templates/reload"): Then("prompts"),
    ("POST", "/admin/templates/{name}/rollback"): Then("labels"),
    ("POST", "/admin/experiments/{name}/stop"): Then("experiments"),
    ("POST", "/admin/experiments/{name}/start"): Then("experiments"),
    ("GET", "/admin/experiments/{name}"): After("rows"),
    ("GET", "/admin/usage"): After("rows"),
    ("GET", "/admin/usage/statistics"): After("rows"),
    ("POST", "/admin/usage/statistics/reset"): After("rows"),
}
"""By method and path; what is not here is of the store, or of the worker that is asked."""


class _Asked(msgspec.Struct, array_like=True):
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _Said(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_asked = msgspec.msgpack.Decoder(_Asked)
_said = msgspec.msgpack.Decoder(_Said)

Refresh = Callable[[], Awaitable[object]]


class Together:
    """Makes routes those of all workers.

    Args:
        bus: Reaches the others.
        application: Answers what they pass on.
        refreshes: By name, what takes something over from the store or writes it there.
    """

    def __init__(
        self, bus: Bus, application: Callable[[Scope, Receive, Send], Awaitable[None]], refreshes: Mapping[str, Refresh]
    ) -> None:
        self._bus = bus
        self._application = application
        self._refreshes = refreshes
        bus.reply(REQUEST, lambda _, data: self._serve(data))
        bus.reply(REFRESH, lambda _, data: self._refresh(data.decode()))

    def routes(self, routes: Sequence[Route]) -> list[Route]:
        """Return `routes` as they are with several workers."""
        return [self._of(route) for route in routes]

    def _of(self, route: Route) -> Route:
        methods = sorted(route.methods or ())
        rule = next((RULES[method, route.path] for method in methods if (method, route.path) in RULES), None)
        if rule is None:
            return route
        own: Endpoint = route.endpoint

        async def endpoint(request: HttpRequest) -> HttpResponse:
            return await (own(request) if _RELAYED in request.scope else self._answer(rule, own, request))

        return Route(route.path, endpoint, methods=methods)

    async def _answer(self, rule: Rule, own: Endpoint, request: HttpRequest) -> HttpResponse:
        match rule:
            case Then(what):
                done = await own(request)
                await self._tell(what)
                return done
            case After(what):
                await self._tell(what)
                return await own(request)
        asked, request = await _kept(request)
        match rule:
            case All(merge):
                return await self._everywhere(merge, own, request, asked)
            case AnyOf():
                return await self._somewhere(own, request, asked)
        return await (own(request) if self._bus.elected else self._elsewhere(asked))

    async def _everywhere(self, merge: Merge, own: Endpoint, request: HttpRequest, asked: bytes) -> HttpResponse:
        if request.method != "GET" and len(self._bus.others) + 1 < self._bus.workers:
            # It would begin with what the store has, which nobody but it may know.
            raise WorkerError("A worker is being started again, and all must take part: ask again.", code="worker_gone")
        mine = await own(request)
        parts = [(self._bus.number, msgspec.json.decode(bytes(mine.body)))]
        for number, data in (await self._bus.ask_all(REQUEST, asked, timeout_s=_PATIENCE_S)).items():
            said = _said.decode(data)
            if said.status >= 400:
                _log.error("worker %d answers %d to %s: %s", number, said.status, request.url.path, said.body[:500])
                raise WorkerError(
                    f"Worker {number} could not do it, others have; the reason is in the log. Ask again.",
                    code="worker_failed",
                )
            parts.append((number, msgspec.json.decode(said.body)))
        return answer(merge(sorted(parts, key=lambda part: part[0]), request.query_params))

    async def _somewhere(self, own: Endpoint, request: HttpRequest, asked: bytes) -> HttpResponse:
        try:
            return await own(request)
        except InvalidRequest as error:
            if error.status_code != 404:
                raise
            for data in (await self._bus.ask_all(REQUEST, asked, timeout_s=_PATIENCE_S)).values():
                said = _said.decode(data)
                if said.status < 400:
                    return _response(said)
            raise

    async def _elsewhere(self, asked: bytes) -> HttpResponse:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return _response(_said.decode(await self._bus.ask(min(self._bus.others), REQUEST, asked)))
        except TimeoutError:
            raise WorkerError("The worker that knows did not answer in time.", code="worker_timeout") from None

    async def _tell(self, what: str) -> None:
        """Have the others refresh; one that cannot is late, which is no reason to say that nothing was done."""
        try:
            await self._bus.ask_all(REFRESH, what.encode(), timeout_s=_PATIENCE_S)
        except WorkerError as error:
            _log.error("not every worker has refreshed its %s: %s", what, error)

    async def _refresh(self, what: str) -> bytes:
        await self._refreshes[what]()
        return b""

    async def _serve(self, data: bytes) -> bytes:
        asked = _asked.decode(data)
        said = await self._say(asked)
        if said.status == 401:  # the key is so new that the worker which asks is ahead
            await self._refreshes["accounts"]()
            said = await self._say(asked)
        return msgspec.msgpack.encode(said)

    async def _say(self, asked: _Asked) -> _Said:
        said = _Said(500, [], b"")

        async def receive() -> Message:
            return {"type": "http.request", "body": asked.body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                said.status, said.headers = message["status"], list(message["headers"])
            else:
                said.body += message.get("body", b"")

        scope = {
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "method": asked.method,
            "path": asked.path,
            "raw_path": asked.path.encode(),
            "root_path": "",
            "query_string": asked.query,
            "headers": asked.headers,
            "client": None,
            "server": None,
            _RELAYED: True,
        }
        await self._application(scope, receive, send)
        return said


async def _kept(request: HttpRequest) -> tuple[bytes, HttpRequest]:
    """Return a request as others are asked it, and one that can still be read."""
    body = await read_body(controls.pick(request.scope["headers"]), request.receive, MOST_BYTES)
    scope = request.scope
    asked = _Asked(scope["method"], scope["path"], scope["query_string"], list(scope["headers"]), body)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return msgspec.msgpack.encode(asked), HttpRequest(scope, receive)


def _response(said: _Said) -> HttpResponse:
    response = HttpResponse(said.body, said.status)
    response.raw_headers[:] = said.headers
    return response
