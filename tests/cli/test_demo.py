import json
import subprocess
import sys

import yaml
from click.testing import CliRunner

from penstock.cli import main
from penstock.cli.demo import CONFIG
from penstock.config.loader import load


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments], capture_output=True, text=True, timeout=50, cwd=folder
    )


def test_a_short_demonstration(tmp_path):
    done = run(tmp_path, "demo", "--seconds", "3", "--port", "0", "--json")
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)
    assert totals["answered"] > totals["hit"] > 0
    assert totals.get("failed", 0) == 0
    assert 0 < totals["hit_ms"] < totals["miss_ms"]
    used = run(tmp_path, "usage", "--store", "sqlite:///penstock-demo.db", "--by", "cache", "--json")
    total = json.loads(used.stdout)["total"]
    assert total["calls"] == totals["answered"]
    assert total["hits"] == totals["hit"]


def test_a_gateway_that_does_not_start(tmp_path):
    (tmp_path / "bad.yaml").write_text("modles: []\n")
    done = run(tmp_path, "demo", "--seconds", "1", "--port", "0", "--config", "bad.yaml")
    assert done.returncode == 2
    assert "did you mean 'models'" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_own_configuration_is_valid(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG)
    settings = load(str(path), environ={}, probe=False).settings
    assert [provider.kind for provider in settings.providers] == ["simulated"] * 2
    assert yaml.safe_load(CONFIG)["store"]["url"] == "sqlite:///penstock-demo.db"


def test_bad_usage():
    assert CliRunner().invoke(main, ["demo", "--seconds", "0"]).exit_code == 2
