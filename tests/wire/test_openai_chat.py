import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Call
from penstock.core.errors import InvalidRequest
from penstock.core.request import Request
from penstock.wire.json_body import MAX_DEPTH
from penstock.wire.openai_chat import DONE, decode_request, encode_request, error_frame, frame
from penstock.wire.openai_stream import parse_chunk

MESSAGES = [{"role": "user", "content": "Hi"}]


def chat(**fields):
    return json.dumps({"model": "gpt-4o-mini", "messages": MESSAGES, **fields}).encode()


def refuse(body, operation="chat"):
    with pytest.raises(InvalidRequest) as caught:
        decode_request(operation, body)
    assert caught.value.status_code == 400
    return caught.value


def test_reads_what_penstock_uses_and_leaves_the_rest():
    inbound = decode_request(
        "chat",
        chat(
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False},
            cache={"ttl": 60},
            store=True,
            metadata={"a": "b"},
            new_field=[1, {"x": None}],
        ),
    )
    assert inbound.model == "gpt-4o-mini"
    assert inbound.stream
    assert inbound.include_usage
    assert inbound.stream_options == {"include_obfuscation": False}
    assert inbound.cache_field == {"ttl": 60}
    assert inbound.store
    assert inbound.payload == {"messages": MESSAGES, "metadata": {"a": "b"}, "new_field": [1, {"x": None}]}


def test_absent_and_null_are_the_defaults():
    for body in (chat(), chat(stream=None, stream_options=None, cache=None, store=None)):
        inbound = decode_request("chat", body)
        assert not inbound.stream
        assert not inbound.include_usage
        assert inbound.stream_options is None
        assert inbound.cache_field is None
        assert not inbound.store
        assert inbound.payload == {"messages": MESSAGES}


def test_a_usage_option_alone_leaves_no_other_options():
    inbound = decode_request("chat", chat(stream=True, stream_options={"include_usage": False}))
    assert (inbound.include_usage, inbound.stream_options) == (False, None)


@pytest.mark.parametrize("prompt", ["Once", "", ["a", "b"], [1, 2]])
def test_completions_take_prompts_of_every_form(prompt):
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    assert decode_request("completions", body).payload == {"prompt": prompt}


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2], [[1], [2]]])
def test_embeddings_take_input_of_every_form(given):
    body = json.dumps({"model": "m", "input": given}).encode()
    assert decode_request("embeddings", body).payload == {"input": given}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "truncated"),
        (b'{"model": "m",}', "byte 14"),
        (b'{"model": NaN}', "byte 10"),
        (b'{"model": Infinity}', "byte 10"),
        (b'{"model": -Infinity}', "byte 1"),
        (b'{"model": "a\xff"}', "UTF-8 .byte 12"),
        (b'{"x\xc3": 1}', "UTF-8 .byte 3"),
        (b'{"model": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"model": "\\ud800 and more text after it"}', "surrogate"),
        (b'{"model": "\\udc00"}', "surrogate"),
        (b'{"model": "m"} trailing', "trailing"),
        (b'{"model": 1e999}', "too large"),
        (b'{"model": ' + b"1" * 5000 + b"}", "too large"),
        (b'\xef\xbb\xbf{"model": "m"}', "byte 0"),
        (b"[" * 100_000, "64 levels"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b',"model":"m"}', "64 levels"),
    ],
)
def test_broken_json_is_said_to_be_broken_and_where(body, says):
    error = refuse(body)
    assert error.code == "invalid_json"
    assert error.param is None
    with pytest.raises(InvalidRequest, match=says):
        decode_request("chat", body)


def test_the_deepest_nesting_allowed_passes():
    deep = json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert decode_request("chat", chat(deep=deep)).payload["deep"] == deep


def test_many_messages_are_not_deep():
    messages = [{"role": "user", "content": [{"type": "text", "text": "{[" * 10}]}] * 200
    assert decode_request("chat", chat(messages=messages)).payload["messages"] == messages


@pytest.mark.parametrize(
    ("operation", "fields", "param", "code"),
    [
        ("chat", [], None, "invalid_type"),
        ("chat", "text", None, "invalid_type"),
        ("chat", None, None, "invalid_type"),
        ("chat", {"messages": MESSAGES}, "model", "missing_required_parameter"),
        ("chat", {"model": None, "messages": MESSAGES}, "model", "missing_required_parameter"),
        ("chat", {"model": 4, "messages": MESSAGES}, "model", "invalid_type"),
        ("chat", {"model": "", "messages": MESSAGES}, "model", "invalid_value"),
        ("chat", {"model": "m"}, "messages", "missing_required_parameter"),
        ("chat", {"model": "m", "messages": "Hi"}, "messages", "invalid_type"),
        ("chat", {"model": "m", "messages": []}, "messages", "invalid_value"),
        ("chat", {"model": "m", "messages": ["Hi"]}, "messages[0]", "invalid_type"),
        ("chat", {"model": "m", "messages": [*MESSAGES, {}]}, "messages[1].role", "missing_required_parameter"),
        ("chat", {"model": "m", "messages": [{"role": 1}]}, "messages[0].role", "invalid_type"),
        ("chat", {"model": "m", "messages": [{"role": ""}]}, "messages[0].role", "invalid_value"),
        ("chat", {"model": "m", "messages": MESSAGES, "stream": "yes"}, "stream", "invalid_type"),
        ("chat", {"model": "m", "messages": MESSAGES, "stream": 1}, "stream", "invalid_type"),
        ("chat", {"model": "m", "messages": MESSAGES, "store": "no"}, "store", "invalid_type"),
        ("chat", {"model": "m", "messages": MESSAGES, "stream_options": {}}, "stream_options", "invalid_value"),
        (
            "chat",
            {"model": "m", "messages": MESSAGES, "stream": True, "stream_options": True},
            "stream_options",
            "invalid_type",
        ),
        (
            "chat",
            {"model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_type",
        ),
        ("completions", {"model": "m"}, "prompt", "missing_required_parameter"),
        ("completions", {"model": "m", "prompt": 7}, "prompt", "invalid_type"),
        ("completions", {"model": "m", "prompt": {}}, "prompt.id", "missing_required_parameter"),
        ("chat", {"prompt": {"id": "greet", "version": 3}}, "prompt.version", "invalid_type"),
        ("chat", {"prompt": {"id": "greet", "variables": []}}, "prompt.variables", "invalid_type"),
        ("chat", {"prompt": {"id": "greet", "label": "x"}}, "prompt.label", "invalid_value"),
        ("embeddings", {"model": "m"}, "input", "missing_required_parameter"),
        ("embeddings", {"model": "m", "input": ""}, "input", "invalid_value"),
        ("embeddings", {"model": "m", "input": []}, "input", "invalid_value"),
        ("embeddings", {"model": "m", "input": 7}, "input", "invalid_type"),
        ("embeddings", {"model": "m", "input": "x", "stream": True}, "stream", "invalid_value"),
    ],
)
def test_a_wrong_field_is_named(operation, fields, param, code):
    error = refuse(json.dumps(fields).encode(), operation)
    assert (error.param, error.code) == (param, code)
    if param is not None:
        assert param in error.message


@pytest.mark.parametrize(
    "number", ["18446744073709551615", "-9223372036854775808", "9007199254740993", "0.1", "-0.0", "1e300"]
)
def test_numbers_reach_the_provider_as_they_were(number):
    body = f'{{"model":"m","messages":[{{"role":"user"}}],"n":{number}}}'.encode()
    sent = encode_request(request(decode_request("chat", body)), "m")
    assert json.loads(sent)["n"] == json.loads(number)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OWN = {"model", "messages", "stream", "stream_options", "cache", "store"}
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10).filter(lambda name: name not in OWN)


def request(inbound, **fields):
    return Request("chat", inbound.model, inbound.payload, Call("call"), stream=inbound.stream, **fields)


@given(st.dictionaries(names, json_values, max_size=6))
def test_unknown_fields_reach_the_provider_unharmed(fields):
    body = json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()
    inbound = decode_request("chat", body)
    assert inbound.payload == {"messages": MESSAGES, **fields}
    assert json.loads(encode_request(request(inbound), "other")) == {"model": "other", "messages": MESSAGES, **fields}


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused_cleanly(body):
    try:
        problem = "" if decode_request("chat", body).model else "no model"
    except InvalidRequest as error:
        problem = "" if error.message and error.code else "no words"
    assert not problem


def test_a_stream_asks_for_usage_and_keeps_the_clients_options():
    inbound = decode_request("chat", chat(stream=True))
    asked = request(inbound, stream_options={"include_obfuscation": False})
    sent = json.loads(encode_request(asked, "m"))
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert "stream_options" not in json.loads(encode_request(asked, "m", stream_options=False))
    assert inbound.payload == {"messages": MESSAGES}


def test_a_whole_answer_is_asked_for_without_stream_fields():
    assert encode_request(request(decode_request("chat", chat())), "m") == (
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    )


def test_fields_can_be_left_out():
    inbound = decode_request("chat", chat(metadata={"a": "b"}))
    assert "metadata" not in json.loads(encode_request(request(inbound), "m", omit=("metadata", "absent")))
    assert inbound.payload["metadata"] == {"a": "b"}


@pytest.mark.parametrize("value", ["\ud800", object()])
def test_a_payload_that_is_not_json_is_the_callers_mistake(value):
    with pytest.raises(InvalidRequest, match="JSON"):
        encode_request(Request("chat", "m", {"messages": value}, Call("call")), "m")


HEAD = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
TEXT = HEAD + b'"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]'
USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'


def framed(*chunks, include_usage=False):
    return frame([parse_chunk(chunk) for chunk in chunks], include_usage=include_usage)


def test_chunks_are_framed_byte_for_byte():
    assert framed(TEXT + b"}", TEXT + b"}") == b"data: " + TEXT + b"}\n\ndata: " + TEXT + b"}\n\n"


def test_usage_goes_to_those_who_asked_byte_for_byte():
    chunks = [TEXT + b',"usage":null}', HEAD + b'"choices":[],' + USAGE + b"}"]
    assert framed(*chunks, include_usage=True) == b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)


def test_injected_usage_is_taken_out_again():
    bare = HEAD + b'"choices":[],' + USAGE + b"}"
    assert framed(bare) == b""
    assert framed(TEXT + b',"usage":null}', bare) == b"data: " + TEXT + b"}\n\n"


@pytest.mark.parametrize(
    "tail",
    [
        b',"usage":null,"obfuscation":"xY"}',
        b', "usage": null, "obfuscation":"xY"}',
        b"," + USAGE + b',"obfuscation":"xY"}',
    ],
)
def test_usage_in_the_middle_of_a_chunk_is_taken_out(tail):
    assert framed(TEXT + tail) == b"data: " + TEXT + b',"obfuscation":"xY"}\n\n'


def test_usage_at_the_start_is_taken_out():
    chunk = b'{"usage":null,"choices":[{"index":0,"delta":{"content":"a"},"x":{"usage":null}}]}'
    expected = {"choices": [{"index": 0, "delta": {"content": "a"}, "x": {"usage": None}}]}
    assert json.loads(framed(chunk).removeprefix(b"data: ")) == expected


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"choices":[{"index":0,"delta":{"content":"say \\"usage\\":null}"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"usage"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"x"}}],"x_groq":{"id":"r","usage":null}}',
        b'{"choices":[{"index":0,"delta":{"content":"x"},"a":1,"usage":null,"b":2}],"c":3}',
    ],
)
def test_other_things_called_usage_stay(chunk):
    assert framed(chunk) == b"data: " + chunk + b"\n\n"


def test_the_end_and_errors():
    assert DONE == b"data: [DONE]\n\n"
    assert error_frame({"message": "gone", "code": "upstream_incomplete"}) == (
        b'data: {"error":{"message":"gone","code":"upstream_incomplete"}}\n\n'
    )


def inbound_request(body: bytes, operation="chat", **fields):
    found = decode_request(operation, body)
    request = Request(operation, found.model, found.payload, Call("x"), stream=found.stream, written=found.written)
    return msgspec.structs.replace(request, **{"stream_options": found.stream_options, **fields})


def written_anew(request, **options):
    return json.loads(encode_request(msgspec.structs.replace(request, written=None), "theirs", **options))


names = st.one_of(
    st.text(max_size=6), st.sampled_from(["model", '"model":', 'a"model', "\\", "é", "stream", "metadata"])
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), names
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
OWN = {"model", "stream", "stream_options", "cache", "store", "prompt", "messages"}


@given(
    st.dictionaries(names, values, max_size=4),
    names.filter(lambda name: name and not name.startswith("prompt/")),
    st.sampled_from([{}, {"stream": True}, {"stream": False}, {"store": False}, {"cache": None}]),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    st.randoms(use_true_random=False),
)
def test_a_body_that_is_passed_on_says_what_one_that_is_written_anew_says(fields, model, own, flags, chance):
    spaced, plain, options, omit = flags
    body = {
        **{name: value for name, value in fields.items() if name not in OWN},
        "model": model,
        "messages": MESSAGES,
        **own,
    }
    keys = list(body)
    chance.shuffle(keys)
    text = json.dumps({key: body[key] for key in keys}, ensure_ascii=plain, separators=None if spaced else (",", ":"))
    if "\\ud" in text:
        return  # halves of surrogate pairs are refused
    request = inbound_request(text.encode())
    given = {"stream_options": options, "omit": ("metadata",) if omit else ()}
    assert json.loads(encode_request(request, "theirs", **given)) == written_anew(request, **given)


def test_a_body_keeps_its_order_and_bytes_but_for_the_name_of_the_model():
    body = b'{"messages":[{"role":"user","content":"\\"model\\":"}],"x":1.10,"model":"gpt-4o-mini","stream":true}'
    request = inbound_request(body.replace(b":", b": "))
    sent = body.replace(b"gpt-4o-mini", b"theirs").replace(b"1.10", b"1.1")
    sent = sent.replace(b"true}", b'true,"stream_options":{"include_usage":true}}')
    assert encode_request(request, "theirs") == sent.replace(b'\\"model\\":', b'\\"model\\": ')


@pytest.mark.parametrize(
    "changes",
    [{"payload": {"messages": MESSAGES, "max_tokens": 3}}, {"stream": True}, {"model": "other"}],
)
def test_a_request_that_was_changed_is_written_anew(changes):
    request = inbound_request(chat(), **changes)
    assert inbound_request(chat()).written is not None
    assert json.loads(encode_request(request, "theirs")) == written_anew(request)


def test_the_key_named_model_is_not_mistaken_for_another():
    for body in (
        b'{"messages":[{"role":"user","content":"x","model":"m"}],"a,\\"model":"m"}'.replace(
            b'"a,', b'"model":"m","a,'
        ),
        b'{"messages":[{"role":"user","content":"x"}],"model":"m","stream":true}',
        b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x","model":"m"}]}',
        b'{"mod\\u0065l":"m","messages":[{"role":"user","content":"x","model":"m"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"model":"m","tools":[{"model":"m"}]}',
        b'{"a\\"model":"m","messages":[{"role":"user","content":"x"}],"model":"m"}',
    ):
        request = inbound_request(body)
        assert json.loads(encode_request(request, "theirs")) == written_anew(request)
