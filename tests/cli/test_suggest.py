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


def run(*arguments):
    return CliRunner().invoke(main, ["usage", "suggest", *arguments])


def test_a_person_reads_what_to_set_and_what_it_saves(config):
    result = run("--config", config)
    assert result.exit_code == 0, result.output
    assert "1. Keep answers for 1 day instead of 30 minutes (replayed)" in result.stdout
    assert "cache.exact.ttl_s: 86400.0" in result.stdout
    assert "saves $0.1485" in result.stdout  # 33 of 36 calls at $0.0045
    assert "canary" not in result.output


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
