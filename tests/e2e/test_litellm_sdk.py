"""LiteLLM's SDK, unchanged, as a client of Penstock: a process, because it has an environment of its own."""

import json
import os
import subprocess

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

PROGRAM = """
import asyncio, json, sys
import litellm

url, question = sys.argv[1:]
asked = {"model": "openai/any", "api_base": url + "/v1", "api_key": "any",
         "messages": [{"role": "user", "content": question}]}
whole = litellm.completion(**asked)
parts = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
later = asyncio.run(litellm.acompletion(**asked))
tool = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
called = litellm.completion(**asked, tools=[tool], tool_choice="required")
vectors = litellm.embedding(model="openai/any", api_base=url + "/v1", api_key="any", input=["one", "two"])
try:
    litellm.completion(**{**asked, "messages": []}, num_retries=0)
    refused = None
except litellm.BadRequestError as error:
    refused = error.status_code
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "finish": whole.choices[0].finish_reason,
    "tokens": whole.usage.total_tokens,
    "fingerprint": whole.system_fingerprint,
    "streamed": "".join(part.choices[0].delta.content or "" for part in parts if part.choices),
    "stream_finish": [reason for part in parts for choice in part.choices if (reason := choice.finish_reason)],
    "stream_tokens": [part.usage.total_tokens for part in parts if getattr(part, "usage", None)],
    "later": later.choices[0].message.content,
    "later_headers": later._hidden_params["additional_headers"],
    "called": called.choices[0].message.tool_calls[0].function.name,
    "arguments": called.choices[0].message.tool_calls[0].function.arguments,
    "sizes": [len(item["embedding"]) for item in vectors.data],
    "refused": refused,
}))
"""


@pytest.fixture(scope="module")
def said(require_peer, shared_gateway):
    done = subprocess.run(
        [require_peer("litellm"), "-c", PROGRAM, shared_gateway.url, "Which rivers flow through Vienna?"],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_whole_and_streamed_say_the_same(said):
    assert said["whole"] == said["streamed"] == said["later"] != ""
    assert said["finish"] == "stop"
    assert said["stream_finish"] == ["stop"]
    assert said["stream_tokens"] == [said["tokens"]]
    assert said["fingerprint"] == "penstock-simulated"


def test_the_repetition_was_a_hit(said):
    assert "hit" in said["later_headers"]["llm_provider-cache-status"]
    assert said["later_headers"]["llm_provider-x-penstock-attempts"] == "0"


def test_tools(said):
    assert said["called"] == "weather"
    assert set(json.loads(said["arguments"])) == {"city"}


def test_embeddings(said):
    assert said["sizes"] == [256, 256]


def test_a_bad_request_is_the_sdks_own_error(said):
    assert said["refused"] == 400
