"""What a file says of a prompt, before its templates are compiled."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import msgspec

PROMPT_MODEL = "prompt/"
"""Before the name of a prompt that is asked for as a model."""
PRODUCTION = "production"
"""The label that is meant when a request names none."""
BUILT_IN = "built-in"
"""The version of a prompt that the configuration or the program has, not a file."""

VariableType = Literal["string", "integer", "number", "boolean", "list", "object", "enum"]
VARIABLE_TYPES: tuple[str, ...] = get_args(VariableType)
_ITEMS = {"list": "items", "object": "keys"}


class Variable(msgspec.Struct, frozen=True):
    """A variable that a prompt declares.

    Attributes:
        type: What values it takes.
        required: A request must give it.
        default: Its value when a request does not; None without one.
        values: For ``enum``: what it may be.
        max_length: Most characters of a string, items of a list or keys of an object; None for no limit of its own.
        description: What it is for.
    """

    type: VariableType = "string"
    required: bool = True
    default: Any = None
    values: tuple[str, ...] = ()
    max_length: int | None = None
    description: str = ""

    def fault(self, value: object) -> str | None:
        """Return what is wrong with `value`, as the end of "expected …"; None when it fits."""
        if not _fits(self.type, value):
            kind = {"integer": "a whole number", "number": "a finite number", "list": "a list", "object": "an object"}
            return kind.get(self.type, "true or false" if self.type == "boolean" else "a string")
        if self.type == "enum" and value not in self.values:
            return f"one of {', '.join(self.values)}"
        if self.max_length is not None and isinstance(value, (str, list, dict)) and len(value) > self.max_length:
            return f"at most {self.max_length} {_ITEMS.get(self.type, 'characters')}"
        return None


def _fits(kind: VariableType, value: object) -> bool:
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return isinstance(value, int) or (kind == "number" and math.isfinite(value))
    return isinstance(value, {"boolean": bool, "list": list, "object": dict}.get(kind, str))


class PromptText(msgspec.Struct, frozen=True):
    """One template.

    Attributes:
        role: Of the message whose content it is; empty for a text to complete.
        source: Jinja2's language.
        file: Where it is, for messages; empty if it is in no file.
        line: Line of the file that its first line is in; None if that is not known.
    """

    role: str
    source: str
    file: str = ""
    line: int | None = None


class PromptVersion(msgspec.Struct, frozen=True):
    """One version of a prompt.

    Attributes:
        version: Its name, unique in the prompt.
        texts: The contents of its messages, in order; or the only one, without a role, of a text to complete.
        variables: What it declares, by name.
        model: Who is asked when a request does not say; None leaves that to the request.
        parameters: Fields of the request that count when a request does not have them.
        description: What is special about it.
        file: The file it is in; empty if in none.
    """

    version: str
    texts: tuple[PromptText, ...]
    variables: dict[str, Variable] = {}
    model: str | None = None
    parameters: dict[str, Any] = {}
    description: str = ""
    file: str = ""


class PromptDefinition(msgspec.Struct, frozen=True):
    """A prompt with all its versions.

    Attributes:
        name: How requests name it.
        versions: By their names; never empty.
        labels: Versions by the names of roles such as ``production``, as the files say.
        description: What it is for.
        built_in: It stands in for a file that is missing or broken.
    """

    name: str
    versions: dict[str, PromptVersion]
    labels: dict[str, str] = {}
    description: str = ""
    built_in: bool = False
