"""Teams: ``/admin/teams``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.accounts.directory import Accounts
from penstock.accounts.teams import Teams, TeamTerms, describe_team
from penstock.server.admin.frame import answer, body_of, given, listing
from penstock.server.permissions import principal_of


class TeamChanges(msgspec.Struct, forbid_unknown_fields=True):
    """What of a team is to change."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    models: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    tokens_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET


class TeamRoutes:
    """The routes under `/admin/teams`."""

    def __init__(self, accounts: Callable[[], Accounts]) -> None:
        self._accounts = accounts

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        one = "/admin/teams/{tenant:path}"
        return [
            Route("/admin/teams", self.list, methods=["GET"]),
            Route("/admin/teams", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
        ]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List teams, oldest first; of one `organisation`, if it is named."""
        found = await self._teams(request).list(request.query_params.get("organisation"))
        return listing([describe_team(team) for team in found])

    async def create(self, request: HttpRequest) -> HttpResponse:
        """Make a team."""
        return answer(describe_team(await self._teams(request).create(await body_of(request, TeamTerms))), status=201)

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Return one."""
        return answer(describe_team(await self._teams(request).get(request.path_params["tenant"])))

    async def update(self, request: HttpRequest) -> HttpResponse:
        """Change what is in the body."""
        changes = given(await body_of(request, TeamChanges))
        return answer(describe_team(await self._teams(request).update(request.path_params["tenant"], changes)))

    def _teams(self, request: HttpRequest) -> Teams:
        return Teams(self._accounts(), principal_of(request))
