import json

import pytest
from click.testing import CliRunner

from penstock.cli import main

CONFIG = """
providers:
  - {name: openai, kind: openai, api_key: k, discount: 0.5}
  - {name: near, kind: ollama}
models:
  - {name: fast, targets: [{provider: near, model: llama3}, {provider: openai, model: gpt-4o-mini}]}
prices:
  - {provider: near, model: "llama*", usd_per_hour: 1.2}
  - {model: gpt-4o, usd_per_million: {input: 2, output: 8, cached_input: 0.5}}
"""


@pytest.fixture
def run(tmp_path):
    file = tmp_path / "penstock.yaml"
    file.write_text(CONFIG)

    def run(*arguments, **options):
        return CliRunner().invoke(main, ["prices", *arguments, "--config", str(file)], **options)

    return run


def test_a_name_of_the_gateway_shows_each_target(run):
    result = run("show", "fast")
    assert result.exit_code == 0, result.output
    near, openai = result.output.split("openai/gpt-4o-mini: ")
    assert "near/llama3: the configuration, $1.2 an hour" in near
    assert "the price list (openai: gpt-4o-mini), less 50%" in openai
    assert ["input", "0.075"] in [line.split() for line in openai.splitlines()]


def test_prices_as_json(run):
    (found,) = json.loads(run("show", "openai/gpt-4o", "--json").output)
    assert found["origin"] == "configuration"
    assert found["tiers"] == [
        {
            "above_input_tokens": 0,
            "usd_per_million": {"input": "2", "cached_input": "0.5", "output": "8"},
        }
    ]


def test_a_model_nobody_configured_sells_is_shown_where_it_is_sold(run):
    result = run("show", "claude-sonnet-4-5")
    assert "anthropic/claude-sonnet-4-5: the price list" in result.output
    assert "openai/no-such-model: unknown" in run("show", "no-such-model").output


def test_the_list_has_own_prices_and_published_ones(run):
    lines = [line.split() for line in run("list").output.splitlines()]
    assert ["*", "gpt-4o", "2", "8", "the", "configuration"] in lines
    assert ["openai", "gpt-4o-mini", "0.075", "0.3", "the", "price", "list"] in lines
    (only,) = json.loads(run("list", "--provider", "near", "--json").output)
    assert only == {"provider": "near", "model": "llama*", "from": "the configuration", "usd_per_hour": "1.2"}


def test_a_recorded_answer_is_priced_part_by_part(run):
    body = {"model": "gpt-4o", "usage": {"prompt_tokens": 1000, "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 400}}}  # fmt: skip
    result = run("cost", "-", "--provider", "openai", input=json.dumps(body))
    assert [line.split() for line in result.output.splitlines()[1:4]] == [
        ["input", "0.0012"],
        ["cached_input", "0.0002"],
        ["output", "0.00008"],
    ]
    assert "openai/gpt-4o: $0.00148" in result.output
    found = json.loads(run("cost", "-", "--provider", "openai", "--json", input=json.dumps(body)).output)
    assert (found["cost_usd"], found["cost_source"], found["usage"]["input_tokens"]) == ("0.00148", "provider", 1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no token counts"),
        ('{"usage": {"prompt_tokens": 1}}', "does not name the model"),
    ],
)
def test_what_is_no_answer_is_refused(run, text, message):
    result = run("cost", "-", "--provider", "openai", input=text)
    assert result.exit_code == 2
    assert message in result.output


def test_a_model_without_a_price_costs_an_unknown_amount(run):
    body = json.dumps({"model": "nobody-knows", "usage": {"prompt_tokens": 1}})
    result = run("cost", "-", "--provider", "openai", input=body)
    assert "openai/nobody-knows: unknown" in result.output
