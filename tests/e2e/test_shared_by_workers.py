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

from penstock.core.usage import Usage
from penstock.testing import answer, chunks
from penstock.testing.faultd import UpstreamReply, UpstreamServer, json_reply, sse_frames

CONFIG = """\
providers: [{name: near, kind: openai-compatible, base_url: "ORIGIN/v1"LIMITS}]
models: [{name: fast, targets: [{provider: near, model: m}]}]
prices: [{model: m, usd_per_million: {input: 1, output: 10}}]
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
        self.most = 0
        self.server = UpstreamServer(self.answer)

    def answer(self, request):
        self.most = max(self.most, 1 + sum(line.ending is None for line in self.server.invoice))
        if request.json().get("stream"):
            first, *rest = sse_frames(chunks("one two three four"))
            return UpstreamReply(headers={"content-type": "text/event-stream"}, parts=[first, self.go, *rest])
        whole = json_reply(answer("Hello.", usage=Usage(300, 20)))
        return UpstreamReply(headers={**whole.headers}, parts=[self.go, whole.body])


@pytest.fixture
async def upstream():
    made = Upstream()
    async with made.server:
        yield made


@pytest.fixture
async def begin(upstream, start_gateway, tmp_path):
    running = []

    async def start(*, limits="", more=""):
        config = CONFIG.replace("ORIGIN", upstream.server.origin).replace("LIMITS", limits) + more
        config = config.replace("FOLDER", str(tmp_path)).replace("{", "{{").replace("}", "}}")
        running.append(await asyncio.to_thread(start_gateway, tmp_path, config, "--workers", "2"))
        running[0].client = client
        return running[0]

    each_its_own = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=each_its_own) as client:
        yield start
    upstream.go.set()
    for gateway in running:
        assert await asyncio.to_thread(gateway.stop) == 0


async def ask(gateway, text="Why?", **fields):
    """Ask on a connection of its own; return the reply."""
    body = {"model": "fast", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **fields}
    return await gateway.client.post(f"{gateway.url}/v1/chat/completions", json=body)


async def until(check):
    async with asyncio.timeout(30):
        while not (found := check()):  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.02)
    return found


async def metric(gateway, name):
    lines = (await gateway.client.get(f"{gateway.url}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def all_active(gateway, count):
    async with asyncio.timeout(30):
        while await metric(gateway, "penstock_active_requests") < count:  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.02)


def rows(gateway, query):
    with contextlib.closing(sqlite3.connect(gateway.folder / "penstock.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("stream", [False, True])
async def test_identical_requests_at_all_workers_make_one_upstream_call(begin, upstream, stream):
    gateway = await begin()
    asking = [asyncio.create_task(ask(gateway, stream=stream)) for _ in range(MANY)]
    await all_active(gateway, MANY)
    upstream.go.set()
    replies = await asyncio.gather(*asking)
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert len(upstream.server.requests) == 1
    statuses = Counter("collapsed" in reply.headers["cache-status"] for reply in replies)
    assert statuses == {True: MANY - 1, False: 1}
    again = [await ask(gateway, stream=stream) for _ in range(16)]
    assert {reply.headers["cache-status"].partition(";")[2][:4] for reply in again} == {" hit"}
    assert len(upstream.server.requests) == 1
    await until(lambda: rows(gateway, "SELECT count(*) FROM calls WHERE cache = 'collapsed'") == [(MANY - 1,)])
    ((cost, saved),) = rows(gateway, "SELECT sum(cost_pusd), min(saved_pusd) FROM calls WHERE cache != 'hit'")
    assert cost == saved > 0
    assert rows(gateway, "SELECT count(*), sum(cost_pusd) FROM attempts") == [(1, cost)]


async def test_tenants_limits_are_exact_over_all_workers(begin, upstream):
    gateway = await begin(more="limits: {per_tenant: {requests_per_minute: 3}}")
    upstream.go.set()
    replies = await asyncio.gather(*(ask(gateway, str(number)) for number in range(MANY)))
    assert Counter(reply.status_code for reply in replies) == {200: 3, 429: MANY - 3}
    assert len(upstream.server.requests) == 3
    assert {reply.headers["x-ratelimit-remaining-requests"] for reply in replies if reply.status_code == 429} == {"0"}


async def test_a_provider_never_gets_more_at_once_than_it_takes_and_everybody_is_answered(begin, upstream):
    gateway = await begin(limits=", limits: {max_concurrency: 3}")
    asking = [asyncio.create_task(ask(gateway, str(number))) for number in range(MANY)]
    await all_active(gateway, MANY)
    await upstream.server.wait_for_requests(3)
    assert await metric(gateway, "penstock_limit_queued") == MANY - 3
    assert await metric(gateway, "penstock_limit_in_use") == 3
    assert await metric(gateway, "penstock_limit_limit") == 3
    upstream.go.set()
    assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}
    assert (upstream.most, len(upstream.server.requests)) == (3, MANY)


def workers(gateway):
    found = []
    for task in Path(f"/proc/{gateway.process.pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def connected_to(port, process):
    """Whether `process` has a connection to `port` of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = {f"socket:[{line[9]}]" for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"}
    held = set()
    for each in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(each))
    return bool(wanted & held)


async def test_when_the_worker_that_asks_is_killed_the_others_followers_are_answered_and_the_money_is_right(
    begin, upstream
):
    gateway = await begin()
    asking = [asyncio.create_task(ask(gateway)) for _ in range(MANY)]
    await all_active(gateway, MANY)
    (asker,) = [each for each in workers(gateway) if connected_to(upstream.server.port, each)]
    os.kill(asker, signal.SIGKILL)
    await upstream.server.wait_for_requests(2)
    upstream.go.set()
    replies = await asyncio.gather(*asking, return_exceptions=True)
    answered = [reply for reply in replies if not isinstance(reply, Exception)]
    assert 0 < len(answered) < MANY
    assert {reply.status_code for reply in answered} == {200}
    assert len({reply.content for reply in answered}) == 1
    assert len(upstream.server.requests) == 2
    await until(lambda: len(rows(gateway, "SELECT 1 FROM attempts")) == 2)
    paid = rows(gateway, "SELECT outcome, cost_pusd, cost_source FROM attempts ORDER BY outcome = 'ok'")
    assert [each[0] == "ok" for each in paid] == [False, True]
    assert paid[1][1] > 0
    assert paid[0][2] != "provider"  # what the lost one cost nobody was told


async def test_places_of_a_killed_worker_are_given_back(begin, upstream):
    gateway = await begin(limits=", limits: {max_concurrency: 2}", more="cache: {coalesce: false}")
    asking = [asyncio.create_task(ask(gateway, str(number))) for number in range(MANY)]
    await all_active(gateway, MANY)
    await upstream.server.wait_for_requests(2)
    for process in workers(gateway):
        if connected_to(upstream.server.port, process):
            os.kill(process, signal.SIGKILL)
            break
    await upstream.server.wait_for_requests(3)
    upstream.go.set()
    replies = await asyncio.gather(*asking, return_exceptions=True)
    assert {reply.status_code for reply in replies if not isinstance(reply, Exception)} <= {200}
    assert upstream.most <= 4  # two of the killed worker's own, which the upstream has not seen end


async def test_budgets_are_exact_over_all_workers(begin, upstream):
    budget = "{scope: team, subject: default, period: day, unit: tokens, amount: 6000}"
    gateway = await begin(more=f"budgets: [{budget}]")
    upstream.go.set()
    replies = await asyncio.gather(*(ask(gateway, f"{number}{LONG}") for number in range(60)))
    assert {reply.status_code for reply in replies} == {200, 429}
    used = sum(json.loads(reply.content)["usage"]["total_tokens"] for reply in replies if reply.status_code == 200)
    for number in range(30):
        reply = await ask(gateway, f"{number + 100}{LONG}")
        if reply.status_code == 200:
            used += json.loads(reply.content)["usage"]["total_tokens"]
    assert 5000 < used <= 6000
