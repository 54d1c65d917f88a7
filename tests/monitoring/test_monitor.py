import asyncio
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import ConfigError, ProviderError
from penstock.insight.alerts import AlertRule
from penstock.testing import FakeClock, ScriptedProvider

BASE = {
    "providers": [{"name": "p", "kind": "simulated"}],
    "models": [{"name": "m", "targets": [{"provider": "p", "model": "x"}]}],
    "retry": {"attempts": 1},
    "store": {"url": "memory:"},
}
FAILING = {"name": "failing", "metric": "error_rate", "threshold": 0.5, "window_s": 60}


class Answering:
    """Fails or answers, as it is told."""

    def __init__(self):
        self.name, self.fails = "p", False

    async def send(self, request, target):
        if self.fails:
            raise ProviderError("no", code="upstream_error", status_code=500)
        return await ScriptedProvider("p", "Here.").send(request, target)

    async def models(self):
        return []

    async def aclose(self):
        pass


class Site:
    """A client on a clock of its own, and what it asks."""

    def __init__(self, client, provider, clock):
        self.client, self.provider, self.clock = client, provider, clock
        self.monitor, self.number, self.told = client.monitor, 0, 0

    async def ask(self, count, *, fails, **options):
        self.provider.fails = fails
        for _ in range(count):
            self.number += 1
            with contextlib.suppress(ProviderError):
                await self.client.chat(f"question {self.number}", model="m", **options)

    async def look(self, seconds=30.0):
        await self.clock.run(seconds)
        self.monitor.look()
        await self.clock.run(0.0)
        told = (await self.monitor.history(1000))[::-1]
        new, self.told = told[self.told :], len(told)
        return [(event.rule, event.state) for event in new]


@pytest.fixture
async def opening():
    opened = []

    async def start(**config):
        provider, clock = Answering(), FakeClock()
        client = AsyncClient({**BASE, **config}, clock=clock, providers={"p": provider})
        opened.append(await client.open())
        site = Site(client, provider, clock)
        await site.look(0.0)
        return site

    yield start
    for client in opened:
        await client.aclose()


async def test_failing_requests_raise_the_built_in_alert_and_good_ones_end_it(opening):
    site = await opening(breaker={"failures": 1000})
    await site.ask(20, fails=True)
    assert await site.look() == []  # not for long enough yet
    await site.ask(20, fails=True)
    assert await site.look() == [("many_errors", "firing")]
    assert site.monitor.health().status == "unhealthy"
    assert site.monitor.health().bottleneck == "error_rate"
    for _ in range(12):
        await site.ask(30, fails=False)
        if ("many_errors", "resolved") in await site.look():
            break
    else:
        pytest.fail("the alert is never over")
    states = [(event.rule, event.state) for event in await site.monitor.history()]
    assert states == [("many_errors", "resolved"), ("many_errors", "firing")]


async def test_a_rule_of_the_application_calls_back_with_its_own_measure(opening):
    site, heard = await opening(), []

    async def callback(event):
        heard.append((event.rule, event.state, event.value))

    site.monitor.add_rule(AlertRule("slow_search", "search_s", 2.0, window_s=20.0, callback=callback))
    site.monitor.observe("search_s", 3.0)
    site.monitor.observe("search_s", 4.0)
    assert await site.look(0.0) == [("slow_search", "firing")]
    site.monitor.observe("search_s", 1.0)
    assert await site.look() == [("slow_search", "resolved")]
    assert heard == [("slow_search", "firing", 3.5), ("slow_search", "resolved", 1.0)]


async def test_a_callback_that_raises_harms_nothing(opening, caplog):
    site = await opening()

    def callback(event):
        raise RuntimeError("oops")

    site.monitor.gauge("depth", lambda: 5.0)
    site.monitor.add_rule(AlertRule("deep", "depth", 1.0, callback=callback))
    assert await site.look() == [("deep", "firing")]
    assert "oops" in caplog.text
    assert [state.state for state in site.monitor.alerts() if state.rule == "deep"] == ["firing"]


async def test_a_gauge_that_raises_does_not_blind_the_others(opening, caplog):
    site = await opening()
    site.monitor.gauge("broken", lambda: 1 / 0)
    site.monitor.gauge("depth", lambda: 5.0)
    site.monitor.add_rule(AlertRule("deep", "depth", 1.0))
    assert await site.look() == [("deep", "firing")]
    assert "the gauge broken could not be read" in caplog.text


async def test_without_the_built_in_rules_only_ones_own_are_there(opening):
    site = await opening(alerts={"built_in": False, "rules": [FAILING]})
    assert [alert.rule for alert in site.monitor.alerts()] == ["failing"]


async def test_a_rule_replaces_the_built_in_one_of_its_name(opening):
    site = await opening(alerts={"rules": [{**FAILING, "name": "many_errors"}]})
    assert [alert.threshold for alert in site.monitor.alerts() if alert.rule == "many_errors"] == [0.5]


async def test_stale_answers_are_given_while_the_alert_lasts(opening):
    rule = {**FAILING, "actions": ["serve_stale"]}
    site = await opening(alerts={"rules": [rule]}, breaker={"failures": 1000},
                         cache={"exact": {"ttl_s": 10}})  # fmt: skip
    await site.client.chat("What is kept?", model="m")
    await site.ask(40, fails=True)
    assert ("failing", "firing") in await site.look()
    assert site.client.settings.cache.exact.stale_if_error_s == 86_400
    kept = await site.client.chat("What is kept?", model="m")
    assert kept.text == "Here."
    for _ in range(10):
        await site.ask(50, fails=False)
        if ("failing", "resolved") in await site.look():
            break
    assert site.client.settings.cache.exact.stale_if_error_s == 0
    site.provider.fails = True
    await site.clock.run(60)
    with pytest.raises(ProviderError):
        await site.client.chat("What is kept?", model="m")


async def test_a_tighter_level_leaves_what_was_set_explicitly(opening):
    rule = {"name": "dear", "metric": "depth", "threshold": 1, "window_s": 20, "actions": ["tighten_level"]}
    site = await opening(level="low", alerts={"rules": [rule]}, polling={"max_s": 7})
    depth = [5.0]
    site.monitor.gauge("depth", lambda: depth[0])
    await site.look()
    settings = site.client.settings
    assert (settings.level, settings.cache.exact.ttl_s, settings.polling.max_s) == ("medium", 3600.0, 7.0)
    await site.client.reload(site.client.loaded)  # as when the file is saved
    assert site.client.settings.level == "medium"
    depth[0] = 0.0
    await site.look()
    settings = site.client.settings
    assert (settings.level, settings.cache.exact.ttl_s) == ("low", 1800.0)


async def test_a_webhook_hears_of_both_ends():
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    rule = {"name": "deep", "metric": "depth", "threshold": 1, "window_s": 20, "severity": "critical"}
    url = f"http://127.0.0.1:{server.server_port}/"
    sinks = [{"name": "ops", "kind": "webhook", "url": url, "allow_private": True}]
    config = {**BASE, "sinks": sinks, "alerts": {"sinks": ["ops"], "rules": [rule]}}
    depth, clock = [5.0], FakeClock()
    try:
        async with AsyncClient(config, clock=clock) as client:
            client.monitor.gauge("depth", lambda: depth[0])
            for value in (5.0, 0.0):
                depth[0] = value
                client.monitor.look()
                await clock.run(30)
                client.monitor.look()
                while client.monitor.notifications.waiting:  # noqa: ASYNC110 - a real server takes real time
                    await asyncio.sleep(0.01)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [(each["type"], each["data"]["rule"], each["data"]["severity"]) for each in heard] == [
        ("alert.firing", "deep", "critical"),
        ("alert.resolved", "deep", "critical"),
    ]


async def test_a_sink_that_cannot_be_used_is_an_error_at_the_start():
    sinks = [{"name": "ops", "kind": "webhook", "url": "http://user@example.org/"}]
    client = AsyncClient({**BASE, "sinks": sinks})
    with pytest.raises(ConfigError, match=r"sink ops: .*may not name a user"):
        await client.open()
