"""Experiments: ``/admin/experiments``."""

from __future__ import annotations

import logging

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.client import AsyncClient
from penstock.server.admin.frame import answer, body_of, listing
from penstock.server.permissions import principal_of
from penstock.trials.desk import Desk, Standing

_log = logging.getLogger("penstock.experiments")


class Stopping(msgspec.Struct, forbid_unknown_fields=True):
    """How an experiment ends."""

    winner: str | None = None
    why: str = ""


class ExperimentRoutes:
    """The routes under `/admin/experiments`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        one = "/admin/experiments/{name}"
        return [
            Route("/admin/experiments", self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
            Route(f"{one}/start", self.start, methods=["POST"]),
        ]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """Where each stands."""
        return listing([_shown(standing) for standing in await self._desk.list()])

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Where one stands, and what is known of it."""
        name = request.path_params["name"]
        standing = await self._desk.get(name)
        if standing.status == "waiting":
            return answer({**_shown(standing), "report": None})
        await self._client.shared.stores.flush()
        return answer({**_shown(standing), "report": msgspec.to_builtins(await self._desk.report(name))})

    async def stop(self, request: HttpRequest) -> HttpResponse:
        """End one, perhaps with a winner."""
        name, body, by = request.path_params["name"], await body_of(request, Stopping), principal_of(request).name
        standing = await self._desk.stop(name, winner=body.winner, why=body.why[:500], by=by)
        _log.info("experiment.stop by %s: %s", by, name)
        return await self._changed(standing)

    async def start(self, request: HttpRequest) -> HttpResponse:
        """Let one run; one that has ended begins anew."""
        name = request.path_params["name"]
        standing = await self._desk.start(name)
        _log.info("experiment.start by %s: %s", principal_of(request).name, name)
        return await self._changed(standing)

    @property
    def _desk(self) -> Desk:
        return self._client.shared.trials.desk

    async def _changed(self, standing: Standing) -> HttpResponse:
        await self._client.shared.trials.refresh()
        return answer(_shown(standing))


def _shown(standing: Standing) -> dict[str, object]:
    return {"object": "experiment", **msgspec.structs.asdict(standing)}
