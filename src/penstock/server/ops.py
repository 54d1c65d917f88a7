"""Routes for people and machines that operate the gateway: health, metrics, models, the API's description."""

from __future__ import annotations

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

import penstock
from penstock.client import AsyncClient
from penstock.core.errors import Refused
from penstock.server import controls
from penstock.server.auth import check_model
from penstock.server.errors import render
from penstock.server.lifecycle import Lifecycle
from penstock.server.openapi import document
from penstock.server.permissions import principal_of
from penstock.telemetry.families import decode
from penstock.telemetry.metrics import page_of
from penstock.workers.protocol import METRICS, SUPERVISOR

_NOT_READY = Refused("Penstock is starting or stopping; ask another instance.", code="not_ready", retry_after=1)


class Operations:
    """Health, metrics and listings."""

    def __init__(self, client: AsyncClient, lifecycle: Lifecycle) -> None:
        self._client = client
        self._lifecycle = lifecycle

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [
            Route("/health/live", self.live, methods=["GET"]),
            Route("/health/ready", self.readiness, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.model, methods=["GET"]),
        ]

    async def live(self, request: HttpRequest) -> HttpResponse:
        """The process answers."""
        return _json({"status": "live", "version": penstock.__version__})

    async def readiness(self, request: HttpRequest) -> HttpResponse:
        """Requests are welcome: 200, or 503 before the start is over and from the moment it is told to stop."""
        if not self._lifecycle.ready:
            status, headers, body = render(_NOT_READY)
            headers.append((b"x-request-id", controls.request_id(controls.pick(request.scope["headers"])).encode()))
            answer = {"status": "not ready", **msgspec.json.decode(body)}
            names = {name.decode(): value.decode() for name, value in headers}
            return HttpResponse(msgspec.json.encode(answer), status, names)
        states = self._client.pipeline.parts.health.states()
        targets = [
            {
                "provider": state.provider,
                "model": state.model,
                "state": state.state,
                "recovers_in_s": state.recovers_in_s,
            }
            for state in states
        ]
        return _json({"status": "ready", "targets": targets, "checks": self.checks()})

    def checks(self) -> list[dict[str, object]]:
        """Say how the active health checks went."""
        pipeline = self._client.pipeline
        now = pipeline.parts.shared.clock.monotonic()
        return [
            {
                "provider": check.state.provider,
                "state": check.state.cause or ("reachable" if check.state.checks else "unchecked"),
                "failed": check.state.failed,
                "age_s": None if check.state.checked_at is None else now - check.state.checked_at,
            }
            for check in pipeline.checks
        ]

    async def metrics(self, request: HttpRequest) -> HttpResponse:
        """OpenMetrics for Prometheus, of all workers."""
        bus = self._client.bus
        if bus is None:
            page, content_type = self._client.shared.metrics.exposition()
        else:
            page, content_type = page_of(decode(await bus.ask(SUPERVISOR, METRICS)))
        return HttpResponse(page, headers={"content-type": content_type})

    async def openapi(self, request: HttpRequest) -> HttpResponse:
        """The API's description."""
        return _json(document())

    async def models(self, request: HttpRequest) -> HttpResponse:
        """List the models whoever asks may use, as OpenAI does."""
        may_ask = principal_of(request).may_ask
        offered = await self._client.models()
        listed = [_model(info.id, info.created, info.owned_by) for info in offered if may_ask(info.id)]
        return _json({"object": "list", "data": listed})

    async def model(self, request: HttpRequest) -> HttpResponse:
        """Describe one model: any name that requests may use."""
        name = request.path_params["model"]
        check_model(principal_of(request), name)
        pipeline = self._client.pipeline
        route = pipeline.routes.resolve(model := pipeline.model_of(name))
        owner = "penstock" if model != name or name in pipeline.routes.names else route.targets[0].provider
        return _json(_model(name, 0, owner))


def _model(name: str, created: int, owner: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner or "penstock"}


def _json(body: object, *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(body), status, media_type="application/json")
