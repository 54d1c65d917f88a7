"""What a prompt says about how hard it is, before anybody has answered."""

from __future__ import annotations

import itertools
import re
import zlib
from math import log1p

from penstock.routing.cascade.arithmetic import numbers

FEATURES = (
    "length", "words", "word_length", "sentences", "numbers", "distinct_numbers", "fractions", "percents", "money",
    "asks_how_many", "asks_why", "asks_which", "negated", "comparisons", "rates", "choices", "code", "lines",
)  # fmt: skip
"""Names of what `features` returns, in order."""

BUCKETS = 1 << 14
"""Words are told apart by a hash of this many values."""

_LONGEST = 20_000
_MOST_WORDS = 400
_WORD = re.compile(r"[^\W\d_]+|\d+")
_FRACTION = re.compile(r"\b\d+/\d+\b|\b(?:half|halves|third|thirds|quarter|quarters|fifth|tenth)\b", re.IGNORECASE)
_COMPARISON = re.compile(r"\b(?:than|twice|thrice|times|double|triple|least|most|fewer|less|more)\b", re.IGNORECASE)
_RATE = re.compile(r"\b(?:per|each|every|rate|average|speed)\b", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|except|least|never|false|incorrect|cannot)\b|n['’]t\b", re.IGNORECASE)
_CHOICE = re.compile(r"^\s*\(?[A-J][.):]\s", re.MULTILINE)


def features(prompt: str) -> tuple[float, ...]:
    """Return what `FEATURES` names. Of very long prompts only the first and last 20,000 characters count."""
    text = shortened(prompt)
    words = text.split()
    found = numbers(text)
    lower = text.casefold()
    return (
        log1p(len(prompt)),
        log1p(len(words)),
        sum(map(len, words)) / (len(words) + 1.0),
        log1p(sum(text.count(sign) for sign in ".?!")),
        log1p(len(found)),
        log1p(len(set(found))),
        min(3.0, float(len(_FRACTION.findall(text)))),
        min(3.0, float(text.count("%"))),
        float("$" in text or "€" in text),
        float("how many" in lower or "how much" in lower),
        float("why" in lower or "explain" in lower),
        float("which" in lower),
        min(3.0, float(len(_NEGATED.findall(text)))),
        min(4.0, float(len(_COMPARISON.findall(text)))),
        min(4.0, float(len(_RATE.findall(text)))),
        min(5.0, float(len(_CHOICE.findall(text)))),
        float("```" in text or "def " in text),
        log1p(text.count("\n")),
    )


def words(prompt: str) -> tuple[int, ...]:
    """Return hashes of the words of `prompt` and of its pairs of words, each once; of long ones the first and last."""
    found = _WORD.findall(shortened(prompt).casefold())
    if len(found) > 2 * _MOST_WORDS:
        found = found[:_MOST_WORDS] + found[-_MOST_WORDS:]
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(found)]
    return tuple(sorted({zlib.crc32(each.encode()) % BUCKETS for each in (*found, *pairs)}))


def shortened(text: str) -> str:
    """Return `text` without the middle of what is very long."""
    return text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + "\n" + text[-_LONGEST:]
