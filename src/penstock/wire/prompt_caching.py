"""Marks that say which beginnings of a prompt come again, where a provider bills those as cached only if it is told.

A mark is ``"cache_control": {"type": "ephemeral"}``, Anthropic's word, on the last block of such a beginning. A request
takes at most `MOST`. Whoever sets any mark themselves knows better, and gets none besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

MARK = {"type": "ephemeral"}
"""Kept for five minutes from each use, the price of which every reader of a mark knows."""
MOST = 4
_INSTRUCTIONS = ("system", "developer")
_MARKABLE = (*_INSTRUCTIONS, "user")


def has_marks(payload: dict[str, Any]) -> bool:
    """Whether a canonical chat request has marks of its client's."""
    return any("cache_control" in each for each in _markable_places(payload))


def marked_messages(payload: dict[str, Any], points: Sequence[int]) -> list[Any]:
    """Return the messages with marks on text parts, for OpenAI-compatible servers that take them.

    Args:
        payload: A canonical chat request without marks; it stays as it is.
        points: Numbers of messages after which a beginning ends. The instructions at the start are marked besides.
    """
    messages = list(payload["messages"])
    leading = 0
    while leading < len(messages) and messages[leading].get("role") in _INSTRUCTIONS:
        leading += 1
    wanted = [leading - 1] if leading else []
    wanted += last_points(points, MOST - len(wanted))
    for at in {_before(messages, point) for point in wanted}:
        if at is not None:
            messages[at] = _marked(messages[at])
    return messages


def last_points(points: Sequence[int], most: int) -> Sequence[int]:
    """The last `most` of `points`: they end the longest beginnings."""
    return points[-most:] if most else ()


def _markable_places(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield payload
    for name in ("tools", "messages"):
        for each in payload.get(name) or ():
            if isinstance(each, dict):
                yield each
                content = each.get("content")
                if isinstance(content, list):
                    yield from (part for part in content if isinstance(part, dict))


def _before(messages: Sequence[dict[str, Any]], point: int) -> int | None:
    """The last message up to `point` that can have a mark."""
    places = range(min(point, len(messages) - 1), -1, -1)
    return next((at for at in places if _text_at(messages[at]) is not None), None)


def _text_at(message: dict[str, Any]) -> int | None:
    """Which part of a message can have a mark: its last text that is not empty; 0 for a plain one."""
    content = message.get("content")
    if message.get("role") not in _MARKABLE or not content:
        return None
    if isinstance(content, str):
        return 0
    places = [at for at, part in enumerate(content) if isinstance(part, dict) and part.get("text")]
    return places[-1] if places else None


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    content, at = message["content"], _text_at(message)
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    if at is not None:
        parts[at] = {**parts[at], "cache_control": MARK}
    return {**message, "content": parts}
