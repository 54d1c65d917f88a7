"""Every route, asked with every sort of key."""

import itertools
import json
import re
from typing import NamedTuple

import pytest
from starlette.routing import Route

from penstock.abc import KeyRecord
from penstock.access.principal import Principal, Role
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.client import AsyncClient
from penstock.server.app import Gateway
from penstock.server.auth import Gate
from penstock.server.permissions import LEAST, guarded

ROOT_KEY, USER_KEY = "sk-the-root-of-all", "sk-configured"
CONFIG = {
    "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
    "server": {"admin_key": ROOT_KEY, "keys": [{"key": USER_KEY, "tenant": "acme/search"}]},
    "store": {"url": "memory:"},
}


class Made(NamedTuple):
    record: KeyRecord
    text: str


ROOT = Principal("default", role=Role.ROOT)


@pytest.fixture
async def gateway():
    served = Gateway(AsyncClient(CONFIG))
    await served.open()
    yield served
    await served.aclose()


@pytest.fixture
async def keys(gateway):
    """Keys of each sort, by name."""
    keys, teams = Keys(gateway.accounts, ROOT), Teams(gateway.accounts, ROOT)
    for tenant in ("acme/search", "acme/other", "foreign/team"):
        await teams.create(TeamTerms(tenant))
    made = {}
    for name, tenant, role in (
        ("viewer", "acme/search", "viewer"),
        ("user", "acme/search", "user"),
        ("admin", "acme/search", "admin"),
        ("colleague", "acme/other", "user"),
        ("foreign", "foreign/team", "user"),
        ("foreign admin", "foreign/team", "admin"),
        ("revoked", "acme/search", "admin"),
        ("expired", "acme/search", "admin"),
    ):
        made[name] = await keys.create(KeyTerms(name, tenant, role))
    await keys.revoke(made["revoked"][0].id)
    await gateway.accounts.store.change_key(made["expired"][0].id, {"expires_at": 1.0})
    await gateway.accounts.refresh()
    return {name: Made(record, text) for name, (record, text) in made.items()}


def bearer(key):
    return ("authorization", f"Bearer {key}")


def at(path):
    """A path of a route, with something nobody has in its places."""
    return re.sub(r"\{(\w+)(:\w+)?}", "nothing", path)


def denied(status, body):
    return status in (401, 403) and body["error"]["code"]


CALLERS = {
    "none": None,
    "garbage": None,
    "revoked": None,
    "expired": None,
    "foreign": Role.USER,
    "viewer": Role.VIEWER,
    "user": Role.USER,
    "configured": Role.USER,
    "admin": Role.ADMIN,
    "foreign admin": Role.ADMIN,
    "root": Role.ROOT,
}
"""Who asks, and the role that one has."""


def headers_of(caller, keys):
    if caller == "none":
        return ()
    return (
        bearer({"garbage": "sk-garbage", "configured": USER_KEY, "root": ROOT_KEY}.get(caller) or keys[caller].text),
    )


@pytest.mark.parametrize(("route", "caller"), [*itertools.product(LEAST, CALLERS)], ids=str)
async def test_the_matrix(call, gateway, keys, route, caller):
    (method, path), least = route, LEAST[route]
    headers, role = headers_of(caller, keys), CALLERS[caller]
    found = denied(*await call(gateway, method, at(path), *headers))
    if least is None or (role is not None and role >= least):
        assert not found
    elif role is None:
        assert found == ("invalid_api_key" if headers else "missing_api_key")
    else:
        assert found == "forbidden"


def test_every_route_is_in_the_table_and_every_row_is_a_route(gateway):
    served = {(method, route.path) for route in gateway.routes for method in route.methods - {"HEAD"}}
    assert served == set(LEAST)


async def test_a_route_that_is_not_in_the_table_is_denied_to_all(call, gateway, keys):
    asked = []

    async def endpoint(request):
        asked.append(request)

    (route,) = guarded([Route("/new", endpoint)], gateway.gate)
    gateway.routes.append(route)
    gateway._cold.router.routes.append(route)
    for caller in CALLERS:
        assert await call(gateway, "GET", "/new", *headers_of(caller, keys)) == (
            403,
            {"error": {"message": "Nobody may do this.", "type": "permission_error", "param": None,
                       "code": "forbidden"}},
        )  # fmt: skip
    assert not asked


async def test_a_fault_in_checking_keys_denies(call, gateway, monkeypatch):
    def fail(*_args, **_more):
        raise KeyError("a bug")

    monkeypatch.setattr(gateway.gate.ring, "find", fail)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    for method, path in LEAST:
        if LEAST[method, path] is not None:
            status, answer = await call(gateway, method, at(path), bearer(ROOT_KEY), body=body)
            assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert gateway.client.shared.metrics.active == 0
    assert not gateway.client.shared.stores.ledger.recent


HOSTILE = [
    b"Bearer " + b"x" * 60_000,
    b"Bearer \xff\xfe\x00",
    b"Bearer",
    b"bearer  ",
    b"Basic YTpi",
    b"Digest a=b",
    b"sk-configured",
    b"Bearer sk-configured sk-configured",
    b"Bearer\tsk-configured",
    b", Bearer sk-configured",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_hostile_authorization(call, gateway, value):
    for path in ("/v1/models", "/v1/chat/completions"):
        status, answer = await call(gateway, "POST" if "chat" in path else "GET", path, ("authorization", value))
        assert status == 401
        assert answer["error"]["type"] == "authentication_error"
        assert "sk-" not in answer["error"]["message"].replace("'Authorization: Bearer sk-…'", "")


@pytest.mark.parametrize("others", [[USER_KEY], ["sk-garbage"], [""], ["sk-garbage", USER_KEY]])
@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_several_keys_are_none(call, gateway, name, others):
    prefix = "Bearer " if name == "authorization" else ""
    headers = [(name, prefix + key) for key in (USER_KEY, *others)]
    for order in (headers, headers[::-1]):
        status, answer = await call(gateway, "GET", "/v1/models", *order)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert (await call(gateway, "GET", "/v1/models", headers[0]))[0] == 200


async def test_without_keys_models_can_be_called_and_nothing_managed():
    gate = Gate(AsyncClient({**CONFIG, "server": {}}).settings.server)
    assert gate.admit({}).role is Role.USER
    with pytest.raises(Exception, match=r"set server\.admin_key") as refused:
        gate.admit({}, Role.ADMIN)
    assert refused.value.status_code == 403
