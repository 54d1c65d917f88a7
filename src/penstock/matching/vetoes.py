"""Differences that change an answer however alike two texts look. Deterministic, and each has a name.

Vectors of meaning hardly move when a "not", a number or a name does, so these are decided by rule before the model is
asked. A veto costs a miss; its absence costs a wrong answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.matching.reading import Reading
from penstock.matching.vocabulary import NEGATIVE_PREFIXES, OPPOSITES

IN_PLACE = 0.6
"""From this share of the shorter text's words in the same order on, two texts are one text, edited."""

EDITED = 3
"""How many words of content an edit changes at most; who rephrases changes more."""

VETOES = (
    "literal",
    "number",
    "unit",
    "date",
    "negation",
    "question",
    "quantifier",
    "name",
    "antonym",
    "swap",
    "insertion",
    "order",
)
"""The names `veto` returns."""


def veto(asked: Reading, known: Reading, *, edits: bool = True) -> str | None:
    """Return the name of the first difference that forbids the answer to `known` for `asked`, or None.

    Args:
        asked: The question that came.
        known: The one whose answer is known.
        edits: Whether a few words changed in place forbid it too ("swap", "insertion", "order"). Without a dictionary
            of synonyms these rules refuse many true paraphrases.
    """
    for name, attribute in _EQUAL:
        if asked[attribute] != known[attribute]:
            return name
    if len(asked.negations) != len(known.negations) or _moved(asked, known):
        return "negation"
    if not (asked.names <= frozenset(known.stems) and known.names <= frozenset(asked.stems)):
        return "name"
    if _opposed(asked.words - known.words, known.words - asked.words):
        return "antonym"
    return _edited(asked, known) if edits else None


_EQUAL = tuple(
    (name, Reading._fields.index(field))
    for name, field in (
        ("literal", "literals"),
        ("number", "numbers"),
        ("unit", "units"),
        ("date", "dates"),
        ("question", "asked"),
        ("quantifier", "quantifiers"),
    )
)


def _moved(asked: Reading, known: Reading) -> bool:
    """Whether a negation now stands before another word of those the texts share."""
    other = set(asked.negations) ^ set(known.negations)
    return any(scope in asked.content and scope in known.content for scope in other)


def _opposed(here: frozenset[str], there: frozenset[str]) -> bool:
    for one, other in ((here, there), (there, here)):
        for word in one:
            if OPPOSITES.get(word, _NONE) & other:
                return True
            if len(word) > 3 and any(prefix + word in other for prefix in NEGATIVE_PREFIXES):
                return True
    return False


_NONE: frozenset[str] = frozenset()


def _edited(asked: Reading, known: Reading) -> str | None:
    """Name the edit where two texts are one but for a single place; a true paraphrase tends to change several."""
    here, there = asked.content - known.content, known.content - asked.content
    if not here and not there:
        order = [s for s in asked.stems if s in asked.content]
        return "order" if order != [s for s in known.stems if s in known.content] else None
    if all(any(_alike(one, other) for other in there) for one in here) and len(here) == len(there):
        return None
    if max(len(here), len(there)) <= EDITED and in_order(asked.stems, known.stems) >= IN_PLACE * min(
        len(asked.stems), len(known.stems)
    ):
        return "swap" if here and there else "insertion"
    if len(here) == len(there) == 1 and asked.content & known.content:
        return "swap"
    return None


def in_order(here: Sequence[str], there: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by the bit-parallel method of Hyyrö (2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(here):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(here)) - 1
    unmatched = everywhere
    for word in there:
        met = unmatched & places.get(word, 0)
        unmatched = ((unmatched + met) | (unmatched - met)) & everywhere
    return len(here) - unmatched.bit_count()


def _alike(one: str, other: str) -> bool:
    """Whether two stems look like forms or misspellings of one word."""
    common = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        common += 1
    return common >= 4 and common >= 0.6 * max(len(one), len(other))
