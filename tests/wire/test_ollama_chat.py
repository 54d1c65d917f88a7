import json
import struct
from base64 import b64decode
from pathlib import Path

import pytest

from penstock.core.canonical import assemble
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.usage import Usage
from penstock.wire.ollama_chat import (
    StreamDecoder,
    decode_answer,
    decode_embeddings,
    decode_models,
    encode_completion,
    encode_embeddings,
    encode_request,
    parse_error,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "ollama"
STREAMS = {name: (GOLDEN / f"{name}.ndjson").read_bytes() for name in ("chat", "tools", "generate")}
HELLO = [{"role": "user", "content": "why is the sky blue?"}]
ID = "chatcmpl-0123456789abcdef0123456789abcdef"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
NOW = {"type": "function", "function": {"name": "now"}}


def chat(*, stream=False, **payload):
    return json.loads(encode_request({"messages": HELLO, **payload}, model="llama3.2", stream=stream))


def completion(**payload):
    return json.loads(encode_completion({"prompt": "Hi", **payload}, model="llama3.2", stream=False))


def embeddings(**payload):
    return json.loads(encode_embeddings(payload, model="all-minilm"))


def answered(document):
    body, usage, reason = decode_answer(json.dumps(document).encode(), id=ID, created=7, provider="near")
    return json.loads(body), usage, reason


def decoder():
    return StreamDecoder(id=ID, created=7, provider="near", max_line_bytes=1 << 20)


def decoded(*pieces):
    reader = decoder()
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.finish()
    return events


# Requests. The documented examples: what the canonical request becomes.

AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        pytest.param({}, {}, id="streaming, no streaming"),
        pytest.param({"tools": [WEATHER]}, {"tools": [WEATHER]}, id="tools"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": AGE}}, "temperature": 0},
            {"format": AGE, "options": {"temperature": 0}},
            id="structured outputs",
        ),
        pytest.param({"response_format": {"type": "json_object"}}, {"format": "json"}, id="JSON mode"),
        pytest.param(
            {"seed": 101, "temperature": 0}, {"options": {"seed": 101, "temperature": 0}}, id="reproducible outputs"
        ),
        pytest.param(
            {
                "max_completion_tokens": 100,
                "stop": ["\n", "user:"],
                "top_p": 0.9,
                "presence_penalty": 1.5,
                "frequency_penalty": 1.0,
                "top_k": 20,
                "options": {"num_ctx": 1024, "top_p": 0.1},
                "keep_alive": "1h",
            },
            {
                "options": {
                    "num_predict": 100,
                    "stop": ["\n", "user:"],
                    "top_p": 0.1,
                    "presence_penalty": 1.5,
                    "frequency_penalty": 1.0,
                    "top_k": 20,
                    "num_ctx": 1024,
                },
                "keep_alive": "1h",
            },
            id="options",
        ),
        pytest.param({"stop": "END", "max_tokens": 5}, {"options": {"stop": ["END"], "num_predict": 5}}, id="limits"),
        pytest.param({"reasoning_effort": "none"}, {"think": False}, id="no thinking"),
        pytest.param({"reasoning_effort": "minimal"}, {"think": "low"}, id="little thinking"),
        pytest.param({"reasoning_effort": "xhigh"}, {"think": "max"}, id="much thinking"),
        pytest.param({"reasoning_effort": "low", "think": True}, {"think": True}, id="its own think"),
        pytest.param({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}, id="logprobs"),
        pytest.param({"user": "u", "n": 1, "store": True, "logit_bias": {}, "keep_alive": None}, {}, id="hints"),
        pytest.param({"brand_new": 1}, {"brand_new": 1}, id="unknown"),
    ],
)
def test_chat_requests(payload, body):
    assert chat(**payload) == {"model": "llama3.2", "messages": HELLO, "stream": False, **body}
    assert chat(stream=True, **payload)["stream"] is True


def test_tool_choice():
    assert chat(tools=[WEATHER, NOW], tool_choice={"type": "function", "function": {"name": "now"}})["tools"] == [NOW]
    assert chat(tools=[WEATHER], tool_choice="required")["tools"] == [WEATHER]
    assert "tools" not in chat(tools=[WEATHER], tool_choice="none")


def test_history_with_tools_and_images():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is"},
                {"type": "text", "text": "this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm",
            "tool_calls": [{"id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Toronto"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "11 degrees celsius"},
        {"role": "tool", "name": "now", "content": "noon"},
    ]
    assert chat(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what is\nthis?", "images": ["iVBORw0"]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Toronto"}}}],
        },
        {"role": "tool", "content": "11 degrees celsius", "tool_name": "get_weather"},
        {"role": "tool", "content": "noon", "tool_name": "now"},
    ]


def test_completion_requests():
    assert completion() == {"model": "llama3.2", "prompt": "Hi", "stream": False}
    body = completion(prompt=["def f():"], suffix="return", temperature=0, best_of=1, echo=False, raw=True)
    assert body == {
        "model": "llama3.2",
        "prompt": "def f():",
        "suffix": "return",
        "raw": True,
        "options": {"temperature": 0},
        "stream": False,
    }


def test_embeddings_requests():
    assert embeddings(input="Why?", encoding_format="base64", user="u") == {"model": "all-minilm", "input": "Why?"}
    body = embeddings(input=["Why?", "How?"], dimensions=64, truncate=False)
    assert body == {"model": "all-minilm", "input": ["Why?", "How?"], "dimensions": 64, "truncate": False}


@pytest.mark.parametrize(
    ("encode", "payload", "param"),
    [
        (chat, {"n": 2}, "n"),
        (chat, {"functions": [{}]}, "functions"),
        (chat, {"messages": []}, "messages"),
        (chat, {"messages": [{"role": "function", "content": "x"}]}, "messages"),
        (chat, {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages"),
        (chat, {"options": 3}, "options"),
        (chat, {"tools": {}, "tool_choice": "auto", "response_format": 3}, "response_format"),
        (chat, {"tools": {"a": 1}}, "tools"),
        (chat, {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        (chat, {"tools": [{}], "tool_choice": {}}, "tool_choice"),
        (chat, {"response_format": {"type": "json_schema"}}, "response_format"),
        (chat, {"reasoning_effort": {}}, "reasoning_effort"),
        (completion, {"n": 3}, "n"),
        (completion, {"best_of": 3}, "best_of"),
        (completion, {"echo": True}, "echo"),
        (completion, {"logprobs": 2}, "logprobs"),
        (completion, {"prompt": ["a", "b"]}, "prompt"),
        (completion, {"prompt": [1, 2]}, "prompt"),
        (embeddings, {}, "input"),
        (embeddings, {"input": []}, "input"),
        (embeddings, {"input": [[1, 2]]}, "input"),
        (embeddings, {"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_said_is_refused_naming_the_field(encode, payload, param):
    with pytest.raises(InvalidRequest) as caught:
        encode(**payload)
    assert caught.value.param == param


def test_remote_images_are_refused_saying_what_to_do():
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(InvalidRequest, match="send them inline"):
        chat(messages=[{"role": "user", "content": [part]}])


# Whole answers

DURATIONS = {"total_duration": 5191566416, "load_duration": 2154458, "eval_duration": 4799921000}


def test_a_chat_answer():
    answer, usage, reason = answered(
        {
            "model": "llama3.2",
            "created_at": "2023-12-12T14:13:43.416799Z",
            "message": {"role": "assistant", "content": "Hello! How are you today?"},
            "done": True,
            "prompt_eval_count": 26,
            "eval_count": 298,
            **DURATIONS,
        }
    )
    assert answer == {
        "id": ID,
        "object": "chat.completion",
        "created": 1702390423,
        "model": "llama3.2",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How are you today?"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "ollama": {
            "created_at": "2023-12-12T14:13:43.416799Z",
            "prompt_eval_count": 26,
            "eval_count": 298,
            **DURATIONS,
        },
        "usage": {"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324},
    }
    assert (usage, reason) == (Usage(26, 298), "stop")


def test_a_chat_answer_with_tool_calls():
    call = {"function": {"name": "get_weather", "arguments": {"format": "celsius", "location": "Paris, FR"}}}
    message = {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [call, {"id": "own", **call}]}
    answer, _, reason = answered({"message": message, "done_reason": "stop", "done": True, "eval_count": 33})
    assert reason == "tool_calls"
    said = answer["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"]) == (None, "Hm")
    [first, second] = said["tool_calls"]
    assert first["type"] == "function"
    assert first["function"]["name"] == "get_weather"
    assert json.loads(first["function"]["arguments"]) == {"format": "celsius", "location": "Paris, FR"}
    assert first["id"].startswith("call_")
    assert second["id"] == "own"
    again = chat(messages=[*HELLO, said])["messages"][1]
    assert again["tool_calls"] == [call, call]


def test_log_probabilities():
    logprobs = [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]
    answer, _, _ = answered({"message": {"content": "Hi"}, "logprobs": logprobs, "done": True})
    assert answer["choices"][0]["logprobs"] == {"content": logprobs}
    line = json.dumps({"message": {"content": "Hi"}, "logprobs": logprobs, "done": True}).encode() + b"\n"
    assert json.loads(assemble(decoded(line)))["choices"][0]["logprobs"] == {"content": logprobs}


def test_loading_and_unloading_a_model():
    for reason in ("load", "unload"):
        answer, usage, finish = answered({"message": {"content": ""}, "done_reason": reason, "done": True})
        assert (usage, finish, answer["choices"][0]["message"]["content"]) == (None, "stop", "")
        assert answer["ollama"] == {"done_reason": reason}
        assert "usage" not in answer


def test_a_completion():
    answer, usage, reason = answered(
        {
            "model": "codellama:code",
            "created_at": "2024-07-22T20:47:51.147561Z",
            "response": "\n  return b\n",
            "done": True,
            "done_reason": "length",
            "context": [1, 2, 3],
            "prompt_eval_count": 17,
            "eval_count": 63,
        }
    )
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "\n  return b\n", "logprobs": None, "finish_reason": "length"}]
    assert answer["ollama"]["context"] == [1, 2, 3]
    assert (usage, reason) == (Usage(17, 63), "length")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html>", "upstream_invalid"),
        (b"{}", "upstream_invalid"),
        (b'{"message":{"content":"Hi"},"done":false}', "upstream_invalid"),
        (b'{"message":"Hi","done":true}', "upstream_invalid"),
        (b'{"error":"the model failed to generate a response"}', "upstream_error"),
    ],
)
def test_bodies_that_are_no_answer(data, code):
    with pytest.raises(ProviderError) as caught:
        decode_answer(data, id=ID, created=0, provider="near")
    assert (caught.value.code, caught.value.provider) == (code, "near")


# Streams


def test_a_chat_stream_chunk_by_chunk():
    events = decoded(STREAMS["chat"])
    chunks = [json.loads(event.data) for event in events]
    assert {(chunk["id"], chunk["object"], chunk["model"], chunk["created"]) for chunk in chunks} == {
        (ID, "chat.completion.chunk", "llama3.2", 1691164339)
    }
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "水の"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": " 門 🚰"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert chunks[2]["ollama"]["total_duration"] == 4883583458
    assert (events[2].finish_reason, events[3].bare_usage, events[3].usage) == ("stop", True, Usage(26, 282))


def test_a_stream_of_thinking_and_tools():
    [choice] = json.loads(assemble(decoded(STREAMS["tools"])))["choices"]
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Weather needed.",
            "tool_calls": [
                {
                    "id": "call_89abcdef0123456789abcdef0",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Tokyo"}'},
                },
                {"id": "call_own", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_a_stream_of_text():
    answer = json.loads(assemble(decoded(STREAMS["generate"])))
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "That's it!", "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"]["total_tokens"] == 8


def test_a_stream_says_what_the_whole_answer_says():
    last = STREAMS["chat"].splitlines()[-1]
    document = json.loads(last)
    document["message"]["content"] = "水の 門 🚰"
    whole, _, _ = answered(document)
    streamed = json.loads(assemble(decoded(STREAMS["chat"])))
    assert {**streamed, "created": whole["created"]} == whole


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_any_split_gives_the_same_chunks(stream):
    expected = decoded(stream)
    for at in range(len(stream)):
        assert decoded(stream[:at], stream[at:]) == expected
    assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == expected


def test_the_last_line_may_have_no_message():
    events = decoded(
        b'{"message":{"content":"The"},"done":false}\n{"done":true,"prompt_eval_count":61,"eval_count":2}\n'
    )
    assert json.loads(assemble(events))["choices"][0]["message"]["content"] == "The"
    empty = decoded(b'{"message":{"content":""},"done":true}\n')
    assert json.loads(assemble(empty))["choices"][0]["message"]["content"] == ""


def test_an_error_line_comes_after_what_was_said_before():
    reader = decoder()
    events = reader.feed((GOLDEN / "error.ndjson").read_bytes())
    assert [json.loads(event.data)["choices"][0]["delta"]["content"] for event in events] == [" Yes"]
    assert reader.ended
    with pytest.raises(ProviderError, match="an error was encountered while running the model") as caught:
        reader.finish()
    assert caught.value.code == "upstream_error"


def test_a_stream_without_a_done_line_is_incomplete():
    lines = STREAMS["chat"].splitlines(keepends=True)
    for pieces in (lines[:2], [*lines[:2], lines[2][:-1]]):
        with pytest.raises(ProviderError) as caught:
            decoded(*pieces)
        assert caught.value.code == "upstream_incomplete"


@pytest.mark.parametrize(
    "data", [b"<html>\n", b'{"message":3}\n', b'{"message":{"content":"\xff"}}\n', b"x" * (1 << 21)]
)
def test_malformed_lines(data):
    with pytest.raises(ProviderError) as caught:
        decoded(data)
    assert (caught.value.code, caught.value.provider) == ("upstream_invalid", "near")


# Embeddings, models, errors


def test_embeddings():
    body = b'{"model":"all-minilm","embeddings":[[0.5,-0.25],[1,0]],"total_duration":14143917,"prompt_eval_count":8}'
    data, usage = decode_embeddings(body, base64=False, provider="near")
    assert json.loads(data) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
        ],
        "model": "all-minilm",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
        "ollama": {"total_duration": 14143917, "prompt_eval_count": 8},
    }
    assert usage == Usage(8)
    packed, _ = decode_embeddings(body, base64=True, provider="near")
    assert struct.unpack("<2f", b64decode(json.loads(packed)["data"][0]["embedding"])) == (0.5, -0.25)


@pytest.mark.parametrize("body", [b"{}", b"<", b'{"embeddings":[["x"]]}', b'{"embeddings":[[1e300]]}'])
def test_embeddings_that_cannot_be_read(body):
    with pytest.raises(ProviderError, match="embeddings that cannot be read"):
        decode_embeddings(body, base64=True, provider="near")


def test_models():
    tags = b'{"models":[{"name":"deepseek-r1:latest","model":"deepseek-r1:latest","modified_at":"2025-05-10T08:06:48.639712648-07:00","size":4683075271},{"name":"new"}]}'  # noqa: E501 a golden line
    assert decode_models(tags, "near") == [("deepseek-r1:latest", 1746889608), ("new", 0)]
    assert decode_models(b'{"models":null}', "near") == []
    with pytest.raises(ProviderError, match="list of models"):
        decode_models(b"{}", "near")


def test_error_replies():
    error = parse_error(404, {}, b'{"error":"model \'llama9\' not found"}', "near", "llama9")
    assert (error.status_code, error.code, error.elsewhere) == (404, "model_not_found", True)
    assert "ollama pull llama9" in error.message
    error = parse_error(400, {}, b'{"error":"x does not support tools"}', "near", "x")
    assert (error.code, error.elsewhere, error.message) == ("invalid_request", False, "x does not support tools")
    error = parse_error(500, {}, b'{"error":{"message":"out of memory"}}', "near")
    assert (error.code, error.retryable) == ("upstream_error", True)
    assert "out of memory" in error.message
    error = parse_error(404, {}, b"404 page not found", "near", "llama9")
    assert (error.code, "pull" in error.message) == ("not_found", False)
