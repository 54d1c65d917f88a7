"""LiteLLM's proxy, an independent server, as the provider behind Penstock."""

import json
import secrets

import openai
import pytest

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

ANSWER = "Rivers run to the sea, über Stock und Stein, and a sentence may cross \U0001f30a chunks."
LITELLM = {
    "model_list": [
        {
            "model_name": "mock",
            "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-unused", "mock_response": ANSWER},
        },
        {
            "model_name": "broken",
            "litellm_params": {
                "model": "openai/gpt-4o-mini",
                "api_key": "sk-unused",
                "mock_response": "litellm.RateLimitError",
            },
        },
    ],
    "router_settings": {"num_retries": 0},
}
PENSTOCK = """\
providers:
  - {{name: up, kind: openai-compatible, base_url: "URL/v1", api_key: "KEY"}}
  - {{name: wrong, kind: openai-compatible, base_url: "URL/v1", api_key: "wrong"}}
  - {{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}
models:
  - {{name: mock, targets: [{{provider: up, model: mock}}]}}
  - {{name: broken, targets: [{{provider: up, model: broken}}, {{provider: sim, model: sim}}]}}
  - {{name: locked, targets: [{{provider: wrong, model: mock}}]}}
retry: {{attempts: 1}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""


@pytest.fixture(scope="module")
def litellm(require_peer, start_peer, tmp_path_factory):
    python = require_peer("litellm")
    config = tmp_path_factory.mktemp("litellm") / "litellm.yaml"
    config.write_text(json.dumps(LITELLM, ensure_ascii=False))
    key = f"sk-{secrets.token_hex(24)}"
    command = [python, python.parent / "litellm", "--config", config, "--host", "127.0.0.1", "--port", "0"]
    peer = start_peer(*command, LITELLM_MASTER_KEY=key, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False")
    return peer.url, key


@pytest.fixture(scope="module")
def client(litellm, start_gateway, tmp_path_factory):
    url, key = litellm
    config = PENSTOCK.replace("URL", url).replace("KEY", key)
    gateway = start_gateway(tmp_path_factory.mktemp("gateway"), config)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made
    assert gateway.stop() == 0


def ask(client, question: str, **options):
    return client.chat.completions.with_raw_response.create(
        model="mock", messages=[{"role": "user", "content": question}], **options
    )


def collect(raw):
    chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    return text, reasons, [chunk.usage for chunk in chunks if chunk.usage]


def test_whole_answer_and_its_hit(client):
    first, second = ask(client, "whole"), ask(client, "whole")
    answer = first.parse()
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert (first.headers["x-penstock-provider"], first.headers["x-penstock-attempts"]) == ("up", "1")
    assert second.headers["x-penstock-attempts"] == "0"
    assert "hit" in second.headers["cache-status"]
    assert second.parse().choices == answer.choices
    assert second.parse().usage == answer.usage


def test_stream_and_its_hit(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text, reasons, usages = collect(ask(client, "streamed", **options))
    assert (text, reasons) == (ANSWER, ["stop"])
    assert [usage.completion_tokens > 0 for usage in usages] == [True]
    second = ask(client, "streamed", **options)
    assert "hit" in second.headers["cache-status"]
    assert collect(second) == (text, reasons, usages)


def test_a_stream_answers_whole_and_the_other_way_round(client):
    collect(ask(client, "streamed first", stream=True))
    whole = ask(client, "streamed first")
    assert "hit" in whole.headers["cache-status"]
    assert whole.parse().choices[0].message.content == ANSWER
    ask(client, "whole first")
    streamed = ask(client, "whole first", stream=True)
    assert "hit" in streamed.headers["cache-status"]
    assert collect(streamed) == (ANSWER, ["stop"], [])


def test_its_models_are_offered(client):
    assert "mock" in [model.id for model in client.models.list()]


def test_its_refusal_sends_the_call_elsewhere(client):
    raw = client.chat.completions.with_raw_response.create(
        model="broken", messages=[{"role": "user", "content": "anybody?"}]
    )
    assert raw.headers["x-penstock-attempts"] == "2"
    assert raw.headers["x-penstock-provider"] == "sim"


def test_its_complaint_about_the_request_is_passed_on_in_its_words(client):
    # Without a database LiteLLM answers 400 to a key it does not know.
    with pytest.raises(openai.BadRequestError, match="No connected db"):
        client.chat.completions.create(model="locked", messages=[{"role": "user", "content": "let me in"}])
