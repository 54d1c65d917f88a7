"""`penstock cache` beside a gateway that runs."""

import json
import re

import openai
import pytest
from click.testing import CliRunner

from penstock.cli import main

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models:
  - {{name: fast, targets: [{{provider: sim, model: sim}}]}}
  - {{name: slow, targets: [{{provider: sim, model: other}}]}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
server:
  admin_key: sk-the-root-of-all
  keys: [{{key: sk-of-acme-search, tenant: acme/search}}]
cache: {{semantic: {{mode: on, max_error: 0.45, audit: 0.000001}}}}
"""
ROOT, SEARCH = "sk-the-root-of-all", "sk-of-acme-search"
TALL = "How tall is the Eiffel Tower in Paris?"
TALL_TOO = "how tall is the eiffel tower in paris"
SEED = {"question": TALL, "model": "fast", "answer": "330 metres.", "tags": ["faq", "prompt:help@2"]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, start_gateway):
    running = start_gateway(tmp_path_factory.mktemp("gateway"), CONFIG)
    yield running
    running.stop()


@pytest.fixture
def run(gateway, logging_kept):
    def run(*arguments, code=0, key=ROOT, text=None):
        given = ["cache", *arguments, "--url", gateway.url]
        result = CliRunner().invoke(main, given, input=text, env={"PENSTOCK_ADMIN_KEY": key})
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(autouse=True)
def empty(run):
    run("clear", "--all", "--learnt")


def seed(run, *items):
    run("warm", "-", text="\n".join(json.dumps(item) for item in items or [SEED]))


def ask(gateway, question, key=ROOT):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="fast", messages=[{"role": "user", "content": question}]
        )
        return raw.parse().choices[0].message.content, raw.headers["cache-status"], raw.headers["x-request-id"]


def test_what_is_taken_in_is_answered_counted_and_listed(run, gateway):
    seed(run)
    found = json.loads(run("stats", "--json").stdout)
    assert (found["answers"], found["questions"]) == (1, 1)
    assert ask(gateway, TALL)[0] == "330 metres."
    text, status, _ = ask(gateway, TALL_TOO)
    assert text == "330 metres."
    assert "Penstock-Semantic; hit" in status
    found = json.loads(run("stats", "--json").stdout)
    assert found["semantic"]["served"] > 0
    (row,) = found["models"]
    assert (row["tenant"], row["model"], row["certificate"]["delta"]) == ("default", "fast", 0.45)
    table = run("stats").stdout
    assert re.search(r"default +fast +[12] +[12] +45 % ", table)
    listed = run("inspect", "--tag", "faq").stdout
    assert TALL in listed
    assert "330 metres." not in listed
    (entry,) = json.loads(run("inspect", "--contains", "Eiffel Tower", "--tag", "faq", "--json").stdout)
    assert entry["tags"] == ["faq", "prompt:help@2"]
    assert run("inspect", "--model", "slow").stdout == "There are none.\n"


def test_a_decision_is_explained(run, tmp_path):
    seed(run)
    said = run("explain", TALL_TOO, "--model", "fast").stdout
    assert "by meaning (on): answered; the nearest question's answer is right with probability 0." in said
    assert TALL in said
    body = tmp_path / "request.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": TALL}], "model": "slow"}))
    found = json.loads(run("explain", "--body", str(body), "--model", "fast", "--json").stdout)
    assert found["exact"] == "hit"
    assert "not answered" in run("explain", "--body", str(body)).stdout


def test_clearing_wants_to_know_what(run):
    seed(run)
    assert "--all" in run("clear", code=2).stderr
    assert "--all" in run("clear", "--all", "--tag", "faq", code=2).stderr
    assert json.loads(run("clear", "--tag", "prompt:help@1", "--json").stdout)["answers"] == 0
    assert json.loads(run("clear", "--tag", "prompt:help@2", "--json").stdout)["answers"] == 1


def test_a_list_of_questions_is_taken_in_piece_by_piece(run, monkeypatch, tmp_path):
    monkeypatch.setattr("penstock.cli.cache._AT_ONCE", 2)
    items = [json.dumps({"question": f"Why {number}?", "model": "fast"}) for number in range(5)]
    items[3] = "nonsense"
    items.insert(1, "")
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(items))
    result = run("warm", str(file), "--json", code=1)
    assert json.loads(result.stdout) == {"asked": 4, "known": 0, "seeded": 0, "failed": 1}
    assert result.stderr.startswith("line 5: ")
    assert json.loads(run("warm", str(file), "--json", code=1).stdout)["known"] == 4


def test_a_cache_goes_out_and_comes_back(run, gateway, tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.cli.cache._AT_ONCE", 1)
    seed(run, SEED, {"question": "Who built it?", "model": "fast", "answer": "Eiffel."})
    file = tmp_path / "cache.jsonl"
    assert json.loads(run("export", str(file), "--json").stdout) == {"answers": 2}
    assert "stdout" in run("export", "-", "--json", code=2).stderr
    assert run("export", "-").stdout.splitlines()[1:] == file.read_text().splitlines()[1:]
    run("clear", "--all")
    taken = {"answers": 2, "questions": 2, "skipped": 0}
    assert json.loads(run("import", str(file), "--json").stdout) == taken
    assert "Penstock-Semantic; hit" in ask(gateway, TALL_TOO)[1]
    assert "not of 'acme/search'" in run("import", str(file), "--tenant", "acme/search", code=1).stderr
    assert "first line" in run("import", "-", code=1, text="").stderr
    assert "cannot be written" in run("export", str(tmp_path / "no" / "file"), code=2).stderr


def test_an_answer_is_labelled(run, gateway):
    seed(run)
    _, status, request_id = ask(gateway, TALL_TOO)
    assert "Penstock-Semantic; hit" in status
    assert json.loads(run("label", request_id, "right", "--json").stdout) == {"request_id": request_id, "right": True}
    assert "Penstock-Exact; hit" in ask(gateway, TALL_TOO)[1]
    assert "no request" in run("label", request_id, "wrong", code=1).stderr


def test_upkeep(run):
    seed(run)
    assert json.loads(run("cleanup", "--json").stdout) == {"answers": 0, "questions": 0, "learnt": 0}
    assert set(json.loads(run("optimize", "--json").stdout)) == {"partitions", "free_bytes"}


def test_other_keys_see_their_own(run, gateway):
    seed(run)
    ask(gateway, TALL, SEARCH)
    (row,) = json.loads(run("stats", "--json", key=SEARCH).stdout)["models"]
    assert row["tenant"] == "acme/search"
    assert len(json.loads(run("inspect", "--json", key=SEARCH).stdout)) == 1
    assert "role 'admin'" in run("clear", "--all", code=1, key=SEARCH).stderr
    assert "not yours" in run("stats", "--tenant", "default", code=1, key=SEARCH).stderr


def test_what_stands_in_the_way_is_said(run, gateway):
    assert "PENSTOCK_ADMIN_KEY" in run("stats", code=1, key="").stderr
    assert "MY_KEY" in run("stats", "--key-env", "MY_KEY", code=1).stderr
    assert "penstock serve" in CliRunner().invoke(main, ["cache", "stats", "--url", "http://127.0.0.1:9"]).stderr
    assert CliRunner().invoke(main, ["cache", "stats", "--url", "nowhere"]).exit_code == 2
    assert "--model" in run("explain", TALL, code=2).stderr
    assert "QUESTION" in run("explain", "--model", "fast", code=2).stderr
    assert "not JSON" in run("explain", "--body", "-", code=2, text="{").stderr
    assert "object" in run("explain", "--body", "-", code=2, text="[]").stderr
