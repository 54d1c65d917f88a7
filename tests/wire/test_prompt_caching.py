"""What providers are told to cache, byte for byte."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Call
from penstock.core.request import Prefix, Request
from penstock.wire import anthropic_messages, openai_chat
from penstock.wire.prompt_caching import MARK, MOST

GOLDEN = Path(__file__).parent.parent / "golden"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Is it raining?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    {"role": "assistant", "content": "No."},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "tomorrow?"}]},
]
PAYLOAD = {"messages": MESSAGES, "tools": [TOOL], "max_tokens": 100}


def to_anthropic(payload, points):
    return anthropic_messages.encode_request(payload, model="claude-haiku-4-5", stream=False, points=points)


def to_openai(payload, points, **profile):
    prefix = None if points is None else Prefix(tuple(points), "d1g3st")
    return openai_chat.encode_request(Request("chat", "m", payload, Call("id"), prefix=prefix), "gpt", **profile)


def marks(value):
    if isinstance(value, dict):
        return (value.get("cache_control") is not None) + sum(marks(each) for each in value.values())
    return sum(marks(each) for each in value) if isinstance(value, list) else 0


def unmarked(value):
    if isinstance(value, dict):
        return {name: unmarked(each) for name, each in value.items() if name != "cache_control"}
    return [unmarked(each) for each in value] if isinstance(value, list) else value


def test_anthropic_is_told_byte_for_byte():
    assert to_anthropic(PAYLOAD, [3, 5]) == (GOLDEN / "anthropic" / "marked_request.json").read_bytes().rstrip()


def test_openai_compatible_servers_are_told_byte_for_byte():
    assert to_openai(PAYLOAD, [3, 5], marks=True) == (GOLDEN / "openai" / "marked_request.json").read_bytes().rstrip()


def test_openai_gets_a_key_byte_for_byte():
    sent = to_openai(PAYLOAD, [3, 5], prompt_cache_key=True)
    assert sent == (GOLDEN / "openai" / "prompt_cache_key_request.json").read_bytes().rstrip()
    own = {**PAYLOAD, "prompt_cache_key": "mine"}
    assert to_openai(own, [3], prompt_cache_key=True) == to_openai(own, None)


def test_who_knows_neither_gets_neither():
    assert to_openai(PAYLOAD, [3, 5]) == to_openai(PAYLOAD, None)


def test_instructions_are_marked_even_if_nothing_else_is():
    system = json.loads(to_anthropic(PAYLOAD, []))["system"]
    assert system == [{"type": "text", "text": "You are brief.", "cache_control": MARK}]
    bare = {**PAYLOAD, "messages": MESSAGES[1:]}
    body = json.loads(to_anthropic(bare, []))
    assert body["tools"][-1]["cache_control"] == MARK
    assert marks(body) == 1
    assert marks(json.loads(to_anthropic({"messages": MESSAGES[1:2]}, []))) == 0


def test_thinking_is_not_marked():
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    messages = [MESSAGES[1], {"role": "assistant", "content": None, "thinking_blocks": [thinking]}, MESSAGES[1]]
    turns = json.loads(to_anthropic({"messages": messages}, [1]))["messages"]
    assert turns[0]["content"][0]["cache_control"] == MARK
    assert marks(turns[1:]) == 0


@pytest.mark.parametrize("own", [
    {"cache_control": MARK},
    {"tools": [{**TOOL, "cache_control": MARK}]},
    {"messages": [{**MESSAGES[1], "cache_control": MARK}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}]},
])  # fmt: skip
def test_a_client_that_marks_itself_gets_no_other_marks(own):
    payload = {**PAYLOAD, **own}
    assert to_anthropic(payload, [0]) == to_anthropic(payload, None)
    assert to_openai(payload, [0], marks=True) == to_openai(payload, None)


contents = st.text("ab ", max_size=3) | st.lists(st.builds(lambda text: {"type": "text", "text": text}, st.text("ab")))
turns = st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant"]),
                  contents)  # fmt: skip
systems = st.lists(st.builds(lambda text: {"role": "system", "content": text}, st.text("ab")), max_size=2)


@given(systems, st.lists(turns), st.sets(st.integers(0, 12)))
def test_marks_are_few_and_change_nothing_else(instructions, said, points):
    payload = {"messages": [*instructions, *said, MESSAGES[1]], "tools": [TOOL]}
    before = copy.deepcopy(payload)
    plain, sent = (json.loads(to_anthropic(payload, each)) for each in (None, sorted(points)))
    assert marks(sent) <= MOST
    assert unmarked(sent) == plain
    compatible = json.loads(to_openai(payload, sorted(points), marks=True))
    assert marks(compatible) <= MOST
    texts = [[(each["role"], text_of(each["content"])) for each in body["messages"]] for body in (payload, compatible)]
    assert texts[0] == texts[1]
    assert payload == before


def text_of(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
