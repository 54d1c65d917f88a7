"""`penstock templates`, with files and beside a gateway that runs."""

import json

import pytest
from click.testing import CliRunner

from penstock.cli import main

GREET = """\
labels: {production: 1}
variables: {name: string, times: {type: integer, default: 1}}
versions:
  1: {user: "Greet {{ name }} {{ times }} times."}
  2: {user: "Welcome {{ name }}.", model: fast}
"""
CONFIG = """\
models: [{{name: fast, targets: [{{provider: simulated, model: sim}}]}}]
store: {{url: "sqlite:///{folder}/penstock.db"}}
server: {{admin_key: sk-the-root-of-all}}
prompts: {{directory: "{folder}/prompts"}}
"""


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "greet.yaml").write_text(GREET)
    return folder


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, start_gateway):
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "greet.yaml").write_text(GREET)
    running = start_gateway(folder, CONFIG)
    yield running
    running.stop()


def run(*arguments, code=0, text=None):
    result = CliRunner().invoke(
        main, ["templates", *map(str, arguments)], input=text, env={"PENSTOCK_ADMIN_KEY": "sk-the-root-of-all"}
    )
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(params=["files", "gateway"])
def where(request, directory):
    if request.param == "files":
        return ("--directory", directory)
    return ("--url", request.getfixturevalue("gateway").url)


def test_list_and_show(where):
    assert "greet" in run("list", *where)
    (row,) = json.loads(run("list", "--json", *where))
    assert (row["versions"], row["labels"]) == (["1", "2"], {"production": "1"})
    shown = run("show", "greet", *where)
    assert "version 1 (production)\nuser:\n  Greet {{ name }} {{ times }} times.\n" in shown
    assert "Welcome" not in run("show", "greet", "--version", "production", *where)
    assert "no version or label '9'" in run("show", "greet", "--version", "9", *where, code=2)
    assert "There is no prompt 'gret'; did you mean 'greet'?" in run("show", "gret", *where, code=1)


def test_render_takes_variables_as_their_types_need(where):
    assert run("render", "greet", "--var", "name=Ada", "--var", "times=3", *where) == "user:\n  Greet Ada 3 times.\n"
    text = json.dumps({"name": "Bo", "times": 2})
    said = json.loads(run("render", "greet", "--version", "2", "--variables", "-", "--json", *where, text=text))
    assert (said["messages"], said["model"]) == ([{"role": "user", "content": "Welcome Bo."}], "fast")
    assert "needs the variable 'name'" in run("render", "greet", *where, code=1)
    assert "--var times: not valid JSON" in run("render", "greet", "--var", "times=many", *where, code=2)
    assert "has no value" in run("render", "greet", "--var", "times", *where, code=2)
    assert "has no variable 'nam'" in run("render", "greet", "--var", "nam=x", *where, code=1)
    assert "not valid JSON" in run("render", "greet", "--variables", "-", *where, code=2, text="{")


def test_diff_says_by_its_exit_code_whether_something_differs(where):
    lines = run("diff", "greet", "2", *where, code=1).splitlines()
    assert {"--- 2", "+++ 1", "-model: fast", "-  Welcome {{ name }}.", "+  Greet {{ name }} {{ times }} times."} <= {
        *lines
    }
    assert run("diff", "greet", "1", "production", *where) == ""
    assert json.loads(run("diff", "greet", "1", "1", "--json", *where))["diff"] == []


def test_rollback_and_reload(gateway):
    where = ("--url", gateway.url)
    assert run("rollback", "greet", "--to", "2", *where) == "production of greet: from 1 to 2\n"
    assert run("render", "greet", "--var", "name=Ada", *where) == "user:\n  Welcome Ada.\n"
    assert json.loads(run("rollback", "greet", "--json", *where))["after"] == "1"
    assert "production: from 2 to 1" in run("show", "greet", *where)
    assert "no version before 1" in run("rollback", "greet", *where, code=1)
    file = gateway.folder / "prompts" / "other.yaml"
    file.write_text("user: |\n  {{ who }}\n")
    assert "other.yaml:2" in run("reload", *where, code=1)
    file.write_text("user: hi\n")
    # The gateway may have seen the change first.
    assert json.loads(run("reload", "--json", *where))["prompts"] == 2
    file.unlink()
    assert json.loads(run("reload", "--json", *where))["prompts"] == 1


def test_check_needs_no_gateway(directory, tmp_path):
    assert "valid; prompts: 1" in run("check", directory)
    config = tmp_path / "penstock.yaml"
    config.write_text(f"prompts: {{directory: {directory}}}\n")
    assert json.loads(run("check", "--config", config, "--json"))["prompts"] == ["greet"]
    (directory / "bad.yaml").write_text("user: |\n  fine\n  {% if %}\n")
    assert "bad.yaml:3" in run("check", directory, code=2)
    (directory / "worse.yaml").write_text("usr: x\n")
    found = json.loads(run("check", directory, "--json", code=2))
    assert not found["valid"]
    assert {(row["file"].rpartition("/")[2], row["line"]) for row in found["problems"]} == {
        ("bad.yaml", 3),
        ("worse.yaml", 1),
    }
    config.write_text("models: [{name: m, targets: [{provider: simulated, model: sim}]}]\n")
    assert "expected DIR" in run("check", "--config", config, code=2)
    assert "there is no such directory" in run("check", directory / "nowhere", code=2)
