import json
from decimal import Decimal

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store

COST = Decimal("0.000000125")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/penstock.db"


@pytest.fixture
async def stores(url):
    opened = open_store(url, SystemClock())
    await opened.start()
    yield opened
    await opened.aclose()


@pytest.fixture
async def recorded(stores):
    tried = {"duration_s": 1.0, "first_token_s": 0.5, "outcome": "ok", "usage": Usage(1000, 200)}
    calls = [
        Call("req_1", attempts=[Attempt("openai", "m", 0.0, cost_usd=COST, cost_source="provider", **tried)]),
        Call("req_2", cache="hit", saved_usd=COST, usage=Usage(1000, 200)),
        Call("req_3", attempts=[Attempt("near", "l", 0.0, cost_source="unknown", **tried)]),
    ]  # fmt: skip
    for call in calls:
        stores.ledger.record(Request("chat", "fast", {}, call, tags=("web",)), call, duration_s=1.5, outcome="ok")
    await stores.ledger.flush()


def run(*arguments):
    return CliRunner().invoke(main, ["usage", *arguments])


def table(output):
    return [line.split() for line in output.splitlines()]


def test_a_table_while_the_store_is_being_written(recorded, url):
    result = run("--store", url)
    assert result.exit_code == 0, result.output
    header, fast, total, costs = table(result.output)
    assert header[:4] == ["model", "calls", "errors", "hits"]
    assert fast[:5] == ["fast", "3", "0", "1", "33.3%"]
    assert total[0] == "total"
    assert fast[1:] == total[1:]
    assert fast.count("0.000000125") == 2
    assert " ".join(costs).startswith("Cost: 1 calls priced by the provider's token counts, 1 with price unknown")


def test_splits_and_recent_calls(recorded, url):
    result = run("--store", url, "--by", "provider, tag", "--recent", "2")
    assert result.exit_code == 0, result.output
    assert "openai" in result.output
    assert "(none)" in result.output
    assert "req_3" in result.output
    assert "unknown" in result.output
    assert "req_1" not in result.output


def test_json_is_exact(recorded, url):
    report = json.loads(run("--store", url, "--json", "--by", "", "--recent", "5").stdout)
    assert Decimal(report["total"]["cost_usd"]) == COST
    assert report["total"]["calls"] == 3
    assert report["lines"] == []
    assert [call["request_id"] for call in report["recent"]] == ["req_3", "req_2", "req_1"]
    assert report["recent"][0]["cost_usd"] is None


def test_the_store_is_the_configured_one(recorded, url, tmp_path):
    file = tmp_path / "penstock.yaml"
    file.write_text(
        "models: [{name: '*', targets: [{provider: sim, model: sim}]}]\n"
        f"providers: [{{name: sim, kind: simulated}}]\nstore: {{url: '{url}'}}\n"
    )
    assert "fast" in run("--config", str(file)).output


def test_nothing_recorded_is_said(stores, url):
    result = run("--store", url)
    assert result.exit_code == 0
    assert "No calls in the last 30 days" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "memory:"], "keeps no record"),
        (["--store", "sqlite:///nowhere/p.db"], "there is no nowhere/p.db yet"),
        (["--store", "memory:", "--by", "colour"], "expected model, tenant"),
        (["--days", "-1"], "--days"),
    ],
)
def test_what_is_wrong_is_explained(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output
