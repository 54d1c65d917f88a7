import json

import pytest

from penstock.cascading.reading import read_answer


def body(*choices):
    return json.dumps({"object": "chat.completion", "choices": list(choices)}).encode()


def choice(content="Four.", finish_reason="stop", **message):
    return {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}


def faults(*choices, **payload):
    return [said.fault for said in read_answer(body(*choices), payload)]


def test_an_answer_is_its_text_with_what_is_known_of_it():
    logprobs = {"content": [{"token": "Four", "logprob": -0.25}, {"token": ".", "logprob": -1}]}
    (said,) = read_answer(body({**choice(), "logprobs": logprobs}), {})
    assert (said.answer.text, said.answer.finish_reason, said.answer.logprobs) == ("Four.", "stop", (-0.25, -1.0))
    assert said.fault is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"choices": 1}', b"\xff", b'{"choices": [1]}'])
def test_what_is_no_answer_has_no_choices(text):
    assert read_answer(text, {}) == []


def test_completions_have_texts():
    (said,) = read_answer(json.dumps({"choices": [{"text": "Four.", "finish_reason": "stop"}]}).encode(), {})
    assert said.answer.text == "Four."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (choice(None), "is empty"),
        (choice(" "), "is empty"),
        (choice(finish_reason="length"), "is cut off"),
        (choice(finish_reason="content_filter"), "was filtered"),
        (choice(None, refusal="No."), "is a refusal"),
    ],
)
def test_faults_are_named_without_what_was_said(wrong, said):
    (fault,) = faults(wrong)
    assert said in fault


@pytest.mark.parametrize(
    ("content", "wanted", "fits"),
    [
        ("Four.", {"type": "text"}, True),
        ('{"a": 1}', {"type": "json_object"}, True),
        ("Four.", {"type": "json_object"}, False),
        ("Four.", {"type": "json_schema"}, False),
        ('{"a": 1}', {"type": "json_schema", "json_schema": {"schema": {"required": ["a"]}}}, True),
        ('{"a": 1}', {"type": "json_schema", "json_schema": {"schema": {"required": ["b"]}}}, False),
    ],
)
def test_the_form_that_was_asked_for_is_checked(content, wanted, fits):
    (fault,) = faults(choice(content), response_format=wanted)
    assert (fault is None) is fits


def called(name, arguments, kind="function"):
    inner = {"name": name, "arguments" if kind == "function" else "input": arguments}
    return choice(None, "tool_calls", tool_calls=[{"id": "1", "type": kind, kind: inner}])


TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "now"}},
    {"type": "custom", "custom": {"name": "run"}},
]


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        (called("add", '{"a": 1}'), True),
        (called("add", '{"a": "one"}'), False),
        (called("add", '{"a"'), False),
        (called("now", ""), True),
        (called("run", "print(1)", "custom"), True),
        (called("walk", "{}"), False),
        (choice(None, "tool_calls", tool_calls=[{"id": "1"}]), False),
    ],
)
def test_calls_of_tools_must_fit_whatever_form_texts_must_have(call, fits):
    (fault,) = faults(call, tools=TOOLS, response_format={"type": "json_object"})
    assert (fault is None) is fits
