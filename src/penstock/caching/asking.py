"""What of a request is matched by meaning, and what must be the same: the hard partition."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from penstock.caching.key import IGNORED, goal_of
from penstock.core.request import Request

_VERSION = 1
"""Raised whenever the meaning of partitions changes, so that no stored question is found in one of another meaning."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class Asked(NamedTuple):
    """A request, parted.

    Attributes:
        partition: Digest of all that decides the answer besides the question (32 bytes): tenant, namespace, operation,
            model, system prompt, tools, response format, sampling parameters, and the conversation before.
        text: The question: the last turn, if it is the user's and only text; or the prompt of a completion.
    """

    partition: bytes
    text: str


def asked(request: Request, max_chars: int, *, first_turn_only: bool = False) -> Asked | None:
    """Part `request`; None when it has no question that could be put otherwise.

    Args:
        request: What is asked.
        max_chars: Longer questions are not matched.
        first_turn_only: Nor are those after a conversation.

    Raises:
        UnicodeEncodeError: The payload has text that cannot be sent either (half of a surrogate pair).
    """
    payload = request.payload
    found = _LAST.get(request.operation, _nothing)(payload)
    if found is None:
        return None
    text, rest = found
    if len(text) > max_chars or not text.strip():
        return None
    if first_turn_only and any(_said(message) for message in rest.get("messages", ())[:-1]):
        return None
    rest |= {name: value for name, value in payload.items() if name not in rest and name not in IGNORED}
    place = (_VERSION, request.tenant, request.cache.namespace, request.operation, goal_of(request), rest)
    return Asked(sha256(_encode(place)).digest(), text)


def _nothing(_payload: dict[str, Any]) -> None:
    return None


def _of_chat(payload: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    messages = payload.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    text = _text(last.get("content"))
    if messages is None or text is None:
        return None
    return text, {"messages": [*messages[:-1], {**last, "content": None}]}


def _of_completions(payload: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    prompt = payload.get("prompt")
    return (prompt, {"prompt": None}) if isinstance(prompt, str) else None


_LAST = {"chat": _of_chat, "completions": _of_completions}


def _said(message: object) -> bool:
    """Whether it is a turn of a conversation, and no instruction."""
    return isinstance(message, dict) and message.get("role") not in ("system", "developer")


def _text(content: object) -> str | None:
    """Return text that may come in parts; None when any of it is something else, such as an image."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.keys() != {"type", "text"} or not isinstance(part["text"], str):
            return None
        parts.append(part["text"])
    return "\n".join(parts)
