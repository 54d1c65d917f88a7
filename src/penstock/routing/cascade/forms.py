"""Whether an answer has the form that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_DEPTH = 32
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


class Form(msgspec.Struct, frozen=True):
    """What an answer must look like.

    Attributes:
        json: It must be JSON.
        schema: JSON of this schema; `type`, `enum`, `const`, `required`, `properties` and `items` are checked.
        choices: One of these, whatever the case, spaces around it or a full stop after it. Empty for any.
    """

    json: bool = False
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()

    def fault(self, text: str) -> str | None:
        """Return what is wrong with `text`, without anything of it; None if nothing is."""
        if self.choices and _plain(text) not in {_plain(choice) for choice in self.choices}:
            return "the cheap answer is none of the choices"
        if not self.json and self.schema is None:
            return None
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return "the cheap answer is not JSON"
        if self.schema is not None and not conforms(value, self.schema):
            return "the cheap answer does not fit the schema"
        return None


def conforms(value: object, schema: object, depth: int = 0) -> bool:
    """Return whether `value` fits those parts of a JSON Schema that `Form` names; nothing deeper than 32 levels.

    What is no schema allows everything.
    """
    if depth > _DEPTH or not isinstance(schema, Mapping):
        return True
    allowed, properties = schema.get("enum"), schema.get("properties")
    if not _is_kind(value, schema.get("type")):
        return False
    if isinstance(allowed, list) and value not in allowed:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, dict):
        required = schema.get("required")
        if isinstance(required, list) and any(name not in value for name in required):
            return False
        known = properties if isinstance(properties, Mapping) else {}
        return all(conforms(value[name], part, depth + 1) for name, part in known.items() if name in value)
    if isinstance(value, list):
        return all(conforms(each, schema.get("items"), depth + 1) for each in value)
    return True


def _is_kind(value: object, kind: object) -> bool:
    if isinstance(kind, list):
        return any(_is_kind(value, each) for each in kind)
    wanted = _KINDS.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, wanted) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _plain(text: str) -> str:
    return text.strip().rstrip(".").strip().casefold()
