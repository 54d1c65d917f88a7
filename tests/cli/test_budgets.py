import json

import pytest
from click.testing import CliRunner

from penstock.cli import main

CONFIG = """\
models: [{name: "*", targets: [{provider: simulated, model: sim}]}]
budgets: [{scope: organisation, subject: acme, amount: 500}]
store: {url: "sqlite:///FOLDER/penstock.db"}
"""


@pytest.fixture
def run(tmp_path, logging_kept):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, ["budgets", *arguments, "--config", str(path)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_budget_from_its_making_to_its_removal(run):
    made = json.loads(run("set", "team", "acme/search", "20", "--period", "day", "--soft", "0.8", "--json").stdout)
    assert (made["amount"], made["soft"], made["spent"]) == ("20", [0.8], "0")
    assert "budget.set" in run("set", "team", "acme/search", "25.5", "--period", "day").stderr
    assert json.loads(run("show", made["id"], "--json").stdout)["amount"] == "25.5"
    listed = json.loads(run("list", "--json").stdout)
    assert [each["source"] for each in listed] == ["configuration", "store"]
    assert "acme/search" in run("list").stdout
    run("delete", made["id"])
    run("show", made["id"], code=1)
    assert len(json.loads(run("list", "--json").stdout)) == 1


def test_what_cannot_be_is_said(run):
    assert "There is no key 'nobody'" in run("set", "key", "nobody", "5", code=1).stderr
    assert "not a number" in run("set", "team", "a", "much", code=2).stderr
    assert "'amount' must be" in run("set", "team", "a", "0", code=1).stderr
    assert "comes from the configuration" in run("delete", "config:organisation:acme:month:usd", code=1).stderr
    assert run("list", "--subject", "nobody").stdout == "There are no budgets.\n"
