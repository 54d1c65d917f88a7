"""Prompts by name from the official OpenAI SDK, against a gateway whose files change."""

import os
import signal
import time

import openai
import pytest

GREET = """\
labels: {production: 1}
model: fast
variables: {name: string}
versions:
  1: {system: Be brief., user: "Greet {{ name }}."}
  2: {user: "Welcome {{ name }}."}
"""
CONFIG = """\
models: [{{name: fast, targets: [{{provider: simulated, model: sim}}]}}]
store: {{url: "sqlite:///{folder}/penstock.db"}}
prompts: {{directory: "{folder}/prompts"}}
"""
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, start_gateway):
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "greet.yaml").write_text(GREET)
    (folder / "prompts" / "story.yaml").write_text("text: Once upon a {{ t }}\nvariables: {t: string}\nmodel: fast\n")
    running = start_gateway(folder, CONFIG)
    yield running
    running.stop()


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def greet(**more):
    return {"prompt": {"id": "greet", "variables": {"name": "Ada"}, **more}}


def ask(client, **more):
    raw = client.chat.completions.with_raw_response.create(
        model="prompt/greet", messages=[], extra_body=greet(), **more
    )  # fmt: skip
    return raw.headers["x-penstock-prompt"], raw.parse()


def test_a_prompt_by_the_models_name_whole_and_streamed(client):
    prompt, answer = ask(client)
    assert prompt == "greet@1"
    assert "Greet Ada" in answer.choices[0].message.content
    _, stream = ask(client, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == answer.choices[0].message.content


def test_a_version_and_further_messages(client):
    answer = client.chat.completions.create(
        model="prompt/greet@2", messages=[{"role": "user", "content": "And Bo?"}], extra_body=greet()
    )
    assert "And Bo" in answer.choices[0].message.content
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=[], extra_body=greet(version="2"))
    assert raw.headers["x-penstock-prompt"] == "greet@2"


def test_a_text_to_complete(client):
    raw = client.completions.with_raw_response.create(
        model="prompt/story", prompt=None, extra_body={"prompt": {"id": "story", "variables": {"t": "time"}}}
    )
    assert raw.headers["x-penstock-prompt"] == "story@1"


def test_errors_are_the_sdks(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="prompt/gret", messages=[])
    assert caught.value.code == "prompt_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="prompt/greet", messages=[])
    assert (caught.value.code, caught.value.param) == ("prompt_variable_missing", "prompt.variables.name")


def test_prompts_are_among_the_models(client):
    assert {"fast", "prompt/greet", "prompt/story"} <= {model.id for model in client.models.list()}


def until(client, prompt, text):
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        said, answer = ask(client)
        if said == prompt and text in answer.choices[0].message.content:
            return
        time.sleep(0.1)
    pytest.fail(f"the gateway still answers by {said}: {answer.choices[0].message.content}")


def test_changed_files_are_read_and_a_broken_one_changes_nothing(client, gateway):
    path = gateway.folder / "prompts" / "greet.yaml"
    path.write_text(GREET.replace("Greet {{", "Salute {{"))
    until(client, "greet@1", "Salute Ada")
    path.write_text(GREET.replace("Greet {{", "{% if %}"))
    os.kill(gateway.process.pid, signal.SIGHUP)
    until_logged(gateway, "greet.yaml:5")
    assert "Salute Ada" in ask(client)[1].choices[0].message.content
    path.write_text(GREET.replace("production: 1", "production: 2"))
    os.kill(gateway.process.pid, signal.SIGHUP)
    until(client, "greet@2", "Welcome Ada")


def until_logged(gateway, text):
    log, limit = gateway.folder / "gateway.log", time.monotonic() + PATIENCE_S
    while text not in log.read_text():
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)
