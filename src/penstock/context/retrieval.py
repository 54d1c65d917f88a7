"""What of the messages that were cut is repeated, because the question needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from penstock.context.selection import Index, Turn
from penstock.context.summary import Measure
from penstock.context.units import SHORT, History, speaker_of, text_of
from penstock.context.words import words

FLOOR = 0.2
"""How likely a passage must belong to what answers the question: less fill prompts for nothing."""
PASSAGE = 64
"""Tokens of a passage, about: long messages are looked up and repeated in parts."""
LEAST_ASKED = 3
"""Words with content; a question with fewer, as "And the second one?", is looked up with the one before."""

_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


class Passage(NamedTuple):
    """A part of a message.

    Attributes:
        message: The message's place.
        part: Which part of it.
        turn: What selection sees of it.
    """

    message: int
    part: int
    turn: Turn


class Library:
    """The passages of the messages that were cut, to be looked through for any number of questions."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.tokens = 0
        self._index = Index()

    def add(self, history: History, places: Iterable[int], measure: Measure) -> None:
        """Append messages."""
        fresh = [passage for at in places for passage in _passages(history, at, measure)]
        self.passages += fresh
        self.tokens += sum(passage.turn.tokens for passage in fresh)
        self._index.extend(passage.turn for passage in fresh)

    def find(self, question: str, tokens: int) -> list[Passage]:
        """Return the passages that bear on a question, in order, `tokens` at most."""
        return [self.passages[place] for place in self._index.select(question, tokens, floor=FLOOR)]


def question_of(history: History) -> str:
    """What the last user turn asks; of a long one its first sentence and its last."""
    turn = history.last_turn
    asked = history.said_in(turn)
    if len(asked) > SHORT:
        lines = [line.strip() for line in _ENDS.split(asked) if line.strip()]
        asked = f"{lines[0][:SHORT]}\n{lines[-1][-SHORT:]}"
    before = history.turn_before(turn)
    if before < turn and sum(1 for _ in words(asked)) < LEAST_ASKED:
        asked = f"{history.said_in(before)[-SHORT:]}\n{asked}"
    return asked


def quoted(passages: Sequence[Passage]) -> str:
    """Write passages as a dialogue, with a mark wherever something between them is left out."""
    if not passages:
        return ""
    lines = [f"{passages[0].turn.speaker}: {passages[0].turn.text}"]
    for before, passage in pairwise(passages):
        follows = (before.message, before.part + 1) == (passage.message, passage.part)
        if follows:
            lines[-1] += f" {passage.turn.text}"
        elif passage.message == before.message:
            lines[-1] += f" … {passage.turn.text}"
        else:
            lines += ["…"] * (passage.message > before.message + 1)
            lines.append(f"{passage.turn.speaker}: {passage.turn.text}")
    return "\n".join(lines)


def _passages(history: History, at: int, measure: Measure) -> Iterator[Passage]:
    message = history.messages[at]
    speaker = speaker_of(message)
    label = measure(f"{speaker}: … \n…\n")
    for part, text in enumerate(_parted(text_of(message), measure)):
        yield Passage(at, part, Turn(speaker, text, measure(text) + label))


def _parted(text: str, measure: Measure) -> Iterator[str]:
    """Yield `text` in parts of whole sentences."""
    if not text.strip():
        return
    if measure(text) <= PASSAGE:
        yield text.strip()
        return
    part, size = list[str](), 0
    for sentence in _sized(text, measure):
        cost = measure(sentence)
        if part and size + cost > PASSAGE:
            yield " ".join(part)
            part, size = [], 0
        part.append(sentence)
        size += cost
    if part:
        yield " ".join(part)


def _sized(text: str, measure: Measure) -> Iterator[str]:
    """Yield sentences; one that is no sentence, as a line of data, in pieces."""
    for found in _ENDS.split(text):
        sentence = found.strip()
        if not sentence:
            continue
        pieces = -(-measure(sentence) // (2 * PASSAGE))
        step = -(-len(sentence) // pieces) if pieces else len(sentence)
        for start in range(0, len(sentence), step):
            yield sentence[start : start + step]
