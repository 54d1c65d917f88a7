"""The questions of one partition whose answers are known, and what they propose for another question."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import log
from typing import NamedTuple

from penstock.abc import Vector, VectorIndex
from penstock.matching.indexes.inverted import InvertedIndex
from penstock.matching.model import Features
from penstock.matching.reading import Reading, read
from penstock.matching.vetoes import veto


class Proposal(NamedTuple):
    """What is nearest to a question.

    Attributes:
        entry: Its number in the partition.
        answer: Its answer's identity.
        features: What the model goes by.
        veto: The difference that forbids it, or None.
    """

    entry: int
    answer: Hashable
    features: Features
    veto: str | None


class Partition:
    """What may answer for each other: one tenant, model, system prompt, tools and history (the caller's concern)."""

    def __init__(self, make_index: Callable[[], VectorIndex] = InvertedIndex, *, edits: bool = True) -> None:
        self._edits = edits
        self._index = make_index()
        self._known: dict[int, tuple[Reading, Hashable]] = {}
        self._frequency: dict[str, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, text: str, vector: Vector, answer: Hashable, *, entry: int | None = None) -> int:
        """Add a question, or another phrasing of one (an alias: the same answer), and return its number.

        Args:
            text: The question.
            vector: Where it lies.
            answer: Its answer's identity.
            entry: The number it gets, above those of all before it; by default the next.
        """
        entry = self._next if entry is None else entry
        self._next = max(self._next, entry + 1)
        reading = read(text)
        self._known[entry] = (reading, answer)
        self._index.add(entry, vector)
        for word in reading.content:
            self._frequency[word] = self._frequency.get(word, 0) + 1
        return entry

    def remove(self, entry: int) -> None:
        """Forget a question."""
        reading, _ = self._known.pop(entry)
        self._index.remove(entry)
        for word in reading.content:
            self._frequency[word] -= 1
            if not self._frequency[word]:
                del self._frequency[word]

    def propose(self, text: str, vector: Vector, count: int = 8) -> Proposal | None:
        """Return the nearest of the partition's questions to `text`, or None where none shares anything with it."""
        near = self._index.nearest(vector, count)
        if not near:
            return None
        return self._judge(read(text), near, 0, whole=len(near) < count)

    def nearest(self, text: str, vector: Vector, count: int = 8) -> list[Proposal]:
        """Return the nearest questions, nearest first, each as if it were proposed: to explain what was."""
        near = self._index.nearest(vector, count)
        return [self._judge(read(text), near, place, whole=len(near) < count) for place in range(len(near))]

    def _judge(self, asked: Reading, near: Sequence[tuple[int, float]], place: int, *, whole: bool) -> Proposal:
        """Propose the one at `place` of `near`, which are all there are if `whole`."""
        entry, similarity = near[place]
        known, answer = self._known[entry]
        rival = next((score for other, score in near if self._known[other][1] != answer), None)
        if rival is None:
            rival = 0.0 if whole else near[-1][1]
        sizes = sorted((len(asked.stems), len(known.stems)))
        features = Features(
            similarity, similarity - rival, self._difference(asked.content, known.content), sizes[0] / max(1, sizes[1])
        )
        return Proposal(entry, answer, features, veto(asked, known, edits=self._edits))

    def _difference(self, here: frozenset[str], there: frozenset[str]) -> float:
        everything = sum(map(self._weight, here | there))
        return sum(map(self._weight, here ^ there)) / everything if everything else 0.0

    def _weight(self, word: str) -> float:
        return log(1.0 + (len(self._known) + 8.0) / (self._frequency.get(word, 0) + 0.5))
