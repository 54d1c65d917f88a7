"""How much each turn has to do with a question: BM25 over words and over runs of letters, fused and smoothed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import log

from penstock.context.words import grams, words

K1, B = 1.2, 0.4
FUSION = 60.0
"""The constant of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)."""

WINDOW = 12
"""Turns on either side that lend their score, less the farther they are: what answers a question is a run of turns."""


class Postings:
    """In which turns terms stand, and how often."""

    def __init__(self) -> None:
        self.terms: dict[str, list[tuple[int, int]]] = {}
        self.lengths: list[int] = []
        self.total = 0

    def add(self, terms: Sequence[str]) -> None:
        """Append a turn's terms."""
        place = len(self.lengths)
        for term, times in Counter(terms).items():
            self.terms.setdefault(term, []).append((place, times))
        self.lengths.append(len(terms))
        self.total += len(terms)

    def scores(self, asked: Sequence[str]) -> list[float]:
        """Return the BM25 score of each turn."""
        count = len(self.lengths)
        found = [0.0] * count
        average = self.total / count if self.total else 1.0
        for term, weight in Counter(asked).items():
            postings = self.terms.get(term, ())
            idf = weight * log(1.0 + (count - len(postings) + 0.5) / (len(postings) + 0.5))
            for place, times in postings:
                found[place] += idf * times * (K1 + 1) / (times + K1 * (1 - B + B * self.lengths[place] / average))
        return found


class Lexicon:
    """The words of turns and the runs of letters in them."""

    def __init__(self) -> None:
        self._words = Postings()
        self._grams = Postings()

    def add(self, speaker: str, text: str) -> None:
        """Append a turn."""
        said = list(words(f"{speaker} {text}"))
        self._words.add(said)
        self._grams.add([gram for word in said for gram in grams(word)])

    def rankings(self, question: str) -> list[list[float]]:
        """Return each ranking's scores of all turns."""
        asked = list(words(question))
        return [self._words.scores(asked), self._grams.scores([gram for word in asked for gram in grams(word)])]


def fuse(rankings: Sequence[Sequence[float]]) -> list[float]:
    """Return one score for each turn: the sum of its reciprocal ranks. What a ranking gives nothing gets nothing."""
    fused = [0.0] * len(rankings[0])
    for scores in rankings:
        order = sorted((place for place, score in enumerate(scores) if score > 0.0), key=lambda place: -scores[place])
        for rank, place in enumerate(order):
            fused[place] += 1.0 / (FUSION + rank)
    return fused


def spread(scores: Sequence[float], window: int = WINDOW) -> list[float]:
    """Return scores smoothed over neighbours by a triangle, in time linear in their number."""
    for _ in range(2):
        scores = _boxed(scores, window // 2)
    return list(scores)


def _boxed(scores: Sequence[float], reach: int) -> list[float]:
    sums = [0.0, *accumulate(scores)]
    last = len(scores)
    return [sums[min(place + reach + 1, last)] - sums[max(place - reach, 0)] for place in range(last)]
