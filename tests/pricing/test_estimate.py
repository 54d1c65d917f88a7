import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Call
from penstock.core.request import Request
from penstock.pricing.estimate import (
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    estimate_request_tokens,
    estimate_tokens,
    request_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("你好世界", 4), ("abcd你", 2), ("Привет", 4), ("\ud800", 1)],
)
def test_counts_by_script(text, tokens):
    assert estimate_tokens(text) == tokens


@given(st.text(), st.text())
def test_longer_text_never_counts_less(first, second):
    assert max(estimate_tokens(first), estimate_tokens(second)) <= estimate_tokens(first + second)
    assert estimate_tokens(first + second) <= estimate_tokens(first) + estimate_tokens(second)


def test_messages_tools_and_schema_count():
    bare = estimate_request_tokens({"messages": [{"role": "user", "content": "a" * 400}]})
    assert 100 <= bare <= 110
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 400, "parameters": {}}}
    assert estimate_request_tokens({"messages": [{"role": "user", "content": "a" * 400}], "tools": [tool]}) > bare + 100
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "x" * 400}}]}
    assert estimate_request_tokens({"messages": [called]}) > 100


def test_an_image_counts_as_an_image_and_not_as_its_base64():
    data = "data:image/png;base64," + "A" * 100_000

    def tokens(part):
        return estimate_request_tokens({"messages": [{"role": "user", "content": [part]}]})

    text = tokens({"type": "text", "text": ""})
    assert tokens({"type": "image_url", "image_url": {"url": data}}) == text + IMAGE_TOKENS
    assert tokens({"type": "image_url", "image_url": {"url": data, "detail": "low"}}) == text + LOW_DETAIL_IMAGE_TOKENS
    assert tokens({"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "wav"}}) == text + 10
    assert tokens({"type": "file", "file": {"file_data": "A" * 6400}}) == text + 100


@pytest.mark.parametrize(
    ("payload", "tokens"),
    [
        ({"input": "abcdefgh"}, 2),
        ({"input": ["abcd", "abcd"]}, 2),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2], [3]]}, 3),
        ({"prompt": ["abcd"]}, 1),
        ({}, 0),
    ],
)
def test_prompt_and_input(payload, tokens):
    assert estimate_request_tokens(payload) == tokens


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"messages": _json, "tools": _json, "prompt": _json, "input": _json}))
def test_any_decoded_body_is_counted(payload):
    assert estimate_request_tokens(payload) >= 0


def test_a_body_is_counted_once_and_another_one_anew():
    short = {"messages": [{"role": "user", "content": "word"}]}
    request = Request("chat", "m", short, Call("1"))
    tokens = request_tokens(request)
    assert tokens == request_tokens(request) == estimate_request_tokens(short)
    longer = msgspec.structs.replace(request, payload={"messages": short["messages"] * 50})
    assert request_tokens(longer) == estimate_request_tokens(longer.payload) > tokens
    assert request_tokens(request) == tokens
