"""What of a text is looked up: its words with content, without endings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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

_ASKING = (
    "according agree agreed agreement answer answered ask asked attitude attitudes aspect aspects comment comments "
    "concern concerning conclude conclusion conversation decide decided decision decisions describe describing detail "
    "details discuss discussed discussing discussion discussions disagree disagreed explain explained feel feeling "
    "felt group idea ideas introduce introduced issue issues meeting meetings member members mention mentioned opinion "
    "opinions people point points propose proposed question questions reason reasons recommend recommended regarding "
    "respond responded response suggest suggested suggestion suggestions summarise summarised summarize summarized "
    "summary talk talked talking team tell thought thoughts told topic view views when while"
)
ASKING = frozenset(_ASKING.split())
"""Words of a question that say what is done in a conversation, not what it is about."""

GRAM = 3
"""Letters of a run, by which words are found that are written nearly alike."""

NAMED = 1.5
"""What a name or a number in a question weighs beside another word."""

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ers", "ed", "es", "er", "ly", "s", "y", "e")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts that put no spaces between words."""


def words(text: str) -> Iterator[str]:
    """Yield the words with content of `text` in lower case, stemmed; of scripts without spaces, pairs of letters."""
    for word in _WORD.findall(text.lower()):
        yield from _stems(word)


def asked(question: str) -> Mapping[str, float]:
    """Return the words a question is about, each with its weight: names and numbers weigh more than other words."""
    about: dict[str, float] = {}
    names = _names(question)
    for word in _WORD.findall(question):
        lower = word.lower()
        if lower not in ASKING:
            for stem in _stems(lower):
                about[stem] = max(about.get(stem, 0.0), NAMED if word in names else 1.0)
    return about


def _names(question: str) -> set[str]:
    """Numbers, and words with a capital that do not begin a sentence."""
    found = _WORD.findall(question)
    first = set(re.findall(r"(?:^|[.!?:\n]\s*)([^\W_]+)", question))
    return {word for word in found if any(map(str.isdigit, word)) or (word[0].isupper() and word not in first)}


@lru_cache(maxsize=65_536)
def _stems(word: str) -> tuple[str, ...]:
    if word in STOP or (len(word) == 1 and word.isascii() and not word.isdigit()):
        return ()
    if not word.isascii() and _UNSPACED.search(word):
        return tuple(word[at : at + 2] for at in range(len(word) - 1)) or (word,)
    return (_stem(word),)


def _stem(word: str) -> str:
    """Return `word` without its ending, if four letters at least are left."""
    for ending in _ENDINGS:
        if len(word) - len(ending) >= 4 and word.endswith(ending):
            return word[: -len(ending)]
    return word


def grams(word: str) -> set[str]:
    """Return the runs of letters of `word`, with its beginning and its end marked."""
    marked = f"^{word}$"
    return {marked[at : at + GRAM] for at in range(len(marked) - GRAM + 1)} or {marked}
