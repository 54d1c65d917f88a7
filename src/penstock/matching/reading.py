"""What a text says that must not differ: its facts, read by rule."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from penstock.matching.vocabulary import (
    ASKED,
    DATES,
    FUNCTION_WORDS,
    NEGATORS,
    NUMBER_WORDS,
    QUANTIFIERS,
    UNITS,
)

_LITERALS = re.compile(r"""https?://\S+|www\.\S+|```.*?```|`[^`]+`|"[^"\n]{1,200}"|“[^”\n]{1,200}”""", re.DOTALL)
_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:\+\+|#)?|[$€£¥₹%]|[<>=+*^±]")
_NOT = re.compile(r"(?<=\w)n['’]t\b", re.IGNORECASE)
_NONE: frozenset[str] = frozenset()
_OPENERS = frozenset({"who", "what", "when", "where", "why", "how", "which", "whose"})
_SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ers", "er", "edly", "ed", "ly", "es", "s", "e")


class Reading(NamedTuple):
    """The facts of a text.

    Attributes:
        stems: Every word's stem, in order; numbers and units in one spelling.
        content: Stems of the words with content.
        numbers: Numbers, sorted, in one spelling ("1,000" is "1000", "twelve" is "12").
        units: Units and currencies, in one spelling.
        dates: Words of dates and periods.
        negations: Stems of the first word with content after each word that negates, sorted.
        asked: Which kind of thing a question asks for: who, when, how many.
        quantifiers: Words such as "all" and "only".
        names: Words that capitals show to be names, as stems.
        literals: Quotations, code and addresses, verbatim.
        words: Every word in lower case.
    """

    stems: tuple[str, ...]
    content: frozenset[str]
    numbers: tuple[str, ...]
    units: frozenset[str]
    dates: frozenset[str]
    negations: tuple[str, ...]
    asked: frozenset[str]
    quantifiers: frozenset[str]
    names: frozenset[str]
    literals: frozenset[str]
    words: frozenset[str]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return `word`, in lower case, without one usual English ending; never fewer than three letters."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def tokens(text: str) -> list[str]:
    """Split `text` into words, numbers and signs, with compatibility forms folded and "n't" as "not"."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if "n't" in text or "n’t" in text or "N'T" in text:
        text = _NOT.sub(" not", text.replace("can't", "can not").replace("won't", "will not"))
    return _TOKEN.findall(text)


def read(text: str) -> Reading:
    """Return the facts of `text`."""
    spelled = tokens(text)
    words = [word.lower() for word in spelled]
    letters = [word for word in spelled if word[0].isalpha()]
    capital = sum(word[0].isupper() for word in letters)
    titled = len(letters) > 3 and capital > 0.7 * len(letters)
    stems = tuple(_number(word) or UNITS.get(word) or stem(word) for word in words)
    present = frozenset(words)
    return Reading(
        stems=stems,
        content=frozenset(
            s
            for s, w in zip(stems, words, strict=True)
            if w not in FUNCTION_WORDS and w not in NEGATORS and (w[0].isalnum())
        ),
        numbers=tuple(sorted(filter(None, map(_number, words)))),
        units=frozenset(UNITS[word] for word in present if word in UNITS),
        dates=present & DATES,
        negations=_negated(words, stems),
        asked=present & ASKED if "?" in text or (words and words[0] in _OPENERS) else _NONE,
        quantifiers=present & QUANTIFIERS,
        names=frozenset() if titled else _names(spelled),
        literals=frozenset(literal.strip('"“”`') for literal in _LITERALS.findall(text)),
        words=present,
    )


def _negated(words: list[str], stems: tuple[str, ...]) -> tuple[str, ...]:
    """The scope decides, not the count: "not on Friday, but on Saturday" is not "on Friday, not on Saturday"."""
    scopes = []
    for place, word in enumerate(words):
        if word in NEGATORS and (place or word != "no"):
            after = (
                s
                for w, s in zip(words[place + 1 :], stems[place + 1 :], strict=True)
                if w not in FUNCTION_WORDS and w not in NEGATORS
            )
            scopes.append(next(after, ""))
    return tuple(sorted(scopes))


def _number(word: str) -> str:
    if not word[0].isdigit():
        return NUMBER_WORDS.get(word, "")
    plain = re.sub(r",(?=\d{3}(?:\D|$))", "", word)
    return plain.rstrip("0").rstrip(".") if "." in plain and plain.count(".") == 1 else plain


def _names(spelled: list[str]) -> frozenset[str]:
    names = set()
    for place, word in enumerate(spelled):
        lower = word.lower()
        if lower in FUNCTION_WORDS or lower in NEGATORS or not word[0].isalpha():
            continue
        if word[1:] != word[1:].lower() or (place and word[0].isupper()):
            names.add(stem(lower))
    return frozenset(names)
