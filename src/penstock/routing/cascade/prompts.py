"""What a prompt says about how hard it is, before anybody has answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import log1p, sqrt

from penstock.routing.cascade.arithmetic import numbers

FEATURES = (
    "length", "word_length", "distinct_words", "sentences", "longest_sentence", "lines", "commas", "quotes",
    "numbers", "distinct_numbers", "number_words", "fractions", "percents", "years", "formulas", "code",
    "ends_as_question", "ends_as_start", "blank", "asks_how_many", "asks_why", "asks_which", "asks_to_compute",
    "total", "average", "each", "negated", "comparisons", "changes", "exceptions", "cases", "numerals",
    "patients", "courts", "choices", "choice_length", "choice_range", "choice_numbers", "choice_words",
    "choices_upper", "choices_alike", "choices_judge", "choices_of_choices",
)  # fmt: skip
"""Names of what `features` returns, in order."""

_LONGEST = 20_000
_MOST_CHOICES = 10
_WORD = re.compile(r"[^\W\d_]+")
_CHOICE = re.compile(r"\n[ \t]{0,8}\(?[A-J][.):][ \t]{1,8}")
_QUANTITY = re.compile(r"^[-$€£\d.,/ %]+\w{0,6}$")
_NUMBER_WORDS = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|dozen|twice|thrice|double"
    r"|triple|half|third|quarter|couple|pair)\b",
)
_CHANGES = re.compile(r"\b(?:(?:in|de)creas|ris|fall|high|low)\w*\b")
_COUNTED = (
    ("fractions", re.compile(r"\b\d+/\d+\b|\b(?:half|third|quarter|fifth|tenth)s?\b")),
    ("percents", re.compile(r"%|\bpercent\b")),
    ("negated", re.compile(r"\b(?:not|except|least|never|false|incorrect|cannot)\b|n['’]t\b")),
    ("comparisons", re.compile(r"\b(?:than|twice|thrice|times|double|triple|fewer|less|more)\b")),
    ("each", re.compile(r"\b(?:per|each|every|rate|speed)\b")),
    ("exceptions", re.compile(r"\b(?:except|without|however|but|instead|remaining|rest|original\w*|before|already)\b")),
    ("quotes", re.compile(r"[\"“]")),
)
_SEEN = (
    ("years", re.compile(r"\b1\d{3}\b|\b20\d\d\b")),
    ("formulas", re.compile(r"[=^+\\]|\bx\b")),
    ("code", re.compile(r"```|\bdef \w|[{};]\n")),
    ("blank", re.compile(r"__")),
    ("asks_how_many", re.compile(r"how (?:many|much)")),
    ("asks_why", re.compile(r"\b(?:why|because|explain|best (?:describes|explains))\b")),
    ("asks_which", re.compile(r"\bwhich\b")),
    ("asks_to_compute", re.compile(r"\b(?:calculate|compute|find|solve)\b|what is the (?:value|probability|mean)")),
    ("total", re.compile(r"\b(?:total|altogether|sum)\b")),
    ("average", re.compile(r"\b(?:average|mean|median)\b")),
    ("changes", _CHANGES),
    ("cases", re.compile(r"\b(?:scenario|statement|case) (?:1|one)\b")),
    ("numerals", re.compile(r"\bii\b")),
    ("patients", re.compile(r"\b(?:year-old|patient|diagnosis|symptom)s?\b")),
    ("courts", re.compile(r"\b(?:court|plaintiff|defendant|contract|statute|convicted|trial)s?\b")),
)


def features(prompt: str) -> tuple[float, ...]:
    """Return what `FEATURES` names. Of very long prompts only the first and last 20,000 characters count."""
    text = shortened(prompt)
    question, *choices = _CHOICE.split(text)[: _MOST_CHOICES + 1]
    lower = text.casefold()
    words = _WORD.findall(lower)
    found = numbers(text)
    sentences = re.split(r"[.?!]\s", text)
    stem = question.rstrip()
    seen = {
        "length": log1p(len(question)),
        "word_length": sum(map(len, words)) / (len(words) + 1.0),
        "distinct_words": len(set(words)) / (len(words) + 1.0),
        "sentences": log1p(len(sentences)),
        "longest_sentence": log1p(max(map(len, sentences))),
        "lines": log1p(question.count("\n")),
        "commas": sqrt(question.count(",")),
        "numbers": sqrt(len(found)),
        "distinct_numbers": log1p(len(set(found))),
        "number_words": min(4.0, float(len(_NUMBER_WORDS.findall(lower)))),
        "ends_as_question": float(stem.endswith("?")),
        "ends_as_start": float(bool(stem) and stem[-1] not in ".?!"),
        **{name: min(4.0, float(len(pattern.findall(lower)))) for name, pattern in _COUNTED},
        **{name: float(pattern.search(lower) is not None) for name, pattern in _SEEN},
        **_choices(choices),
    }
    return tuple(seen[name] for name in FEATURES)


def shortened(text: str) -> str:
    """Return `text` without the middle of what is very long."""
    return text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + "\n" + text[-_LONGEST:]


def _choices(choices: Sequence[str]) -> dict[str, float]:
    lengths = [len(each) for each in choices] or [0]
    lower = [each.casefold() for each in choices]
    every = [set(each.split()) for each in lower]
    return {
        "choices": float(len(choices)),
        "choice_length": log1p(sum(lengths) / len(lengths)),
        "choice_range": log1p(max(lengths)) - log1p(min(lengths)),
        "choice_numbers": _share(bool(_QUANTITY.match(each.strip())) for each in choices),
        "choice_words": _share(len(each.split()) <= 1 for each in choices),
        "choices_upper": _share(each[:1].isupper() for each in choices),
        "choices_alike": sqrt(len(set.intersection(*every))) if every else 0.0,
        "choices_judge": _share(
            each.startswith(("no", "yes", "true", "false", "wrong", "not wrong")) for each in lower
        ),
        "choices_of_choices": _share("the above" in each or "both " in each for each in lower),
    }


def _share(seen: Iterable[bool]) -> float:
    every = [*seen]
    return sum(every) / (len(every) or 1)
