"""``/v1/scores``: applications say how good answers were."""

from __future__ import annotations

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.client import AsyncClient
from penstock.server.admin.frame import answer, body_of
from penstock.server.permissions import principal_of


class Scoring(msgspec.Struct, forbid_unknown_fields=True):
    """How good the answer to a request was."""

    request_id: str
    name: str
    value: float | bool


class ScoreRoutes:
    """The route."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        return [Route("/v1/scores", self.post, methods=["POST"])]

    async def post(self, request: HttpRequest) -> HttpResponse:
        """Keep a score of an answer to the key's own tenant."""
        body = await body_of(request, Scoring)
        score = await self._client.score(
            body.request_id, body.name, float(body.value), tenant=principal_of(request).tenant
        )
        return answer({"object": "score", **msgspec.structs.asdict(score)})
