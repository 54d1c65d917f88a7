"""How templates write values, and filters in place of those of Jinja2 that can make much of little."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from types import GeneratorType
from typing import Any

from penstock.prompts.mistakes import Mistake
from penstock.prompts.work import MOST_STEPS, WORK, size_of

_DIGITS = 40
_PRECISION = 64
_INDENT = 8
_SCALAR_CHARS = 8
"""About as many characters as numbers, truth and nothing have."""


def turns(items: Iterable[Any]) -> Iterator[Any]:
    """Yield what a loop goes over, counting."""
    step = WORK.get().step
    for item in items:
        step()
        yield item


def bounded_range(*limits: int) -> range:
    """Return a range that is not too long."""
    made = range(*limits)
    if made[MOST_STEPS:]:  # `len` fails for the longest
        raise Mistake(f"a range of more than {MOST_STEPS}")
    WORK.get().step()
    return made


def shown(value: object) -> str:
    """Write a value as people and models read it: nothing for none, JSON for truth, numbers, lists and objects."""
    text = value if isinstance(value, str) else _written(value)
    WORK.get().make(len(text))
    return text


def to_json(value: object, indent: int | None = None) -> str:
    """Write a value as JSON, `indent` spaces a level."""
    if indent is not None and not 0 <= indent <= _INDENT:
        raise Mistake(f"tojson takes an indent from 0 to {_INDENT}")
    if value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return _written(value, indent)


def join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    """Put the texts of items, or of the value each has at `attribute`, together."""
    found = []
    work = WORK.get()
    for item in turns(items):
        text = shown(item if attribute is None else item[attribute])
        work.make(len(text) + len(separator))
        found.append(text)
    return separator.join(found)


def replace(text: object, old: str, new: str, count: int = -1) -> str:
    """Replace `old`, at most `count` times."""
    source, new = shown(text), shown(new)
    times = source.count(old) if count < 0 else min(source.count(old), count)
    work = WORK.get()
    work.step(1 + size_of(source))
    work.make(len(source) + times * max(0, len(new) - len(old)))
    return source.replace(old, new, times)


def to_int(value: object, default: int = 0) -> int:
    """Return a whole number, or `default` for what is none."""
    if not isinstance(value, (int, float, str)) or (isinstance(value, str) and len(value) > _DIGITS):
        return default
    try:
        return int(value)
    except (ValueError, OverflowError):
        return default


def bounded_round(value: float, precision: int = 0) -> float:
    """Round to so many digits."""
    if not -_PRECISION <= precision <= _PRECISION:
        raise Mistake(f"round takes a precision up to {_PRECISION}")
    return round(value, precision)


def _written(value: object, indent: int | None = None) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, (GeneratorType, range, KeysView, ValuesView, ItemsView)):
        value = list(turns(value))
    # Before it is written: a few lines of a template can make a list that has no end when it is written out.
    values, chars = _extent(value, 0)
    work = WORK.get()
    work.step(1 + values // _SCALAR_CHARS)
    work.make(chars)
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _extent(value: object, before: int) -> tuple[int, int]:
    """Return how many values are in `value`, `before` added, and about how many characters they have."""
    if before > MOST_STEPS:
        raise Mistake(f"a list or object of more than {MOST_STEPS} values")
    if isinstance(value, str):
        return before + 1, len(value)
    if value is None or isinstance(value, (int, float)):
        return before + 1, _SCALAR_CHARS
    if not isinstance(value, (list, tuple, dict)):
        str(value)  # what is undefined says so itself
        raise Mistake(f"a {type(value).__name__} is no text")
    chars = 0
    for key in value if isinstance(value, dict) else ():
        chars += len(key) if isinstance(key, str) else _SCALAR_CHARS
    for inner in value.values() if isinstance(value, dict) else value:
        before, more = _extent(inner, before)
        chars += more
    return before + 1, chars
