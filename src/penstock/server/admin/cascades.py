"""What cascades have learnt and saved: ``/admin/cascades``."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.cascading.reports import describe
from penstock.client import AsyncClient
from penstock.server.admin.frame import listing


class CascadeRoutes:
    """The routes under `/admin/cascades`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [Route("/admin/cascades", self.list, methods=["GET"])]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List models that are cascades: certificates, who answered, what that saved."""
        configured = {model.name for model in self._client.settings.models if model.cascade is not None}
        known = self._client.shared.cascades.known
        return listing([describe(name, known[name]) for name in known if name in configured])
