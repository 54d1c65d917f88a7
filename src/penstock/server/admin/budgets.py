"""Budgets: ``/admin/budgets``."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.accounts.budgets import Budgets, BudgetTerms
from penstock.accounts.directory import Accounts
from penstock.client import AsyncClient
from penstock.server.admin.frame import answer, body_of, listing
from penstock.server.permissions import principal_of


class BudgetRoutes:
    """The routes under `/admin/budgets`."""

    def __init__(self, client: AsyncClient, accounts: Callable[[], Accounts]) -> None:
        self._client = client
        self._accounts = accounts

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        one = "/admin/budgets/{budget_id:path}"
        return [
            Route("/admin/budgets", self.list, methods=["GET"]),
            Route("/admin/budgets", self.set, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List budgets with what is spent; of one `subject`, if it is named."""
        return listing(await self._budgets(request).list(request.query_params.get("subject")))

    async def set(self, request: HttpRequest) -> HttpResponse:
        """Make or change one."""
        shown = await self._budgets(request).set(await body_of(request, BudgetTerms))
        await self._client.shared.budgets.refresh()
        return answer(shown)

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Return one."""
        return answer(await self._budgets(request).get(request.path_params["budget_id"]))

    async def delete(self, request: HttpRequest) -> HttpResponse:
        """Remove one."""
        budget_id = request.path_params["budget_id"]
        await self._budgets(request).delete(budget_id)
        await self._client.shared.budgets.refresh()
        return answer({"object": "budget.deleted", "id": budget_id, "deleted": True})

    def _budgets(self, request: HttpRequest) -> Budgets:
        shared = self._client.shared
        return Budgets(
            shared.stores.budgets, principal_of(request), shared.clock, self._accounts().keys,
            lambda: shared.budgets.configured,
        )  # fmt: skip
