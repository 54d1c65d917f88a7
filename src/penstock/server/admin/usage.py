"""What was used: ``/admin/usage`` and its statistics; of one's own tenant, an admin's organisation, to root all."""

from __future__ import annotations

import asyncio
import math

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.client import AsyncClient
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.server.admin.frame import answer, scope_of
from penstock.server.permissions import principal_of
from penstock.usage import FORMATS, UsageReport, usage_report

_MOST_DAYS = 3660.0
_MOST_RECENT = 1000


class UsageRoutes:
    """The routes."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [
            Route("/admin/usage", self.report, methods=["GET"]),
            Route("/admin/usage/statistics", self.statistics, methods=["GET"]),
            Route("/admin/usage/statistics/reset", self.reset, methods=["POST"]),
        ]

    async def report(self, request: HttpRequest) -> HttpResponse:
        """A report on the last `days`, split `by` names, in a `format`."""
        form = FORMATS.get(request.query_params.get("format", "json"))
        if form is None:
            raise InvalidRequest(f"format must be {', '.join(FORMATS)}.", param="format", code="invalid_value")
        found = await self._report(request)
        page = await asyncio.to_thread(form.render, found)
        return HttpResponse(page, headers={"content-type": form.media_type, "cache-control": "no-store"})

    async def statistics(self, request: HttpRequest) -> HttpResponse:
        """Counts since the start and since the last reset."""
        tenant, alone = scope_of(request)
        return answer(msgspec.to_builtins(await self._client.statistics(tenant, alone=alone)))

    async def reset(self, request: HttpRequest) -> HttpResponse:
        """Begin to count anew; answers with what had been counted."""
        tenant, _ = scope_of(request)
        done = await self._client.reset_statistics(tenant, by=principal_of(request).name)
        return answer(msgspec.to_builtins(done))

    async def _report(self, request: HttpRequest) -> UsageReport:
        tenant, alone = scope_of(request)
        days = _number(request, "days", 30.0, _MOST_DAYS)
        recent = int(_number(request, "recent", 0.0, _MOST_RECENT))
        by = tuple(name for name in request.query_params.get("by", "model").split(",") if name)
        await self._client.shared.stores.flush()
        url = self._client.settings.store.url
        clock = self._client.clock
        try:
            return await asyncio.to_thread(
                usage_report, url, days=days, by=by, recent=recent, tenant=tenant, alone=alone, clock=clock
            )
        except ConfigError as error:
            if error.key == "by":
                raise InvalidRequest(f"{error.message}.", param="by", code="invalid_value") from error
            raise InvalidRequest("No record of calls is kept here.", code="not_found", status_code=404) from error


def _number(request: HttpRequest, name: str, default: float, most: float) -> float:
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise InvalidRequest(f"{name} must be a number from 0 to {most:g}.", param=name, code="invalid_value")
    return value
