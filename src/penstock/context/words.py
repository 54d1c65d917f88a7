"""What of a text is looked up: words without endings, and runs of letters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_STOP = (
    "a about after all also am an and any are as at be because been before being but by can could did do does doing "
    "don for from get go going got had has have he her here him his how i if in into is it its just kind know let like "
    "ll make may maybe me mean might mm more most much my no not now of off oh ok okay on one only or other our out "
    "over really right said say see she should so some something sort such than that the their them then there these "
    "they thing things think this those to too uh uhhuh um up us ve very want was way we well were what when where "
    "which who why will with would yeah yes you your"
)
STOP = frozenset(_STOP.split())
"""Words that say nothing of what is talked about, among them those that fill speech."""

GRAM = 4
"""Letters of a run; a word is looked up by its runs too, so that forms and misspellings of it are met."""

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ers", "ed", "es", "er", "ly", "s", "y", "e")


def words(text: str) -> Iterator[str]:
    """Yield the words with content of `text` in lower case, stemmed."""
    for word in _WORD.findall(text.lower()):
        if word not in STOP and (len(word) > 1 or word.isdigit()):
            yield stem(word)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return `word` without its ending, if four letters at least are left."""
    for ending in _ENDINGS:
        if len(word) - len(ending) >= 4 and word.endswith(ending):
            return word[: -len(ending)]
    return word


def grams(word: str) -> list[str]:
    """Return the runs of letters of `word`; of a short one itself."""
    return [word[at : at + GRAM] for at in range(len(word) - GRAM + 1)] or [word]
