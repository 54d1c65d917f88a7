"""The questions of one partition whose answers are known, and what they propose for another question."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import log
from typing import NamedTuple

from penstock.abc import Vector, VectorIndex
from penstock.matching.indexes.inverted import InvertedIndex
from penstock.matching.model import Features
from penstock.matching.reading import read, tokens
from penstock.matching.vetoes import compare

UNSEEN, FEW = 0.7, 30
"""Of a partition of so few entries nobody knows what other questions are like: one might be this near already."""


class Proposal(NamedTuple):
    """What is nearest to a question.

    Attributes:
        entry: Its number in the partition.
        answer: Its answer's identity.
        features: What the model goes by.
        veto: The difference that forbids it, or None.
        same: The two are the same words and signs in the same order.
    """

    entry: int
    answer: Hashable
    features: Features
    veto: str | None
    same: bool = False


class Partition:
    """What may answer for each other: one tenant, model, system prompt, tools and history (the caller's concern).

    Args:
        make_index: Makes the index of its vectors.
    """

    def __init__(self, make_index: Callable[[], VectorIndex] = InvertedIndex) -> None:
        self._index = make_index()
        self._known: dict[int, tuple[str, Hashable]] = {}
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
        self._known[entry] = (text, answer)
        self._index.add(entry, vector)
        for word in set(read(text).content):
            self._frequency[word] = self._frequency.get(word, 0) + 1
        return entry

    def remove(self, entry: int) -> None:
        """Forget a question."""
        text, _ = self._known.pop(entry)
        self._index.remove(entry)
        for word in set(read(text).content):
            self._frequency[word] -= 1
            if not self._frequency[word]:
                del self._frequency[word]

    def propose(self, text: str, vector: Vector, count: int = 8) -> Proposal | None:
        """Return the nearest of the partition's questions to `text`, or None where none shares anything with it."""
        near = self._index.nearest(vector, count)
        if not near:
            return None
        return self._judge(text, near, 0, whole=len(near) < count)

    def nearest(self, text: str, vector: Vector, count: int = 8) -> list[Proposal]:
        """Return the nearest questions, nearest first, each as if it were proposed: to explain what was."""
        near = self._index.nearest(vector, count)
        return [self._judge(text, near, place, whole=len(near) < count) for place in range(len(near))]

    def _judge(self, asked_text: str, near: Sequence[tuple[int, float]], place: int, *, whole: bool) -> Proposal:
        """Propose the one at `place` of `near`, which are all there are if `whole`."""
        entry, similarity = near[place]
        text, answer = self._known[entry]
        others = [score for other, score in near if self._known[other][1] != answer]
        rival = others[0] if others else 0.0 if whole else near[-1][1]
        alone = FEW / (FEW + len(self._known))
        asked, known = read(asked_text), read(text)
        found = compare(asked, known)
        fewer, more = sorted((len(asked.content), len(known.content)))
        features = Features(
            similarity=similarity,
            margin=similarity - max(rival, similarity * UNSEEN * alone),
            support=log(len(near) - len(others)),
            difference=self._share(found.here + found.there, asked.content + known.content),
            swapped=min(2, len(found.here), len(found.there)),
            inserted=min(3, abs(len(found.here) - len(found.there))),
            alike=min(2, found.alike),
            function=min(4, len(found.function)),
            order=found.in_order,
            doubts=min(2, found.doubts),
            words=log(1 + fewer),
            length=fewer / max(1, more),
            alone=alone,
        )
        alike = found.veto is None and not (features.difference or features.function or features.alike)
        same = alike and asked.words == known.words and _words(asked_text) == _words(text)
        return Proposal(entry, answer, features, found.veto, same)

    def _share(self, some: Sequence[str], every: Sequence[str]) -> float:
        return self._weight(some) / (self._weight(every) or 1.0) if some else 0.0

    def _weight(self, words: Sequence[str]) -> float:
        size, frequency = len(self._known) + 8.0, self._frequency
        return sum([log(1.0 + size / (frequency.get(word, 0) + 0.5)) for word in words])


def _words(text: str) -> list[str]:
    return [token.lower() for token in tokens(text)]
