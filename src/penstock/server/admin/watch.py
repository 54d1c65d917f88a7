"""How well the process does: ``/admin/health``, ``/admin/alerts``; and whether sinks can be reached."""

from __future__ import annotations

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.client import AsyncClient
from penstock.core.errors import DeliveryFailed, InvalidRequest
from penstock.server.admin.frame import answer, listing, whole_number

_MOST_EVENTS = 1000


class WatchRoutes:
    """The routes."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [
            Route("/admin/health", self.health, methods=["GET"]),
            Route("/admin/alerts", self.alerts, methods=["GET"]),
            Route("/admin/alerts/history", self.history, methods=["GET"]),
            Route("/admin/sinks/{sink}/test", self.test, methods=["POST"]),
        ]

    async def health(self, request: HttpRequest) -> HttpResponse:
        """The score, 0 to 100, and what holds it back."""
        return answer(msgspec.to_builtins(self._client.monitor.health()))

    async def alerts(self, request: HttpRequest) -> HttpResponse:
        """Where each rule stands."""
        return listing(msgspec.to_builtins(self._client.monitor.alerts()))

    async def history(self, request: HttpRequest) -> HttpResponse:
        """The newest events, newest first; `limit` of them."""
        limit = whole_number(request, "limit", 100, _MOST_EVENTS)
        return listing(msgspec.to_builtins(await self._client.monitor.history(limit)))

    async def test(self, request: HttpRequest) -> HttpResponse:
        """Send a test message; 502 says why it did not arrive."""
        sink = request.path_params["sink"]
        try:
            await self._client.monitor.test(sink)
        except KeyError:
            raise InvalidRequest(f"There is no sink {sink[:100]!r}.", code="not_found", status_code=404) from None
        except DeliveryFailed as error:
            raise InvalidRequest(error.message, code=error.code, status_code=502) from error
        return answer({"sink": sink, "delivered": True})
