"""A text as its words, the pairs of neighbours among them, and the pieces of its words: a sparse vector.

Texts are compared by the names of words and pairs; pieces say which words are spelt alike. So an index need not look at
the pieces of every word of every text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from math import sqrt
from operator import mul

WORD, FUNCTION, PAIR, OTHER = range(4)
"""What the two lowest bits of a name say it is of: a word with content, another word, a pair, any other feature."""

KIND = 3
KINDS = (1.0, 0.3, 0.5, 1.0)
"""Weights of what has a name, before rarity; of a word that of its stem, beside its pieces."""

Terms = tuple[tuple[int, float], ...]
"""The stem of a word and its pieces, each with its weight; the stem first."""


class Spelling(Mapping[int, float]):
    """The sparse vector of a text, of length 1; the sum is made when it is first asked for.

    Args:
        counts: How often each name occurs.
        words: The terms of each word with content, by its name.
    """

    def __init__(self, counts: dict[int, float], words: dict[int, Terms]) -> None:
        self.counts = counts
        self.words = words

    def __getitem__(self, key: int) -> float:
        return self._sum[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._sum)

    def __len__(self) -> int:
        return len(self._sum)

    def __bool__(self) -> bool:
        return bool(self.counts)

    @cached_property
    def _sum(self) -> dict[int, float]:
        total: dict[int, float] = {}
        for name, count in self.counts.items():
            for term, weight in self.words.get(name) or ((name, KINDS[name & KIND]),):
                total[term] = total.get(term, 0.0) + count * weight
        weights = total.values()
        norm = sqrt(sum(map(mul, weights, weights)))
        return {term: weight / norm for term, weight in total.items()} if norm else {}
