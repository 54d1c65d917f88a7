"""What of a long text answers a question: the turns to keep inside a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import pairwise
from typing import NamedTuple

from penstock.context.lexicon import Lexicon
from penstock.context.ranking import fuse, probabilities

WORTH = 0.75
"""The power of its length that a turn is worth beside its probability: one twice as long says less than twice as much.
At 1 turns are kept by probability alone, at 0 the shortest are preferred so much that only they are left."""

FRESH = 0.5
"""A turn more of whose pairs of words were said is worth less by that share (maximal marginal relevance)."""

LEAST_PAIRS = 4
"""Turns with fewer are repeated by chance."""


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
        self._tokens: list[int] = []
        self._lexicon = Lexicon()
        self.extend(turns)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, turns: Iterable[Turn]) -> None:
        """Append turns."""
        for turn in turns:
            self._tokens.append(turn.tokens)
            self._lexicon.add(turn.speaker, turn.text, turn.tokens)

    def scores(self, question: str, *, embedding: Sequence[float] | None = None) -> list[float]:
        """Return for each turn how likely it belongs to what answers `question`, 0 to 1.

        Args:
            question: What is asked.
            embedding: For each turn how near it is to the question in meaning, from any embedder. Both rankings are
                then fused by reciprocal rank, and the scores are no probabilities any more but 1 for the best.

        Raises:
            ValueError: `embedding` has another length than the turns.
        """
        if embedding is not None and len(embedding) != len(self):
            raise ValueError(f"{len(self)} turns, but {len(embedding)} embedding scores: give one for each turn")
        found = probabilities(self._lexicon, question)
        return found if embedding is None else fuse(found, self._lexicon.smoothed(embedding))

    def select(
        self, question: str, budget: int, *, floor: float = 0.0, embedding: Sequence[float] | None = None
    ) -> list[int]:
        """Return the places of the turns to keep, ascending; their tokens come to `budget` at most.

        Everything is kept if it fits and there is no `floor`. What was said before in the same words counts for little.

        Args:
            question: What is asked.
            budget: Tokens that may be kept.
            floor: Turns whose score is lower are left out, whatever room there is.
            embedding: As for `scores`.

        Raises:
            ValueError: `embedding` has another length than the turns.
        """
        if floor <= 0.0 and sum(self._tokens) <= budget:
            return list(range(len(self)))
        scores = self.scores(question, embedding=embedding)
        costs = [max(tokens, 1) for tokens in self._tokens]
        queue = [
            (-score * cost ** (WORTH - 1.0), place)
            for place, (score, cost) in enumerate(zip(scores, costs, strict=True))
            if score >= floor
        ]
        return sorted(self._taken(queue, budget))

    def _taken(self, queue: list[tuple[float, int]], left: int) -> list[int]:
        """Take what is worth most for its tokens; when it is a turn's time, it is looked again what it is worth."""
        heapify(queue)
        kept, said, again = [], set[tuple[str, str]](), dict[int, float]()
        while queue:
            worth, place = queue[0]
            if self._tokens[place] > left:
                heappop(queue)
                continue
            pairs = set(pairwise(self._lexicon.words[place]))
            fresh = 1.0 - len(pairs & said) / len(pairs) if len(pairs) >= LEAST_PAIRS else 1.0
            before = again.get(place, 1.0)
            if fresh < min(before, FRESH):
                again[place] = fresh
                heapreplace(queue, (worth * fresh / before, place))
                continue
            heappop(queue)
            kept.append(place)
            said |= pairs
            left -= self._tokens[place]
        return kept


def select(
    turns: Sequence[Turn],
    question: str,
    budget: int,
    *,
    floor: float = 0.0,
    embedding: Sequence[float] | None = None,
) -> list[int]:
    """Return which of `turns` to keep for `question`: see `Index.select`."""
    return Index(turns).select(question, budget, floor=floor, embedding=embedding)
