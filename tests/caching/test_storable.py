import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.storable import storable_body, storable_events
from penstock.core.canonical import make_event, split
from penstock.core.errors import ProviderError
from penstock.wire.openai_stream import parse_chunk

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def choice(index=0, reason="stop", **message):
    return {"index": index, "message": {"role": "assistant", "content": "hi", **message}, "finish_reason": reason}


def answer(*choices, **fields):
    return json.dumps({"id": "a", "object": "chat.completion", "choices": list(choices), **fields}).encode()


def both(body, **options):
    """The verdict on an answer, which must be the same for the stream of it."""
    verdict = storable_body(body, **options)
    assert storable_events(split(body), **options) is verdict
    return verdict


def test_a_plain_answer_may_be_stored():
    assert both(answer(choice(), usage={"prompt_tokens": 1, "completion_tokens": 2}))
    assert both(answer(choice(), choice(1, content="there"), error=None))
    assert both(answer(choice(content=[{"type": "text", "text": "hi"}])))
    assert both(answer(choice(reasoning_content="hm", refusal=None, tool_calls=None)))


@pytest.mark.parametrize(
    "bad",
    [
        choice(1, reason="length"),
        choice(1, reason="content_filter"),
        choice(1, reason=None),
        choice(1, reason="insufficient_system_resource"),
        choice(1, refusal="No."),
        choice(1, content=""),
        choice(1, content=" \n"),
        choice(1, content=None),
        choice(1, content=None, reasoning_content="I thought about it"),
        choice(1, content=None, tool_calls=[CALL], reason="tool_calls"),
        choice(1, tool_calls=[CALL]),
        choice(1, content=None, function_call={"name": "f", "arguments": ""}, reason="function_call"),
    ],
)
def test_one_choice_that_does_not_qualify_spoils_all(bad):
    assert not both(answer(choice(0), bad))
    assert not both(answer(bad))


def test_tool_calls_may_be_stored_if_asked_for():
    called = answer(choice(content=None, tool_calls=[CALL], reason="tool_calls"))
    assert both(called, tool_calls=True)
    assert both(answer(choice(tool_calls=[CALL])), tool_calls=True)
    assert both(answer(choice()), tool_calls=True)
    assert not both(answer(choice(content=None, tool_calls=[CALL], reason="length")), tool_calls=True)
    assert not both(answer(choice(content=None, reason="tool_calls")), tool_calls=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [{"finish_reason": "stop"}]}',
        b'{"object": "list", "data": []}',
        b'{"object": "list", "data": [{"embedding": []}]}',
        b'{"choices": [{"index": 0, "message": {"content": "\xff"}, "finish_reason": "stop"}]}',
    ],
)
def test_what_is_no_answer_is_not_stored(body):
    assert not storable_body(body)


def test_an_error_beside_an_answer_is_not_stored():
    assert not both(answer(choice(), error={"message": "late failure"}))


def test_legacy_completions():
    def text(**fields):
        return json.dumps({"object": "text_completion", "choices": [{"index": 0, "text": "hi", **fields}]}).encode()

    assert both(text(finish_reason="stop"))
    assert not both(text(finish_reason="length"))
    assert not both(text(finish_reason="stop", text=""))


def test_embeddings():
    vectors = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": "AAAA"}]}
    assert storable_body(json.dumps(vectors).encode())
    vectors["data"].append({"index": 2, "embedding": []})
    assert not storable_body(json.dumps(vectors).encode())


def delta(index=0, reason=None, **fields):
    return make_event({"choices": [{"index": index, "delta": fields, "finish_reason": reason}]})


def test_a_stream_of_deltas():
    said = [delta(role="assistant", content="", refusal=None), delta(content="h"), delta(content="i")]
    assert storable_events([*said, delta(reason="stop")])
    assert not storable_events(said)
    assert not storable_events([])
    assert not storable_events([*said, delta(1, content="unfinished"), delta(reason="stop")])
    assert not storable_events([*said, delta(refusal="I"), delta(reason="stop")])
    assert storable_events([*said, delta(reason="stop"), make_event({"choices": [], "usage": {"prompt_tokens": 1}})])
    assert not storable_events([delta(reason="stop")])


def some(**fields):
    """Objects with some of these fields, of some of these values."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in fields.items()})


deltas = some(
    role=["assistant"],
    content=["hi", "hi", " ", "", "\n\u2003", None, [], [{"type": "text", "text": "hi"}], 3],
    refusal=[None, "", "No."],
    tool_calls=[None, [], [CALL], {}],
    function_call=[None, {}, {"name": "f"}],
    reasoning_content=["hm"],
)
choices = st.builds(
    lambda delta, rest: {"delta": delta, **rest},
    deltas,
    some(
        index=[0, 0, 0, 1],
        text=["hi", " ", None],
        message=[None, {"content": "hi"}, "hi"],
        finish_reason=["stop", "stop", "stop", "length", "tool_calls", "", None],
    ),
)
chunks = st.builds(
    lambda listed, rest: {"choices": listed, **rest},
    st.lists(choices, max_size=2),
    some(error=[None, {}, "late"], usage=[{"prompt_tokens": 1}]),
)


@given(st.lists(chunks, max_size=4), st.booleans())
def test_what_is_noted_of_chunks_as_they_come_says_the_same_as_the_chunks(streamed, tool_calls):
    try:
        events = [parse_chunk(json.dumps(chunk).encode()) for chunk in streamed]
    except ProviderError:
        return
    unread = [msgspec.structs.replace(event, has_text=None) for event in events]
    assert storable_events(events, tool_calls=tool_calls) is storable_events(unread, tool_calls=tool_calls)


def test_a_plain_chunk_need_not_be_read_again():
    assert [parse_chunk(json.dumps(chunk).encode()).has_text for chunk in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None, "tool_calls": []}}]},
        {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "text": "hi"}]},
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
        {"choices": [{"index": 1, "delta": {"content": "hi"}}]},
    )] == [False, True, True, False, None, None]  # fmt: skip
