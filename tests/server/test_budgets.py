import json

import pytest

from penstock.access.principal import Principal, Role
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.client import AsyncClient
from penstock.core.budget import Allowance
from penstock.core.call import Call
from penstock.server.app import Gateway
from penstock.server.openai import describe

ROOT_KEY = "sk-the-root-of-all"
CONFIG = {
    "providers": [{"name": "simulated", "kind": "simulated"}],
    "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
    "prices": [{"usd_per_million": {"input": 1, "output": 10}}],
    "server": {"admin_key": ROOT_KEY},
    "budgets": [{"scope": "organisation", "subject": "acme", "amount": 100}],
    "store": {"url": "memory:"},
}


@pytest.fixture
async def gateway():
    served = Gateway(AsyncClient(CONFIG))
    await served.open()
    yield served
    await served.aclose()


@pytest.fixture
async def keys(gateway):
    root = Principal("default", role=Role.ROOT)
    for tenant in ("acme/search", "other/team"):
        await Teams(gateway.accounts, root).create(TeamTerms(tenant))
    made = {"root": ("", ROOT_KEY)}
    for name, tenant, role in (
        ("viewer", "acme/search", "viewer"), ("user", "acme/search", "user"), ("admin", "acme/search", "admin"),
        ("foreign", "other/team", "admin"),
    ):  # fmt: skip
        record, text = await Keys(gateway.accounts, root).create(KeyTerms(name, tenant, role))
        made[name] = (record.id, text)
    return made


@pytest.fixture
def ask(gateway, keys, call):
    async def ask(who, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        return await call(gateway, method, path, ("authorization", f"Bearer {keys[who][1]}"), body=data)

    return ask


TEAM = {"scope": "team", "subject": "acme/search", "period": "day", "amount": "20", "soft": [0.8]}


async def test_a_budget_from_its_making_to_its_removal(ask):
    status, made = await ask("admin", "POST", "/admin/budgets", TEAM)
    assert (status, made["amount"], made["spent"], made["remaining"], made["source"]) == (200, "20", "0", "20", "store")
    _, changed = await ask("admin", "POST", "/admin/budgets", {**TEAM, "amount": 30.5})
    assert (changed["id"], changed["amount"]) == (made["id"], "30.5")
    _, listed = await ask("viewer", "GET", "/admin/budgets")
    assert [each["source"] for each in listed["data"]] == ["configuration", "store"]
    _, listed = await ask("viewer", "GET", "/admin/budgets?subject=acme/search")
    assert [each["id"] for each in listed["data"]] == [made["id"]]
    assert (await ask("user", "GET", f"/admin/budgets/{made['id']}"))[1]["soft"] == [0.8]
    status, gone = await ask("admin", "DELETE", f"/admin/budgets/{made['id']}")
    assert (status, gone["deleted"]) == (200, True)
    assert (await ask("admin", "GET", f"/admin/budgets/{made['id']}"))[0] == 404


async def test_a_keys_budget_holds_at_once(ask, keys):
    body = {"scope": "key", "subject": keys["user"][0], "period": "total", "unit": "tokens", "amount": 20}
    assert (await ask("admin", "POST", "/admin/budgets", body))[0] == 200
    question = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
    status, refused = await ask("user", "POST", "/v1/chat/completions", question)
    assert (status, refused["error"]["code"]) == (429, "insufficient_quota")
    assert (await ask("admin", "POST", "/v1/chat/completions", question))[0] == 200


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        ("foreign", TEAM, 403),
        ("user", TEAM, 403),
        ("admin", {**TEAM, "scope": "organisation", "subject": "acme"}, 403),
        ("admin", {**TEAM, "scope": "key", "subject": "nothing"}, 403),
        ("root", {**TEAM, "scope": "key", "subject": "nothing"}, 404),
        ("root", {**TEAM, "scope": "organisation", "subject": "acme"}, 200),
        ("root", {**TEAM, "amount": 0}, 400),
        ("root", {**TEAM, "amount": 1.5, "unit": "tokens"}, 400),
        ("root", {**TEAM, "amount": 10**9}, 400),
        ("root", {**TEAM, "soft": [1.5]}, 400),
        ("root", {**TEAM, "period": "week"}, 400),
        ("root", {**TEAM, "limit": 5}, 400),
    ],
)
async def test_what_may_be_set_by_whom(ask, who, body, status):
    assert (await ask(who, "POST", "/admin/budgets", body))[0] == status


async def test_the_configurations_budgets_and_others_are_not_to_be_removed(ask):
    configured = "/admin/budgets/config:organisation:acme:month:usd"
    assert (await ask("root", "DELETE", configured))[1]["error"]["code"] == "budget_configured"
    assert (await ask("admin", "DELETE", configured))[0] == 403
    assert (await ask("foreign", "GET", configured))[0] == 404
    assert (await ask("foreign", "GET", "/admin/budgets"))[1]["data"] == []


def test_headers_say_what_budgets_allowed():
    call = Call("req_1", allowance=Allowance(capped=120, remaining_pusd=1_250_000_000, remaining_tokens=7))
    fields = dict(describe(call, whole=True))
    assert fields[b"x-penstock-budget"] == b"capped; max_tokens=120"
    assert fields[b"x-penstock-budget-remaining-usd"] == b"0.00125"
    assert fields[b"x-penstock-budget-remaining-tokens"] == b"7"
    assert not [name for name in dict(describe(Call("req_2"), whole=True)) if b"budget" in name]
