import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.canonical import CHAT_CHUNK, assemble, make_event, read_usage, split, write_usage
from penstock.core.usage import Usage

TEXT = st.text(max_size=12)
SCALAR = st.booleans() | st.integers(-1000, 1000) | TEXT | st.floats(allow_nan=False, allow_infinity=False)
UNKNOWN = st.dictionaries(
    st.sampled_from(["x_one", "x_two", "service_tier", "system_fingerprint"]),
    SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(TEXT, SCALAR, max_size=3),
    max_size=3,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": TEXT,
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT}),
        }
    ),
    min_size=1,
    max_size=3,
)
LOGPROBS = st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries({"token": TEXT, "logprob": st.integers(-9, 0)}), min_size=1, max_size=3)}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT},
    optional={"reasoning_content": TEXT, "tool_calls": CALLS, "refusal": TEXT, "annotations": st.lists(UNKNOWN)},
)
CHOICE = st.fixed_dictionaries(
    {"message": MESSAGE, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])},
    optional={"logprobs": LOGPROBS, "x_choice": SCALAR},
)
USAGE = st.builds(
    Usage,
    input_tokens=st.integers(0, 9999),
    output_tokens=st.integers(0, 9999),
    cached_input_tokens=st.integers(0, 99),
    cache_write_tokens=st.integers(0, 99),
    reasoning_tokens=st.integers(0, 99),
)


@st.composite
def answers(draw):
    choices = [
        {"index": index, **choice} for index, choice in enumerate(draw(st.lists(CHOICE, min_size=1, max_size=3)))
    ]
    fields = {"id": draw(TEXT), "object": "chat.completion", "created": 5, "model": draw(TEXT), **draw(UNKNOWN)}
    usage = draw(st.none() | USAGE)
    return {**fields, "choices": choices, **({} if usage is None else {"usage": write_usage(usage)})}


def chunk(delta, *, index=0, finish_reason=None, **fields):
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return make_event({"id": "a", "object": CHAT_CHUNK, "choices": [choice], **fields})


def message_of(*events, index=0):
    return json.loads(assemble(events))["choices"][index]["message"]


@given(answers())
def test_an_answer_that_was_split_and_assembled_says_the_same(answer):
    assert json.loads(assemble(split(json.dumps(answer).encode()))) == answer


@given(answers(), st.data())
def test_it_does_not_matter_how_texts_were_cut(answer, data):
    """Every string that continues is cut once more, as another server might have."""
    events = []
    for event in split(json.dumps(answer).encode()):
        whole = json.loads(event.data)
        delta = whole["choices"][0]["delta"] if whole["choices"] else {}
        rest = {}
        for name in ("content", "reasoning_content"):
            if name in delta:
                at = data.draw(st.integers(0, len(delta[name])))
                delta[name], rest[name] = delta[name][:at], delta[name][at:]
        events.append(make_event(whole))
        if rest:
            part = {key: value for key, value in whole["choices"][0].items() if key == "index"}
            events.append(make_event({**whole, "choices": [{**part, "delta": rest, "finish_reason": None}]}))
    assert json.loads(assemble(events)) == answer


def test_tool_calls_are_merged_by_index():
    def call(index, **function):
        return {"index": index, **({"id": f"c{index}", "type": "function"} if "name" in function else {}),
                "function": function}  # fmt: skip

    message = message_of(
        chunk({"role": "assistant", "content": None, "tool_calls": [call(0, name="one", arguments="")]}),
        chunk({"tool_calls": [call(0, arguments='{"a"'), call(1, name="two", arguments="{")]}),
        chunk({"tool_calls": [call(1, arguments="}"), call(0, arguments=":1}")]}),
        chunk({}, finish_reason="tool_calls"),
    )
    assert message["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "one", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "two", "arguments": "{}"}},
    ]


@pytest.mark.parametrize("indices", [(1, 2), (0, 10**12), (-1, 0), (2, 1)])
def test_tool_calls_may_be_numbered_oddly(indices):
    calls = [{"index": index, "id": str(index), "function": {"name": "f", "arguments": "{}"}} for index in indices]
    message = message_of(*(chunk({"tool_calls": [call]}) for call in calls))
    assert [call["id"] for call in message["tool_calls"]] == [str(index) for index in sorted(indices)]
    assert all("index" not in call for call in message["tool_calls"])


def test_tool_calls_without_index_stay_apart():
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("one", "two")]
    assert message_of(*(chunk({"tool_calls": [call]}) for call in calls))["tool_calls"] == calls


def test_other_lists_keep_their_index():
    images = [{"index": 0, "type": "image_url"}, {"index": 1, "type": "image_url"}]
    assert message_of(chunk({"images": images}))["images"] == images


def test_choices_of_one_stream_do_not_mix():
    events = [
        chunk({"role": "assistant", "content": "a"}, index=1),
        chunk({"role": "assistant", "content": "x"}, index=0),
        chunk({"content": "b"}, index=1, finish_reason="stop"),
        chunk({"content": "y"}, index=0, finish_reason="length"),
    ]
    choices = json.loads(assemble(events))["choices"]
    assert [(each["index"], each["message"]["content"], each["finish_reason"]) for each in choices] == [
        (0, "xy", "length"),
        (1, "ab", "stop"),
    ]


def test_log_probabilities_are_appended():
    def part(token):
        return {"index": 0, "delta": {"content": token}, "logprobs": {"content": [{"token": token}]}}

    events = [make_event({"object": CHAT_CHUNK, "choices": [part(token)]}) for token in ("a", "b")]
    choice = json.loads(assemble(events))["choices"][0]
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_legacy_completions():
    texts = [("Once ", None), ("upon", None), (None, "stop")]
    events = [
        make_event({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": reason}]})
        for text, reason in texts
    ]
    whole = assemble(events)
    assert json.loads(whole) == {
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Once upon", "finish_reason": "stop"}],
    }
    assert json.loads(assemble(split(whole))) == json.loads(whole)


def test_events_say_what_is_in_them():
    first, last, usage = split(
        json.dumps(
            {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            }
        ).encode()
    )
    assert (first.finish_reason, first.bare_usage) == (None, False)
    assert (last.finish_reason, last.bare_usage) == ("stop", False)
    assert (usage.bare_usage, usage.usage) == (True, Usage(3, 2))


@given(USAGE)
def test_token_counts_survive_being_written(usage):
    assert read_usage(write_usage(usage)) == usage


def test_no_counts_are_not_zero_counts():
    assert read_usage(None) is None
    assert read_usage({}) is None


@pytest.mark.parametrize("body", [b"[]", b"5", b"{not", b'{"object": "list"}'])
def test_what_is_no_answer_cannot_be_split(body):
    with pytest.raises(ValueError, match=r".+"):
        split(body)


def test_no_chunks_are_no_answer():
    with pytest.raises(ValueError, match="at least one chunk"):
        assemble([])
