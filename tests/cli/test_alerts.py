import json
import time

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.core.alert import AlertEvent
from penstock.core.clock import SystemClock
from penstock.stores.opening import open_store

CONFIG = """\
store: {url: "sqlite:///%s/penstock.db"}
sinks:
  - {name: log, kind: log}
  - {name: inside, kind: webhook, url: "http://127.0.0.1:9/", secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"}
alerts: {rules: [{name: dear, metric: cost_usd_per_hour, threshold: 5, actions: [tighten_level]}]}
"""


@pytest.fixture
async def config(tmp_path):
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", SystemClock())
    await stores.start()
    now = time.time()
    stores.alerts.record(AlertEvent("slow", "firing", "warning", now - 60, 7.5, 5.0, "slow: it is 7.5"))
    stores.alerts.record(AlertEvent("slow", "resolved", "warning", now, None, 5.0, "slow is over"))
    await stores.aclose()
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG % tmp_path)
    return str(path)


def run(*arguments):
    return CliRunner().invoke(main, ["alerts", *arguments])


def test_the_history_is_listed_newest_first(config):
    result = run("list", "-c", config)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "resolved" in lines[1]
    assert "slow: it is 7.5" in lines[2]
    found = json.loads(run("list", "-c", config, "--json", "--limit", "1").stdout)
    assert [(event["rule"], event["state"], event["value"]) for event in found] == [("slow", "resolved", None)]


def test_rules_are_the_built_in_ones_and_ones_own(config):
    found = {rule["name"]: rule for rule in json.loads(run("rules", "-c", config, "--json").stdout)}
    assert found["dear"]["actions"] == ["tighten_level"]
    assert (found["many_errors"]["metric"], found["many_errors"]["threshold"]) == ("error_rate", 0.1)
    assert "dear" in run("rules", "-c", config).stdout


def test_metrics_are_explained():
    found = {row["metric"]: row["meaning"] for row in json.loads(run("metrics", "--json").stdout)}
    assert found["error_rate"] == "Share of requests that failed."
    assert "loop_lag_s" in found


def test_a_sink_can_be_tried(config):
    assert run("test", "log", "-c", config).stdout == "log: delivered\n"
    result = run("test", "inside", "-c", config)
    assert result.exit_code == 1
    assert "not on the public Internet" in result.output
    result = run("test", "inside", "-c", config, "--json")
    assert (result.exit_code, json.loads(result.stdout)["delivered"]) == (1, False)
    result = run("test", "none", "-c", config)
    assert result.exit_code == 2
    assert "log, inside" in result.output


def test_without_a_store_it_says_how_to_get_one(tmp_path):
    result = run("list", "--store", f"sqlite:///{tmp_path}/none.db")
    assert result.exit_code == 2
    assert "made by the first `penstock serve`" in result.output
