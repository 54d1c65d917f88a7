import json
import sqlite3

import pytest
from click.testing import CliRunner

from penstock.cli import main

CONFIG = """\
models: [{name: "*", targets: [{provider: simulated, model: sim}]}]
store: {url: "sqlite:///FOLDER/penstock.db"}
"""


@pytest.fixture
def run(tmp_path, logging_kept):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [*arguments, "--config", str(path)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_key_from_its_making_to_its_removal(run, tmp_path):
    run("teams", "create", "acme/search", "--models", "gpt-4*, o3", "--requests-per-minute", "100")
    made = run("keys", "create", "web", "--tenant", "acme/search", "--expires", "30d", "--models", "gpt-4o")
    key = made.stdout.strip()
    assert key.startswith("sk-")
    assert key not in made.stderr
    assert "key.create" in made.stderr
    (listed,) = json.loads(run("keys", "list", "--json").stdout)
    assert (listed["tenant"], listed["role"], listed["models"], listed["status"]) == (
        "acme/search", "user", ["gpt-4o"], "valid",
    )  # fmt: skip
    assert listed["expires_at"] - listed["created_at"] in (2_592_000, 2_592_001)
    assert (listed["hint"], listed["created_by"]) == (f"sk-…{key[-4:]}", "cli")
    new = json.loads(run("keys", "rotate", listed["id"], "--overlap", "2h", "--json").stdout)
    assert new["key"] != key
    assert new["replaces"] == listed["id"]
    assert json.loads(run("keys", "revoke", new["id"], "--json").stdout)["status"] == "revoked"
    table = run("keys", "list").stdout
    assert table.count("web") == 2
    assert "revoked" in table
    assert "role" in run("keys", "show", new["id"]).stdout
    run("keys", "delete", new["id"])
    assert len(json.loads(run("keys", "list", "--tenant", "acme", "--json").stdout)) == 1
    assert json.loads(run("keys", "list", "--tenant", "other", "--json").stdout) == []
    with sqlite3.connect(tmp_path / "penstock.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert key not in dump
    assert new["key"] not in dump


def test_of_a_key_only_what_is_named_is_changed(run):
    run("teams", "create", "acme/search")
    terms = ("--models", "gpt-4o", "--requests-per-minute", "5", "--expires", "30d", "--tenant", "acme/search")
    key_id = json.loads(run("keys", "create", "web", *terms, "--json").stdout)["id"]
    made = json.loads(run("keys", "show", key_id, "--json").stdout)

    def changed(*options):
        return json.loads(run("keys", "update", key_id, *options, "--json").stdout)

    assert changed() == made
    assert changed("--name", "site", "--role", "viewer") == {**made, "name": "site", "role": "viewer"}
    assert changed("--tokens-per-minute", "900", "--models", "o3,gpt-4*")["models"] == ["o3", "gpt-4*"]
    assert changed("--expires", "2099-01-01")["expires_at"] == 4_070_908_800
    free = changed("--endless", "--unlimited", "--requests-per-minute", "7")
    assert free == {**made, "name": "site", "role": "viewer", "expires_at": None, "models": None,
                    "requests_per_minute": 7, "tokens_per_minute": None}  # fmt: skip
    assert "requests_per_minute" in run("keys", "update", key_id, "--requests-per-minute", "8").stdout
    assert "key.update" in run("keys", "update", key_id, "--name", "again").stderr


def test_teams(run):
    run("teams", "create", "acme/search", "--name", "Search", "--tokens-per-minute", "5000")
    changed = json.loads(run("teams", "update", "acme/search", "--requests-per-minute", "5", "--json").stdout)
    assert (changed["requests_per_minute"], changed["tokens_per_minute"], changed["name"]) == (5, 5000, "Search")
    changed = json.loads(
        run("teams", "update", "acme/search", "--requests-per-minute", "7", "--unlimited", "--archive", "--json").stdout
    )
    assert (changed["requests_per_minute"], changed["tokens_per_minute"]) == (7, None)
    assert changed["archived_at"]
    assert "no team 'acme/search'" in run("keys", "create", "k", "--tenant", "acme/search", code=1).stderr
    assert "Search" in run("teams", "list").stdout
    assert json.loads(run("teams", "show", "acme/search", "--json").stdout) == changed
    assert "exists" in run("teams", "create", "acme/search", code=1).stderr
    assert run("keys", "list").stdout == "There are no keys.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "k", "--tenant", "acme/missing"), 1, "penstock teams create"),
        (("create", "k", "--role", "root"), 2, "'root' is not one of"),
        (("create", "k", "--expires", "soon"), 2, "neither a time such as 30d nor a date"),
        (("create", "k", "--expires", "2001-01-01"), 1, "in the future"),
        (("create", "k", "--requests-per-minute", "0"), 2, "x>=1"),
        (("create", ""), 1, "'name' must be"),
        (("show", "key_0"), 1, "no key 'key_0'"),
        (("update", "key_0", "--name", "x"), 1, "no key 'key_0'"),
        (("update", "key_0", "--role", "root"), 2, "'root' is not one of"),
        (("update", "key_0", "--expires", "1d", "--endless"), 2, "either --expires or --endless"),
        (("rotate", "key_0"), 1, "no key 'key_0'"),
        (("rotate", "key_0", "--overlap", "1"), 2, "not a time such as"),
        (("revoke", "key_0"), 1, "no key 'key_0'"),
        (("delete", "key_0"), 1, "no key 'key_0'"),
    ],
)
def test_what_cannot_be_done(run, arguments, code, said):
    assert said in run("keys", *arguments, code=code).stderr


def test_no_key_is_made_with_another_secret_than_the_others(run, monkeypatch):
    monkeypatch.setenv("PENSTOCK_SECRET", "one" * 12)
    run("keys", "create", "web")
    monkeypatch.setenv("PENSTOCK_SECRET", "other" * 12)
    said = run("keys", "create", "again", code=1).stderr
    assert "1 of 1 valid keys" in said
    assert "set PENSTOCK_SECRET" in said
    (listed,) = json.loads(run("keys", "list", "--json").stdout)
    run("keys", "revoke", listed["id"])
    run("keys", "create", "again")


def test_memory_keeps_no_keys(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG.replace("sqlite:///FOLDER/penstock.db", "memory:"))
    result = CliRunner().invoke(main, ["keys", "list", "--config", str(path)])
    assert (result.exit_code, "memory:" in result.stderr) == (2, True)
