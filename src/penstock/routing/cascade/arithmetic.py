"""Equations in a text, recomputed: "48/2 = <<48/2=24>>24", "3 hours x $20 = $60", "20% of 50 = 10"."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

_MOST = 200
_LONGEST = 24
"""Tokens on one side of an equation."""

_SPELLING = (
    (re.compile(r"\\d?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:times|cdot)|[×·∙⋅]|\btimes\b|\bmultiplied by\b"), "*"),
    (re.compile(r"\\div|÷|\bdivided by\b"), "/"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"\bplus\b"), "+"),
    (re.compile(r"\bminus\b"), "-"),
    (re.compile(r"\*\*|\\[()\[\]]|\\(?:text|boxed|mathrm)|[$€£¥{}\\]"), " "),
)
_ANNOTATION = re.compile(r"<<([^<>=]{1,200})=([^<>=]{1,60})>>")
_OTHER_ANNOTATION = re.compile(r"<<[^<>\n]{1,200}>>")
_TOKEN = re.compile(r"(?P<number>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/()%])|(?P<word>[^\W\d]+)|(?P<other>\S)")
_SENTENCE = re.compile(r"\n|(?<=[^\d\s])[.;:]\s|(?<=\d)[.;]\s|,\s")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?|(?<![\w.])\.\d+")


_LEFT = frozenset({"number", ")", "%", "word"})
"""What an "x" after is a sign, and not an unknown."""


class Equation(NamedTuple):
    """One equation that could be read.

    Attributes:
        operands: The numbers on its left side.
        signs: The signs of its left side, in order.
        value: The number on its right side.
        right: Whether the left side comes to the right one, but for rounding.
    """

    operands: tuple[float, ...]
    signs: str
    value: float
    right: bool


class _Token(NamedTuple):
    kind: str
    text: str
    value: float = 0.0


def numbers(text: str) -> list[float]:
    """Return the numbers written with digits in `text`, in order."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def equations(text: str) -> list[Equation]:
    """Return the equations of `text` that can be read, in order; of very many the first ones."""
    found: list[Equation] = []
    for each in _read(text):
        found.append(each)
        if len(found) >= _MOST:
            break
    return found


def _read(text: str) -> Iterator[Equation]:
    for pattern, replacement in _SPELLING:
        text = pattern.sub(replacement, text)
    for sentence in _SENTENCE.split(text):
        if "=" not in sentence:
            continue
        annotated = list(_ANNOTATION.finditer(sentence))
        if not annotated:
            sentence = _OTHER_ANNOTATION.sub(" ", sentence)
        for each in annotated:
            yield from _equation(_tokens(each[1]), _tokens(each[2]), each[2])
        if not annotated:
            sides = sentence.split("=")
            for left, right in itertools.pairwise(sides):
                yield from _equation(_tokens(left), _tokens(right), right)


def _equation(left: Sequence[_Token], right: Sequence[_Token], spelled: str) -> Iterator[Equation]:
    computed = _ending(left)
    stated = _beginning(right)
    if computed is None or stated is None:
        return
    value, operands, signs = computed
    yield Equation(operands, signs, stated, right=_same(value, stated, spelled))


def _same(computed: float, stated: float, spelled: str) -> bool:
    first = _NUMBER.search(spelled)
    places = len(first[0].partition(".")[2]) if first else 0
    slack = 0.5 * 10.0**-places if places else 1e-6
    if "%" in spelled:
        computed, stated = (computed, stated * 100.0) if computed > 1.5 else (computed * 100.0, stated * 100.0)
    return abs(computed - stated) <= slack + 1e-9 * abs(computed)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    end = 0
    for match in _TOKEN.finditer(text):
        kind, spelled = str(match.lastgroup), match[0]
        beside, after = match.start() == end, text[match.end() : match.end() + 2].strip()
        before = found[-1].kind if found else ""
        if kind == "number":
            found.append(_Token(kind, spelled, float(spelled.replace(",", ""))))
        elif kind == "sign":
            found.append(_Token(spelled, spelled))
        elif spelled in ("x", "X") and before in _LEFT and after[:1].isdigit() | (after[:1] in "($."):
            found.append(_Token("*", spelled))
        elif kind == "word" and len(spelled) == 1 and (beside or before != "number"):
            found.append(_Token("unknown", spelled))
        else:
            found.append(_Token("of" if spelled == "of" else "word", spelled))
        end = match.end()
    return found


def _bare(tokens: Sequence[_Token]) -> list[_Token]:
    """Leave out words, which are units, and what is empty without them."""
    kept: list[_Token] = []
    for place, token in enumerate(tokens):
        if token.kind == "word":
            continue
        if token.kind == "of":
            before, after = tokens[place - 1 : place], tokens[place + 1 : place + 2]
            if not (before and after and before[0].kind in ("number", "%", ")") and after[0].kind == "number"):
                continue
            token = _Token("*", "*")
        if token.kind == ")" and kept and kept[-1].kind == "(":
            kept.pop()
        else:
            kept.append(token)
    return kept


def _ending(tokens: Sequence[_Token]) -> tuple[float, tuple[float, ...], str] | None:
    """Return the value of the longest expression with a sign that `tokens` end with, and its numbers."""
    bare = _bare(tokens[-2 * _LONGEST :])[-_LONGEST:]
    for start in range(len(bare) - 2):
        if start and bare[start - 1].kind not in ("number", ")", "%"):
            continue
        part = bare[start:]
        value = _value(part)
        if value is not None:
            operands = tuple(token.value for token in part if token.kind == "number")
            signs = "".join(token.kind for token in part if token.kind in "+-*/")
            return (value, operands, signs) if len(operands) > 1 else None
    return None


def _beginning(tokens: Sequence[_Token]) -> float | None:
    """Return the value of the longest expression that `tokens` begin with, without words inside."""
    part: list[_Token] = []
    for token in tokens[:_LONGEST]:
        if token.kind in ("word", "of"):
            if part:
                break
            continue
        part.append(token)
    while part:
        value = _value(part)
        if value is not None:
            return value
        part.pop()
    return None


def _value(tokens: Sequence[_Token]) -> float | None:
    reader = _Reader(tokens)
    value = reader.sum(0)
    return value if value is not None and reader.done and abs(value) < inf else None


class _Reader:
    """Reads sums of products by recursive descent."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens, self._place = tokens, 0

    @property
    def done(self) -> bool:
        return self._place == len(self._tokens)

    def sum(self, depth: int) -> float | None:
        total = self._product(depth)
        while total is not None and (sign := self._take("+-")):
            other = self._product(depth)
            if other is None:
                return None
            total += other if sign == "+" else -other
        return total

    def _product(self, depth: int) -> float | None:
        total = self._factor(depth)
        while total is not None and (sign := self._take("*/")):
            other = self._factor(depth)
            if other is None or (sign == "/" and other == 0):
                return None
            total = total * other if sign == "*" else total / other
        return total

    def _factor(self, depth: int) -> float | None:
        if self.done or depth > _LONGEST:
            return None
        token = self._tokens[self._place]
        self._place += 1
        value: float | None = None
        if token.kind == "number":
            value = token.value
        elif token.kind == "-":
            value = self._factor(depth + 1)
            value = None if value is None else -value
        elif token.kind == "(":
            value = self.sum(depth + 1)
            if not self._take(")"):
                return None
        if value is not None and self._take("%"):
            value /= 100.0
        return value

    def _take(self, kinds: str) -> str:
        if self.done or self._tokens[self._place].kind not in kinds:
            return ""
        self._place += 1
        return self._tokens[self._place - 1].kind
