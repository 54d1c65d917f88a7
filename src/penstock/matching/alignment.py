"""What two sequences of words share, and what they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MANY = 50
"""Where more words differ, texts are not one text with changes; it is not looked how words pair off."""


def surplus(here: Sequence[str], there: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what only one of them has, of what stands more often in one the difference."""
    if here == there:
        return [], []
    if len(here) > MANY and len(there) > MANY:
        one, other = Counter(here), Counter(there)
        return list((one - other).elements()), list((other - one).elements())
    extra, rest = [], list(there)
    for word in here:
        if word in rest:
            rest.remove(word)
        else:
            extra.append(word)
    return extra, rest


def pair_off(here: list[str], there: list[str]) -> int:
    """Take out words that look like one, written otherwise or in two, and return how many."""
    if not here or not there or len(here) > MANY or len(there) > MANY:
        return 0
    alike = 0
    for one in tuple(here):
        other = next((word for word in there if looks_like(one, word)), None)
        if other is not None:
            here.remove(one)
            there.remove(other)
            alike += 1
    for less, more in ((here, there), (there, here)):
        for one in tuple(less):
            first = next((word for word in more if one.startswith(word) and one != 2 * word), None)
            if first is not None and one[len(first) :] in more:
                less.remove(one)
                more.remove(first)
                more.remove(one[len(first) :])
                alike += 1
    return alike


def looks_like(one: str, other: str) -> bool:
    """Whether two stems look like forms or misspellings of one word."""
    if one[:2] != other[:2] or not one[0].isalpha():
        return False
    common = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        common += 1
    if common >= 4 and common >= 0.6 * max(len(one), len(other)):
        return True
    if min(len(one), len(other)) < 5:
        return False
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return longer[common + 1 :] == shorter[common + (len(longer) == len(shorter)) :]


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
