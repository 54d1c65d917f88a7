"""Routes for people and machines that operate the gateway: health, metrics, models, the API's description."""

from __future__ import annotations

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

import penstock
from penstock.client import AsyncClient
from penstock.server import controls
from penstock.server.auth import Gate
from penstock.server.openapi import document


class Operations:
    """Health, metrics and listings."""

    def __init__(self, client: AsyncClient, gate: Gate) -> None:
        self._client = client
        self._gate = gate
        self.ready = False

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
        if not self.ready:
            return _json({"status": "not ready"}, status=503)
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
        return _json({"status": "ready", "targets": targets})

    async def metrics(self, request: HttpRequest) -> HttpResponse:
        """OpenMetrics for Prometheus."""
        self._gate.tenant(controls.pick(request.scope["headers"]))
        page, content_type = self._client.shared.metrics.exposition()
        return HttpResponse(page, headers={"content-type": content_type})

    async def openapi(self, request: HttpRequest) -> HttpResponse:
        """The API's description."""
        return _json(document())

    async def models(self, request: HttpRequest) -> HttpResponse:
        """List the models, as OpenAI does."""
        self._gate.tenant(controls.pick(request.scope["headers"]))
        listed = [_model(info.id, info.created, info.owned_by) for info in await self._client.models()]
        return _json({"object": "list", "data": listed})

    async def model(self, request: HttpRequest) -> HttpResponse:
        """Describe one model: any name that requests may use."""
        self._gate.tenant(controls.pick(request.scope["headers"]))
        name = request.path_params["model"]
        pipeline = self._client.pipeline
        route = pipeline.routes.resolve(name)
        owner = "penstock" if name in pipeline.routes.names else route.targets[0].provider
        return _json(_model(name, 0, owner))


def _model(name: str, created: int, owner: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner or "penstock"}


def _json(body: object, *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(body), status, media_type="application/json")
