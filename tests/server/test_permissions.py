"""Every route, asked with every sort of key."""

import asyncio
import contextlib
import itertools
import json
import re

import pytest
from starlette.routing import Route

from penstock.access.principal import Role
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


async def call(gateway, method, path, *headers, body=b"{}"):
    """Ask in-process; return status and body."""
    sent = []

    async def receive():
        if sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    fields = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "headers": fields, "query_string": query.encode()}
    with contextlib.suppress(KeyError):  # which Starlette raises again for the server's log, once it has answered
        await gateway(scope, receive, send)
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(whole) if whole[:1] == b"{" else whole


@pytest.fixture
async def gateway():
    served = Gateway(AsyncClient(CONFIG))
    await served.client.open()
    yield served
    await served.client.aclose()


def bearer(key):
    return ("authorization", f"Bearer {key}")


def at(path):
    """A path of a route, with something nobody has in its places."""
    return re.sub(r"\{(\w+)(:\w+)?}", "nothing", path)


def denied(status, body):
    return status in (401, 403) and body["error"]["code"]


CALLERS = {
    "none": ((), None),
    "garbage": ((bearer("sk-garbage"),), None),
    "user": ((bearer(USER_KEY),), Role.USER),
    "root": ((bearer(ROOT_KEY),), Role.ROOT),
}


@pytest.mark.parametrize(("route", "caller"), [*itertools.product(LEAST, CALLERS)], ids=str)
async def test_the_matrix(gateway, route, caller):
    (method, path), least = route, LEAST[route]
    headers, role = CALLERS[caller]
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


async def test_a_route_that_is_not_in_the_table_is_denied_to_all(gateway):
    asked = []

    async def endpoint(request):
        asked.append(request)

    (route,) = guarded([Route("/new", endpoint)], gateway.gate)
    gateway.routes.append(route)
    gateway._cold.router.routes.append(route)
    for headers, _ in CALLERS.values():
        assert await call(gateway, "GET", "/new", *headers) == (
            403,
            {"error": {"message": "Nobody may do this.", "type": "permission_error", "param": None,
                       "code": "forbidden"}},
        )  # fmt: skip
    assert not asked


async def test_a_fault_in_checking_keys_denies(gateway, monkeypatch):
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
async def test_hostile_authorization(gateway, value):
    for path in ("/v1/models", "/v1/chat/completions"):
        status, answer = await call(gateway, "POST" if "chat" in path else "GET", path, ("authorization", value))
        assert status == 401
        assert answer["error"]["type"] == "authentication_error"
        assert "sk-" not in answer["error"]["message"].replace("'Authorization: Bearer sk-…'", "")


async def test_without_keys_models_can_be_called_and_nothing_managed():
    gate = Gate(AsyncClient({**CONFIG, "server": {}}).settings.server)
    assert gate.admit({}).role is Role.USER
    with pytest.raises(Exception, match=r"set server\.admin_key") as refused:
        gate.admit({}, Role.ADMIN)
    assert refused.value.status_code == 403
