"""Health and alerts over the admin API."""

import asyncio

import pytest

from penstock.client import AsyncClient
from penstock.insight.alerts import AlertRule
from penstock.server.app import Gateway

ROOT = ("authorization", "Bearer sk-the-root-of-all")


@pytest.fixture
async def gateway(tmp_path):
    config = {
        "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "server": {"admin_key": "sk-the-root-of-all"},
        "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
        "sinks": [
            {"name": "log", "kind": "log"},
            {"name": "inside", "kind": "webhook", "url": "http://127.0.0.1:9/hook"},
        ],
    }
    served = Gateway(AsyncClient(config))
    await served.open()
    yield served
    await served.aclose()


async def test_health_is_a_score_with_its_parts(gateway, call):
    gateway.client.monitor.look()
    gateway.client.monitor.look()
    status, found = await call(gateway, "GET", "/admin/health", ROOT)
    assert status == 200
    assert 0 <= found["score"] <= 100
    assert found["status"] in ("healthy", "degraded", "unhealthy")
    assert {part["metric"] for part in found["parts"]} >= {"error_rate", "memory_share"}


async def test_alerts_say_where_they_stand_and_what_has_been(gateway, call):
    depth = [5.0]
    gateway.client.monitor.gauge("depth", lambda: depth[0])
    gateway.client.monitor.add_rule(AlertRule("deep", "depth", 1.0, window_s=0.001))
    gateway.client.monitor.look()
    gateway.client.monitor.look()
    _, listed = await call(gateway, "GET", "/admin/alerts", ROOT)
    assert {alert["rule"]: alert["state"] for alert in listed["data"]}["deep"] == "firing"
    depth[0] = 0.0
    await asyncio.sleep(0.01)  # longer than the rule's window
    gateway.client.monitor.look()
    gateway.client.monitor.look()
    await gateway.client.shared.stores.flush()
    _, history = await call(gateway, "GET", "/admin/alerts/history", ROOT)
    mine = [event for event in history["data"] if event["rule"] == "deep"]
    assert [(event["state"], event["threshold"]) for event in mine] == [("resolved", 1.0), ("firing", 1.0)]
    assert mine[1]["message"] == "deep: depth is 5, above 1"
    status, one = await call(gateway, "GET", "/admin/alerts/history?limit=1", ROOT)
    assert (status, len(one["data"])) == (200, 1)
    status, refused = await call(gateway, "GET", "/admin/alerts/history?limit=x", ROOT)
    assert (status, refused["error"]["param"]) == (400, "limit")


async def test_a_sink_can_be_tried(gateway, call):
    assert await call(gateway, "POST", "/admin/sinks/log/test", ROOT) == (200, {"sink": "log", "delivered": True})
    status, refused = await call(gateway, "POST", "/admin/sinks/none/test", ROOT)
    assert (status, refused["error"]["code"]) == (404, "not_found")
    status, refused = await call(gateway, "POST", "/admin/sinks/inside/test", ROOT)
    assert (status, refused["error"]["code"]) == (502, "delivery_failed")
    assert "not on the public Internet" in refused["error"]["message"]


async def test_alerts_and_health_are_metrics_too(gateway, call):
    gateway.client.monitor.look()
    _, page = await call(gateway, "GET", "/metrics", ROOT)
    assert b'penstock_alert_firing{rule="many_errors",severity="critical"} 0.0' in page
    assert b"penstock_health_score " in page


async def test_without_keys_whoever_reaches_the_loopback_address_may_watch(call):
    open_to_all = Gateway(AsyncClient({"store": {"url": "memory:"}}))
    await open_to_all.open()
    for path in ("/metrics", "/admin/health", "/admin/alerts", "/admin/alerts/history"):
        status, _ = await call(open_to_all, "GET", path)
        assert status == 200, path
    status, refused = await call(open_to_all, "POST", "/admin/sinks/log/test")
    assert (status, refused["error"]["code"]) == (403, "forbidden")
    await open_to_all.aclose()


async def test_one_tenant_among_others_may_not_watch_them(gateway, call):
    status, _ = await call(gateway, "POST", "/admin/teams", ROOT, body=b'{"tenant": "acme/search", "name": "s"}')
    assert status == 201
    terms = b'{"tenant": "acme/search", "role": "admin", "name": "a"}'
    status, key = await call(gateway, "POST", "/admin/keys", ROOT, body=terms)
    assert status == 201
    mine = ("authorization", f"Bearer {key['key']}")
    for path in ("/metrics", "/admin/health", "/admin/alerts", "/admin/alerts/history"):
        status, refused = await call(gateway, "GET", path, mine)
        assert (status, refused["error"]["code"]) == (403, "forbidden"), path
