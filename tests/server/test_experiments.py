"""Experiments and scores over HTTP."""

import json
import time

import pytest

from penstock.access.principal import Principal, Role
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.client import AsyncClient
from penstock.server.app import Gateway
from penstock.testing import FakeClock

ROOT_KEY = "sk-the-root-of-all"
CONFIG = {
    "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0, "tokens_per_s": 0}}],
    "models": [{"name": name, "targets": [{"provider": "sim", "model": name}]} for name in ("small", "large")],
    "server": {"admin_key": ROOT_KEY},
    "store": {"url": "memory:"},
    "timeout_s": 30,
    "experiments": [
        {
            "name": "size",
            "who": {"models": ["small"]},
            "arms": [{"name": "small"}, {"name": "large", "set": {"model": "large"}}],
            "primary": {"metric": "score.helpful", "bounds": [0, 1]},
            "metrics": [{"metric": "cost_usd"}],
            "window_s": 60,
        }
    ],
}


@pytest.fixture
def clock():
    return FakeClock(wall=time.time())  # calls over HTTP have the machine's time


@pytest.fixture
async def gateway(clock):
    served = Gateway(AsyncClient(CONFIG, clock=clock))
    await served.open()
    yield served
    await served.aclose()


@pytest.fixture
async def ask(gateway, call):
    root = Principal("default", role=Role.ROOT)
    keys = {"root": ROOT_KEY}
    for name, tenant, role in (("user", "acme/web", "user"), ("other", "globex/web", "user")):
        await Teams(gateway.accounts, root).create(TeamTerms(tenant))
        keys[name] = (await Keys(gateway.accounts, root).create(KeyTerms(name, tenant, role)))[1]
    viewer = await Keys(gateway.accounts, root).create(KeyTerms("viewer", "acme/web", "viewer"))
    keys["viewer"] = viewer[1]

    async def ask(who, method, path, body=None, **headers):
        data = b"" if body is None else json.dumps(body).encode()
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await call(gateway, method, path, ("authorization", f"Bearer {keys[who]}"), *fields, body=data)

    return ask


def chat(text):
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


async def test_a_score_is_kept_once(ask):
    score = {"request_id": "req_1", "name": "helpful", "value": 0.5}
    status, body = await ask("user", "POST", "/v1/scores", score)
    assert (status, body["value"], body["tenant"]) == (200, 0.5, "acme/web")
    assert (await ask("user", "POST", "/v1/scores", score))[0] == 200
    status, body = await ask("user", "POST", "/v1/scores", {**score, "value": True})
    assert (status, body["error"]["code"]) == (409, "score_exists")
    status, body = await ask("user", "POST", "/v1/scores", {**score, "name": "liked", "value": True})
    assert (status, body["value"]) == (200, 1.0)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 201}, "request_id"),
        ({"name": "no spaces"}, "name"),
        ({"name": ""}, "name"),
        ({"value": 1e300}, "value"),
        ({"value": "high"}, "value"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_score_that_cannot_be_used_says_why(ask, wrong, param):
    body = {"request_id": "req_1", "name": "helpful", "value": 0.5, **wrong}
    status, said = await ask("user", "POST", "/v1/scores", body)
    assert (status, said["error"]["param"]) == (400, param)


async def test_who_may_only_look_posts_no_scores(ask):
    status, _ = await ask("viewer", "POST", "/v1/scores", {"request_id": "r", "name": "helpful", "value": 1})
    assert status == 403


async def test_an_experiment_from_its_first_call_to_its_report(ask, gateway, clock):
    for number in range(60):
        request_id = f"req_{number}"
        status, _ = await ask("user", "POST", "/v1/chat/completions", chat(f"question {number}"),
                              x_penstock_unit=f"user {number}", x_request_id=request_id)  # fmt: skip
        assert status == 200
        await ask("user", "POST", "/v1/scores", {"request_id": request_id, "name": "helpful", "value": 1})
        # Another tenant's opinion of it is about nothing.
        await ask("other", "POST", "/v1/scores", {"request_id": request_id, "name": "helpful", "value": 0})
    clock.advance(200)
    status, body = await ask("root", "GET", "/admin/experiments/size")
    assert (status, body["status"], body["report"]["units"]) == (200, "running", 60)
    primary, cost = body["report"]["measured"]
    assert (primary["metric"], primary["role"], cost["metric"]) == ("score.helpful", "primary", "cost_usd")
    assert sum(mean["units"] for mean in primary["means"]) == 60
    assert [mean["mean"] for mean in primary["means"]] == [1.0, 1.0]
    assert primary["effects"][0]["low"] < 0 < primary["effects"][0]["high"]
    asked = {call.call.served.model for call in gateway.client.shared.stores.ledger.recent}
    assert asked == {"small", "large"}


async def test_stopping_and_starting(ask, gateway):
    status, listed = await ask("root", "GET", "/admin/experiments")
    assert [(each["name"], each["status"], each["arms"]) for each in listed["data"]] == [
        ("size", "running", {"small": 0.5, "large": 0.5})
    ]
    status, body = await ask("root", "POST", "/admin/experiments/size/stop", {"winner": "huge"})
    assert (status, body["error"]["param"]) == (400, "winner")
    status, body = await ask("root", "POST", "/admin/experiments/size/stop", {"winner": "large", "why": "seen enough"})
    assert (status, body["status"], body["winner"], body["why"]) == (200, "stopped", "large", "seen enough")
    assert gateway.client.shared.trials.assigner is None
    status, body = await ask("root", "POST", "/admin/experiments/size/stop", {})
    assert (status, body["error"]["code"]) == (409, "experiment_not_running")
    status, body = await ask("root", "POST", "/admin/experiments/size/start")
    assert (status, body["status"], body["winner"]) == (200, "running", None)
    assert gateway.client.shared.trials.assigner is not None


async def test_an_experiment_that_is_not_there(ask):
    for method, path in (("GET", ""), ("POST", "/stop"), ("POST", "/start")):
        status, body = await ask("root", method, f"/admin/experiments/colour{path}", {} if method == "POST" else None)
        assert (status, body["error"]["code"]) == (404, "experiment_not_found")


async def test_experiments_are_for_root(ask):
    for method, path in (("GET", ""), ("GET", "/size"), ("POST", "/size/stop"), ("POST", "/size/start")):
        assert (await ask("user", method, f"/admin/experiments{path}"))[0] == 403
