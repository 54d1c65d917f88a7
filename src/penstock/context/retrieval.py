"""What of the messages that were cut is repeated, because the question needs it."""

from __future__ import annotations

from penstock.context.selection import Turn, select
from penstock.context.summary import Measure
from penstock.context.units import History, speaker_of, text_of


class Memory:
    """What was worked out for earlier requests."""


def covered_turns(history: History, end: int, measure: Measure) -> list[Turn]:
    """The messages before `end` that are left out, as what selection looks through."""
    found = []
    for at, message in enumerate(history.messages[:end]):
        if not history.stays(at) and (text := text_of(message)):
            found.append(Turn(speaker_of(message), text, measure(f"{speaker_of(message)}: {text}\n")))
    return found


def excerpts(turns: list[Turn], question: str, tokens: int) -> str:
    """Return those that answer the question, in order, `tokens` at most; empty when none fits."""
    return "\n".join(f"{turns[place].speaker}: {turns[place].text}" for place in select(turns, question, tokens))
