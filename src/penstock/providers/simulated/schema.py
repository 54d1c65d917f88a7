"""Values that fit a JSON Schema, for the simulated model's tool arguments and structured answers.

Reads the keywords of draft 2020-12 (and draft 7's ``definitions``) that models are asked with: types, ``enum``,
``const``, ``$ref`` within the document, ``anyOf``, ``oneOf``, ``allOf``, objects, arrays, ranges, lengths and common
formats. ``pattern``, ``not``, ``if``, ``contains``, ``patternProperties`` and ``dependent*`` are not looked at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_SHALLOW = 4
"""Levels below which only what is required is filled in, so that recursive schemas end."""
_DEEPEST = 40
_FEW, _MOST_VALUES = 500, 20_000
"""Values after which only what is required is filled in, and after which to give up."""
_MOST_ITEMS = 10_000
_SPREAD = 100
_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def fit(schema: object, seed: bytes, words: Sequence[str]) -> Any:  # noqa: ANN401 - a JSON value of any type
    """Make a value that fits `schema`; strings in it are made of `words`.

    Raises:
        ValueError: `schema` is no usable JSON Schema.
    """
    try:
        return _Filler(schema, random.Random(seed), words).value(schema, 0)
    except _UNREADABLE as error:
        raise ValueError(f"the JSON schema cannot be used: {error}") from error


class _Filler:
    def __init__(self, root: object, source: random.Random, words: Sequence[str]) -> None:
        self._root = root
        self._random = source
        self._words = words
        self._made = 0
        self._fillers: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _schema, _depth: self._random.random() < 0.5,
            "null": lambda _schema, _depth: None,
            "string": self._string,
        }

    def value(self, schema: object, depth: int) -> Any:  # noqa: ANN401 - a JSON value of any type
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise TypeError(f"expected an object, got {type(schema).__name__}")
        self._made += 1
        if depth > _DEEPEST or self._made > _MOST_VALUES:
            raise ValueError("what it requires is too large or endless")
        schema = self._resolve(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        fill = self._fillers.get(self._type(schema, depth))
        if fill is None:
            raise ValueError(f"unknown type {schema.get('type')!r}")
        return fill(schema, depth)

    def _sparing(self, depth: int) -> bool:
        return depth >= _SHALLOW or self._made > _FEW

    def _resolve(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Fold references, ``allOf`` and one branch of ``anyOf`` or ``oneOf`` into the schema itself."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                schema = _merge(self._lookup(schema["$ref"]), _without(schema, "$ref"))
            elif "allOf" in schema:
                parts = schema["allOf"]
                schema = _without(schema, "allOf")
                for part in parts:
                    schema = _merge(schema, self._resolve(part, depth))
            elif branch := next((name for name in ("anyOf", "oneOf") if name in schema), None):
                chosen = self._branch(schema[branch], depth)
                schema = _merge(_without(schema, branch), chosen)
            else:
                return schema
        raise ValueError("its references go in a circle")

    def _branch(self, branches: Sequence[Any], depth: int) -> dict[str, Any]:
        usable = [{} if branch is True else branch for branch in branches if branch is not False]
        if self._sparing(depth):
            return min(usable, key=_bulk)
        return self._random.choice([branch for branch in usable if branch.get("type") != "null"] or usable)

    def _lookup(self, reference: str) -> dict[str, Any]:
        """Follow a reference within the document (RFC 6901 JSON pointer as URI fragment)."""
        if not reference.startswith("#"):
            raise ValueError(f"reference {reference!r} leaves the document")
        found: Any = self._root
        for step in reference[1:].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return {} if found is True else dict(found)

    def _type(self, schema: Mapping[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            names = [name for name in kind if name != "null"]
            return str(min(kind, key=_weight) if self._sparing(depth) or not names else names[0])
        if kind is not None:
            return str(kind)
        if "properties" in schema or "required" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        if "minimum" in schema or "maximum" in schema:
            return "number"
        return "string"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        names = required if self._sparing(depth) else list(dict.fromkeys([*properties, *required]))
        other = schema.get("additionalProperties")
        rest = other if isinstance(other, dict) else {}
        filled = {
            name: self.value(properties.get(name, rest), depth + 1)
            for name in names
            if properties.get(name) is not False
        }
        for number in range(_size(schema, "minProperties")):
            if len(filled) >= _size(schema, "minProperties"):
                break
            filled[f"field_{number + 1}"] = self.value(rest, depth + 1)
        return filled

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        items = schema.get("items", {})
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems", {})
        low = _size(schema, "minItems")
        wanted = low if self._sparing(depth) else max(low, len(first), self._random.randint(1, 3))
        if items is False:
            wanted = min(wanted, len(first))
        wanted = min(wanted, schema.get("maxItems", wanted))
        made: list[Any] = []
        for _ in range(wanted * 20):
            if len(made) == wanted:
                break
            item = self.value(first[len(made)] if len(made) < len(first) else items, depth + 1)
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        return made

    def _bounds(self, schema: Mapping[str, Any], step: float) -> tuple[float, float]:
        lows = [schema["minimum"]] if "minimum" in schema else []
        lows += [schema["exclusiveMinimum"] + step] if "exclusiveMinimum" in schema else []
        highs = [schema["maximum"]] if "maximum" in schema else []
        highs += [schema["exclusiveMaximum"] - step] if "exclusiveMaximum" in schema else []
        high = min(highs) if highs else None
        low = max(lows) if lows else (0 if high is None or high >= 0 else high - _SPREAD)
        return low, low + _SPREAD if high is None else high

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> int:
        low, high = self._bounds(schema, 1)
        if "multipleOf" in schema:
            return int(self._multiple(low, high, schema["multipleOf"]))
        return self._random.randint(math.ceil(low), math.floor(high))

    def _number(self, schema: Mapping[str, Any], _depth: int) -> float:
        if step := schema.get("multipleOf"):
            return self._multiple(*self._bounds(schema, step), step)
        low, high = self._bounds(schema, 0)
        inside = low + (high - low) * (0.1 + 0.8 * self._random.random())
        short = round(inside, 2)
        return short if low < short < high else inside

    def _multiple(self, low: float, high: float, step: float) -> float:
        least, most = math.ceil(low / step), math.floor(high / step)
        value: float = self._random.randint(least, max(least, most)) * step
        return value

    def _string(self, schema: Mapping[str, Any], _depth: int) -> str:
        form = schema.get("format")
        if form in _FORMATS:
            return self._formatted(form)
        low = _size(schema, "minLength")
        text = " ".join(self._random.choice(self._words) for _ in range(self._random.randint(1, 3)))
        while len(text) < low:
            text += " " + self._random.choice(self._words)
        longest = schema.get("maxLength", len(text))
        return text[:longest] if len(text) > longest else text

    def _formatted(self, form: str) -> str:
        moment = _FIRST_DAY + timedelta(seconds=self._random.randrange(365 * 86400))
        number = self._random.getrandbits(128)
        return _FORMATS[form].format(
            moment=moment,
            byte=number & 127,
            number=number & 0xFFFF,
            digits=f"{number:032x}",
            part=f"{number & 0xFFF:03x}",
        )


_FORMATS = {
    "date": "{moment:%Y-%m-%d}",
    "date-time": "{moment:%Y-%m-%dT%H:%M:%SZ}",
    "time": "{moment:%H:%M:%S}Z",
    "duration": "PT{byte}M",
    "email": "person{number}@example.com",
    "hostname": "host{number}.example.com",
    "uri": "https://example.com/{number}",
    "ipv4": "192.0.2.{byte}",
    "ipv6": "2001:db8::{number:x}",
    "uuid": "{digits:.8}-{number:04x}-4{part}-8{part}-{digits:.12}",
}


def _weight(kind: str) -> int:
    return ("null", "boolean", "integer", "number", "string", "array", "object").index(kind)


def _bulk(branch: Mapping[str, Any]) -> int:
    """How much nesting a branch may bring; a constant or plain type brings none."""
    if "const" in branch or "enum" in branch:
        return 0
    kind = branch.get("type")
    return _weight(kind) if isinstance(kind, str) else 10


def _size(schema: Mapping[str, Any], name: str) -> int:
    size = int(schema.get(name, 0))
    if size > _MOST_ITEMS:
        raise ValueError(f"{name} is {size}, more than {_MOST_ITEMS}")
    return size


def _without(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def _merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **more}
    if "properties" in base and "properties" in more:
        merged["properties"] = {**base["properties"], **more["properties"]}
    if "required" in base and "required" in more:
        merged["required"] = list(dict.fromkeys([*base["required"], *more["required"]]))
    return merged
