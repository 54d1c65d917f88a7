"""What a model is asked to answer, and whether it did."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.classifying.results import Opinion
from penstock.wire.partial_json import PartialJson

LABEL, SCORE = "label", "score"
HIGHEST = 100
"""The highest score."""
_MOST_BRACES = 20
"""Places in an answer at which an object is looked for."""
_SHOWN = 40
"""How much of an unusable value an error shows."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class Unusable(ValueError):
    """An answer that is not what was asked for; the message can be told to the model."""


class Form(msgspec.Struct, frozen=True):
    """What an answer looks like.

    Attributes:
        labels: The classes.
        fields: JSON Schemas of further members, by name.
    """

    labels: tuple[str, ...]
    fields: Mapping[str, Mapping[str, Any]] = {}

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of an answer."""
        properties: dict[str, Any] = {
            LABEL: {"type": "string", "enum": list(self.labels)},
            SCORE: {"type": "integer", "minimum": 0, "maximum": HIGHEST},
            **{name: dict(schema) for name, schema in self.fields.items()},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def response_format(self) -> dict[str, Any]:
        """OpenAI's `response_format` for it."""
        return {"type": "json_schema", "json_schema": {"name": "label", "schema": self.schema(), "strict": True}}

    def described(self) -> str:
        """It in words, for models that take no schema, or do not keep to one."""
        return (
            f'Answer with one JSON object and nothing else. "{LABEL}" is one of: '
            f'{", ".join(_encode(label).decode() for label in self.labels)}. "{SCORE}" is a whole number from 0 to '
            f"{HIGHEST}.{self._described_fields()}"
        )

    def _described_fields(self) -> str:
        if not self.fields:
            return ""
        told = ", ".join(f'"{name}" ({_encode(dict(schema)).decode()})' for name, schema in self.fields.items())
        return f" Further members, with their JSON Schemas: {told}."

    def read(self, text: str) -> Opinion:
        """Read a model's answer.

        Raises:
            Unusable: It is no JSON object, or one that does not fit.
        """
        found = _object(text)
        score = found.get(SCORE)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= HIGHEST:
            raise Unusable(f'"{SCORE}" must be a number from 0 to {HIGHEST}, not {_shown(score)}')
        for name, schema in self.fields.items():
            if name not in found:
                raise Unusable(f'"{name}" is missing')
            if not _fits(found[name], schema):
                raise Unusable(
                    f'"{name}" is {_shown(found[name])}, which does not fit {_encode(dict(schema)).decode()}'
                )
        return Opinion(self._label(found.get(LABEL)), float(score), {name: found[name] for name in self.fields})

    def _label(self, given: object) -> str:
        if isinstance(given, str):
            if given in self.labels:
                return given
            bare = given.strip().casefold()
            for label in self.labels:
                if label.casefold() == bare:
                    return label
        raise Unusable(f'"{LABEL}" must be one of {", ".join(self.labels)}, not {_shown(given)}')


def _object(text: str) -> dict[str, Any]:
    """The object in an answer: the whole of it, in a fence, or between words."""
    fenced = _FENCE.search(text)
    for candidate in (text, fenced[1] if fenced else ""):
        try:
            found = _decode(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    braces = (each.start() for each in re.finditer(r"\{", text))
    for start in itertools.islice(braces, _MOST_BRACES):
        found = _from(text[start:])
        if found is not None:
            return found
    raise Unusable(f'there is no complete JSON object with "{LABEL}" in it')


def _from(text: str) -> dict[str, Any] | None:
    """The object a text begins with, if it is one with a label: models also use braces in what they say before."""
    parser = PartialJson(inside_text=True)
    try:
        parser.feed(text)
    except ValueError:
        return None
    found = parser.value
    return found if parser.done and isinstance(found, dict) and LABEL in found else None


def _fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value has one of a schema's types and values; what is inside it is not looked at."""
    if "enum" in schema and value not in schema["enum"]:
        return False
    named = schema.get("type")
    names: Sequence[str] = [named] if isinstance(named, str) else named or list(_TYPES)
    kinds = tuple(kind for name in names for kind in _TYPES.get(name, ()))
    if isinstance(value, bool) and bool not in kinds:
        return False
    return isinstance(value, kinds)


def _shown(value: object) -> str:
    text = _encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
