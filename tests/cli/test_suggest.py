import json
import time
from decimal import Decimal

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store

CONFIG = """\
providers:
  - {name: openai, kind: openai, api_key: sk-canary}
models:
  - {name: fast, targets: [{provider: openai, model: gpt-4o}]}
cache: {exact: {ttl_s: 1800}}
store: {url: "sqlite:///%s"}
"""


@pytest.fixture
async def config(tmp_path):
    """Three days in which one question is asked every two hours."""
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", SystemClock())
    await stores.start()
    now = time.time()
    for number in range(36):
        tried = Attempt("openai", "gpt-4o", 0.0, duration_s=1.0, outcome="ok", usage=Usage(1000, 200),
                        cost_usd=Decimal("0.0045"), cost_source="provider")  # fmt: skip
        call = Call(f"req_{number}", started_at=now - 7200 * (36 - number), key=bytes(32), attempts=[tried],
                    cache="miss", finish_reason="stop", usage=Usage(1000, 200))  # fmt: skip
        request = Request("chat", "fast", {"messages": [{"role": "user", "content": "canary"}]}, call)
        stores.ledger.record(request, call, duration_s=1.0, outcome="ok")
    await stores.aclose()
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG % (tmp_path / "penstock.db"))
    return str(path)


@pytest.fixture
async def in_shadow(tmp_path):
    """A day in which every half hour a question is asked, and a minute later the same in other words."""
    stores = open_store(f"sqlite:///{tmp_path}/shadow.db", SystemClock())
    await stores.start()
    now = time.time()
    for number in range(48):
        for again in (0, 1):
            cost = Decimal("0.0045")
            tried = Attempt("openai", "gpt-4o", 0.0, duration_s=1.0, outcome="ok", usage=Usage(1000, 200),
                            cost_usd=cost, cost_source="provider")  # fmt: skip
            call = Call(f"req_{number}_{again}", started_at=now - 1800 * (48 - number) + 60 * again,
                        key=bytes([again, number]) * 16, attempts=[tried], cache="miss", finish_reason="stop",
                        usage=Usage(1000, 200), semantic="shadow" if again else "miss",
                        semantic_key=bytes([0, number]) * 16 if again else None,
                        semantic_audit=0.1 if again else None)  # fmt: skip
            request = Request("chat", "fast", {"messages": [{"role": "user", "content": "canary"}]}, call)
            stores.ledger.record(request, call, duration_s=1.0, outcome="ok")
    await stores.aclose()
    path = tmp_path / "shadow.yaml"
    shadow = CONFIG.replace("ttl_s: 1800}", "ttl_s: 1800}, semantic: {mode: shadow, audit: 0.01}")
    path.write_text(shadow % (tmp_path / "shadow.db"))
    return str(path)


def run(*arguments):
    return CliRunner().invoke(main, ["usage", "suggest", *arguments])


def test_a_person_reads_what_to_set_and_what_it_saves(config):
    result = run("--config", config)
    assert result.exit_code == 0, result.output
    assert "1. Keep answers for 1 day instead of 30 minutes (replayed)" in result.stdout
    assert "cache.exact.ttl_s: 86400.0" in result.stdout
    assert "saves $0.1485" in result.stdout  # 33 of 36 calls at $0.0045
    assert "canary" not in result.output


def test_what_matching_by_meaning_looked_at_is_suggested_with_what_it_saves(in_shadow):
    result = run("--config", in_shadow)
    assert result.exit_code == 0, result.output
    assert "Answer questions to fast by meaning: 48 would have been (replayed)" in result.stdout
    assert "models.fast.semantic: on" in result.stdout
    (found,) = json.loads(run("--config", in_shadow, "--json").stdout)["suggestions"]
    assert (found["kind"], found["settings"]) == ("semantic", {"models.fast.semantic": "on"})
    saved = found["calls"]["value"]
    assert 30 < saved < 48  # some are asked again to check
    assert Decimal(found["usd"]["value"]) == Decimal("0.0045") * int(saved)
    assert found["seconds"]["value"] == pytest.approx(48.0)


def test_a_program_reads_the_same(config):
    result = run("--config", config, "--json")
    found = json.loads(result.stdout)
    first = found["suggestions"][0]
    assert (first["kind"], first["basis"], first["settings"]) == ("ttl", "replay", {"cache.exact.ttl_s": 86_400.0})
    assert Decimal(first["usd"]["value"]) == Decimal("0.1485")
    assert found["calls"] == 36


def test_only_as_many_calls_as_wanted_are_looked_at(config):
    found = json.loads(run("--config", config, "--json", "--most", "10").stdout)
    assert found["calls"] == 10


def test_without_a_ledger_it_says_how_to_get_one(tmp_path):
    result = run("--store", f"sqlite:///{tmp_path}/none.db")
    assert result.exit_code == 2
    assert "made by the first `penstock serve`" in result.output
    result = run("--store", "memory:")
    assert result.exit_code == 2
    assert "keeps no record" in result.output
