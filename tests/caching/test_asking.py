import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.asking import asked
from penstock.caching.key import cache_key
from penstock.core.call import Call
from penstock.core.request import CacheDirectives, Request
from penstock.core.route import Route, Target

SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


def request(content="How do I sort a list?", before=(SYSTEM,), operation="chat", **fields):
    mine = {name: fields.pop(name) for name in list(fields) if name in Request.__struct_fields__}
    payload = {"messages": [*before, {"role": "user", "content": content}], **fields}
    return Request(**{"operation": operation, "model": "fast", "payload": payload, "call": Call(id="1"), **mine})


def parted(*args, max_chars=2000, **kwargs):
    return asked(request(*args, **kwargs), max_chars)


def test_the_last_turn_is_the_question_and_all_else_the_partition():
    one, other = parted("How do I sort a list?"), parted("How can a list be sorted?")
    assert (one.text, other.text) == ("How do I sort a list?", "How can a list be sorted?")
    assert one.partition == other.partition
    assert len(one.partition) == 32


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"cache": CacheDirectives(namespace="x")},
        {"model": "slow"},
        {"route": Route("fast", (Target("openai", "gpt"),), identity=b"1")},
        {"before": ()},
        {"before": ({"role": "system", "content": "Be long."},)},
        {"before": (SYSTEM, *EARLIER)},
        {"temperature": 0.5},
        {"temperature": 1},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"unknown_to_penstock": 1},
        {"user": "u1"},
    ],
    ids=str,
)
def test_whatever_else_differs_parts_them(changed):
    assert parted(**changed).partition != parted().partition


def test_labels_do_not_part_them_and_parts_of_text_are_text():
    assert parted(metadata={"a": "b"}) == parted()
    parts = [{"type": "text", "text": "How do I"}, {"type": "text", "text": "sort a list?"}]
    assert parted(parts) == (parted().partition, "How do I\nsort a list?")


NO_QUESTIONS = (
    "", "  \n", "x" * 2001, None, 7, [{"type": "image_url", "image_url": {"url": "a"}}],
    [{"type": "text", "text": "a", "cache_control": {}}], [{"type": "text"}], ["a"],
)  # fmt: skip


@pytest.mark.parametrize("content", NO_QUESTIONS, ids=lambda value: repr(value)[:20])
def test_what_is_no_question_of_words_is_not_matched(content):
    assert parted(content) is None


def test_only_a_users_turn_is_matched():
    for last in ({"role": "assistant", "content": "I"}, {"role": "tool", "tool_call_id": "1", "content": "7"}, "x"):
        payload = {"messages": [SYSTEM, last]}
        assert asked(Request(operation="chat", model="fast", payload=payload, call=Call(id="1")), 2000) is None
    for payload in ({}, {"messages": []}, {"messages": "x"}):
        assert asked(Request(operation="chat", model="fast", payload=payload, call=Call(id="1")), 2000) is None


def test_questions_after_a_conversation_may_be_left_alone():
    assert asked(request(), 2000, first_turn_only=True) == parted()
    assert asked(request(before=(SYSTEM, *EARLIER)), 2000, first_turn_only=True) is None
    assert parted(before=(SYSTEM, *EARLIER)) is not None


def test_prompts_of_completions_are_matched_and_embeddings_are_not():
    def ask(operation, **payload):
        return asked(Request(operation=operation, model="fast", payload=payload, call=Call(id="1")), 2000)

    assert ask("completions", prompt="One", n=2).partition == ask("completions", prompt="Two", n=2).partition
    assert ask("completions", prompt="One").partition != ask("completions", prompt="One", n=2).partition
    assert ask("completions", prompt=["One"]) is None
    assert ask("embeddings", input="One") is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_question_never_reaches_the_partition(one, other):
    try:
        first, second = parted(one), parted(other)
    except UnicodeEncodeError:
        return
    if first is not None and second is not None:
        assert first.partition == second.partition
        assert (cache_key(request(one)) == cache_key(request(other))) == (one == other)
