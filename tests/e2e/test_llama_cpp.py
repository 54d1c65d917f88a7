"""llama.cpp behind llama-cpp-python's server, with a model the test makes, as the provider behind Penstock."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

MODEL = Path(__file__).with_name("tiny_model.py")
SENTENCE = "Rivers flow through many lands before they reach an ocean."
PENSTOCK = """\
providers: [{{name: near, kind: llamacpp, base_url: "URL/v1"}}]
models: [{{name: "*", targets: [{{provider: near, model: tiny}}]}}]
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""


@pytest.fixture(scope="module")
def client(require_peer, start_peer, start_gateway, tmp_path_factory):
    python = require_peer("llama", compiled=True)
    folder = tmp_path_factory.mktemp("llama")
    model = folder / "tiny.gguf"
    subprocess.run([python, MODEL, model], check=True, timeout=60)
    server = [python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", "0", "--n_ctx", "512"]
    peer = start_peer(*server, "--n_threads", "1", "--model", model, "--model_alias", "tiny")
    gateway = start_gateway(folder, PENSTOCK.replace("URL", peer.url))
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made
    assert gateway.stop() == 0


def ask(client, question: str, **options):
    return client.chat.completions.with_raw_response.create(
        model="any", messages=[{"role": "user", "content": question}], temperature=0, **options
    )


def collect(raw):
    chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    return text, reasons


def test_whole_answer_and_its_hit(client):
    first, second = ask(client, "whole"), ask(client, "whole")
    answer = first.parse()
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 11
    assert (first.headers["x-penstock-provider"], first.headers["x-penstock-model"]) == ("near", "tiny")
    assert "hit" in second.headers["cache-status"]
    assert second.parse().choices == answer.choices
    assert second.parse().usage == answer.usage


def test_stream_and_its_hit(client):
    first = ask(client, "streamed", stream=True)
    assert "fwd=miss" in first.headers["cache-status"]
    assert collect(first) == (SENTENCE, ["stop"])
    again, whole = ask(client, "streamed", stream=True), ask(client, "streamed")
    assert "hit" in again.headers["cache-status"]
    assert collect(again) == (SENTENCE, ["stop"])
    assert "hit" in whole.headers["cache-status"]
    assert whole.parse().choices[0].message.content == SENTENCE
    assert whole.parse().choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_cut_off_is_delivered_but_not_kept(client, stream):
    for _ in range(2):
        raw = ask(client, f"cut off {stream}", max_tokens=3, stream=stream)
        assert "hit" not in raw.headers["cache-status"]
        if stream:
            assert collect(raw) == ("Rivers flow through", ["length"])
        else:
            assert raw.parse().choices[0].message.content == "Rivers flow through"
            assert raw.parse().choices[0].finish_reason == "length"


def test_log_probabilities_survive_the_stream_and_the_cache(client):
    options = {"logprobs": True, "top_logprobs": 2}
    chunks = list(ask(client, "how sure", stream=True, **options).parse())
    streamed = [entry for chunk in chunks for entry in (chunk.choices[0].logprobs or empty()).content or []]
    whole = ask(client, "how sure", **options)
    assert "hit" in whole.headers["cache-status"]
    kept = whole.parse().choices[0].logprobs.content
    assert "".join(entry.token for entry in kept) == SENTENCE
    assert [entry.token for entry in streamed] == [entry.token for entry in kept]
    assert all(len(entry.top_logprobs) == 2 for entry in kept)


def empty():
    return openai.types.chat.chat_completion_chunk.ChoiceLogprobs(content=None)


def test_legacy_completions(client):
    answer = client.completions.create(model="any", prompt="A sentence:", temperature=0)
    assert answer.choices[0].text == SENTENCE
    streamed = client.completions.create(model="any", prompt="Another sentence:", temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == SENTENCE


def test_concurrent_questions_are_all_answered(client):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask(client, f"question {number}").parse(), range(16)))
    assert [answer.choices[0].message.content for answer in answers] == [SENTENCE] * 16


def test_streams_it_interrupts_end_in_an_error_and_are_not_kept(client):
    """By default this server ends a running stream, without a word, as soon as somebody else asks."""

    def streamed(number: int) -> str:
        try:
            text, reasons = collect(ask(client, f"interrupted {number}", stream=True))
        except openai.APIError as error:
            return str(error)
        return f"{text} {reasons}"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(streamed, range(8)))
    assert all(outcome == f"{SENTENCE} ['stop']" or "ended before the answer did" in outcome for outcome in outcomes)
    for number in range(8):
        assert ask(client, f"interrupted {number}").parse().choices[0].message.content == SENTENCE


def test_its_models_are_offered(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
