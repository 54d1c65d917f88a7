import json
import stat

import jsonschema
import pytest
from click.testing import CliRunner

from penstock.cli import main

GOOD = """\
server: {keys: [{key: CANARY}]}
providers: [{name: openai, kind: openai}, {name: sim, kind: simulated}]
models: [{name: "*", targets: [{provider: openai}, {provider: sim}]}]
"""
LITELLM = """\
model_list:
- {model_name: a, litellm_params: {model: gpt-4o, api_key: sk-literal, rpm: 3}}
litellm_settings: {cache: true}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "PENSTOCK_CONFIG", "AI_OPTIMIZATION_LEVEL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def good(tmp_path):
    (tmp_path / "penstock.yaml").write_text(GOOD)


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "bad.yaml").write_text("server: {port: 99999}\nlevl: high\n" + GOOD.partition("\n")[2])


@pytest.mark.usefixtures("good")
def test_check_says_that_a_file_is_valid_and_what_is_not_ideal(run):
    result = run("config", "check")
    assert result.exit_code == 0
    assert result.stdout == "penstock.yaml: valid; providers: 2, models: 1, warnings: 1\n"
    assert "OPENAI_API_KEY is not set (penstock.yaml:2)" in result.stderr


@pytest.mark.usefixtures("good")
def test_check_strict_fails_on_warnings(run):
    assert run("config", "check", "--strict").exit_code == 1


@pytest.mark.usefixtures("bad")
def test_check_names_every_problem_and_exits_with_2(run):
    result = run("config", "check", "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "bad.yaml:1: server.port: got 99999 (expected at most 65535)" in result.stderr
    assert "bad.yaml:2: unknown key 'levl', did you mean 'level'?" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("bad", "good")
def test_check_as_json(run):
    result = run("config", "check", "bad.yaml", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["valid"], len(found["problems"])) == (2, False, 2)
    assert found["problems"][0] == {
        "message": "got 99999", "file": "bad.yaml", "line": 1, "key": "server.port", "expected": "at most 65535",
    }  # fmt: skip
    found = json.loads(run("config", "check", "--json").stdout)
    assert (found["valid"], found["path"], len(found["warnings"])) == (True, "penstock.yaml", 1)


def test_a_missing_file_is_one_clear_line(run):
    result = run("config", "show", "nope.yaml")
    assert (result.exit_code, result.stderr) == (2, "penstock: nope.yaml: there is no such file\n")


@pytest.mark.usefixtures("good")
def test_show_prints_each_value_with_its_source_and_no_secret(run):
    result = run("config", "show")
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert lines["server.port"] == ["4141", "default"]
    assert lines["cache.exact.ttl_s"] == ["7200", "level high"]
    assert lines["models[0].targets[0].provider"] == ["sim", "penstock.yaml:3"]
    assert lines["server.keys[0].key"] == ["**********", "penstock.yaml:1"]
    assert "CANARY" not in result.output
    found = json.loads(run("config", "show", "--json").stdout)
    assert found["settings"]["server.port"] == {"value": 4141, "source": "default"}
    assert "CANARY" not in json.dumps(found)


def test_show_kinds_lists_the_providers_penstock_knows(run):
    assert "https://api.openai.com/v1" in run("config", "show", "--kinds").stdout
    rows = json.loads(run("config", "show", "--kinds", "--json").stdout)
    assert {"openai", "anthropic", "ollama", "simulated", "azure"} <= {row["name"] for row in rows}


def test_schema_is_a_json_schema(run):
    jsonschema.Draft202012Validator.check_schema(json.loads(run("config", "schema").stdout))
    assert run("config", "schema", "--markdown").stdout.startswith("# Configuration reference")


def test_import_writes_a_file_only_its_owner_can_read_and_lists_what_is_lost(run, tmp_path):
    (tmp_path / "litellm.yaml").write_text(LITELLM)
    result = run("config", "import", "litellm.yaml", "-o", "penstock.yaml")
    assert result.exit_code == 0
    assert "litellm.yaml:2: model_list[0].litellm_params.rpm" in result.stderr
    written = tmp_path / "penstock.yaml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert run("config", "check", "penstock.yaml", "--strict").exit_code == 0


def test_import_replaces_a_file_only_when_told_to(run, tmp_path):
    (tmp_path / "litellm.yaml").write_text(LITELLM)
    (tmp_path / "penstock.yaml").write_text("mine")
    refused = run("config", "import", "litellm.yaml", "-o", "penstock.yaml")
    assert (refused.exit_code, (tmp_path / "penstock.yaml").read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert run("config", "import", "litellm.yaml", "-o", "penstock.yaml", "--force").exit_code == 0
    assert run("config", "import", "litellm.yaml", "-o", "no/where.yaml").exit_code == 2


def test_import_prints_yaml_or_json(run, tmp_path):
    (tmp_path / "litellm.yaml").write_text(LITELLM)
    assert run("config", "import", "litellm.yaml").stdout.startswith("providers:\n- name: openai")
    found = json.loads(run("config", "import", "litellm.yaml", "--json").stdout)
    assert found["settings"]["models"] == [{"name": "a", "targets": [{"provider": "openai", "model": "gpt-4o"}]}]
    assert found["lost"][0]["key"] == "model_list[0].litellm_params.rpm"
