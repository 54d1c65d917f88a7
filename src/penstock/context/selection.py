"""What of a long text answers a question: the turns to keep inside a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock.context.ranking import Lexicon, fuse, spread


class Turn(NamedTuple):
    """One contribution to a conversation, or one paragraph of a text.

    Attributes:
        speaker: Who said it; empty if nobody is named.
        text: What was said.
        tokens: What it costs to send it.
    """

    speaker: str
    text: str
    tokens: int


class Index:
    """The turns of a conversation, looked up by any number of questions.

    Appending turns gives what building it anew from all of them would.

    Args:
        turns: The first turns.
    """

    def __init__(self, turns: Iterable[Turn] = ()) -> None:
        self.turns: list[Turn] = []
        self._lexicon = Lexicon()
        self.extend(turns)

    def extend(self, turns: Iterable[Turn]) -> None:
        """Append turns."""
        for turn in turns:
            self.turns.append(turn)
            self._lexicon.add(turn.speaker, turn.text)

    def scores(self, question: str, *, embedding: Sequence[float] | None = None) -> list[float]:
        """Return for each turn how much it has to do with `question`, 0 or more; only the order is meaningful.

        Args:
            question: What is asked.
            embedding: For each turn how near it is to the question in meaning, from any embedder.

        Raises:
            ValueError: `embedding` has another length than the turns.
        """
        if embedding is not None and len(embedding) != len(self.turns):
            raise ValueError(f"{len(self.turns)} turns, but {len(embedding)} embedding scores: give one for each turn")
        rankings = self._lexicon.rankings(question)
        if embedding is not None:
            rankings.append(list(embedding))
        return spread(fuse(rankings))

    def select(self, question: str, budget: int, *, embedding: Sequence[float] | None = None) -> list[int]:
        """Return the places of the turns to keep, ascending; their tokens come to `budget` at most.

        Everything is kept if it fits.

        Args:
            question: What is asked.
            budget: Tokens that may be kept.
            embedding: For each turn how near it is to the question in meaning, from any embedder.

        Raises:
            ValueError: `embedding` has another length than the turns.
        """
        if sum(turn.tokens for turn in self.turns) <= budget:
            return list(range(len(self.turns)))
        scores = self.scores(question, embedding=embedding)
        kept, left = [], budget
        for place in sorted(range(len(scores)), key=lambda place: (-scores[place], -place)):
            if self.turns[place].tokens <= left:
                kept.append(place)
                left -= self.turns[place].tokens
        return sorted(kept)


def select(turns: Sequence[Turn], question: str, budget: int, *, embedding: Sequence[float] | None = None) -> list[int]:
    """Return which of `turns` to keep for `question`: see `Index.select`."""
    return Index(turns).select(question, budget, embedding=embedding)
