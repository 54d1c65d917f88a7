"""Reports and statistics over the admin API."""

import pytest

from penstock.access.principal import Principal, Role
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.request import Request
from penstock.server.app import Gateway

ROOT = ("authorization", "Bearer sk-the-root-of-all")


@pytest.fixture
async def open_gateway(tmp_path):
    opened = []

    async def open_gateway(url=f"sqlite:///{tmp_path}/penstock.db"):
        config = {
            "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
            "server": {"admin_key": "sk-the-root-of-all"},
            "store": {"url": url},
        }
        served = Gateway(AsyncClient(config))
        await served.open()
        opened.append(served)
        return served

    yield open_gateway
    for served in opened:
        await served.aclose()


@pytest.fixture
async def gateway(open_gateway):
    served = await open_gateway()
    for tenant in ("acme", "acme/web", "acme/app", "other/x"):
        call = Call(f"req_{tenant}")
        request = Request("chat", "fast", {}, call, tenant=tenant)
        served.client.shared.stores.ledger.record(request, call, duration_s=1.0, outcome="ok")
    return served


@pytest.fixture
async def key(gateway):
    root = Principal("default", role=Role.ROOT)
    keys, teams = Keys(gateway.accounts, root), Teams(gateway.accounts, root)
    for tenant in ("acme", "acme/web", "acme/app"):
        await teams.create(TeamTerms(tenant))

    async def key(tenant, role):
        _, text = await keys.create(KeyTerms("k", tenant, role))
        await gateway.accounts.refresh()
        return ("authorization", f"Bearer {text}")

    return key


@pytest.mark.parametrize(
    ("tenant", "role", "seen"),
    [
        ("acme/web", "viewer", {"acme/web"}),
        ("acme", "viewer", {"acme"}),
        ("acme/web", "admin", {"acme", "acme/web", "acme/app"}),
    ],
)
async def test_each_sees_its_own(gateway, key, call, tenant, role, seen):
    mine = await key(tenant, role)
    status, report = await call(gateway, "GET", "/admin/usage?by=tenant&recent=9", mine)
    assert status == 200
    assert {line["group"]["tenant"] for line in report["lines"]} == seen
    assert {each["tenant"] for each in report["recent"]} == seen
    assert report["total"]["calls"] == len(seen)
    _, counted = await call(gateway, "GET", "/admin/usage/statistics", mine)
    assert counted["since_start"]["calls"] == len(seen)
    for path in ("/admin/usage?tenant=other/x", "/admin/usage/statistics?tenant=other"):
        status, refused = await call(gateway, "GET", path, mine)
        assert (status, refused["error"]["code"]) == (403, "forbidden")


async def test_root_sees_all_and_resets(gateway, call):
    _, report = await call(gateway, "GET", "/admin/usage?by=organisation", ROOT)
    assert {line["group"]["organisation"]: line["calls"] for line in report["lines"]} == {"acme": 3, "other": 1}
    _, report = await call(gateway, "GET", "/admin/usage?tenant=acme&days=1", ROOT)
    assert report["total"]["calls"] == 3
    status, before = await call(gateway, "POST", "/admin/usage/statistics/reset", ROOT)
    assert (status, before["since_start"]["calls"]) == (200, 4)
    _, after = await call(gateway, "GET", "/admin/usage/statistics", ROOT)
    assert (after["since_start"]["calls"], after["since_reset"]["calls"]) == (4, 0)
    assert after["polling"]["waits"] == 0


@pytest.mark.parametrize("query", ["by=colour", "days=x", "days=-1", "days=nan", "format=pdf", "recent=5000"])
async def test_what_is_wrong_is_named(gateway, call, query):
    status, refused = await call(gateway, "GET", f"/admin/usage?{query}", ROOT)
    assert (status, refused["error"]["param"]) == (400, query.partition("=")[0])


async def test_without_a_record_there_is_none(open_gateway, call):
    status, refused = await call(await open_gateway("memory:"), "GET", "/admin/usage", ROOT)
    assert (status, refused["error"]["code"]) == (404, "not_found")
