"""The caches over the admin API: what each may see and do, and of whom."""

import asyncio
import json

import pytest

from penstock.access.principal import Principal, Role
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.client import AsyncClient
from penstock.core.response import Response
from penstock.server.app import Gateway
from penstock.testing import answer

ROOT = ("authorization", "Bearer sk-the-root-of-all")
TENANTS = ("acme", "acme/web", "acme/app", "acmeous", "other/x")
TALL = "How tall is the Eiffel Tower in Paris?"
TALL_TOO = "how tall is the eiffel tower in paris"


async def settle():
    """Wait until what was learnt is learnt."""
    for _ in range(100):
        await asyncio.sleep(0)


class Provider:
    """Answers everything alike."""

    name = "near"

    async def send(self, request, target):
        return Response(body=answer("330 metres."), finish_reason="stop")

    async def models(self):
        return []

    async def aclose(self):
        pass


@pytest.fixture
async def gateway(tmp_path):
    config = {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": name, "targets": [{"provider": "near", "model": "m"}]} for name in ("fast", "slow")],
        "server": {"admin_key": "sk-the-root-of-all"},
        "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
        "cache": {"semantic": {"mode": "on", "max_error": 0.45, "audit": 0.000001}},
    }
    served = Gateway(AsyncClient(config, providers={"near": Provider()}))
    await served.open()
    for tenant in TENANTS:
        await served.client.chat(f"{TALL} {tenant}", model="fast", tenant=tenant, tags=(tenant,))
    await settle()
    yield served
    await served.aclose()


@pytest.fixture
async def key(gateway):
    root = Principal("default", role=Role.ROOT)
    keys, teams = Keys(gateway.accounts, root), Teams(gateway.accounts, root)
    for tenant in TENANTS:
        await teams.create(TeamTerms(tenant))

    async def key(tenant, role, **terms):
        _, text = await keys.create(KeyTerms("k", tenant, role, **terms))
        await gateway.accounts.refresh()
        return ("authorization", f"Bearer {text}")

    return key


def body(**fields):
    return json.dumps(fields).encode()


def lines(found):
    return [json.loads(line) for line in found.splitlines()]


SEEN = [
    ("acme/web", "user", {"acme/web"}),
    ("acme", "user", {"acme"}),
    ("acme/web", "admin", {"acme", "acme/web", "acme/app"}),
    ("other/x", "admin", {"other/x"}),
]


@pytest.mark.parametrize(("tenant", "role", "seen"), SEEN)
async def test_each_sees_its_own(gateway, key, call, tenant, role, seen):
    mine = await key(tenant, role)
    status, report = await call(gateway, "GET", "/admin/cache/stats", mine)
    assert (status, report["answers"], report["exact"], report["semantic"]) == (200, len(seen), None, None)
    assert {row["tenant"] for row in report["models"]} == seen
    status, listed = await call(gateway, "GET", "/admin/cache/entries", mine)
    assert {each["tenant"] for each in listed["data"]} == seen
    assert {each["questions"][0]["text"] for each in listed["data"]} == {f"{TALL} {each}" for each in seen}
    for path in ("/admin/cache/stats", "/admin/cache/entries"):
        status, refused = await call(gateway, "GET", f"{path}?tenant=acmeous", mine)
        assert (status, refused["error"]["code"]) == (403, "forbidden")


async def test_root_sees_all(gateway, call):
    _, report = await call(gateway, "GET", "/admin/cache/stats", ROOT)
    assert {row["tenant"] for row in report["models"]} == set(TENANTS)
    assert (report["exact"]["misses"], report["semantic"]["asked"]) == (5, 5)
    _, report = await call(gateway, "GET", "/admin/cache/stats?tenant=acme", ROOT)
    assert (report["answers"], report["exact"]) == (3, None)
    _, listed = await call(gateway, "GET", "/admin/cache/entries?tag=acme/web&limit=9", ROOT)
    assert [each["tags"] for each in listed["data"]] == [["acme/web"]]
    _, listed = await call(gateway, "GET", "/admin/cache/entries?contains=acmeOUS", ROOT)
    assert [each["tenant"] for each in listed["data"]] == ["acmeous"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=9999"])
async def test_what_is_wrong_is_named(gateway, call, query):
    status, refused = await call(gateway, "GET", f"/admin/cache/entries?{query}", ROOT)
    assert (status, refused["error"]["param"]) == (400, "limit")


async def test_a_decision_is_explained_from_ones_own_questions_only(gateway, key, call):
    await gateway.client.chat(TALL, model="fast", tenant="acme/web")
    await settle()
    asked = body(question=TALL_TOO, model="fast")
    status, said = await call(gateway, "POST", "/admin/cache/explain", await key("acme/web", "user"), body=asked)
    assert (status, said["serves"], said["nearest"][0]["text"]) == (200, True, TALL)
    for tenant, role in (("acme/app", "user"), ("acme/app", "admin"), ("other/x", "admin")):
        _, said = await call(gateway, "POST", "/admin/cache/explain", await key(tenant, role), body=asked)
        assert [each["text"] for each in said["nearest"]] == [f"{TALL} {tenant}"]
    admin = await key("acme", "admin")
    _, said = await call(gateway, "POST", "/admin/cache/explain?tenant=acme/web", admin, body=asked)
    assert said["serves"]
    status, _ = await call(gateway, "POST", "/admin/cache/explain?tenant=other/x", admin, body=asked)
    assert status == 403


async def test_only_models_a_key_may_use(gateway, key, call):
    limited = await key("acme/web", "admin", models=["slow"])
    asked = body(question=TALL, model="fast")
    status, refused = await call(gateway, "POST", "/admin/cache/explain", limited, body=asked)
    assert (status, refused["error"]["code"]) == (403, "model_not_allowed")
    both = asked + b"\n" + body(question=TALL, model="slow")
    status, warmed = await call(gateway, "POST", "/admin/cache/warm", limited, body=both)
    assert [(each.get("outcome"), each.get("code")) for each in sorted(lines(warmed)[:2], key=lambda each: each["line"])
            ] == [("failed", "model_not_allowed"), ("asked", None)]  # fmt: skip


@pytest.mark.parametrize(
    ("tenant", "clearing", "gone"),
    [
        ("acme/web", {}, {"acme", "acme/web", "acme/app"}),
        ("acme/web", {"tenant": "acme/web"}, {"acme/web"}),
        ("acme/web", {"tag": "acme/app"}, {"acme/app"}),
        ("acme/web", {"tag": "other/x"}, set()),
        ("acme/web", {"model": "slow"}, set()),
        (None, {"tag": "other/x"}, {"other/x"}),
        (None, {}, set(TENANTS)),
    ],
)
async def test_an_admin_clears_its_organisation(gateway, key, call, tenant, clearing, gone):
    mine = ROOT if tenant is None else await key(tenant, "admin")
    status, done = await call(gateway, "POST", "/admin/cache/clear", mine, body=body(**clearing))
    assert (status, done["answers"]) == (200, len(gone))
    _, listed = await call(gateway, "GET", "/admin/cache/entries", ROOT)
    assert {each["tenant"] for each in listed["data"]} == set(TENANTS) - gone


async def test_others_are_left_alone(gateway, key, call):
    admin = await key("acme", "admin")
    for method, path, asked in (
        ("POST", "/admin/cache/clear", body(tenant="other/x")),
        ("POST", "/admin/cache/warm?tenant=other/x", body(question=TALL, model="fast", answer="Mine.")),
        ("GET", "/admin/cache/export?tenant=acmeous", b""),
        ("POST", "/admin/cache/labels", body(request_id="r", right=True, tenant="other/x")),
    ):
        status, refused = await call(gateway, method, path, admin, body=asked)
        assert (status, refused["error"]["code"]) == (403, "forbidden")
    assert (await gateway.client.cache.stats()).answers == len(TENANTS)


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        ("/admin/cache/clear", body(tags="x"), "tags"),
        ("/admin/cache/clear", body(tag="x", learnt=True), "learnt"),
        ("/admin/cache/labels", body(request_id="x"), None),
        ("/admin/cache/explain", body(model="fast"), "messages"),
        ("/admin/cache/explain", body(question=TALL), "model"),
        ("/admin/cache/warm?concurrency=0", b"", "concurrency"),
    ],
)
async def test_bodies_are_read_strictly(gateway, call, path, asked, param):
    status, refused = await call(gateway, "POST", path, ROOT, body=asked)
    assert (status, refused["error"]["param"]) == (400, param)


async def test_questions_are_taken_in_and_counted(gateway, key, call):
    items = [
        body(question="Who built it?", model="fast", answer="Eiffel.", tags=["faq"]),
        body(question="Who painted it?", model="fast"),
        b"not json",
    ]
    admin = await key("acme", "admin")
    status, found = await call(
        gateway, "POST", "/admin/cache/warm?tenant=acme/web", admin, body=b"\n".join([*items, b""])
    )
    *each, counts = lines(found)
    assert status == 200
    assert sorted((one["line"], one["outcome"]) for one in each) == [(1, "seeded"), (2, "asked"), (3, "failed")]
    assert counts == {"object": "cache.warmed", "asked": 1, "known": 0, "seeded": 1, "failed": 1}
    got = await gateway.client.chat("Who built it?", model="fast", tenant="acme/web")
    assert (got.text, got.cached) == ("Eiffel.", True)
    assert not (await gateway.client.chat("Who built it?", model="fast", tenant="acme/app")).cached


async def test_what_is_exported_can_be_imported_by_root(gateway, key, call):
    admin = await key("acme", "admin")
    status, exported = await call(gateway, "GET", "/admin/cache/export?tenant=acme/web", admin)
    assert (status, len(lines(exported))) == (200, 2)
    assert b"acme/app" not in exported
    await gateway.client.cache.clear()
    status, done = await call(gateway, "POST", "/admin/cache/import?tenant=acme/web", ROOT, body=exported)
    assert (status, done) == (200, {"object": "cache.imported", "answers": 1, "questions": 1, "skipped": 0})
    status, refused = await call(gateway, "POST", "/admin/cache/import?tenant=acme/web", admin, body=exported)
    assert (status, refused["error"]["code"]) == (403, "forbidden")
    status, refused = await call(gateway, "POST", "/admin/cache/import", ROOT, body=exported)
    assert (status, refused["error"]["param"]) == (400, "tenant")


async def test_labels_of_ones_own_requests(gateway, key, call):
    await gateway.client.chat(TALL, model="fast", tenant="acme/web")
    await settle()
    seen = await gateway.client.chat(TALL_TOO, model="fast", tenant="acme/web")
    assert seen.call.cache == "semantic"
    said = body(request_id=seen.id, right=True)
    status, _ = await call(gateway, "POST", "/admin/cache/labels", await key("acme/app", "user"), body=said)
    assert status == 404
    status, done = await call(gateway, "POST", "/admin/cache/labels", await key("acme/web", "user"), body=said)
    assert (status, done["right"]) == (200, True)
    again = await gateway.client.chat(TALL_TOO, model="fast", tenant="acme/web")
    assert again.call.cache == "hit"


async def test_upkeep(gateway, call):
    status, done = await call(gateway, "POST", "/admin/cache/cleanup", ROOT)
    assert (status, done["answers"], done["questions"]) == (200, 0, 0)
    await gateway.client.shared.stores.flush()
    status, done = await call(gateway, "POST", "/admin/cache/optimize", ROOT)
    assert (status, done["partitions"], done["free_bytes"]) == (200, len(TENANTS), 0)
