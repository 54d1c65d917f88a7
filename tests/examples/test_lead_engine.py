"""The lead engine as its README says it: a server process, the README's own lines, and a hundred signals."""

import asyncio
import http.server
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from typing import ClassVar

import pytest
from tests.examples.engines import EXAMPLES, PATH, Engine, wait_for

from lead_engine.app import create_app
from lead_engine.penstock_config import penstock_config
from lead_engine.sample import hundred
from lead_engine.settings import Settings, SettingsError, read, table
from lead_engine.stages import CATEGORIES, CLASSIFIER_STAGE, make_classifier, window
from penstock import AsyncClient
from penstock.config.loader import load_mapping
from penstock.testing import FakeClock

HERE = EXAMPLES / "lead_engine"
README = (HERE / "README.md").read_text()
NAMES = """
    ENABLE_RESPONSE_CACHE CACHE_BACKEND REDIS_URL BATCH_CONCURRENCY_LIMIT BATCH_ENABLE_PARALLEL USE_QUANTIZED_MODELS
    ENABLE_EMBEDDINGS ENABLE_HEALTH_MONITORING ENABLE_CUSTOM_PROMPTS PREFILTER_SCORE_THRESHOLD
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.stop()


def curl_lines():
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [block for block in blocks if "curl" in block]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_lines_of_the_readme(start):
    engine = start()
    told = []
    for block in curl_lines():
        text = (
            block.replace("localhost:8000", f"127.0.0.1:{engine.port}").replace("| jq", "").replace("curl", "curl -sS")
        )
        for command in text.replace("time ", "").split("\n\n"):
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=40, check=True)
            told.append(json.loads(done.stdout))
    health, first, second, metrics, batch = told
    assert (health["status"], health["prompts"]["templates"], health["models"]["provider"]) == (
        "healthy",
        3,
        "simulated",
    )
    assert health["health_monitoring"]["providers"]["large"]["up"]
    assert health["features"]["streaming"]
    assert not first["cached"]
    assert second["cached"]
    assert second["category"] == first["category"]
    assert second["model_calls"] == 0
    assert metrics["signals"]["cache_hit_rate"] == 0.5
    assert (batch["total"], batch["succeeded"]) == (3, 3)
    assert "Processing 3 signals in parallel (concurrency=5)" in engine.log.read_text()


def test_start_and_stop_in_order(start):
    engine = start(CACHE_BACKEND="sqlite", WARM_MODELS_ON_START="true")
    assert engine.get("/health")["cache"] == {
        "enabled": True,
        "backend": "sqlite",
        "requested": "sqlite",
        "status": "sqlite",
        "redis": "off",
    }
    engine.post("/api/classify/signal", {"signal_text": "Hiring"})
    engine.stop()
    log = engine.log.read_text()
    steps = [
        "Database initialized",
        "Cache initialized: sqlite",
        "Prompt manager initialized: 3",
        "Simulated ready: gemma3:1b, gemma3:4b",
        "First health check: healthy",
        "Stopping: scheduled tasks, cache, database",
    ]
    places = [log.index(step) for step in steps]
    assert places == sorted(places)
    assert sqlite3.connect(engine.folder / "lead_engine_cache.db").execute("SELECT count(*) FROM calls").fetchone()[0]


def test_leads_are_saved_once(start):
    engine = start(
        LEAD_SCORE_THRESHOLD="0", ENABLE_MULTI_STAGE="false", ENABLE_EMBEDDINGS="true", SIMILARITY_THRESHOLD="-1"
    )
    batch = [{"signal_text": f"Signal {number % 3}", "source_type": "job_board"} for number in range(6)]
    done = engine.post("/api/classify/signal/batch", [*batch, {"signal_text": "Signal 9", "create_lead": False}])
    assert (done["total"], done["leads_saved"], done["results"][6]["lead_id"]) == (7, 6, None)
    ids = [each["lead_id"] for each in done["results"][:6]]
    assert ids[:3] == ids[3:]
    leads = engine.get("/api/leads")
    assert all(each["created_at"].endswith("Z") for each in leads)
    assert [(each["sightings"], each["source_type"]) for each in leads] == [(2, "job_board")] * 3
    assert [each["score"] for each in leads] == sorted((each["score"] for each in leads), reverse=True)
    first = leads[0]
    assert engine.get(f"/api/leads/{first['id']}") == first
    assert {each["lead"]["id"] for each in engine.get(f"/api/leads/{first['id']}/similar")} == {
        each["id"] for each in leads[1:]
    }
    dossier = engine.post(f"/api/leads/{first['id']}/dossier")
    assert dossier["dossier"] == engine.get(f"/api/leads/{first['id']}")["dossier"]
    assert len(dossier["similar"]) == 2
    assert engine.get("/api/leads?category=" + first["category"])[0]["category"] == first["category"]
    assert engine.refused("GET", "/api/leads/999") == (404, {"detail": "there is no lead 999"})


def test_the_same_on_an_openai_compatible_server(start, gateway):
    engine = start(OPENAI_BASE_URL=f"{gateway.url}/v1", LARGE_MODEL="big", ENABLE_MULTI_STAGE="false")
    assert engine.get("/health")["models"]["provider"] == "openai"
    found = engine.post("/api/classify/signal", {"signal_text": "Hiring"})
    assert found["category"] in CATEGORIES
    assert found["prompt"] == "classify_signal@2"


class Ollama(http.server.BaseHTTPRequestHandler):
    """Answers as Ollama does, and remembers what it was asked."""

    asked: ClassVar[list[dict]] = []

    def do_GET(self):
        self.answer({"models": [{"name": "gemma3:1b"}, {"name": "gemma3:4b"}]} if self.path == "/api/tags" else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/api/chat":
            self.answer({"error": "not found"}, 404)
            return
        self.asked.append(body)
        if body["model"] == "broken":
            self.answer({"error": "out of memory"}, 500)
            return
        said = {"label": "hiring", "score": 80}
        if "urgency" in body["format"]["properties"]:
            said |= {"urgency": "high", "company": None}
        self.answer({"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop",
                     "message": {"role": "assistant", "content": json.dumps(said)},
                     "prompt_eval_count": 10, "eval_count": 5})  # fmt: skip

    def answer(self, document, status=200):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def ollama():
    Ollama.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_same_on_ollama(start, ollama):
    engine = start(OLLAMA_HOST=ollama)
    health = engine.get("/health")
    assert health["health_monitoring"]["providers"]["ollama"]["models"] == ["gemma3:1b", "gemma3:4b"]
    found = [engine.post("/api/classify/signal", {"signal_text": text}) for text in ("Hiring", "Hiring " * 900)]
    assert [(each["category"], each["urgency"], each["lead_id"]) for each in found] == [
        ("hiring", "high", 1),
        ("hiring", "high", 2),
    ]
    assert [each["model"] for each in Ollama.asked] == ["gemma3:1b", "gemma3:4b"] * 2
    assert [each["options"]["num_ctx"] for each in Ollama.asked] == [512, 1024, 4096, 4096]
    assert all(each["options"]["temperature"] == 0 for each in Ollama.asked)


def test_an_alternative_model_stands_in(start, ollama):
    more = {"LARGE_MODEL": "broken", "ENABLE_MODEL_FALLBACK": "true", "MAX_RETRIES": "0", "ENABLE_MULTI_STAGE": "false"}
    engine = start(OLLAMA_HOST=ollama, **more)
    assert engine.get("/health")["models"]["missing"] == ["broken", "mistral:7b"]
    assert "run `ollama pull mistral:7b`" in engine.log.read_text()
    found = engine.post("/api/classify/signal", {"signal_text": "Hiring"})
    assert (found["category"], found["error"]) == ("hiring", None)
    assert [each["model"] for each in Ollama.asked] == ["broken", "mistral:7b"]


def test_a_signal_that_fails_does_not_touch_the_others(start):
    engine = start(LLM_PROVIDER="openai", OPENAI_BASE_URL="http://127.0.0.1:9/v1", MAX_RETRIES="0")
    done = engine.post(
        "/api/classify/signal/batch", [{"signal_text": "You have won the lottery"}, {"signal_text": "Hiring"}]
    )
    assert (done["succeeded"], done["failed"], done["dropped"]) == (1, 1, 1)
    assert [each["category"] for each in done["results"]] == ["not_relevant", None]
    assert done["results"][0]["stage"] == "rules"
    assert done["results"][1]["error"]["code"] == "upstream_connect"
    status, said = engine.refused("POST", "/api/classify/signal", {"signal_text": "Hiring"})
    assert (status, said["code"]) == (502, "upstream_connect")
    status, health = engine.refused("GET", "/health")
    assert (status, health["status"]) == (503, "unhealthy")
    assert engine.get("/api/classify/metrics")["signals"]["failed"] == 2


def test_bad_requests_say_what_is_wrong(start):
    engine = start(
        ENABLE_HEALTH_MONITORING="false",
        BATCH_MAX_SIZE="2",
        CONTEXT_WINDOW_MAX="1024",
        ENABLE_STREAMING="false",
        ENABLE_PROMETHEUS="false",
    )
    assert engine.get("/health")["health_monitoring"]["status"] == "off"
    status, said = engine.refused("POST", "/api/classify/signal", {"signal": "Hiring"})
    assert (status, said["detail"][0]["loc"]) == (422, ["body", "signal_text"])
    assert engine.refused("POST", "/api/classify/signal/batch", [])[0] == 422
    status, said = engine.refused("POST", "/api/classify/signal/batch", [{"signal_text": "a"}] * 3)
    assert (status, said["detail"]) == (413, "3 signals; BATCH_MAX_SIZE allows 2")
    status, said = engine.refused("POST", "/api/classify/signal", {"signal_text": "a" * 2000})
    assert status == 422
    assert "CONTEXT_WINDOW_MAX" in said["detail"]
    for method, path in (("POST", "/api/classify/signal/stream"), ("GET", "/metrics")):
        assert engine.refused(method, path, {"signal_text": "a"} if method == "POST" else None)[0] == 404


def test_clearing_the_cache(shared):
    for cached in (False, True):
        assert shared.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"] is cached
    assert shared.post("/api/classify/cache/clear")["removed"] >= 1
    assert shared.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"] is False


def test_templates_are_reloaded_and_rolled_back(start, tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(HERE / "templates", folder)
    engine = start(PROMPT_TEMPLATES_DIR=str(folder), PROMPT_AUTO_RELOAD="false", ENABLE_MULTI_STAGE="false")
    assert engine.get("/api/classify/templates")["classify_signal"]["labels"]["production"] == "2"
    assert not engine.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"]
    path = folder / "classify_signal.yaml"
    good = path.read_text()
    path.write_text(good.replace("You qualify leads", "You carefully qualify leads"))
    assert engine.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"]
    assert engine.post("/api/classify/templates/reload")["changed"] == ["classify_signal"]
    assert not engine.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"]
    path.write_text(good.replace("{{ form }}", "{{ from }}"))
    status, said = engine.refused("POST", "/api/classify/templates/reload")
    assert status == 422
    assert "classify_signal.yaml" in said["detail"]["problems"][0]
    assert engine.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"]
    done = engine.post("/api/classify/templates/classify_signal/rollback", {})
    assert (done["from"], done["to"]) == ("2", "1")
    assert not engine.post("/api/classify/signal", {"signal_text": "Hiring"})["cached"]
    assert engine.refused("POST", "/api/classify/templates/nothing/rollback", {})[0] == 404


def test_templates_are_read_again_when_they_change(start, tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(HERE / "templates", folder)
    engine = start(PROMPT_TEMPLATES_DIR=str(folder))
    path = folder / "classify_signal.yaml"
    good = path.read_text()
    path.write_text(good.replace("{{ form }}", "{{ from }}"))
    wait_for(lambda: "the new prompts are not used" in engine.log.read_text())
    assert engine.get("/api/classify/templates")["classify_signal"]["labels"]["production"] == "2"
    path.write_text(good.replace('production: "2"', 'production: "1"'))
    wait_for(lambda: engine.get("/api/classify/templates")["classify_signal"]["labels"]["production"] == "1")


def test_two_versions_of_the_prompt_are_compared(start):
    engine = start(PROMPT_EXPERIMENT="1, 2", LEAD_SCORE_THRESHOLD="0", ENABLE_MULTI_STAGE="false")
    batch = [{"signal_text": f"Signal {number}"} for number in range(16)]
    first, second = (engine.post("/api/classify/signal/batch", batch)["results"] for _ in range(2))
    assert {each["prompt"] for each in first} == {"classify_signal@1", "classify_signal@2"}
    assert [each["prompt"] for each in second] == [each["prompt"] for each in first]
    assert all(each["cached"] for each in second)
    lead = first[0]["lead_id"]
    assert engine.post(f"/api/leads/{lead}/feedback", {"good": True}) == {
        "lead_id": lead, "score": "good_lead", "value": 1.0,
    }  # fmt: skip
    found = engine.get("/api/classify/templates/experiment")
    assert found["standing"]["arms"] == {"version-1": 0.5, "version-2": 0.5}
    assert (found["standing"]["primary"], found["report"]["name"]) == ("score.good_lead", "classification_prompt")


def test_a_stream_tells_what_is_known_so_far(start):
    engine = start(SIMULATED_TOKENS_PER_SECOND="500", ENABLE_MULTI_STAGE="false")
    text = engine.ask("POST", "/api/classify/signal/stream", {"signal_text": "Hiring"}).decode()
    events = [(name, json.loads(data)) for name, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)]
    *parts, (last, found) = events
    assert last == "result"
    assert len(parts) > 1
    assert parts[0][1]["complete"] == []
    assert parts[-1][1]["complete"] == ["company", "label", "score", "urgency"]
    assert parts[-1][1]["value"]["label"] == found["category"]


def test_without_a_comparison_there_is_no_report(shared):
    assert shared.refused("GET", "/api/classify/templates/experiment")[0] == 404
    assert shared.refused("POST", "/api/leads/7/feedback", {"good": True})[0] == 404


def test_prometheus_has_both(shared):
    shared.post("/api/classify/signal", {"signal_text": "You have won the lottery"})
    text = shared.ask("GET", "/metrics").decode()
    assert 'lead_engine_signals_total{category="not_relevant",stage="rules"} 1.0' in text
    assert "penstock_requests" in text


def test_a_setting_that_cannot_be_used_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lead_engine"], cwd=tmp_path, capture_output=True, text=True, timeout=40,
        env={**os.environ, "PYTHONPATH": PATH, "BATCH_CONCURRENCY_LIMIT": "many", "CACHE_BACKEND": "disk"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "BATCH_CONCURRENCY_LIMIT" in done.stderr
    assert "CACHE_BACKEND" in done.stderr


def test_the_readme_has_every_setting():
    assert table() in README
    assert len(Settings.model_fields) > 40
    assert {name.lower() for name in NAMES.split()} <= set(Settings.model_fields)


async def throughput(**environ):
    """Classify the hundred signals in simulated time; return signals a second, calls of the large model, hits."""

    times = {"SIMULATED_SMALL_SECONDS": "0.4", "SIMULATED_LARGE_SECONDS": "2.5", "SIMULATED_TOKENS_PER_SECOND": "0"}
    settings = read({**times, **environ})
    clock = FakeClock()
    began = clock.monotonic()
    async with AsyncClient(load_mapping(penstock_config(settings), environ={}), clock=clock) as client:
        concurrency = settings.batch_concurrency_limit if settings.batch_enable_parallel else 1
        work = asyncio.create_task(make_classifier(client, settings).classify_many(hundred(), concurrency=concurrency))
        while not work.done():
            await clock.run(0.1)
    found = await work
    assert not [each for each in found if each.error]
    large = sum(step.model_calls for each in found for step in each.steps if step.stage == CLASSIFIER_STAGE)
    return len(found) / (clock.monotonic() - began), large, sum(each.cached for each in found)


async def test_the_seeds_table_as_ratios():
    before, large_before, hits_before = await throughput(
        ENABLE_RESPONSE_CACHE="false", ENABLE_MULTI_STAGE="false", BATCH_ENABLE_PARALLEL="false"
    )
    after, large_after, hits_after = await throughput(BATCH_CONCURRENCY_LIMIT="16")
    assert (large_before, hits_before) == (100, 0)
    assert before == pytest.approx(1 / 2.5, rel=0.01)
    assert after / before >= 40
    assert large_after <= 25
    assert hits_after >= 70


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "oracle9://there"}, "DATABASE_URL: "),
        ({"PROMPT_EXPERIMENT": "1"}, "expected two versions"),
        ({"PROMPT_EXPERIMENT": "1,2", "PROMPT_VERSION": "2"}, "not both"),
        ({"PREFILTER_SCORE_THRESHOLD": "101"}, "PREFILTER_SCORE_THRESHOLD: "),
        ({"ENABLE_RULES": "perhaps"}, "ENABLE_RULES: "),
        ({"REDIS_URL": "http://there:6379"}, "REDIS_URL: .*expected redis://HOST:PORT/DATABASE"),
        ({"REDIS_URL": "redis://user:pa/ss@there"}, "REDIS_URL: .*expected redis://HOST:PORT/DATABASE"),
    ],
)
def test_settings_that_cannot_be(environ, said):
    with pytest.raises(SettingsError, match=said):
        create_app(read(environ))


@pytest.mark.parametrize(
    ("environ", "provider", "models"),
    [
        ({}, "simulated", ("gemma3:1b", "gemma3:4b")),
        (
            {"OLLAMA_HOST": "machine:11434", "USE_QUANTIZED_MODELS": "true"},
            "ollama",
            ("gemma3:1b-it-qat", "gemma3:4b-it-qat"),
        ),
        ({"OPENAI_API_KEY": "sk-none", "SMALL_MODEL": "s", "LARGE_MODEL": "l"}, "openai", ("s", "l")),
    ],
)  # fmt: skip
def test_the_environment_says_who_answers(environ, provider, models):
    settings = read({**environ, "ENABLE_MODEL_FALLBACK": "true"})
    assert (settings.provider, settings.models) == (provider, models)
    loaded = load_mapping(penstock_config(settings), environ={}).settings
    assert [model.targets[0].model for model in loaded.models[:2]] == list(models)
    assert loaded.models[1].fallbacks.errors == ["alternative"]


@pytest.mark.parametrize(
    ("characters", "size"), [(10, 1024), (900, 1024), (3000, 2048), (20_000, 8192), (100_000, 8192)]
)
def test_the_window_of_ollama_fits_the_signal(characters, size):

    assert window(read({}), "a" * characters, 300) == size
