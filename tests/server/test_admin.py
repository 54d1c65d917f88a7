"""The admin API over ASGI, with real keys over a real database."""

import contextlib
import json
import logging
import sqlite3

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import StoreError
from penstock.server.app import Gateway


def bearer(key):
    return ("authorization", f"Bearer {key}")


ROOT = bearer("sk-the-root-of-all")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def gateway(tmp_path):
    config = {
        "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "server": {"admin_key": "sk-the-root-of-all"},
        "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
    }
    served = Gateway(AsyncClient(config))
    await served.open()
    yield served
    await served.aclose()


class Api:
    def __init__(self, gateway, call):
        self.gateway = gateway
        self.call = call

    async def __call__(self, method, path, body=None, key=ROOT):
        return await self.call(self.gateway, method, path, key, body=b"" if body is None else json.dumps(body).encode())

    async def made(self, path, body, key=ROOT):
        status, answer = await self("POST", path, body, key)
        assert status == 201, answer
        return answer

    async def refused(self, status, code, method, path, body=None, key=ROOT):
        found, answer = await self(method, path, body, key)
        assert (found, answer["error"]["code"]) == (status, code)
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        return answer["error"]


@pytest.fixture
async def api(gateway, call):
    api = Api(gateway, call)
    for tenant in ("acme/search", "acme/other", "foreign/team"):
        await api.made("/admin/teams", {"tenant": tenant})
    return api


async def test_a_key_is_made_used_changed_rotated_and_revoked(api, caplog):
    caplog.set_level(logging.INFO, "penstock.audit")
    key = await api.made("/admin/keys", {"name": "web", "tenant": "acme/search", "models": ["fast*"]})
    own = bearer(key["key"])
    assert (key["object"], key["role"], key["status"], key["created_by"]) == ("key", "user", "valid", "root")
    assert key["hint"] == f"sk-…{key['key'][-4:]}"
    who = (await api("GET", "/admin/whoami", key=own))[1]
    assert (who["tenant"], who["key_id"], who["role"], who["models"]) == ("acme/search", key["id"], "user", [["fast*"]])

    assert (await api("POST", "/v1/chat/completions", {**CHAT, "model": "fast-1"}, own))[0] == 200
    error = await api.refused(403, "model_not_allowed", "POST", "/v1/chat/completions", CHAT, own)
    assert (error["type"], error["param"]) == ("permission_error", "model")
    await api.refused(403, "model_not_allowed", "GET", "/v1/models/other", key=own)
    await api.refused(403, "forbidden", "GET", "/admin/keys", key=own)

    path = f"/admin/keys/{key['id']}"
    status, changed = await api("POST", path, {"models": None, "name": "shop"})
    assert (status, changed["models"], changed["name"], changed["role"]) == (200, None, "shop", "user")
    assert (await api("POST", "/v1/chat/completions", CHAT, own))[0] == 200

    new = await api.made(path + "/rotate", {"overlap_s": 3600})
    assert new["replaces"] == key["id"]
    for each in (own, bearer(new["key"])):
        assert (await api("POST", "/v1/chat/completions", CHAT, each))[0] == 200
    assert (await api("POST", path + "/revoke"))[1]["status"] == "revoked"
    await api.refused(401, "invalid_api_key", "POST", "/v1/chat/completions", CHAT, own)
    assert [each["status"] for each in (await api("GET", "/admin/keys"))[1]["data"]] == ["revoked", "valid"]
    assert (await api("DELETE", path))[1] == {"object": "key.deleted", "id": key["id"], "deleted": True}
    await api.refused(404, "key_not_found", "GET", path)

    told = [record for record in caplog.records if record.name == "penstock.audit"]
    lines = [record.fields for record in told]
    assert [record.getMessage() for record in told] == [
        "key.create", "key.update", "key.rotate", "key.revoke", "key.delete"
    ]  # fmt: skip
    assert {(line["by"], line["tenant"]) for line in lines} == {("root", "acme/search")}
    shown = str(lines) + str(await api("GET", "/admin/keys"))
    assert key["key"] not in shown
    assert new["key"] not in shown


async def test_a_record_has_the_keys_id(api, gateway, tmp_path):
    key = await api.made("/admin/keys", {"name": "web", "tenant": "acme/search"})
    await api("POST", "/v1/chat/completions", CHAT, bearer(key["key"]))
    await gateway.client.shared.stores.flush()
    with contextlib.closing(sqlite3.connect(tmp_path / "penstock.db")) as database:
        assert database.execute("SELECT tenant, key_id FROM calls").fetchall() == [("acme/search", key["id"])]


async def test_what_is_another_organisations_is_not_there(api):
    admin = await api.made("/admin/keys", {"name": "boss", "tenant": "acme/search", "role": "admin"})
    foreign = await api.made("/admin/keys", {"name": "k", "tenant": "foreign/team"})
    own, path = bearer(admin["key"]), f"/admin/keys/{foreign['id']}"
    for method, where, body in (
        ("GET", path, None),
        ("POST", path, {"name": "mine"}),
        ("POST", path + "/rotate", None),
        ("POST", path + "/revoke", None),
        ("DELETE", path, None),
    ):
        error = await api.refused(404, "key_not_found", method, where, body, own)
        unknown = await api.refused(404, "key_not_found", method, where.replace(foreign["id"], "key_0"), body, own)
        assert error["message"].replace(foreign["id"], "key_0") == unknown["message"]
    await api.refused(404, "team_not_found", "GET", "/admin/teams/foreign/team", None, own)
    await api.refused(404, "team_not_found", "POST", "/admin/teams/foreign/team", {"archived": True}, own)
    await api.refused(404, "team_not_found", "POST", "/admin/keys", {"name": "k", "tenant": "foreign/team"}, own)
    await api.refused(403, "grant_exceeded", "POST", "/admin/teams", {"tenant": "foreign/more"}, own)
    assert [each["id"] for each in (await api("GET", "/admin/keys", key=own))[1]["data"]] == [admin["id"]]
    assert (await api("GET", "/admin/keys?tenant=foreign/team", key=own))[1]["data"] == []
    tenants = [each["tenant"] for each in (await api("GET", "/admin/teams", key=own))[1]["data"]]
    assert tenants == ["acme/search", "acme/other"]
    assert (await api("GET", path))[1]["status"] == "valid"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": "k", "budget": 1}, "budget"),
        ({"name": "k", "models": "gpt"}, "models"),
        ({"name": "k", "requests_per_minute": 1.5}, "requests_per_minute"),
        ({"name": "k", "role": "root"}, "role"),
    ],
)
async def test_bodies_that_cannot_be_used(api, body, param):
    error = await api.refused(400, "invalid_value", "POST", "/admin/keys", body)
    assert param in (error["param"] or error["message"])


async def test_teams(api):
    path = "/admin/teams/acme/search"
    key = await api.made("/admin/keys", {"name": "web", "tenant": "acme/search"})
    await api.refused(409, "team_exists", "POST", "/admin/teams", {"tenant": "acme/search"})
    status, team = await api("POST", path, {"models": ["a*"], "name": "Search"})
    assert (status, team["models"], team["name"], team["archived_at"]) == (200, ["a*"], "Search", None)
    await api.refused(403, "model_not_allowed", "POST", "/v1/chat/completions", CHAT, bearer(key["key"]))
    assert (await api("POST", path, {"archived": True}))[1]["archived_at"]
    await api.refused(401, "invalid_api_key", "POST", "/v1/chat/completions", CHAT, bearer(key["key"]))


async def test_an_unknown_key_may_be_a_new_one_while_the_store_cannot_be_read(api, gateway, monkeypatch):
    key = await api.made("/admin/keys", {"name": "web", "tenant": "acme/search"})

    async def fail():
        raise StoreError("gone")

    monkeypatch.setattr(gateway.accounts.store, "version", fail)
    gateway.accounts._unreachable(StoreError("gone"), 900.0)
    assert (await api("POST", "/v1/chat/completions", CHAT, bearer(key["key"])))[0] == 200
    await api.refused(503, "auth_unavailable", "POST", "/v1/chat/completions", CHAT, bearer("sk-unknown"))
    await api.refused(503, "store_error", "GET", "/admin/keys")
    await api.refused(401, "missing_api_key", "GET", "/admin/keys", key=("x-a", "b"))


async def test_limits_of_keys_and_teams_hold_from_the_moment_they_are_set(api, gateway):
    assert "limit" not in gateway.client.pipeline._layers
    key = await api.made("/admin/keys", {"name": "web", "tenant": "acme/search"})
    own, path = bearer(key["key"]), f"/admin/keys/{key['id']}"
    assert "limit" not in gateway.client.pipeline._layers
    await api("POST", path, {"requests_per_minute": 2})
    for _ in range(2):
        assert (await api("POST", "/v1/chat/completions", CHAT, own))[0] == 200
    error = await api.refused(429, "rate_limit_exceeded", "POST", "/v1/chat/completions", CHAT, own)
    assert error["type"] == "rate_limit_error"
    await api("POST", path, {"requests_per_minute": None})
    assert (await api("POST", "/v1/chat/completions", CHAT, own))[0] == 200
    assert "limit" not in gateway.client.pipeline._layers
    await api("POST", "/admin/teams/acme/search", {"requests_per_minute": 1})
    other = bearer((await api.made("/admin/keys", {"name": "b", "tenant": "acme/search"}))["key"])
    assert (await api("POST", "/v1/chat/completions", CHAT, own))[0] == 200
    await api.refused(429, "rate_limit_exceeded", "POST", "/v1/chat/completions", CHAT, other)
    await gateway.client.reload(gateway.client.loaded)
    await api.refused(429, "rate_limit_exceeded", "POST", "/v1/chat/completions", CHAT, own)
