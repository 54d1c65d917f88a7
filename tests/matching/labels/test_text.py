from __future__ import annotations

import msgspec
import pytest

from penstock.matching.labels.text import answer_text


def chat(**message: object) -> bytes:
    return msgspec.json.encode({"choices": [{"index": 0, "message": {"role": "assistant", **message}}]})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat(content="It is 18."), "It is 18."),
        (chat(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "a\nb"),
        (chat(content="18", reasoning_content="9 times 2"), "18"),
        (b'{"choices": [{"text": " blue"}]}', " blue"),
        (chat(content=" "), None),
        (chat(content=None, audio={"id": "a"}), None),
        (chat(content=[{"type": "image_url"}]), None),
        (b'{"choices": [{"text": "a"}, {"text": "b"}]}', None),
        (b'{"choices": []}', None),
        (b'{"data": [{"embedding": [1]}]}', None),
        (b"[]", None),
        (b"<html>", None),
        (b'{"choices": [{"text": "\xff"}]}', None),
        (b"[" * 100_000, None),
    ],
)
def test_the_text_is_what_the_answer_says(body: bytes, text: str | None) -> None:
    assert answer_text(body) == text


def call(arguments: str, id_: str = "call_1") -> dict[str, object]:
    return {"id": id_, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_calls_of_tools_are_the_same_whatever_their_ids_and_layout() -> None:
    one = answer_text(chat(content="Let me see.", tool_calls=[call('{"city": "Oslo", "days": 2}', "call_9")]))
    other = answer_text(chat(content=None, tool_calls=[call('{"days":2,"city":"Oslo"}')]))
    assert one == other == '[{"arguments":{"city":"Oslo","days":2},"name":"weather"}]'
    assert answer_text(chat(content=None, function_call={"name": "weather", "arguments": "{}"})) == (
        '[{"arguments":{},"name":"weather"}]'
    )
    assert answer_text(chat(content=None, tool_calls=[call("{broken")])) == (
        '[{"arguments":"{broken","name":"weather"}]'
    )
    assert answer_text(chat(content=None, tool_calls=["call"])) is None
