"""THE table of who may call what, for every route there is; what it does not name is denied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.access.principal import Principal, Role
from penstock.core.errors import InvalidRequest
from penstock.server import controls
from penstock.server.auth import Admit, Gate

PUBLIC = None
"""Without a key."""

VIEWER, USER, ADMIN, ROOT = Role.VIEWER, Role.USER, Role.ADMIN, Role.ROOT

LEAST: dict[tuple[str, str], Role | None] = {
    ("POST", "/v1/chat/completions"): USER,
    ("GET", "/v1/chat/completions"): USER,
    ("GET", "/v1/chat/completions/{completion_id}"): USER,
    ("POST", "/v1/chat/completions/{completion_id}"): USER,
    ("DELETE", "/v1/chat/completions/{completion_id}"): USER,
    ("GET", "/v1/chat/completions/{completion_id}/messages"): USER,
    ("POST", "/v1/completions"): USER,
    ("POST", "/v1/embeddings"): USER,
    ("POST", "/v1/scores"): USER,
    ("GET", "/v1/models"): VIEWER,
    ("GET", "/v1/models/{model:path}"): VIEWER,
    ("GET", "/metrics"): ROOT,
    ("GET", "/admin/whoami"): VIEWER,
    ("GET", "/admin/keys"): ADMIN,
    ("POST", "/admin/keys"): ADMIN,
    ("GET", "/admin/keys/{key_id}"): ADMIN,
    ("POST", "/admin/keys/{key_id}"): ADMIN,
    ("DELETE", "/admin/keys/{key_id}"): ADMIN,
    ("POST", "/admin/keys/{key_id}/rotate"): ADMIN,
    ("POST", "/admin/keys/{key_id}/revoke"): ADMIN,
    ("GET", "/admin/budgets"): VIEWER,
    ("POST", "/admin/budgets"): ADMIN,
    ("GET", "/admin/budgets/{budget_id:path}"): VIEWER,
    ("DELETE", "/admin/budgets/{budget_id:path}"): ADMIN,
    ("GET", "/admin/teams"): ADMIN,
    ("POST", "/admin/teams"): ADMIN,
    ("GET", "/admin/teams/{tenant:path}"): ADMIN,
    ("POST", "/admin/teams/{tenant:path}"): ADMIN,
    ("GET", "/admin/usage"): VIEWER,
    ("GET", "/admin/usage/statistics"): VIEWER,
    ("POST", "/admin/usage/statistics/reset"): ADMIN,
    ("GET", "/admin/cache/stats"): VIEWER,
    # What was asked, by anybody of the tenant: for those who may ask themselves.
    ("GET", "/admin/cache/entries"): USER,
    ("POST", "/admin/cache/explain"): USER,
    ("POST", "/admin/cache/labels"): USER,
    ("POST", "/admin/cache/clear"): ADMIN,
    ("POST", "/admin/cache/warm"): ADMIN,
    ("GET", "/admin/cache/export"): ADMIN,
    # The keys in a file cannot be checked, so whoever imports one could answer in another tenant's place.
    ("POST", "/admin/cache/import"): ROOT,
    ("POST", "/admin/cache/cleanup"): ROOT,
    ("POST", "/admin/cache/optimize"): ROOT,
    # An experiment is of all tenants it names, so of nobody but whoever configures the gateway.
    ("GET", "/admin/experiments"): ROOT,
    ("GET", "/admin/experiments/{name}"): ROOT,
    ("POST", "/admin/experiments/{name}/stop"): ROOT,
    ("POST", "/admin/experiments/{name}/start"): ROOT,
    ("GET", "/admin/templates"): USER,
    # What a prompt says may be nobody's to read who may only use it.
    ("GET", "/admin/templates/{name}"): ADMIN,
    ("POST", "/admin/templates/{name}/render"): ADMIN,
    # For all tenants at once.
    ("POST", "/admin/templates/reload"): ROOT,
    ("POST", "/admin/templates/{name}/rollback"): ROOT,
    ("GET", "/admin/cascades"): ROOT,
    ("GET", "/admin/health"): ROOT,
    ("GET", "/admin/alerts"): ROOT,
    ("GET", "/admin/alerts/history"): ROOT,
    ("POST", "/admin/sinks/{sink}/test"): ROOT,
    ("GET", "/health/live"): PUBLIC,
    ("GET", "/health/ready"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
}
"""The least role by method and path; a GET's is its HEAD's too."""

WATCHING = frozenset({"/metrics", "/admin/cascades", "/admin/health", "/admin/alerts", "/admin/alerts/history"})
"""What is of the whole process, so not for one tenant among others; without any keys there is only one."""

Endpoint = Callable[[HttpRequest], Awaitable[HttpResponse]]


def guarded(routes: Sequence[Route], gate: Gate) -> list[Route]:
    """Return `routes` so that each asks `gate` before anything else."""
    return [Route(route.path, _guard(route, gate), methods=list(route.methods or ())) for route in routes]


def admit(gate: Gate, path: str) -> Admit:
    """Return how the hot route at `path` asks `gate`."""
    return partial(gate.admit, least=least_of("POST", path) or VIEWER)


def principal_of(request: HttpRequest) -> Principal:
    """Return who asks; on routes that need a role."""
    principal: Principal = request.state.principal
    return principal


def least_of(method: str, path: str) -> Role | None:
    """Return the least role for a route; `PUBLIC` for none.

    Raises:
        InvalidRequest: The table does not have it (403).
    """
    try:
        return LEAST["GET" if method == "HEAD" else method, path]
    except KeyError:
        raise InvalidRequest("Nobody may do this.", code="forbidden", status_code=403) from None


def _guard(route: Route, gate: Gate) -> Endpoint:
    endpoint: Endpoint = route.endpoint

    async def guard(request: HttpRequest) -> HttpResponse:
        least = least_of(request.method, route.path)
        if route.path in WATCHING and not gate.ring.guarded:
            least = VIEWER
        if least is not PUBLIC:
            request.state.principal = gate.admit(controls.pick(request.scope["headers"]), least)
        return await endpoint(request)

    return guard
