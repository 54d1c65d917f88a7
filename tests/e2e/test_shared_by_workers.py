"""Two real workers before one upstream: what they share, they share exactly."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import pytest
import pytest_asyncio

from penstock.core.usage import Usage
from penstock.testing import answer, chunks
from penstock.testing.faultd import UpstreamReply, UpstreamServer, json_reply, sse_frames

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
providers:
  - {name: near, kind: openai-compatible, base_url: "ORIGIN/v1"}
  - {name: three, kind: openai-compatible, base_url: "ORIGIN/v1", limits: {max_concurrency: 3}}
models:
  - {name: fast, targets: [{provider: near, model: m}]}
  - {name: narrow, targets: [{provider: three, model: m}]}
prices: [{model: m, usd_per_million: {input: 1, output: 10}}]
limits: {tenants: {limited: {requests_per_minute: 3}}}
budgets: [{scope: team, subject: spender, period: day, unit: tokens, amount: 6000}]
store: {url: "sqlite:///FOLDER/penstock.db"}
"""
LONG = ", a prompt that has as many bytes as tokens at least" * 8
MANY = 24
"""Connections at the same time; that the kernel gives all of them to one of two workers happens once in 8 million."""


class Upstream:
    """Answers when it is told to.

    Attributes:
        most: How many requests were under way at once.
    """

    def __init__(self):
        self.go = asyncio.Event()
        self.most = self._before = 0
        self.server = UpstreamServer(self.answer)

    def begin(self):
        """Hold what comes from now on, and count from nothing."""
        self.go = asyncio.Event()
        self.most, self._before = 0, len(self.server.requests)

    @property
    def asked(self):
        return len(self.server.requests) - self._before

    async def wait_for(self, count):
        await self.server.wait_for_requests(self._before + count)

    def answer(self, request):
        self.most = max(self.most, 1 + sum(line.ending is None for line in self.server.invoice))
        if request.json().get("stream"):
            first, *rest = sse_frames(chunks("one two three four"))
            return UpstreamReply(headers={"content-type": "text/event-stream"}, parts=[first, self.go, *rest])
        whole = json_reply(answer("Hello.", usage=Usage(300, 20)))
        return UpstreamReply(headers={**whole.headers}, parts=[self.go, whole.body])


class Gateway:
    """Two workers, and a client whose requests have connections of their own."""

    def __init__(self, running, client):
        self.running = running
        self.client = client

    async def ask(self, text, tenant, **fields):
        body = {"model": "fast", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **fields}
        url = f"{self.running.url}/v1/chat/completions"
        return await self.client.post(url, json=body, headers={"x-penstock-tenant": tenant})

    def ask_many(self, texts, tenant, **fields):
        return [asyncio.create_task(self.ask(text, tenant, **fields)) for text in texts]

    async def metric(self, name):
        lines = (await self.client.get(f"{self.running.url}/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    async def until_active(self, count):
        async with asyncio.timeout(30):
            while await self.metric("penstock_active_requests") < count:  # noqa: ASYNC110 there is no event for it
                await asyncio.sleep(0.02)

    def rows(self, query, tenant):
        with contextlib.closing(sqlite3.connect(self.running.folder / "penstock.db")) as database:
            return database.execute(query, (tenant,)).fetchall()

    def workers(self):
        found = []
        for task in Path(f"/proc/{self.running.process.pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream():
    made = Upstream()
    async with made.server:
        yield made


@contextlib.asynccontextmanager
async def two_workers(upstream, start_gateway, folder):
    config = CONFIG.replace("ORIGIN", upstream.server.origin).replace("FOLDER", str(folder))
    config = config.replace("{", "{{").replace("}", "}}")
    running = await asyncio.to_thread(start_gateway, folder, config, "--workers", "2")
    each_its_own = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(timeout=30, trust_env=False, limits=each_its_own) as client:
            yield Gateway(running, client)
    finally:
        upstream.go.set()
        ended = await asyncio.to_thread(running.stop)
    assert ended == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream, start_gateway, tmp_path_factory):
    async with two_workers(upstream, start_gateway, tmp_path_factory.mktemp("two")) as running:
        yield running


@pytest.fixture(autouse=True)
def anew(upstream):
    upstream.begin()
    yield
    upstream.go.set()


async def until(check):
    async with asyncio.timeout(30):
        while not (found := check()):  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.02)
    return found


def attempts(what):
    return f"SELECT {what} FROM attempts JOIN calls ON calls.id = call_id WHERE tenant = ?"


@pytest.mark.parametrize("stream", [False, True])
async def test_identical_requests_at_all_workers_make_one_upstream_call(gateway, upstream, stream):
    tenant = f"same-{stream}"
    asking = gateway.ask_many(["Why?"] * MANY, tenant, stream=stream)
    await gateway.until_active(MANY)
    upstream.go.set()
    replies = await asyncio.gather(*asking)
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert upstream.asked == 1
    statuses = Counter("collapsed" in reply.headers["cache-status"] for reply in replies)
    assert statuses == {True: MANY - 1, False: 1}
    again = [await gateway.ask("Why?", tenant, stream=stream) for _ in range(16)]
    assert {reply.headers["cache-status"].partition(";")[2][:4] for reply in again} == {" hit"}
    assert upstream.asked == 1
    joined = "SELECT count(*) FROM calls WHERE tenant = ? AND cache = 'collapsed'"
    await until(lambda: gateway.rows(joined, tenant) == [(MANY - 1,)])
    paid = "SELECT sum(cost_pusd), min(saved_pusd) FROM calls WHERE tenant = ? AND cache != 'hit'"
    ((cost, saved),) = gateway.rows(paid, tenant)
    assert cost == saved > 0
    assert gateway.rows(attempts("count(*), sum(attempts.cost_pusd)"), tenant) == [(1, cost)]


async def test_tenants_limits_are_exact_over_all_workers(gateway, upstream):
    upstream.go.set()
    replies = await asyncio.gather(*gateway.ask_many(map(str, range(MANY)), "limited"))
    assert Counter(reply.status_code for reply in replies) == {200: 3, 429: MANY - 3}
    assert upstream.asked == 3
    assert {reply.headers["x-ratelimit-remaining-requests"] for reply in replies if reply.status_code == 429} == {"0"}


async def test_a_provider_never_gets_more_at_once_than_it_takes_and_everybody_is_answered(gateway, upstream):
    asking = gateway.ask_many(map(str, range(MANY)), "many", model="narrow")
    await gateway.until_active(MANY)
    await upstream.wait_for(3)
    assert await gateway.metric("penstock_limit_queued") == MANY - 3
    assert await gateway.metric("penstock_limit_in_use") == 3
    assert await gateway.metric("penstock_limit_limit") == 3
    upstream.go.set()
    assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}
    assert (upstream.most, upstream.asked) == (3, MANY)


async def test_budgets_are_exact_over_all_workers(gateway, upstream):
    upstream.go.set()
    replies = await asyncio.gather(*gateway.ask_many((f"{number}{LONG}" for number in range(60)), "spender"))
    assert {reply.status_code for reply in replies} == {200, 429}
    replies += [await gateway.ask(f"{number}{LONG}", "spender") for number in range(100, 130)]
    answered = [json.loads(reply.content) for reply in replies if reply.status_code == 200]
    assert 5000 < sum(each["usage"]["total_tokens"] for each in answered) <= 6000


def connected_to(port, process):
    """Whether `process` has a connection to `port` of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = {f"socket:[{line[9]}]" for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"}
    held = set()
    for each in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(each))
    return wanted & held


async def test_places_of_a_killed_worker_are_given_back(gateway, upstream):
    asking = gateway.ask_many((f"place {number}" for number in range(MANY)), "places", model="narrow")
    await gateway.until_active(MANY)
    await upstream.wait_for(3)
    killed = gateway.workers()[0]
    os.kill(killed, signal.SIGKILL)
    upstream.go.set()
    replies = await asyncio.gather(*asking, return_exceptions=True)
    answered = [reply for reply in replies if not isinstance(reply, Exception)]
    assert len(answered) > 0
    assert {reply.status_code for reply in answered} == {200}
    await until(lambda: len(set(gateway.workers()) - {killed}) == 2)
    async with asyncio.timeout(30):
        while await gateway.metric("penstock_limit_in_use"):  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.02)


async def test_when_the_worker_that_asks_is_killed_the_others_followers_are_answered_and_the_money_is_right(
    upstream, start_gateway, tmp_path
):
    async with two_workers(upstream, start_gateway, tmp_path) as gateway:
        asking = gateway.ask_many(["When?"] * MANY, "killed")
        await gateway.until_active(MANY)
        await upstream.wait_for(1)
        (asker,) = [each for each in gateway.workers() if connected_to(upstream.server.port, each)]
        os.kill(asker, signal.SIGKILL)
        await upstream.wait_for(2)
        upstream.go.set()
        replies = await asyncio.gather(*asking, return_exceptions=True)
        answered = [reply for reply in replies if not isinstance(reply, Exception)]
        assert 0 < len(answered) < MANY
        assert {reply.status_code for reply in answered} == {200}
        assert len({reply.content for reply in answered}) == 1
        assert upstream.asked == 2
        rows = attempts("attempts.outcome, attempts.cost_pusd, attempts.cost_source")
        paid = await until(lambda: len(found := gateway.rows(rows, "killed")) == 2 and found)
    lost, got = sorted(paid, key=lambda row: row[0] == "ok")
    assert (lost[0] == "ok", got[0]) == (False, "ok")
    assert got[1] > 0
    assert lost[2] != "provider"  # what the lost one cost nobody was told
