"""`reasoning_effort` as Anthropic's thinking.

Models up to Claude 4.5 think within a budget of tokens, later ones adaptively with an effort; each refuses the other
form (Claude 4.6 takes both).
"""

from __future__ import annotations

import re
from typing import Any

from penstock.core.errors import InvalidRequest
from penstock.wire.chat_messages import Message

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 24576, "max": 24576}
"""Tokens; the largest and the default `max_tokens` together stay below the smallest limit of a model that thinks."""
_SMALLEST_BUDGET = 1024
_WITH_BUDGET = re.compile(r"claude-(?:3-7|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?!\d)(?!-\d{1,2}\b))")
_WITHOUT = re.compile(r"claude-(?:2|instant|3-(?!7))")
_SAMPLING = ("temperature", "top_p", "top_k")


def add_thinking(body: dict[str, Any], payload: dict[str, Any], messages: list[Message], *, limited: bool) -> None:
    """Add to `body` what `reasoning_effort` asks for; Anthropic's own `thinking` field goes before it.

    The effort is a hint: it gives way to what Anthropic does not combine with thinking (a forced tool, a tool loop
    begun without thinking, fewer tokens than the smallest budget). Sampling parameters give way to it.

    Args:
        body: The request for Anthropic, complete but for thinking.
        payload: The canonical request.
        messages: Its messages.
        limited: The client set `max_tokens`, so thinking has to fit within.

    Raises:
        InvalidRequest: The effort is unknown.
    """
    effort = payload.get("reasoning_effort")
    if effort in (None, "none") or "thinking" in body:
        return
    if not isinstance(effort, str) or effort not in _BUDGETS:
        raise InvalidRequest(f"reasoning_effort must be none or one of {', '.join(_BUDGETS)}", param="reasoning_effort")
    if body.get("tool_choice", {}).get("type") in ("any", "tool") or _WITHOUT.search(body["model"]):
        return
    room = body["max_tokens"] // 2 if limited and isinstance(body["max_tokens"], int) else _BUDGETS[effort]
    if not limited:
        body["max_tokens"] += room
    if _WITH_BUDGET.search(body["model"]):
        _add_budget(body, min(room, _BUDGETS[effort]), messages)
        return
    body["thinking"] = {"type": "adaptive", "display": "summarized"}
    config = body.get("output_config")
    body["output_config"] = {
        "effort": "low" if effort == "minimal" else effort,
        **(config if isinstance(config, dict) else {}),
    }
    _drop_sampling(body)


def _add_budget(body: dict[str, Any], budget: int, messages: list[Message]) -> None:
    """A budget has a least size, and a tool loop keeps the mode it began in."""
    if budget < _SMALLEST_BUDGET or _in_plain_tool_loop(messages):
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    _drop_sampling(body)


def _in_plain_tool_loop(messages: list[Message]) -> bool:
    if messages[-1].role != "tool":
        return False
    said = [message for message in messages if message.role == "assistant"]
    return not (said and said[-1].thinking_blocks)


def _drop_sampling(body: dict[str, Any]) -> None:
    for name in _SAMPLING:
        body.pop(name, None)
