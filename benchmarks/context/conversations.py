"""Conversations of many turns, made of meetings: an assistant follows meetings in a room and is asked about them.

Each turn of a meeting comes in as a message of its speaker. After a meeting, somebody asks its questions; one of five
(`LATER`) only after one of the meetings that follow. Answers are those that people wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from benchmarks.context.data import Meeting, Query, tokens_of

MEETINGS = 6
"""In a conversation."""
LATER = 0.2
SYSTEM = (
    "You are the assistant of a team. You follow its meetings, in which everybody speaks under his or her name, and "
    "answer questions about what was said. Answer in a few sentences, from the meetings only, and say who said it."
)
ASKER = "Secretary"

Message = dict[str, Any]


class Asked(NamedTuple):
    """A request.

    Attributes:
        length: How many of the conversation's messages it has; the last is the question.
        gold: The places of the messages that answer it.
        answer: The answer's tokens.
    """

    length: int
    gold: frozenset[int]
    answer: int


class Conversation(NamedTuple):
    """Messages, and the requests made on the way."""

    messages: list[Message]
    requests: list[Asked]


def conversations(meetings: Sequence[Meeting], *, seed: int = 0, later: float = LATER) -> Iterator[Conversation]:
    """Make conversations of all the meetings, in an order of chance; those left over are not used."""
    chance = Random(seed)
    order = chance.sample(list(meetings), len(meetings))
    for start in range(0, len(order) - MEETINGS + 1, MEETINGS):
        yield _made(order[start : start + MEETINGS], chance, later)


def _made(meetings: Sequence[Meeting], chance: Random, later: float) -> Conversation:
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    requests: list[Asked] = []
    due: list[list[tuple[Query, int]]] = [[] for _ in meetings]
    for number, meeting in enumerate(meetings):
        start, last = len(messages), len(meetings) - 1
        messages += [{"role": "user", "name": turn.speaker, "content": turn.text} for turn in meeting.turns]
        for query in meeting.queries:
            waits = number < last and chance.random() < later
            due[chance.randint(number + 1, last) if waits else number].append((query, start))
        for query, begun in due[number]:
            messages.append({"role": "user", "name": ASKER, "content": query.text})
            gold = frozenset(begun + place for place in query.gold)
            requests.append(Asked(len(messages), gold, tokens_of(query.answer)))
            messages.append({"role": "assistant", "content": query.answer})
    return Conversation(messages, requests)
