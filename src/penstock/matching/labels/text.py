"""What an answer says, as text: what labellers compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder(order="deterministic").encode


def answer_text(body: bytes) -> str | None:
    """Return the text of a whole answer, as JSON in canonical form.

    Of a chat completion that is the message's content, of a completion its text. Calls of tools are a JSON list of
    their names and arguments, whatever was said beside them. Reasoning is no part of an answer.

    Returns:
        None when there is no text, more than one choice, or something that cannot be compared as text, such as audio.
    """
    try:
        answer = _decode(body)
    except _UNREADABLE:
        return None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    return choice_text(choices[0])


def choice_text(choice: object) -> str | None:
    """Return the text of one choice of an answer, as `answer_text` of the only one."""
    if not isinstance(choice, dict):
        return None
    message = choice.get("message")
    text = _said(message) if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) and text.strip() else None


def _said(message: Mapping[str, Any]) -> str | None:
    calls = message.get("tool_calls")
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]
    if calls:
        return _called(calls) if isinstance(calls, list) else None
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        return "\n".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    return content if isinstance(content, str) else None


def _called(calls: list[Any]) -> str | None:
    """Ids of calls are made up anew each time, so they are left out."""
    said = []
    for call in calls:
        called = call.get("function") or call.get("custom") if isinstance(call, dict) else None
        if not isinstance(called, dict):
            return None
        said.append({"name": called.get("name"), "arguments": _arguments(called.get("arguments", called.get("input")))})
    return _encode(said).decode()


def _arguments(raw: object) -> object:
    if not isinstance(raw, str):
        return raw
    try:
        return _decode(raw)
    except _UNREADABLE:
        return raw
