"""Answers that are a value, or end in one: numbers, choices, dates.

An answer that *is* a value has nothing else in it. One that *ends* in a value declares it ("The answer is 18", `####
18`, a box), or works it out: it has an equation, and its last sentence gives one number. A number that merely stands
at the end of a text is no value of it.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from penstock.matching.vocabulary import NUMBER_WORDS, UNITS

Kind = Literal["number", "yes-no", "letter", "date", "words"]

_NUMBER = (
    r"(?P<sign>[-+−]?)\s?(?P<before>[$€£¥₹]?)\s?(?P<minus>[-−]?)"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)(?:/(?P<under>\d+(?!\d*[.,/]\d)))?"
)
_ONLY_NUMBER = re.compile(rf"{_NUMBER}\s?(?P<after>%|[^\W\d_]+(?:\s[^\W\d_]+){{0,2}})?")
_ANY_NUMBER = re.compile(rf"(?<![\w.,:/]){_NUMBER}(?![\d/]|[.,:]\d)\s?(?P<after>%|[^\W\d_]+)?")
_LETTER = re.compile(
    r"(?i:option|choice|answer)?\s*[(\[]?(?P<letter>[A-J]|[a-j](?=[)\]]))(?:[)\].:]\s*(?P<text>\S.*)?|)", re.DOTALL
)
_OPENING = re.compile(r"(?P<word>yes|no|true|false|correct|incorrect)\b\s*(?P<more>[,.;:!–—-].*)?", re.I | re.DOTALL)
_POLARITY = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_DECLARED = re.compile(
    r"####\s{0,3}(?P<mark>\S[^\n]*)"
    r"|\\boxed\{(?P<box>[^{}]{1,60})\}"
    r"|\banswer(?:\s{1,3}(?:is|would be|should be)\s{0,3}:?|\s{0,3}[:=])\s{0,3}"
    r"(?P<said>[^\n]{1,80}?)(?:\.(?=\s|$)|\n|$)",
    re.I,
)
_PREFACE = re.compile(r"(?:the )?(?:final |correct |right )?answer(?: is|:| is:)\s", re.I)
_WORKED = re.compile(r"=\s{0,3}(?:<<[^>\n]{0,200}>>\s{0,3})?[-−$€£¥₹]?\s?\d")
_NOTE = re.compile(r"<<[^>\n]{0,200}>>")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PLAIN = re.compile(r"[*_`\\]|^\s*#+(?=\s)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = "(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_DATES = tuple(
    re.compile(form, re.I)
    for form in (
        r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})",
        rf"(?:on )?{_MONTH}\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})",
        rf"(?:on )?(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}\.?,? (?P<year>\d{{4}})",
    )
)
_ENDS = " \t\r\n.!,;:…。\"'“”‘’()[]"
_MAX_WORDS, _MAX_CHARS, _MAX_VALUE_CHARS = 4, 40, 80


class Value(NamedTuple):
    """What an answer comes down to.

    Attributes:
        kind: Values of different kinds cannot be compared.
        value: A number, a truth, a letter, a date, or words in lower case.
        unit: Of a number, in one spelling; empty when none is given.
        more: What is said beside it, in lower case; empty for an answer that is nothing but the value.
        whole: Whether the answer is the value, and does not only end in it.
    """

    kind: Kind
    value: Decimal | bool | str | date
    unit: str = ""
    more: str = ""
    whole: bool = True


def value_of(answer: str) -> Value | None:
    """Return what `answer` comes down to; None for prose."""
    plain = _PLAIN.sub("", answer).strip()
    if len(plain) <= _MAX_VALUE_CHARS and (found := _whole(plain)) is not None:
        return found
    opening = _OPENING.fullmatch(plain)
    if opening is not None and opening["more"]:
        return Value("yes-no", _POLARITY[opening["word"].lower()], more=_folded(opening["more"]))
    return _ending(answer) or _label(plain)


def _whole(text: str) -> Value | None:
    text = text.strip().rstrip(".!…。")
    bare = text.strip(_ENDS)
    if bare.lower() in _POLARITY:
        return Value("yes-no", _POLARITY[bare.lower()])
    if (letter := _LETTER.fullmatch(text)) is not None and letter["letter"]:
        return Value("letter", letter["letter"].upper(), more=_folded(letter["text"] or ""))
    if (day := _date(bare)) is not None:
        return Value("date", day)
    if (number := _ONLY_NUMBER.fullmatch(text)) is not None:
        return _number(number, whole=True)
    if bare.lower() in NUMBER_WORDS:
        return Value("number", Decimal(NUMBER_WORDS[bare.lower()]))
    return None


def _label(text: str) -> Value | None:
    bare = _PREFACE.sub("", text).strip(_ENDS)
    if bare and len(bare) <= _MAX_CHARS and len(bare.split()) <= _MAX_WORDS and bare.replace(" ", "").isalpha():
        return Value("words", _folded(bare))
    return None


def _ending(answer: str) -> Value | None:
    declared = [next(filter(None, found)) for found in _DECLARED.findall(answer)]
    if declared:
        text = _PLAIN.sub("", declared[-1]).strip()
        found = _whole(text) or _first_number(text)
        return found._replace(whole=False) if found is not None else None
    if not _WORKED.search(answer):
        return None
    sentences = [each for each in _SENTENCE.split(_NOTE.sub("", _PLAIN.sub("", answer))) if each.strip()]
    last = sentences[-1] if sentences else ""
    if "=" in last:
        return _first_number(last.rpartition("=")[2])
    numbers = list(_ANY_NUMBER.finditer(last))
    return _number(numbers[0], whole=False) if len(numbers) == 1 else None


def _first_number(text: str) -> Value | None:
    found = _ANY_NUMBER.search(text)
    return _number(found, whole=False) if found is not None else None


def _number(found: re.Match[str], *, whole: bool) -> Value | None:
    digits = found["digits"]
    if "," in digits:
        digits = digits.replace(",", "." if not re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits) else "")
    try:
        value = Decimal(digits)
        if found["under"]:
            value /= Decimal(found["under"])
    except (InvalidOperation, ZeroDivisionError):
        return None
    if found["sign"] in ("-", "−") or found["minus"]:
        value = -value
    first, *rest = (found["after"] or "").lower().split() or [""]
    unit = UNITS.get(found["before"], "") or UNITS.get(first, "")
    more = " ".join(word for word in (first, *rest) if word and word not in UNITS)
    return Value("number", value, unit, more, whole)


def _date(text: str) -> date | None:
    for form in _DATES:
        if (found := form.fullmatch(text)) is not None:
            parts = found.groupdict()
            month = int(parts["number"]) if "number" in parts else _MONTHS.index(parts["month"].lower()) + 1
            try:
                return date(int(parts["year"]), month, int(parts["day"]))
            except ValueError:
                return None
    return None


def _folded(text: str) -> str:
    return " ".join(text.casefold().strip(_ENDS + "–—-").split())
