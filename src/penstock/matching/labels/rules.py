"""Answers of a form in which it can be decided by rule whether two say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from penstock.matching.labels.exact import normal, unfenced
from penstock.matching.labels.values import Value, value_of
from penstock.matching.reading import read

SHARED_WORDS, SHARED_NUMBERS = 0.4, 0.5
"""Of the words with content, and of the numbers beside the result, of the shorter answer: the share the other has at
least, when both work out the same result for the same question."""

MAX_CHARS = 20_000
"""Of longer answers nothing is said; of JSON ten times as much is read."""

_BUTS = frozenset({
    "yes", "no", "true", "false", "correct", "incorrect", "not", "but", "except", "unless", "only", "however",
    "although", "though", "if",
})  # fmt: skip
"""Words that make "yes" or "no" something else."""


def rule(answer: str, fresh: str) -> bool | None:
    """Say whether two answers that are, or end in, a value or are JSON documents are the same; None for others.

    Two results that were worked out and are equal are the same answer only if the answers are also about the same
    things and numbers: small results are equal by chance too often. That something differs needs no such care.
    """
    here, there = _document(answer), _document(fresh)
    if here is not None and there is not None:
        try:
            return _same(here[0], there[0])
        except RecursionError:
            return None
    if len(answer) > MAX_CHARS or len(fresh) > MAX_CHARS:
        return None
    one, other = value_of(answer), value_of(fresh)
    if one is None or other is None or one.kind != other.kind:
        return None
    same = _COMPARE.get(one.kind, _plainly)(one, other)
    if same and not one.whole and not other.whole and not _about_the_same(answer, fresh, one):
        return None
    return same


def _numbers(one: Value, other: Value) -> bool | None:
    if one.value != other.value or (one.unit and other.unit and one.unit != other.unit):
        return False
    if one.whole and other.whole and one.more and other.more and one.more != other.more:
        return None
    return True


def _plainly(one: Value, other: Value) -> bool | None:
    """Beside the same choice nothing, or the same, must be said: "Yes, always" is not "Yes, on Sundays"."""
    if one.value != other.value:
        return False
    if one.more == other.more:
        return True
    said = one.more or other.more
    return None if (one.more and other.more) or _BUTS & set(re.findall(r"\w+", said)) else True


def _words(one: Value, other: Value) -> bool | None:
    """Labels that share a word may be one at different lengths ("Paris", "Paris, France")."""
    if one.value == other.value:
        return True
    return None if set(str(one.value).split()) & set(str(other.value).split()) else False


_COMPARE = {"number": _numbers, "words": _words}


def _about_the_same(answer: str, fresh: str, result: Value) -> bool:
    here, there = read(answer), read(fresh)
    known = {format(result.value.normalize(), "f")} if isinstance(result.value, Decimal) else set()
    numbers = set(here.numbers) - known, set(there.numbers) - known
    return (
        _shared(frozenset(here.content), frozenset(there.content)) >= SHARED_WORDS
        and _shared(*numbers) >= SHARED_NUMBERS
    )


def _shared(here: Set[str], there: Set[str]) -> float:
    fewer = min(len(here), len(there))
    return len(here & there) / fewer if fewer else 1.0


def _document(text: str) -> tuple[Any] | None:
    """Return the JSON object or list that `text` is, with numbers as decimals."""
    text = (unfenced(text) or text).strip()
    if text[:1] not in ("{", "[") or len(text) > 10 * MAX_CHARS:
        return None
    try:
        return (json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse),)
    except (ValueError, RecursionError, InvalidOperation):
        return None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _same(here: Any, there: Any) -> bool | None:  # noqa: ANN401 - any JSON
    """Compare JSON: False when anything differs, None when only texts do that may say the same."""
    if isinstance(here, dict) and isinstance(there, dict):
        return _all([_same(here[key], there[key]) for key in here]) if here.keys() == there.keys() else False
    if isinstance(here, list) and isinstance(there, list):
        return _all(list(map(_same, here, there))) if len(here) == len(there) else False
    if isinstance(here, str) and isinstance(there, str):
        return True if normal(here) == normal(there) else rule(here, there)
    if isinstance(here, str) and isinstance(there, Decimal):
        here, there = there, here
    if isinstance(here, Decimal) and isinstance(there, str):
        spelled = value_of(there)
        return spelled is not None and spelled.kind == "number" and spelled.value == here
    return type(here) is type(there) and bool(here == there)


def _all(parts: list[bool | None]) -> bool | None:
    if False in parts:
        return False
    return None if None in parts else True
