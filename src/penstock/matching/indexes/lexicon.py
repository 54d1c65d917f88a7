"""The names that the texts of one partition have: how rare each is, and which words are spelt like others."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import nlargest
from itertools import chain
from math import log
from typing import TypeAlias

from penstock.matching.spelling import KIND, KINDS, Terms

Held: TypeAlias = "int | array[int]"
"""The only one that has a name; else how many have it, and those of them that are listed under it."""

_ALIKE = 1 / 16
"""Words are spelt alike if they share two terms, and this share, squared, of the product of how many they have."""

_COMMON = 64
"""Pieces of more words than this do not lead from one word to others: "ing", "pre"."""

_REMEMBERED = 65536
"""Terms, names and words of which what is reckoned is at hand."""

_SQUARES = tuple(weight * weight for weight in KINDS)
_NONE = (0,)

Alike = list[tuple[int, float]]


class Lexicon:
    """What every name adds to the product of two texts.

    How rare something is, is of the beginning of a season; of what is new since, of when it came. So it does not
    matter who asked when, and all products of a season agree.

    Args:
        holders: Who has a name.
    """

    def __init__(self, holders: dict[int, Held]) -> None:
        self._holders = holders
        self._words: dict[int, Terms] = {}
        self._having: dict[int, list[int]] = {}
        """By term, how many entries have it, as often as in words of theirs; and the words that do."""
        self._kin: dict[int, list[int]] = {}
        self._squares = _Rarities(0)
        self._rarity: dict[int, float] = {}
        self._own: dict[int, float] = {}
        self._alike: dict[int, Alike] = {}
        self._strange: dict[int, Alike] = {}

    def begin(self, entries: int) -> None:
        """Begin a season, with so many entries."""
        self._squares = _Rarities(entries)
        for each in (self._rarity, self._own, self._alike, self._strange):
            each.clear()

    def settle(self, names: Iterable[int]) -> None:
        """Keep to the end of the season how rare these are, before others have them, or nobody."""
        own, rarity, words = self._own, self._rarity, self._words
        for name in names:
            if name in words:
                for term, _ in words[name]:
                    if term not in rarity:
                        self._rate(term)
            elif name not in own:
                self._weigh(name)

    def learn(self, name: int, terms: Terms) -> None:
        """There is a name that there was not, with these terms if it is a word."""
        self._own.pop(name, None)
        if not terms:
            return
        having = self._having
        self._strange.clear()
        if kin := self._spelt_like(name, terms):
            self._kin[name] = kin
            for other in kin:
                self._kin.setdefault(other, []).append(name)
                self._alike.pop(other, None)
        self._words[name] = terms
        for term, _ in terms:
            if term in having:
                having[term].append(name)
            else:
                self._rarity.pop(term, None)
                having[term] = [0, name]

    def forget(self, name: int) -> None:
        """There is a name no more."""
        for term, _ in self._words.pop(name, ()):
            others = self._having[term]
            del others[others.index(name, 1)]
            if len(others) == 1:
                del self._having[term]
        self._own.pop(name, None)
        self._alike.pop(name, None)
        for other in self._kin.pop(name, ()):
            self._kin[other].remove(name)

    def count(self, names: Iterable[int], times: int) -> None:
        """Count an entry that has these names; with -1, one that has them no more."""
        words, having = self._words, self._having
        for name in names:
            for term, _ in words.get(name, ()):
                having[term][0] += times

    def weights(self, counts: Mapping[int, float]) -> list[float]:
        """Return what each of these names, all known, adds to the square of the length of a text of them."""
        own, kin, words = self._own, self._kin, self._words
        weights = []
        for name, count in counts.items():
            weight = count * (own[name] if name in own else self._weigh(name))
            for other in kin.get(name, ()):
                if other in counts:
                    weight += counts[other] * self._likeness(self._rated(words[name]), other)
            weights.append(count * weight)
        return weights

    def weightiest(self, counts: Mapping[int, float], words: Mapping[int, Terms], most: int) -> dict[int, float]:
        """Return the names that add most to the square of the length."""
        reach = self.reach(counts, words)
        weights = {name: count * reach[name] for name, count in counts.items()}
        return {name: counts[name] for name in nlargest(most, weights, key=weights.__getitem__)}

    def reach(self, counts: Mapping[int, float], words: Mapping[int, Terms]) -> dict[int, float]:
        """Return what a name of another text adds to the product with one of these, for each that adds anything."""
        own, alike, strange = self._own, self._alike, self._strange
        found: dict[int, float] = {}
        for name, count in counts.items():
            if name not in words:
                found[name] = count * (own[name] if name in own else self._weigh(name))
                continue
            for other, likeness in alike.get(name) or strange.get(name) or self._liken(name, words[name]):
                found[other] = found[other] + count * likeness if other in found else count * likeness
        return found

    def _weigh(self, name: int) -> float:
        own = self._own
        if len(own) >= _REMEMBERED:
            own.clear()
        terms = self._words.get(name)
        if terms is None:
            held = self._holders.get(name)
            count = 0 if held is None else 1 if isinstance(held, int) else held[0]
            weight = _SQUARES[name & KIND] * self._squares[count]
        else:
            rated = self._rated(terms)
            weight = sum([weight * rated[term] for term, weight in terms])
        own[name] = weight
        return weight

    def _rate(self, term: int) -> float:
        rarity = self._rarity
        if len(rarity) >= _REMEMBERED:
            rarity.clear()
        rarity[term] = square = self._squares[self._having.get(term, _NONE)[0]]
        return square

    def _rated(self, terms: Terms) -> dict[int, float]:
        rarity = self._rarity
        return {term: weight * (rarity[term] if term in rarity else self._rate(term)) for term, weight in terms}

    def _likeness(self, rated: Mapping[int, float], other: int) -> float:
        return sum([weight * rated[term] for term, weight in self._words[other] if term in rated])

    def _liken(self, name: int, terms: Terms) -> Alike:
        """Return a word itself and those spelt like it, with the product of each with it."""
        known, rated = name in self._words, self._rated(terms)
        found = [(name, sum([weight * rated[term] for term, weight in terms]))]
        kin = self._kin.get(name, ()) if known else self._spelt_like(name, terms)
        found += [(other, self._likeness(rated, other)) for other in kin]
        remembered = self._alike if known else self._strange
        if len(remembered) >= _REMEMBERED:
            remembered.clear()
        remembered[name] = found
        return found

    def _spelt_like(self, name: int, terms: Terms) -> list[int]:
        """Return the known words that share the stem of another, or many pieces."""
        having, words = self._having, self._words
        alike = [others[1:] for term, _ in terms if (others := having.get(term)) and len(others) <= _COMMON]
        enough = _ALIKE * len(terms)
        found = dict.fromkeys(having.get(terms[0][0], _NONE)[1:])
        for other, shared in Counter(chain.from_iterable(alike)).items():
            if shared > 1 and shared * shared >= enough * len(words[other]):
                found[other] = None
        found.pop(name, None)
        return list(found)


class _Rarities(dict[int, float]):
    """The square of the inverse document frequency among `entries`, by how many of them have a term."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self._entries = entries

    def __missing__(self, count: int) -> float:
        self[count] = square = log(1.0 + (self._entries + 8.0) / (count + 0.5)) ** 2
        return square
