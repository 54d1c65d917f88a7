"""The gateway as an ASGI application: hot routes by a dictionary, the rest by Starlette."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Match, Route

from penstock.access.ring import KeyRing
from penstock.accounts.directory import Accounts
from penstock.client import AsyncClient
from penstock.core.errors import InvalidRequest, PenstockError
from penstock.core.request import Operation
from penstock.server import controls
from penstock.server.admin.budgets import BudgetRoutes
from penstock.server.admin.cache import CacheRoutes
from penstock.server.admin.cascades import CascadeRoutes
from penstock.server.admin.experiments import ExperimentRoutes
from penstock.server.admin.keys import KeyRoutes
from penstock.server.admin.teams import TeamRoutes
from penstock.server.admin.templates import TemplateRoutes
from penstock.server.admin.usage import UsageRoutes
from penstock.server.admin.watch import WatchRoutes
from penstock.server.auth import Gate
from penstock.server.errors import INTERNAL, render
from penstock.server.http import ClientGone, Message, Receive, Scope, Send, send_error
from penstock.server.lifecycle import Lifecycle, shutting_down
from penstock.server.openai import ModelRoute
from penstock.server.ops import Operations
from penstock.server.permissions import admit, guarded
from penstock.server.scores import ScoreRoutes
from penstock.server.stored import Keeper, StoredCompletions

HOT: dict[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}
"""Paths of the hot routes."""

_log = logging.getLogger("penstock.server")


class Gateway:
    """Serves one client's pipeline over HTTP. The lifespan opens and closes it."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.gate = gate = Gate(client.loaded.settings.server, KeyRing(client.clock))
        self._accounts: Accounts | None = None
        keeper = Keeper(client)
        self.lifecycle = Lifecycle()
        self.operations = Operations(client, self.lifecycle)
        self.hot = {
            path: ModelRoute(operation, client, admit(gate, path), keeper, self.lifecycle)
            for path, operation in HOT.items()
        }
        # The hot ones never get there, but their paths do, with other methods.
        hot = [Route(path, route, methods=["POST"]) for path, route in self.hot.items()]
        cold = [
            *StoredCompletions(client).routes,
            *self.operations.routes,
            *KeyRoutes(lambda: self.accounts).routes,
            *TeamRoutes(lambda: self.accounts).routes,
            *BudgetRoutes(client, lambda: self.accounts).routes,
            *WatchRoutes(client).routes,
            *UsageRoutes(client).routes,
            *CacheRoutes(client).routes,
            *CascadeRoutes(client).routes,
            *ScoreRoutes(client).routes,
            *ExperimentRoutes(client).routes,
            *TemplateRoutes(client).routes,
        ]
        if client.bus is not None:
            from penstock.server.together import Together  # noqa: PLC0415 one process has no use for it

            cold = Together(client.bus, self, self._refreshes()).routes(cold)
        self.routes = [*guarded(cold, gate), *hot]
        self._cold = Starlette(
            routes=self.routes,
            exception_handlers={
                PenstockError: _refused,
                HTTPException: self._unmatched,
                ClientGone: _gone,
                Exception: _failed,
            },
        )
        self._cold.router.redirect_slashes = False

    @property
    def accounts(self) -> Accounts:
        """Keys and teams.

        Raises:
            RuntimeError: The gateway is not open.
        """
        if self._accounts is None:
            raise RuntimeError("the gateway is not open: await open()")
        return self._accounts

    async def open(self) -> None:
        """Open the client, read the keys and keep up with their changes; harmless when that is done.

        Raises:
            ConfigError: A provider or the store cannot be set up.
            StoreError: The store cannot be opened, or its keys cannot be checked.
        """
        await self.client.open()
        if self._accounts is not None:
            return
        shared, settings = self.client.shared, self.client.settings
        secret = settings.store.secret
        accounts = Accounts(
            shared.stores.keys,
            self.gate.ring,
            shared.clock,
            secret=None if secret is None else secret.get_secret_value(),
        )
        try:
            await accounts.refresh()
        except BaseException:
            await self.client.aclose()
            raise
        self._accounts = accounts
        accounts.on_change(self._limit)
        shared.tasks.spawn(
            accounts.follow(lambda: self.client.settings.server.keys_ttl_s), name="follow changes of keys"
        )

    def _refreshes(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return what each worker does after another one has changed something in the store, or before it reads it."""
        client = self.client
        return {
            "accounts": lambda: self.accounts.refresh(),
            "budgets": lambda: client.shared.budgets.refresh(),
            "experiments": lambda: client.shared.trials.refresh(),
            "labels": lambda: client.prompts.relabel(),
            "prompts": lambda: client.prompts.refresh(),
            "rows": lambda: client.shared.stores.flush(),
        }

    def _limit(self) -> None:
        """Put the limits of keys and teams in force; the layer is in the stack only if there are any."""
        tenants = self.client.shared.tenants
        before = tenants.owned
        tenants.own(*self.accounts.limits())
        if tenants.owned != before:
            self.client.pipeline.relimit()

    async def aclose(self) -> None:
        """Close the client."""
        self._accounts = None
        await self.client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            route = self.hot.get(scope["path"])
            if route is not None and scope["method"] == "POST":
                await route(scope, receive, send)
            else:
                await self._seldom(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _seldom(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by Starlette, which knows nothing of the end of the grace."""
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._cold(scope, receive, noted)
        except asyncio.CancelledError:
            if started or not self.lifecycle.ending:
                raise
            await send_error(send, shutting_down(), controls.request_id(controls.pick(scope["headers"])))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.open()
        except PenstockError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self.lifecycle.ready = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.lifecycle.ready = False
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _unmatched(self, request: HttpRequest, error: Exception) -> HttpResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status != 405:
            message = f"No such path: {request.scope['path'][:200]}. GET /openapi.json lists what there is."
            return _shaped(request, InvalidRequest(message, code="not_found", status_code=status))
        here = [route for route in self.routes if route.matches(request.scope)[0] is not Match.NONE]
        allowed = ", ".join(sorted({method for route in here for method in route.methods or ()}))
        message = f"{request.method} is not allowed here, only {allowed}."
        shaped = _shaped(request, InvalidRequest(message, code="method_not_allowed", status_code=status))
        shaped.headers["allow"] = allowed
        return shaped


async def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    return _shaped(request, error if isinstance(error, PenstockError) else INTERNAL)


async def _gone(request: HttpRequest, error: Exception) -> HttpResponse:
    return HttpResponse()  # nobody reads it


async def _failed(request: HttpRequest, error: Exception) -> HttpResponse:
    _log.error("request failed", exc_info=error)
    return _shaped(request, INTERNAL)


def _shaped(request: HttpRequest, error: PenstockError) -> HttpResponse:
    status, headers, body = render(error)
    names = {name.decode(): value.decode() for name, value in headers}
    names["x-request-id"] = controls.request_id(controls.pick(request.scope["headers"]))
    return HttpResponse(body, status, names)
