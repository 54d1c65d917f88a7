"""Hedging and active health checks through the whole pipeline."""

import asyncio
import sqlite3

import pytest

from penstock.client import AsyncClient
from penstock.config.loader import load_mapping
from penstock.core.errors import ConfigError, ProviderError
from penstock.core.route import HedgeTerms
from penstock.server.app import Gateway
from penstock.server.openai import describe
from penstock.testing import Reply, ScriptedProvider

PROVIDERS = [
    {"name": name, "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"} for name in ("near", "far")
]
TARGETS = [{"provider": "near", "model": "m"}, {"provider": "far", "model": "m"}]


def config(hedge=True, url="memory:", **changes):
    model = {"name": "fast", "targets": TARGETS, "hedge": hedge}
    return {"providers": PROVIDERS, "models": [model], "store": {"url": url}, **changes}


def teach(client):
    """Make it known that answers take about 10 ms, and save up for hedges."""
    route, policy = client.pipeline.routes.resolve("fast"), client.shared.hedging
    for number in range(500):
        for target in route.targets:
            policy.learn(route, target, 10, 0.5 if number % 40 == 0 else 0.01)
        policy.earn(route, route.hedge, 10, 2000)


def client_of(settings, **providers):
    return AsyncClient(settings, providers=providers)


async def stream(client, **fields):
    request = client.request(
        "chat", "fast", {"messages": [{"role": "user", "content": "Hello?"}]}, stream=True, **fields
    )
    response = await client.handle(request)
    said = b"".join([event.data async for batch in response for event in batch])
    return request.call, said


def metric(client, name, **labels):
    page = client.shared.metrics.exposition()[0].decode()
    for line in page.splitlines():
        if line.startswith(name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return None


@pytest.mark.parametrize("hedge", [True, {}, {"budget": 0.02, "quantile": 0.95}])
def test_it_is_switched_on_by_a_word_or_with_terms(hedge):
    loaded = load_mapping(config(hedge), environ={}, probe=False)
    assert loaded.settings.models[0].hedge.budget == 0.02


def test_a_wrong_term_is_named():
    with pytest.raises(ConfigError, match=r"quantile.*less than 1"):
        load_mapping(config({"quantile": 1.5}), environ={}, probe=False)


@pytest.mark.parametrize("hedge", [False, None])
async def test_switched_off_it_is_not_in_the_stack(hedge):
    async with client_of(config(hedge), near=ScriptedProvider("near"), far=ScriptedProvider("far")) as client:
        assert client.pipeline.routes.resolve("fast").hedge is None
        await stream(client)
        assert metric(client, "penstock_hedging", what="late") is None


async def test_a_late_stream_is_answered_by_another_target_and_all_is_visible(tmp_path):
    near, far = ScriptedProvider("near", Reply(gate=asyncio.Event())), ScriptedProvider("far", "Far.")
    file = tmp_path / "record.db"
    async with client_of(config(url=f"sqlite:///{file}"), near=near, far=far) as client:
        assert client.pipeline.routes.resolve("fast").hedge == HedgeTerms(0.02, 0.95)
        teach(client)
        call, said = await asyncio.wait_for(stream(client), 10)
        assert b"Far." in said
        assert near.endings == ["closed"]
        headers = dict(describe(call, whole=False))
        assert headers[b"x-penstock-provider"] == b"far"
        assert headers[b"x-penstock-attempts"] == b"2"
        assert headers[b"x-penstock-hedge"] == b"won"
        assert b"x-penstock-degraded" not in headers
        assert metric(client, "penstock_attempts_total", provider="near", outcome="hedge_lost") == 1
        assert metric(client, "penstock_hedging", what="won") == 1
        left = {task.get_name() for task in asyncio.all_tasks()}
        assert not left & {"first request", "second request"}
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT provider, outcome, input_tokens, usage_source FROM attempts ORDER BY position")
        (lost, won) = rows.fetchall()
        assert lost[:2] == ("near", "hedge_lost")
        assert lost[2] > 0
        assert lost[3] == "estimate"
        assert won[:2] == ("far", "ok")
        assert database.execute("SELECT provider, outcome, attempts FROM calls").fetchall() == [("far", "ok", 2)]


async def test_when_target_and_hedge_fail_failover_goes_on():
    gate = asyncio.Event()
    near = ScriptedProvider("near", Reply(gate=gate, error=ProviderError("no", code="upstream_connect")))
    far = ScriptedProvider("far", [ProviderError("no", code="upstream_tls"), "Far."])
    async with client_of(config(), near=near, far=far) as client:
        teach(client)
        asking = asyncio.create_task(stream(client))
        await far.wait_for_endings(1)
        gate.set()
        call, said = await asyncio.wait_for(asking, 10)
        assert b"Far." in said
        assert [row.outcome for row in call.attempts] == ["upstream_connect", "upstream_tls", "ok"]


async def test_the_deadline_ends_both():
    near, far = (ScriptedProvider(name, Reply(gate=asyncio.Event())) for name in ("near", "far"))
    async with client_of(config(), near=near, far=far) as client:
        teach(client)
        with pytest.raises(Exception, match="total time"):
            await stream(client, timeout_s=1.5)
        assert (near.endings, far.endings) == (["closed"], ["closed"])


async def test_many_calls_leave_nothing_behind():
    near = ScriptedProvider("near", [Reply(gate=asyncio.Event()), *["Near."] * 9] * 20)
    far = ScriptedProvider("far")
    async with client_of(config({"budget": 0.5}, cache={"exact": {"enabled": False}}), near=near, far=far) as client:
        teach(client)
        for number in range(0, 200, 20):
            calls = [asyncio.create_task(stream(client, tags=(str(each),))) for each in range(number, number + 20)]
            for call in calls[::7]:
                await asyncio.sleep(0)
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert None not in near.endings + far.endings
        assert client.pipeline.running == 0
        assert not client.shared.hedging._crowds
        assert len(client.shared.tasks) <= 1


async def test_a_provider_that_is_back_is_found_by_its_check():
    down = ProviderError("no", code="upstream_connect", retryable=True)

    class Checked(ScriptedProvider):
        async def models(self):
            return []

    near = Checked("near", [down] * 2 + ["Near."])
    checked = [{**PROVIDERS[0], "health": {"interval_s": 0.05}}, PROVIDERS[1]]
    changes = {"breaker": {"failures": 2, "recovery_s": 600}, "cache": {"exact": {"enabled": False}}}
    settings = config(False, providers=checked, retry={"attempts": 1}, **changes)
    async with client_of(settings, near=near, far=ScriptedProvider("far", "Far.")) as client:
        assert b"Far." in (await stream(client))[1]
        assert b"Far." in (await stream(client))[1]
        for _ in range(100):
            if client.pipeline.checks[0].state.checks:
                break
            await asyncio.sleep(0.05)
        assert client.pipeline.parts.health.states()[0].state == "half_open"
        shown = Gateway(client).operations.checks()
        assert [(each["provider"], each["state"], each["failed"]) for each in shown] == [("near", "reachable", 0)]
        assert metric(client, "penstock_health_checks", provider="near") == 0
        assert b"Near." in (await stream(client))[1]


async def test_checks_end_with_the_configuration_that_asked_for_them():
    checked = [{**PROVIDERS[0], "health": True}, PROVIDERS[1]]
    near, far = ScriptedProvider("near"), ScriptedProvider("far")
    async with client_of(config(providers=checked), near=near, far=far) as client:
        before = len(client.shared.tasks)
        await client.reload(load_mapping(config(), environ={}, probe=False))
        for _ in range(100):
            if len(client.shared.tasks) < before:
                break
            await asyncio.sleep(0.01)
        assert len(client.shared.tasks) < before
        assert client.pipeline.checks == []
