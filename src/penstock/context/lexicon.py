"""What of a text has to do with a question, at every place in it and around it.

A text is divided into blocks of equal length, whatever its turns are. What a block has of the question's words is
spread over its neighbours several times, each time farther, since what answers a question is a stretch of text of
unknown length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nlargest
from itertools import accumulate
from math import log1p, sqrt
from operator import itemgetter
from typing import NamedTuple

from penstock.context.smoothing import laid_out, merged, scaled, triangle
from penstock.context.speakers import named
from penstock.context.words import asked, grams, words

BLOCK = 64
"""Tokens of a block, about three sentences."""

REACHES = (0, 1, 2, 6, 15, 31)
"""Half of the blocks on either side over which is spread."""

OFTEN = 3.0
"""More often in a block, a word says nothing more."""

ENOUGH = 0.3
"""How much of a word nearby counts half as much as any number of it, with a reach of nothing; with others more."""

MOST = 24
"""Words of a question that are looked for: the rarest."""

START = 3
"""Letters with which words must begin alike for it to be looked how alike they are."""

ALIKE = 0.5
"""Share of letter runs that two words must have in common for one to stand for the other."""

EMBEDDED = 2
"""The reach over which scores of an embedder are spread."""


class Columns(NamedTuple):
    """What is known of a text beside a question.

    Attributes:
        blocks: For each feature its value for each block.
        turns: For each feature its value for each turn.
    """

    blocks: list[list[float]]
    turns: list[list[float]]


class _Places(NamedTuple):
    """Where a word stands: a block and a turn each time."""

    blocks: list[int]
    turns: list[int]


class Lexicon:
    """What stands where in a text that only grows.

    Attributes:
        spans: The first block of each turn, and the one after its last.
        words: The words with content of each turn, in order.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.words: list[tuple[str, ...]] = []
        self._speakers: list[str] = []
        self._sizes: list[float] = []
        self._end = 0
        self._places: dict[str, _Places] = {}
        self._shares: dict[str, dict[int, float]] = {}
        self._vocabulary: dict[str, list[str]] = {}

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-self._end // BLOCK)

    def add(self, speaker: str, text: str, tokens: int) -> None:
        """Append a turn."""
        turn, start, size = len(self.spans), self._end, max(tokens, 1)
        self._end = end = start + size
        self.spans.append((start // BLOCK, (end - 1) // BLOCK + 1))
        said = tuple(words(text))
        self.words.append(said)
        self._speakers.append(speaker)
        self._sizes.append(log1p(size))
        for at, word in enumerate(said):
            places = self._places.get(word)
            if places is None:
                places = self._places[word] = _Places([], [])
                self._vocabulary.setdefault(word[:START], []).append(word)
            places.blocks.append((start + size * at // len(said)) // BLOCK)
            places.turns.append(turn)
        shares = self._shares.setdefault(speaker, {})
        for block in range(*self.spans[-1]):
            here = min(end, (block + 1) * BLOCK) - max(start, block * BLOCK)
            shares[block] = shares.get(block, 0.0) + here / BLOCK

    def columns(self, question: str) -> Columns:
        """Return the features of blocks and turns."""
        speakers, names = named(question, self._shares)
        covered, own = self._covered({word: weight for word, weight in asked(question).items() if word not in names})
        spoken = laid_out(merged((self._shares[name], 1.0) for name in speakers), self.blocks)
        everywhere = [1.0] * self.blocks
        beside = [
            [here / most for here, most in zip(spread(spoken), spread(everywhere), strict=True)] if speakers else spoken
            for spread in map(triangle, REACHES[1:])
        ]
        return Columns(
            [*map(scaled, covered), covered[1], *beside],
            [own, [float(speaker in speakers) for speaker in self._speakers], self._sizes],
        )

    def _covered(self, about: Mapping[str, float]) -> tuple[list[list[float]], list[float]]:
        """What share of the words each block has near it, for each reach, and each turn in it; rare ones count more."""
        spreads = [(triangle(reach), ENOUGH * sqrt(reach + 1.0)) for reach in REACHES]
        near, own = [[0.0] * self.blocks for _ in REACHES], [0.0] * len(self.spans)
        found = [self._found(word, weight) for word, weight in about.items()]
        possible = sum(nlargest(MOST, (rarity for rarity, _, _ in found)))
        there = (each for each in found if each[1])
        for rarity, places, forms in nlargest(MOST, there, key=itemgetter(0)):
            said = merged((dict.fromkeys(self._places[form].turns, 1), alike) for form, alike in forms)
            for turn, alike in said.items():
                own[turn] += rarity * min(alike, 1.0)
            once = laid_out({block: min(times, OFTEN) for block, times in places.items()}, self.blocks)
            for column, (spread, half) in zip(near, spreads, strict=True):
                for block, lent in enumerate(spread(once)):
                    if lent:
                        column[block] += rarity * lent / (lent + half)
        share = 1.0 / possible if possible else 0.0
        return [[each * share for each in column] for column in near], [each * share for each in own]

    def _found(self, word: str, weight: float) -> tuple[float, dict[int, float], list[tuple[str, float]]]:
        """How rare a word is, how often each block has it in some form, and its forms."""
        forms = self._forms(word)
        places = merged((Counter(self._places[form].blocks), alike) for form, alike in forms)
        return weight * log1p((self.blocks - len(places) + 0.5) / (len(places) + 0.5)), places, forms

    def smoothed(self, scores: Sequence[float]) -> list[float]:
        """Return scores of turns, each with what turns nearby lend it."""
        row = [0.0] * self.blocks
        for (first, last), score in zip(self.spans, scores, strict=True):
            for block in range(first, last):
                row[block] = max(row[block], score)
        near = self.meant(triangle(EMBEDDED)(row))
        return [score + around for score, around in zip(scores, near, strict=True)]

    def meant(self, row: Sequence[float]) -> list[float]:
        """Return for each turn the mean of its blocks' values."""
        sums = [0.0, *accumulate(row)]
        return [(sums[last] - sums[first]) / (last - first) for first, last in self.spans]

    def _forms(self, word: str) -> list[tuple[str, float]]:
        """The text's words that are written like `word`, and how much alike they are; a number is like itself only."""
        if not word.isalpha():
            return [(word, 1.0)] if word in self._places else []
        runs = grams(word)
        found = []
        for other in self._vocabulary.get(word[:START], ()):
            theirs = grams(other)
            alike = len(runs & theirs) / len(runs | theirs)
            if alike >= ALIKE:
                found.append((other, alike))
        return found
