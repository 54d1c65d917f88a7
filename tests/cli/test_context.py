import json

import pytest
from click.testing import CliRunner
from tests.context.conversations import chat

from penstock.cli import main

FACT = "The spare key of the boathouse hangs behind the barometer."
QUESTION = "Where is the key of the boathouse?"
CONFIG = """
providers:
  - {name: main, kind: anthropic, api_key: k}
  - {name: near, kind: ollama}
models:
  - {name: clever, targets: [{provider: main, model: claude-x}], context: {mode: budget, tokens: 2500}}
  - {name: local, targets: [{provider: near, model: llama3}]}
prices:
  - {provider: main, model: claude-x, usd_per_million: {input: 3, output: 15, cached_input: 0.3, cache_write: 3.75}}
"""


@pytest.fixture
def run(tmp_path):
    config = tmp_path / "penstock.yaml"
    config.write_text(CONFIG)
    file = tmp_path / "body.json"

    def run(body, *arguments):
        file.write_text(body if isinstance(body, str) else json.dumps(body))
        return CliRunner().invoke(main, ["context", "explain", str(file), *arguments, "--config", str(config)])

    return run


@pytest.fixture
def conversation():
    messages = chat(60)[:-1]
    messages[9]["content"] += " " + FACT
    return messages


def test_it_says_what_becomes_of_the_messages(run, conversation):
    result = run(conversation, "--tokens", "2500", "--question", QUESTION)
    assert result.exit_code == 0, result.output
    first, *rest = result.output.splitlines()
    assert first.startswith("Mode budget, at most 2500 tokens: ")
    assert first.endswith("of 122 messages are left out.")
    rows = [line for line in rest if "the budget of tokens was exceeded" in line]
    assert rows[0].split()[0].startswith("1-")
    assert "summarised" in rows[0]
    assert FACT in result.output
    assert "tokens at full price" in result.output


def test_a_configured_models_settings_and_prices_apply(run, conversation):
    body = {"model": "clever", "messages": conversation, "tools": [{"type": "function", "function": {"name": "f"}}]}
    result = run(body, "--question", QUESTION, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["mode"], found["tokens"]) == ("budget", 2500)
    assert (found["billing"]["read"], found["billing"]["write"]) == (0.1, 1.25)
    assert found["after"] <= 2500 < found["before"]
    assert found["messages"][-1]["content"].endswith(QUESTION)
    later = found["later"]
    assert later["saved_tokens"] == pytest.approx(later["whole_tokens"] - later["sent_tokens"])
    assert float(later["saved_usd"]) == pytest.approx(later["saved_tokens"] * 3e-6, abs=2e-6)


def test_after_a_long_pause_nothing_is_cached(run, conversation):
    soon, late = (
        json.loads(run(conversation, "--model", "clever", "--question", "Why?", "--json", *pause).output)
        for pause in ((), ("--pause", "3600"))
    )
    assert soon["later"]["whole_tokens"] < 0.2 * late["later"]["whole_tokens"]


def test_what_fits_is_kept_and_that_is_said(run):
    result = run(chat(2), "--tokens", "5000")
    assert "0 of 6 messages are left out" in result.output
    assert "it fits" in result.output
    result = run(chat(2), "--mode", "aggressive", "--model", "local")
    assert "aggressive, any number of tokens" in result.output


def test_a_models_name_in_the_body_that_nobody_knows_does_no_harm(run):
    assert run({"model": "unheard-of", "messages": chat(1)}).exit_code == 0
    result = run(chat(1), "--model", "unheard-of")
    assert result.exit_code == 2
    assert "no model and no provider is called 'unheard-of'" in result.output


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "is not JSON"),
        ("7", "needs a list of messages"),
        ('{"prompt": "x"}', "needs a list of messages"),
        ("[]", "messages must be a list of objects with a role"),
        ("[1]", "messages must be a list of objects with a role"),
    ],
)
def test_files_that_cannot_be_used(run, body, said):
    result = run(body)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_budget_smaller_than_the_question_is_refused(run, conversation):
    result = run(conversation, "--tokens", "5", "--question", QUESTION)
    assert result.exit_code == 1
    assert "may have 5 tokens" in result.output


def test_control_characters_are_made_visible(run, conversation):
    conversation[3]["content"] = "I'm allergic to \x1b[31mpeanuts today."
    result = run(conversation, "--tokens", "2500")
    assert "\x1b" not in result.output
    assert "\\x1b[31mpeanuts" in result.output
