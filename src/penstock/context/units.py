"""A conversation as what may be cut from it: whole exchanges, with no tool call parted from its results."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

Message = Mapping[str, Any]
Count = Callable[[Message], int]
"""Estimates the tokens of a message, its images and tool calls included."""

SHORT = 600
"""Characters of what is read as a whole to find out what a user asks."""
_ASKS = ("?", "？", "؟")

_INSTRUCTIONS = frozenset({"system", "developer"})


class History:
    """The messages of a request and where they may be cut.

    An exchange is what a user says, in one message or several in a row under one name, and all that follows until a
    user speaks again. Only whole exchanges are cut, so the order of roles stays as valid as it was, and an assistant's
    tool calls stay with their results; where a result comes only after the next user message, there is no cut between.

    Attributes:
        messages: As they were given.
        tokens: Of each message.
        upto: `upto[i]` are the tokens of the first i messages.
        fixed: `fixed[i]` are the tokens of system and developer messages among the first i; they are never cut.
        turns: Where exchanges begin.
        cuts: Where a cut may be, ascending: the `turns` no tool call reaches across, without the first one.
        points: For each request there was, and for this one, how many messages it had.
    """

    __slots__ = ("cuts", "fixed", "messages", "points", "tokens", "turns", "upto")

    def __init__(self, messages: Sequence[Message], count: Count) -> None:
        """`messages` are objects with a role (`readable`)."""
        self.messages = messages
        self.tokens = [count(message) for message in messages]
        self.upto = [0, *accumulate(self.tokens)]
        self.fixed = [0]
        self.turns: list[int] = []
        self.points: list[int] = []
        previous: Message | None = None
        for at, message in enumerate(messages):
            role = message["role"]
            if role == "user" and not _same_speaker(previous, message):
                self.turns.append(at)
            elif role == "assistant" and self.turns:
                self.points.append(at)
            self.fixed.append(self.fixed[-1] + (self.tokens[at] if role in _INSTRUCTIONS else 0))
            if role not in _INSTRUCTIONS:
                previous = message
        self.points.append(len(messages))
        self.cuts = _untied(self.turns, messages)

    @property
    def total(self) -> int:
        """Tokens of all messages."""
        return self.upto[-1]

    @property
    def last_turn(self) -> int:
        """Where the last user turn begins; 0 when no user spoke."""
        return self.turn_before(len(self.messages))

    def turn_before(self, point: int) -> int:
        """Where the last user turn of the first `point` messages begins; 0 when no user spoke."""
        place = bisect_left(self.turns, point)
        return self.turns[place - 1] if place else 0

    def said_in(self, turn: int) -> str:
        """What the user says in the turn that begins at `turn`."""
        end = turn + 1
        while end < len(self.messages) and _same_speaker(self.messages[end - 1], self.messages[end]):
            end += 1
        return "\n".join(text_of(message) for message in self.messages[turn:end])

    def asks(self, turn: int) -> bool:
        """Whether the user asks something in a turn, rather than giving something to read.

        What is short is taken for a question or a request; in what is long, that is at the beginning or the end.
        """
        said = self.said_in(turn).strip()
        if len(said) <= SHORT:
            return True
        return said.endswith(_ASKS) or said.split("\n", 1)[0][:SHORT].endswith(_ASKS)

    def cut_at(self, least: int, most: int) -> int | None:
        """The first place for a cut at `least` or after it; if that is past `most`, the last one before."""
        place = bisect_left(self.cuts, least)
        if place == len(self.cuts) or self.cuts[place] > most:
            place = bisect_right(self.cuts, most) - 1
        return self.cuts[place] if place >= 0 else None

    def between(self, start: int, end: int) -> int:
        """Tokens of the messages from `start` to `end`, system messages not counted."""
        return self.upto[end] - self.upto[start] - self.fixed[end] + self.fixed[start]

    def newest(self, tokens: int, start: int, end: int) -> int:
        """The first message from `start` on from which it is at most `tokens` to the message `end`."""
        return bisect_left(self.upto, self.upto[end] - tokens, start, end)

    def stays(self, at: int) -> bool:
        """Whether the message is never cut: a system or developer message."""
        return self.messages[at]["role"] in _INSTRUCTIONS


def readable(messages: object) -> bool:
    """Whether `messages` are a list of objects with a role; anything else is for the provider to refuse."""
    return isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    )


def text_of(message: Message) -> str:
    """What a message says: its text parts, and the calls it makes."""
    content = message.get("content")
    if isinstance(content, str) and "tool_calls" not in message:
        return content
    texts = [content] if isinstance(content, str) else []
    if isinstance(content, list):
        texts += [_text_of_part(part) for part in content]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts.append(f"{function.get('name', '')}({function.get('arguments', '')})")
    return "\n".join(text for text in texts if text)


def speaker_of(message: Message) -> str:
    """Who says it: the name it has, else its role."""
    name = message.get("name")
    return name if isinstance(name, str) and name else message["role"]


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    for name in ("text", "refusal"):
        if isinstance(part.get(name), str):
            return str(part[name])
    kind = part.get("type")
    return f"[{kind}]" if isinstance(kind, str) else ""


def _same_speaker(previous: Message | None, message: Message) -> bool:
    return previous is not None and previous["role"] == message["role"] and previous.get("name") == message.get("name")


def _untied(turns: Sequence[int], messages: Sequence[Message]) -> list[int]:
    """The `turns` that no tool call before them reaches across with its result."""
    made: dict[str, int] = {}
    reach = [0] * (len(messages) + 1)
    for at, message in enumerate(messages):
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                made[call["id"]] = at
        answered = message.get("tool_call_id")
        if isinstance(answered, str) and answered in made:
            reach[made[answered]] = max(reach[made[answered]], at)
    farthest = [0, *accumulate(reach, max)]
    return [turn for turn in turns[1:] if farthest[turn] < turn]
