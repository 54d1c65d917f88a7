import json
from pathlib import Path

import msgspec
import pytest

from penstock.core.canonical import assemble
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.usage import Usage
from penstock.wire.anthropic_messages import StreamDecoder, decode_answer, decode_models, encode_request, parse_error

GOLDEN = Path(__file__).parent.parent / "golden" / "anthropic"
TEXT = (GOLDEN / "text.sse").read_bytes()
TOOLS = (GOLDEN / "thinking_and_tools.sse").read_bytes()
WHOLE = (GOLDEN / "thinking_and_tools.json").read_bytes()
HELLO = [{"role": "user", "content": "Hello"}]


def encoded(model="claude-haiku-4-5", *, stream=False, **payload):
    return msgspec.json.decode(encode_request({"messages": HELLO, **payload}, model=model, stream=stream))


def decoder():
    return StreamDecoder(created=1_700_000_000, provider="anthropic", max_line_bytes=1 << 20)


def decoded(*pieces):
    reader = decoder()
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.finish()
    return events


# Requests


def test_the_smallest_request():
    assert encoded() == {
        "model": "claude-haiku-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }
    assert encoded(stream=True)["stream"] is True


def test_settings_are_translated():
    body = encoded(
        max_completion_tokens=100,
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        stop="END",
        user="u1",
        service_tier="default",
    )
    assert {name: body[name] for name in body if name not in ("model", "messages")} == {
        "max_tokens": 100,
        "temperature": 1.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "service_tier": "standard_only",
    }
    assert encoded(max_tokens=7, stop=["a", "b"])["stop_sequences"] == ["a", "b"]


def test_hints_without_counterpart_are_left_out_and_unknown_fields_pass():
    body = encoded(
        seed=1,
        frequency_penalty=0.5,
        logit_bias={"1": 2},
        store=True,
        metadata={"team": "x"},
        n=1,
        logprobs=False,
        container="c1",
        cache_control={"type": "ephemeral"},
        top_k=None,
    )
    assert set(body) == {"model", "max_tokens", "messages", "container", "cache_control"}


def test_a_conversation_with_tools():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Use tools.", "cache_control": {"type": "x"}}]},
        {"role": "user", "content": "Weather in Paris and Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "get", "arguments": '{"city":"Paris"}'}},
                {"id": "b", "type": "function", "function": {"name": "now", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "11 °C"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": ""},
        {"role": "user", "content": "Well?"},
    ]
    body = encoded(messages=messages)
    assert body["system"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Use tools.", "cache_control": {"type": "x"}},
    ]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Weather in Paris and Rome?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "get", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "b", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "11 °C"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "noon"}]},
                {"type": "text", "text": "And?"},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]


def test_images_and_files():
    parts = [
        {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "search_result", "source": "own", "title": "t", "content": []},
    ]
    [message] = encoded(messages=[{"role": "user", "content": parts}])["messages"]
    assert message["content"] == [
        {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
            "title": "a.pdf",
        },
        parts[4],
    ]


TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def test_tools():
    own = {"type": "web_search_20250305", "name": "web_search"}
    bare = {"type": "function", "function": {"name": "g", "strict": True}, "cache_control": {"type": "ephemeral"}}
    assert encoded(tools=[TOOL, own, bare])["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        own,
        {
            "name": "g",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", True, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        ({"type": "any"}, False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice, parallel, expected):
    assert encoded(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == expected


def test_a_schema_is_asked_for_in_output_config():
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    body = encoded(response_format=wanted, output_config={"effort": "low"})
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert "output_config" not in encoded(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("model", "effort", "limit", "expected"),
    [
        ("claude-sonnet-4-5-20250929", "low", None, ({"type": "enabled", "budget_tokens": 1024}, None, 5120)),
        ("claude-opus-4-20250514", "high", None, ({"type": "enabled", "budget_tokens": 16384}, None, 20480)),
        ("claude-3-7-sonnet-latest", "high", 8000, ({"type": "enabled", "budget_tokens": 4000}, None, 8000)),
        ("claude-haiku-4-5", "medium", 1024, (None, None, 1024)),
        ("claude-3-5-haiku-latest", "high", None, (None, None, 4096)),
        ("claude-haiku-4-5", "none", None, (None, None, 4096)),
        ("claude-opus-4-7", "medium", None, ({"type": "adaptive", "display": "summarized"}, "medium", 8192)),
        ("claude-sonnet-5", "minimal", 500, ({"type": "adaptive", "display": "summarized"}, "low", 500)),
        ("claude-opus-4-10", "xhigh", 500, ({"type": "adaptive", "display": "summarized"}, "xhigh", 500)),
    ],
)
def test_reasoning_effort_in_the_form_the_model_knows(model, effort, limit, expected):
    body = encoded(model, reasoning_effort=effort, temperature=0.5, max_tokens=limit)
    found = body.get("thinking"), body.get("output_config", {}).get("effort"), body["max_tokens"]
    assert found == expected
    assert ("temperature" in body) == (expected[0] is None)


def test_thinking_gives_way_to_what_excludes_it():
    assert "thinking" not in encoded(reasoning_effort="low", tools=[TOOL], tool_choice="required")
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]
    loop = [*HELLO, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": "1"}]
    assert "thinking" not in encoded(messages=loop, reasoning_effort="low")
    signed = {"type": "thinking", "thinking": "so", "signature": "s"}
    loop[1]["thinking_blocks"] = [signed]
    body = encoded(messages=loop, reasoning_effort="low")
    assert body["thinking"]["type"] == "enabled"
    assert body["messages"][1]["content"][0] == signed


def test_anthropics_own_thinking_field_goes_first():
    body = encoded(thinking={"type": "enabled", "budget_tokens": 2000}, reasoning_effort="high", temperature=1)
    assert body["thinking"]["budget_tokens"] == 2000
    assert body["temperature"] == 1


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": [{}]}, "functions"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": 3}, "response_format"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": "f"}, "tools"),
        ({"tools": ["f"]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "f"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"messages": [{"role": "system", "content": "only"}]}, "messages"),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "messages"),
    ],
)
def test_what_cannot_be_said_is_refused_naming_the_field(payload, param):
    with pytest.raises(InvalidRequest) as caught:
        encoded(**payload)
    assert caught.value.param == param


# Whole answers


def test_an_answer_with_everything():
    body, usage, reason = decode_answer(WHOLE, created=5, provider="anthropic")
    answer = json.loads(body)
    [choice] = answer.pop("choices")
    assert answer == {
        "id": "msg_01",
        "object": "chat.completion",
        "created": 5,
        "model": "claude-opus-4-7",
        "usage": {
            "prompt_tokens": 472,
            "completion_tokens": 89,
            "total_tokens": 561,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
    }
    assert choice == {
        "index": 0,
        "finish_reason": "tool_calls",
        "logprobs": None,
        "message": {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "Two cities, two calls.",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "Two cities, two calls.", "signature": "EqQBCgIYAhIM"},
                {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
            ],
            "tool_calls": [
                {
                    "id": "toolu_01",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                },
                {"id": "toolu_02", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
    }
    assert reason == "tool_calls"
    assert usage == Usage(input_tokens=472, output_tokens=89, reasoning_tokens=20)


def test_the_answer_can_be_given_back_in_the_next_request():
    body, _, _ = decode_answer(WHOLE, created=5, provider="anthropic")
    message = json.loads(body)["choices"][0]["message"]
    sent = encoded(messages=[*HELLO, message])["messages"][1]["content"]
    assert sent == json.loads(WHOLE)["content"]


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons(stop_reason, expected):
    data = json.dumps({"id": "m", "type": "message", "content": [], "stop_reason": stop_reason}).encode()
    body, usage, reason = decode_answer(data, created=0, provider="p")
    assert (reason, usage) == (expected, None)
    assert json.loads(body)["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html>", "upstream_invalid"),
        (b"[]", "upstream_invalid"),
        (b"{}", "upstream_invalid"),
        (b'{"type":"message","content":[]}', "upstream_invalid"),
        (b'{"type":"message","content":"x","stop_reason":"end_turn"}', "upstream_invalid"),
        (b"\xff", "upstream_invalid"),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"m"}}', "rate_limit_exceeded"),
        (b'{"type":"error","error":{"type":"brand_new","message":"m"}}', "upstream_error"),
    ],
)
def test_bodies_that_are_no_answer(data, code):
    with pytest.raises(ProviderError) as caught:
        decode_answer(data, created=0, provider="near")
    assert (caught.value.code, caught.value.provider) == (code, "near")


# Streams


def test_a_text_stream_chunk_by_chunk():
    events = decoded(TEXT)
    chunks = [json.loads(event.data) for event in events]
    assert {(chunk["id"], chunk["object"], chunk["model"], chunk["created"]) for chunk in chunks} == {
        ("msg_014p7gG3wDgGV9EUtLvnow3U", "chat.completion.chunk", "claude-haiku-4-5", 1_700_000_000)
    }
    assert [chunk["choices"] for chunk in chunks] == [
        [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "水門 "},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {"content": "opens 🚰."}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [event.finish_reason for event in events] == [None, None, "stop", None]
    assert events[3].bare_usage
    assert events[3].usage == Usage(542, 9, cached_input_tokens=500, cache_write_tokens=30)
    assert chunks[3]["usage"]["prompt_tokens_details"] == {"cached_tokens": 500, "cache_write_tokens": 30}


def test_a_stream_says_what_the_whole_answer_says():
    whole, _, _ = decode_answer(WHOLE, created=1_700_000_000, provider="anthropic")
    assert json.loads(assemble(decoded(TOOLS))) == json.loads(whole)


@pytest.mark.parametrize("stream", [TEXT, TOOLS], ids=["text", "tools"])
def test_any_split_gives_the_same_chunks(stream):
    expected = decoded(stream)
    for at in range(len(stream)):
        assert decoded(stream[:at], stream[at:]) == expected
    assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == expected


def test_input_that_comes_with_the_block_start_is_not_lost():
    stream = (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hm"}}\n\n'
        b'data: {"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"so"}}\n\n'
        b'data: {"type":"content_block_start","index":2,"content_block":'
        b'{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}\n\n'
        b'data: {"type":"content_block_stop","index":1}\n\n'
        b'data: {"type":"content_block_stop","index":2}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":1}}\n\n'
    )
    message = json.loads(assemble(decoded(stream)))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hm", "so")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


def test_server_tools_are_left_out():
    stream = (
        b'data: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n'
        b'data: {"type":"content_block_stop","index":0}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
    )
    message = json.loads(assemble(decoded(stream)))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": ""}


def test_an_error_event_comes_after_what_was_said_before():
    reader = decoder()
    events = reader.feed((GOLDEN / "overloaded.sse").read_bytes())
    assert [json.loads(event.data)["choices"][0]["delta"]["content"] for event in events] == ["Half"]
    assert reader.ended
    assert reader.feed(TEXT) == []
    with pytest.raises(ProviderError, match="Overloaded") as caught:
        reader.finish()
    assert (caught.value.status_code, caught.value.code, caught.value.retryable) == (529, "upstream_error", True)


@pytest.mark.parametrize("until", [b"event: content_block_stop", b"event: message_delta"])
def test_a_stream_without_stop_reason_is_incomplete(until):
    with pytest.raises(ProviderError) as caught:
        decoded(TEXT[: TEXT.index(until)])
    assert caught.value.code == "upstream_incomplete"


def test_message_stop_may_be_missing():
    events = decoded(TEXT[: TEXT.index(b"event: message_stop")])
    assert events[-1].usage is not None


@pytest.mark.parametrize(
    "data",
    [b"data: {]\n\n", b'data: {"type":3}\n\n', b'data: {"type":"x","delta":[]}\n\n', b"data: \xff\xfe\n\n",
     b'data: {"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"x"}}\n\n',
     b"data: " + b"[" * 100_000 + b"\n\n", b"data: " + b"x" * (1 << 21)],
)  # fmt: skip
def test_malformed_events(data):
    with pytest.raises(ProviderError) as caught:
        decoded(data)
    assert (caught.value.code, caught.value.provider) == ("upstream_invalid", "anthropic")


# Errors and models


def test_error_replies():
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"},"request_id":"req_1"}'
    error = parse_error(429, {"retry-after": "12"}, body, "far")
    assert (error.code, error.retry_after, error.elsewhere) == ("rate_limit_exceeded", 12.0, True)
    body = b'{"type":"error","error":{"type":"not_found_error","message":"model: claude-0"}}'
    error = parse_error(404, {}, body, "far")
    assert (error.code, error.message, error.elsewhere) == ("not_found_error", "model: claude-0", True)
    error = parse_error(503, {}, b"<html>busy", "far")
    assert "<html>busy" in error.message


def test_a_prompt_that_is_too_long_may_fit_elsewhere():
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}'
    error = parse_error(400, {}, body, "far")
    assert (error.code, error.elsewhere) == ("context_length_exceeded", True)


def test_models():
    page = b'{"data":[{"type":"model","id":"a","created_at":"2025-02-19T00:00:00Z"},{"id":"b"}],"has_more":true,"last_id":"b"}'  # noqa: E501 a golden line
    assert decode_models(page, "p") == ([("a", 1739923200), ("b", 0)], "b")
    assert decode_models(b'{"data":[],"has_more":false,"last_id":null}', "p") == ([], None)
    with pytest.raises(ProviderError, match="list of models"):
        decode_models(b"[]", "p")
