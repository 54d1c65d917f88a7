"""What a text says that must not differ: its facts, and its words by what they do, read by rule."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from penstock.matching.vocabulary import (
    ASKED,
    ASKED_AFTER_HOW,
    DATES,
    FUNCTION_WORDS,
    GLUE,
    NEGATORS,
    NUMBER_WORDS,
    QUANTIFIERS,
    SYNONYMS,
    UNITS,
)

_LITERALS = re.compile(r"""https?://\S+|www\.\S+|```.*?```|`[^`]+`|["“”][^"“”\n]{1,200}["“”]""", re.DOTALL)
_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:\+\+|#|\+(?!\w))?|[$€£¥₹%]|[<>=+*^±]")
_TOKEN_ASCII = re.compile(r"[a-zA-Z]+(?:\+\+|#|\+(?!\w))?|\d+(?:[.,:/]\d+)*|[$%]|[<>=+*^]", re.ASCII)
"""The same in less time, of texts that have no other letters."""
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]")
_NOT = re.compile(r"(?<=\w)n['’]t\b", re.IGNORECASE)
_SIGNS = re.compile(r"(?<!\S)[^\w\s]+(?!\S)")
_SENTENCE_SIGNS = " .,;:?!$€£¥₹%'\"’‘“”«»-–—…&/|•*`´"
_ANSWERS_NO = re.compile(r"\W*no\s*[,.;:!–—]", re.IGNORECASE)
_THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
_OPENERS = frozenset({"who", "what", "when", "where", "why", "how", "which", "whose", "whom"})
_AFTER_NUMBERS = frozenset({"st", "nd", "rd", "th", "k"})
_SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ers", "er", "edly", "ed", "ly", "es", "s", "e")
_CURRENCY_CODES = frozenset({"usd", "eur", "gbp", "inr", "rs"})
_SPECIAL = (NUMBER_WORDS, UNITS, DATES, NEGATORS, QUANTIFIERS)
_SHORT = 1000
_NONE: frozenset[str] = frozenset()
_lower, _initial, _is_special = itemgetter(0), itemgetter(1), itemgetter(2)


class Reading(NamedTuple):
    """The facts of a text, and its words.

    Attributes:
        stems: Every word's stem, in order; numbers and units in one spelling.
        content: Stems of the words with content, in order; words that mean the same in most texts in one spelling.
        function: The other words that carry something, pronouns, prepositions, modal verbs, in one form each, in order.
        numbers: Numbers in order, in one spelling ("1,000" and "1k" are "1000", "twelve" is "12").
        units: Currencies, and units that stand beside a number, in one spelling.
        dates: Words of dates.
        negated: The first word with content after each word that negates, sorted; empty for none.
        asked: Which kind of thing a question asks for: who, when, how many.
        opening: The first word, which says what kind of sentence it is: what, how, is, can.
        quantifiers: Words such as "all" and "only", in one form each.
        names: Words that capitals show to be names, as stems.
        literals: Quotations, code and addresses, verbatim, and signs that stand alone.
        words: Every word in lower case.
    """

    stems: tuple[str, ...]
    content: tuple[str, ...]
    function: tuple[str, ...]
    numbers: tuple[str, ...]
    units: frozenset[str]
    dates: frozenset[str]
    negated: tuple[str, ...]
    asked: frozenset[str]
    opening: str
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


def _meanings() -> dict[str, str]:
    found: dict[str, str] = {}
    for group in SYNONYMS:
        meant = next((found[word] for word in group if word in found), stem(group[0]))
        for word in group:
            found.setdefault(word, meant)
            found.setdefault(stem(word), meant)
    return found


_MEANINGS = _meanings()


@lru_cache(maxsize=65536)
def meaning(word: str) -> str:
    """Return what stands for `word`, in lower case, and its synonyms: mostly its stem."""
    return _MEANINGS.get(word) or _MEANINGS.get(stem(word)) or stem(word)


@lru_cache(maxsize=64)
def tokens(text: str) -> tuple[str, ...]:
    """Split `text` into words, numbers and signs, with compatibility forms folded and "n't" as "not".

    The last texts are remembered: one question is split to be embedded, to be read and to be compared.
    """
    plain = text.isascii()
    if not plain:
        # What is not to be seen would cut words in two: "un", a space of no width, "safe".
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if "n't" in text or "n’t" in text or "N'T" in text:
        text = _NOT.sub(" not", text.replace("can't", "can not").replace("won't", "will not"))
    return tuple((_TOKEN_ASCII if plain else _TOKEN).findall(text))


def read(text: str) -> Reading:
    """Return the facts and the words of `text`. Short texts are remembered for a while."""
    return _remembered(text) if len(text) <= _SHORT else _read(text)


class _Word(NamedTuple):
    """What can be said of a word wherever it stands.

    Attributes:
        lower: It in lower case.
        initial: Whether its first letter is a capital; None if it begins with no letter.
        special: There is a rule for words like this: a number, a unit, a negator.
        carried: What a function word is compared as, "" for nothing; None for other words.
        shouted: It is in capitals, so it may be no function word: "IT", "US".
        meant: What it is compared as if it is none.
        counts: If it is none, it is a word with content: no sign, no negator.
        capital: It has capitals.
        inner: It has capitals after its first letter.
    """

    lower: str
    initial: bool | None
    special: bool
    carried: str | None
    shouted: bool
    meant: str
    counts: bool
    capital: bool
    inner: bool


@lru_cache(maxsize=16384)
def _word(spelled: str) -> _Word:
    word = spelled.lower()
    return _Word(
        lower=word,
        initial=spelled[0].isupper() if spelled[0].isalpha() else None,
        special=word[0].isdigit() or any(word in words for words in _SPECIAL),
        carried=GLUE.get(word, word) if word in GLUE or word in FUNCTION_WORDS else None,
        shouted=len(word) > 1 and spelled.isupper(),
        meant=spelled if word in FUNCTION_WORDS else meaning(word),
        counts=word not in NEGATORS and word[0].isalnum(),
        capital=spelled != word,
        inner=spelled[1:] != word[1:],
    )


def _read(text: str) -> Reading:
    known = list(map(_word, tokens(text)))
    words, initials = list(map(_lower, known)), list(map(_initial, known))
    present = frozenset(words)
    letters = len(initials) - initials.count(None)
    titled = letters > 3 and initials.count(True) > 0.7 * letters
    special = any(map(_is_special, known))
    numbers = _numbers(words) if special else {}
    units = _units(words, numbers) if special and (numbers or not present.isdisjoint(UNITS)) else {}
    stems, content, function, names = [], [], [], set()
    for place, (word, _, _, carried, shouted, meant, counts, capital, inner) in enumerate(known):
        if carried is not None and (titled or not shouted):
            stems.append(word)
            if carried:
                function.append(carried)
            continue
        short = (numbers.get(place) or units.get(place) or meant) if special else meant
        stems.append(short)
        if counts and not (word in _AFTER_NUMBERS and place - 1 in numbers):
            content.append(short)
            if capital and (place or inner):
                names.add(short)
    return Reading(
        stems=tuple(stems),
        content=tuple(content),
        function=tuple(function),
        numbers=tuple(numbers.values()),
        units=frozenset(units.values()),
        dates=present & DATES if special else _NONE,
        negated=() if present.isdisjoint(NEGATORS) else _negated(words, text),
        asked=_asked(words, text),
        opening=words[0] if words else "",
        quantifiers=frozenset([QUANTIFIERS[word] for word in present & QUANTIFIERS.keys()]) if special else _NONE,
        names=_NONE if titled else frozenset(names),
        literals=_literals(text),
        words=present,
    )


_remembered = lru_cache(maxsize=4096)(_read)


def _literals(text: str) -> frozenset[str]:
    if "".join(text.split()).rstrip(".?!").isalnum():
        return _NONE  # as most are
    found = {literal.strip('"“”` \n') for literal in _LITERALS.findall(text)}
    found.update(sign.strip(_SENTENCE_SIGNS) for sign in _SIGNS.findall(text))
    return frozenset(found) - {""}


def _asked(words: list[str], text: str) -> frozenset[str]:
    if not words or ("?" not in text and (words[0] not in _OPENERS or text.rstrip().endswith("."))):
        return _NONE
    asked = ASKED.intersection(words)
    if "how" not in words or ASKED_AFTER_HOW.isdisjoint(words):
        return asked
    return asked.union([f"how {word}" for how, word in pairwise(words) if how == "how" and word in ASKED_AFTER_HOW])


def _negated(words: list[str], text: str) -> tuple[str, ...]:
    """The scope decides, not the count: "not on Friday, but on Saturday" is not "on Friday, not on Saturday"."""
    scopes = []
    for place, word in enumerate(words):
        if word in NEGATORS and (place or not _ANSWERS_NO.match(text)):
            after = (w for w in words[place + 1 :] if w not in FUNCTION_WORDS and w not in NEGATORS and w not in GLUE)
            scope = next(after, "")
            if scope or place == 0 or words[place - 1] not in ("or", "why"):  # "or not" adds nothing
                scopes.append(scope)
    return tuple(sorted(scopes))


def _numbers(words: list[str]) -> dict[int, str]:
    found = {}
    for place, word in enumerate(words):
        if word[0].isdigit():
            plain = _THOUSANDS.sub("", word)
            if plain.count(".") == 1:
                plain = plain.rstrip("0").rstrip(".")
            if words[place + 1 : place + 2] == ["k"] and plain.isdigit():
                plain += "000"
            found[place] = plain
        elif word in NUMBER_WORDS:
            found[place] = NUMBER_WORDS[word]
    return found


def _units(words: list[str], numbers: dict[int, str]) -> dict[int, str]:
    """Without a number beside it a unit is a word like others."""
    found = {}
    for place, word in enumerate(words):
        if word in UNITS and (place - 1 in numbers or not word[0].isalpha() or word in _CURRENCY_CODES):
            found[place] = UNITS[word]
    found |= {at + 1: words[at + 1] for at in numbers if words[at + 1 : at + 2] in (["am"], ["pm"])}
    return found
