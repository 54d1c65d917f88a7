"""Answers and chunks in canonical form, built from their text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.canonical import CHAT, CHAT_CHUNK, make_event, write_usage
from penstock.core.events import Event
from penstock.core.usage import Usage
from penstock.pricing.estimate import estimate_tokens

CREATED = 1_700_000_000
"""`created` of every answer, so that equal texts make equal bytes."""

_encode = msgspec.json.Encoder().encode


def answer(
    text: str,
    *,
    finish_reason: str | None = "stop",
    usage: Usage | None = None,
    **fields: Any,  # noqa: ANN401 - JSON
) -> bytes:
    """Build a whole answer, a ``chat.completion`` of one choice, as JSON.

    Args:
        text: What is said.
        finish_reason: Why it ends.
        usage: Token counts; by default 10 for the input and an estimate from `text` for the output.
        fields: Top-level fields to add or replace, e.g. ``model="m"``.
    """
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return _encode({**_fields(CHAT), "choices": [choice], "usage": write_usage(usage or _usage(text)), **fields})


def chunks(
    text: str,
    pieces: Sequence[str] | None = None,
    *,
    finish_reason: str | None = "stop",
    usage: Usage | None = None,
    bare_usage: bool = True,
    **fields: Any,  # noqa: ANN401 - JSON
) -> list[Event]:
    """Build the chunks of the same answer as `answer` does: role, one a piece, finish reason, usage.

    Args:
        text: What is said.
        pieces: How it is cut; by default after each space. Joined they must be `text`.
        finish_reason: Why it ends; None leaves the finish chunk out, as a broken stream does.
        usage: Token counts, as for `answer`.
        bare_usage: End with the chunk that carries only usage.
        fields: Top-level fields to add to each chunk or replace.

    Raises:
        ValueError: `pieces` are not the pieces of `text`.
    """
    cut = _words(text) if pieces is None else pieces
    if "".join(cut) != text:
        raise ValueError(f"the pieces make {''.join(cut)!r}, not {text!r}")
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in cut]
    if finish_reason is not None:
        deltas.append(({}, finish_reason))
    common = {**_fields(CHAT_CHUNK), **fields}
    made = [{**common, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
    if bare_usage:
        made.append({**common, "choices": [], "usage": write_usage(usage or _usage(text))})
    return [make_event(chunk) for chunk in made]


def _fields(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-test", "object": kind, "created": CREATED, "model": "test"}


def _usage(text: str) -> Usage:
    return Usage(input_tokens=10, output_tokens=estimate_tokens(text))


def _words(text: str) -> list[str]:
    return [piece for piece in text.replace(" ", " \0").split("\0") if piece]
