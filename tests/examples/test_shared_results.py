"""Results that instances of the lead engine share, through a real Redis server."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import asynccontextmanager

import pytest
import redis
from benchmarks.processes import free_port
from tests.examples.engines import EXAMPLES, QUICK, wait_for

from lead_engine.penstock_config import penstock_config
from lead_engine.settings import read
from lead_engine.shared_classifier import SharedClassifier
from lead_engine.shared_results import PREFIX, SharedResults
from lead_engine.stages import make_classifier
from penstock import AsyncClient
from penstock.config.loader import load_mapping
from penstock.testing import FakeClock

pytestmark = pytest.mark.peer
SIGNAL = {"signal_text": "Hiring"}
ALONE = {"ENABLE_MULTI_STAGE": "false"}


class Server:
    """`redis-server` on a port of its own, with nothing on disk."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < until
                time.sleep(0.02)
            else:
                return

    def results(self):
        return self.client.keys(f"{PREFIX}*")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def server(tmp_path):
    if shutil.which("redis-server") is None:
        missing = (
            "there is no redis-server: `make test` installs it as root, or run `sudo apt-get install redis-server`"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    running = Server(tmp_path)
    yield running
    running.client.close()
    running.stop()


@pytest.fixture
def start_sharing(start, server):
    usual = {"CACHE_BACKEND": "redis", "REDIS_URL": server.url, "REDIS_TIMEOUT_SECONDS": "20"}
    return lambda **environ: start(**(usual | environ))


def test_two_instances_share_results(start_sharing, server):
    first, second = (start_sharing(CACHE_TTL_SECONDS="1000") for _ in range(2))
    server.client.set("another-application", "1")
    texts = [f"Signal {number}" for number in range(8)]
    batch = [{"signal_text": text} for text in [*texts, *texts, "You have won the lottery"]]
    made = first.post("/api/classify/signal/batch", batch)["results"]
    assert sum(each["model_calls"] > 0 for each in made) == 8
    assert len(server.results()) == 8
    for key in server.results():
        assert re.fullmatch(PREFIX.encode() + rb"[0-9a-f]{64}", key)
        assert 990_000 < server.client.pttl(key) <= 1_000_000
        assert not any(text.encode() in server.client.get(key) for text in texts)

    again = second.post("/api/classify/signal/batch", batch)
    same = ("category", "score", "urgency", "company", "stage", "dropped", "prompt")
    assert [{name: each[name] for name in same} for each in again["results"]] == [
        {name: each[name] for name in same} for each in made
    ]
    assert (again["cached"], again["model_calls"]) == (16, 0)
    assert {each["cost_usd"] for each in again["results"]} == {"0"}
    metrics = second.get("/api/classify/metrics")
    assert metrics["models"]["attempts"] == 0
    assert metrics["signals"]["cached"] == 16
    assert metrics["cache"]["redis"] == {"hits": 16, "misses": 1, "errors": 0}

    streamed = second.ask("POST", "/api/classify/signal/stream", {"signal_text": texts[0]}).decode()
    (result,) = re.findall(r"event: result\ndata: (.*)\n\n", streamed)
    assert json.loads(result)["cached"]
    streamed = second.ask("POST", "/api/classify/signal/stream", SIGNAL).decode()
    assert "event: result" in streamed
    assert first.post("/api/classify/signal", SIGNAL)["cached"]

    cleared = first.post("/api/classify/cache/clear")
    assert (cleared["status"], cleared["removed_from_redis"]) == ("cleared", 9)
    assert server.client.keys() == [b"another-application"]
    assert not second.post("/api/classify/signal", {"signal_text": texts[0]})["cached"]
    health = second.get("/health")
    assert (health["status"], health["cache"]["backend"], health["cache"]["redis"]) == (
        "healthy", "memory", "connected",
    )  # fmt: skip
    assert health["cache"]["status"] == "memory, and results are shared through Redis"


def test_feedback_on_a_lead_of_a_shared_result(start_sharing):
    first, second = (start_sharing(LEAD_SCORE_THRESHOLD="0", **ALONE) for _ in range(2))
    first.post("/api/classify/signal", SIGNAL)
    lead = second.post("/api/classify/signal", SIGNAL)
    assert lead["cached"]
    assert second.post(f"/api/leads/{lead['lead_id']}/feedback", {"good": True})["value"] == 1.0


@pytest.mark.parametrize(("how", "timeout_s"), [(signal.SIGTERM, "20"), (signal.SIGSTOP, "0.5")])
def test_without_redis_everything_goes_on(start_sharing, server, how, timeout_s):
    engine = start_sharing(REDIS_TIMEOUT_SECONDS=timeout_s, **ALONE)
    engine.post("/api/classify/signal", SIGNAL)
    server.process.send_signal(how)
    if how == signal.SIGTERM:
        server.process.wait(timeout=20)
    assert engine.post("/api/classify/signal", SIGNAL)["cached"]  # from the cache of the instance
    assert engine.post("/api/classify/signal", {"signal_text": "Growth"})["category"]
    health = engine.get("/health")
    assert (health["status"], health["cache"]["redis"]) == ("degraded", "unreachable")
    assert "memory only: Redis cannot be used" in health["cache"]["status"]
    cleared = engine.post("/api/classify/cache/clear")
    assert (cleared["status"], cleared["removed_from_redis"]) == ("partly", None)
    counts = engine.get("/api/classify/metrics")["cache"]["redis"]
    assert counts["misses"] == 3
    assert counts["errors"] >= 2
    if how == signal.SIGTERM:
        server.start()
    else:
        server.process.send_signal(signal.SIGCONT)
    wait_for(lambda: engine.get("/health")["cache"]["redis"] == "connected")
    assert not engine.post("/api/classify/signal", {"signal_text": "Funding"})["cached"]
    assert server.results()
    log = engine.log.read_text()
    assert log.count("Redis cannot be used, so results are not shared") == 1
    assert log.count("Redis can be used again") == 1


def test_it_starts_without_redis_and_stops_in_order(start):
    engine = start(CACHE_BACKEND="redis", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert engine.post("/api/classify/signal", SIGNAL)["category"]
    engine.stop()
    log = engine.log.read_text()
    steps = [
        "Database initialized",
        "Redis cannot be used",
        "Cache initialized: memory only: Redis cannot be used (ConnectionError)",
        "Prompt manager initialized: 3",
        "First health check: healthy",
        "Stopping: scheduled tasks, cache, database",
    ]
    places = [log.index(step) for step in steps]
    assert places == sorted(places)


def test_while_prompts_are_compared_nothing_is_shared(start_sharing, server):
    engine = start_sharing(PROMPT_EXPERIMENT="1,2", **ALONE)
    engine.post("/api/classify/signal", SIGNAL)
    health = engine.get("/health")["cache"]
    assert (health["redis"], engine.get("/api/classify/metrics")["cache"]["redis"]) == ("off", None)
    assert "PROMPT_EXPERIMENT" in health["status"]
    assert server.client.dbsize() == 0


@asynccontextmanager
async def instance(server, *, change=None, clock=None, **environ):
    """A classifier with shared results, as an instance of the engine has it."""
    settings = read({**QUICK, **environ})
    mapping = penstock_config(settings)
    if change is not None:
        change(mapping)
    results = SharedResults(server.url, ttl_s=settings.cache_ttl_seconds, timeout_s=20)
    try:
        async with AsyncClient(load_mapping(mapping, environ={}), clock=clock) as client:
            yield SharedClassifier(make_classifier(client, settings), client, settings, results), client, results
    finally:
        await results.aclose()


@pytest.mark.parametrize(
    ("environ", "shared"),
    [
        ({}, True),
        ({"SIMULATED_LARGE_SECONDS": "0.01", "MAX_RETRIES": "3", "OPENAI_API_KEY": "", "PORT": "9000"}, True),
        ({"LARGE_MODEL": "gemma3:12b"}, False),
        ({"SMALL_MODEL": "gemma3:270m"}, False),
        ({"USE_QUANTIZED_MODELS": "true"}, False),
        ({"CLASSIFICATION_TEMPERATURE": "0.5"}, False),
        ({"CLASSIFICATION_MAX_TOKENS": "400"}, False),
        ({"PREFILTER_SCORE_THRESHOLD": "1"}, False),
        ({"PREFILTER_ACCEPT_THRESHOLD": "100"}, False),
        ({"ENABLE_RULES": "false"}, False),
        ({"ENABLE_MULTI_STAGE": "false"}, False),
        ({"PROMPT_VERSION": "1"}, False),
        ({"PROMPT_VERSION": "2"}, True),  # which is in production
        ({"ENABLE_CUSTOM_PROMPTS": "false"}, False),
    ],
)
async def test_results_are_shared_if_all_that_decides_them_is_the_same(server, environ, shared):
    async with instance(server) as (one, _, _), instance(server, **environ) as (other, _, _):
        (made,) = await one.classify_many(["Hiring"], concurrency=1)
        assert (made.cached, (await one.classify("Hiring")).cached) == (False, True)
        assert (await other.classify("Hiring")).cached is shared
        assert not (await other.classify("hiring")).cached


async def test_results_of_built_in_prompts_are_shared(server):
    built_in = {"ENABLE_CUSTOM_PROMPTS": "false"}
    async with instance(server, **built_in) as (one, _, _), instance(server, **built_in) as (other, _, _):
        await one.classify("Hiring")
        assert (await other.classify("Hiring")).cached


def dead(model):
    def change(mapping):
        mapping["providers"].append({"name": "dead", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"})
        mapping["models"] = [
            {**each, "targets": [{"provider": "dead", "model": "m"}]} if each["name"] == model else each
            for each in mapping["models"]
        ]

    return change


@pytest.mark.parametrize("model", ["small", "large"])
async def test_what_had_to_be_made_up_for_is_not_shared(server, model):
    fallback = {
        "ENABLE_MODEL_FALLBACK": "true",
        "ENABLE_MULTI_STAGE": str(model == "small").lower(),
        "MAX_RETRIES": "0",
    }
    async with instance(server, change=dead(model), **fallback) as (one, _, _):
        found = await one.classify("Hiring")
        assert found.label
        assert found.steps[-1].degraded == (() if model == "small" else ("fallback-errors",))
        assert not server.results()


async def test_answers_of_the_instances_own_cache_do_not_grow_younger(server):
    async with instance(server, PREFILTER_SCORE_THRESHOLD="0") as (one, client, _):
        await one.classify("Hiring")
        server.client.flushdb()
        assert (await one.classify("Hiring")).cached
        await client.cache.clear(model="large")
        found = await one.classify("Hiring")
        assert [step.cached for step in found.steps] == [False, True, False]
        assert not server.results()


async def test_prompts_that_change_meanwhile(server, tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(EXAMPLES / "lead_engine" / "templates", folder)
    where = {"PROMPT_TEMPLATES_DIR": str(folder), "SIMULATED_LARGE_SECONDS": "1", **ALONE}
    clock = FakeClock()
    async with instance(server, clock=clock, **where) as (one, client, results):
        work = asyncio.create_task(one.classify("Hiring"))
        while not results.counts["misses"]:
            await clock.settle()
        await clock.settle()
        path = folder / "classify_signal.yaml"
        path.write_text(path.read_text().replace("You qualify leads", "You carefully qualify leads"))
        assert (await client.prompts.refresh()).changed == ["classify_signal"]
        while not work.done():
            await clock.run(0.1)
        assert (await work).label
        assert not server.results()


async def test_a_value_of_another_version_is_a_miss(server):
    async with instance(server, **ALONE) as (one, _, results):
        await one.classify("Hiring")
        (key,) = server.results()
        server.client.set(key, b'{"label": 1}')
        assert (await one.classify("Hiring")).label
        assert results.counts == {"hits": 0, "misses": 2, "errors": 1}
