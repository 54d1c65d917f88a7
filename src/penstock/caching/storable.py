"""Which answers may be cached: only complete ones that a second asker would want too.

An answer qualifies when every choice of it ended by itself with something said. What was cut off (``length``),
filtered, refused, left empty or ended for a reason nobody knows is not kept, and an answer that calls tools only if
the settings say so, because its arguments may depend on the moment (dates, identifiers).
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.events import Event, lines

_ENDED: frozenset[str | None] = frozenset({"stop"})
_CALLED: frozenset[str | None] = frozenset({"stop", "tool_calls", "function_call"})


class _Said(msgspec.Struct, gc=False):
    """A message, or a delta of one."""

    content: str | list[Any] | None = None
    refusal: Any = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


_SILENCE = _Said()


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    message: _Said | None = None
    delta: _Said | None = None
    text: str | None = None


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    data: list[_Vector] | None = None
    error: Any = None


_NO_VECTOR = (b"[]", b'""', b"null")
_decoder = msgspec.json.Decoder(_Answer)


def storable_body(body: bytes, *, tool_calls: bool = False) -> bool:
    """Say whether this whole answer (chat, completions or embeddings, as JSON) may be cached.

    Args:
        body: The answer in canonical form.
        tool_calls: Whether answers that call tools may.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if answer.error:
        return False
    choices = answer.choices
    if choices is None:
        vectors = answer.data or ()
        return bool(vectors) and all(bytes(item.embedding) not in _NO_VECTOR for item in vectors)
    if len(choices) == 1:
        return _qualifies(choices[0], tool_calls=tool_calls)
    return _all_qualify([answer], tool_calls=tool_calls)


def storable_events(events: list[Event], *, tool_calls: bool = False) -> bool:
    """Say whether this stream, which ended without an error, may be cached.

    Args:
        events: All its events, in order.
        tool_calls: Whether answers that call tools may.
    """
    reason, spoken = None, False
    for event in events:
        if event.has_text is None:
            return _storable_chunks(events, tool_calls=tool_calls)
        if event.has_text:
            spoken = True
        if event.finish_reason is not None:
            reason = event.finish_reason
    return spoken and reason in (_CALLED if tool_calls else _ENDED)


def _storable_chunks(events: list[Event], *, tool_calls: bool) -> bool:
    """As `storable_events`, of chunks that nobody has looked at, or that say more than the text of one choice."""
    if not any(event.finish_reason is not None for event in events):
        return False
    try:
        answers = _decoder.decode_lines(lines(events))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return not any(answer.error for answer in answers) and _all_qualify(answers, tool_calls=tool_calls)


def _qualifies(choice: _Choice, *, tool_calls: bool) -> bool:
    """As `_all_qualify`, of the only choice."""
    said = choice.message or choice.delta or _SILENCE
    if said.refusal:
        return False
    if said.tool_calls or said.function_call:
        return tool_calls and choice.finish_reason in _CALLED
    if choice.finish_reason not in (_CALLED if tool_calls else _ENDED):
        return False
    return _visible(said.content) or _visible(choice.text)


def _all_qualify(answers: list[_Answer], *, tool_calls: bool) -> bool:
    reasons: dict[int, str | None] = {}
    spoken: set[int] = set()
    called: set[int] = set()
    for answer in answers:
        for choice in answer.choices or ():
            index = choice.index
            reasons[index] = choice.finish_reason or reasons.get(index)
            said = choice.message or choice.delta or _SILENCE
            if said.refusal:
                return False
            if _visible(said.content) or _visible(choice.text):
                spoken.add(index)
            if said.tool_calls or said.function_call:
                called.add(index)
    if called and not tool_calls:
        return False
    allowed = _CALLED if tool_calls else _ENDED
    return bool(reasons) and spoken | called == set(reasons) and allowed.issuperset(reasons.values())


def _visible(content: str | list[Any] | None) -> bool:
    return not content.isspace() if content and isinstance(content, str) else bool(content)
