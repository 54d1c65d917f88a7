"""The values of a prompt's variables: all declared, all of the right type, none missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.core.errors import InvalidRequest
from penstock.core.prompt import Variable


def fill_in(declared: Mapping[str, Variable], given: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """Return the value of each declared variable, given or by default; None for what is optional and not given.

    Args:
        declared: Variables by name.
        given: Values by name.
        prompt: What to call the prompt.

    Raises:
        InvalidRequest: One is unknown (``prompt_variable_unknown``), missing (``prompt_variable_missing``), or no value
            for it (``prompt_variable_invalid``).
    """
    for name in given:
        if name not in declared:
            raise _fault(name, "unknown", f"The prompt {prompt} has no variable '{name[:100]}'{hint(name, declared)}.")
    values: dict[str, Any] = {}
    for name, variable in declared.items():
        value = given.get(name)
        if value is None:
            if variable.required:
                raise _fault(
                    name, "missing", f"The prompt {prompt} needs the variable '{name}' ({_described(variable)})."
                )
            values[name] = variable.default
            continue
        fault = variable.fault(value)
        if fault is not None:
            got = "" if fault.startswith("at most") else f", got {_kind(value)}"
            raise _fault(name, "invalid", f"Variable '{name}' of the prompt {prompt}: expected {fault}{got}.")
        values[name] = value
    return values


def hint(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the nearest ones, or all."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return "; did you mean " + " or ".join(f"'{each}'" for each in near) + "?"
    return "; it has " + ", ".join(known[:20]) if known else "; it has none"


def _fault(name: str, what: str, message: str) -> InvalidRequest:
    return InvalidRequest(message.replace("?.", "?"), param=f"prompt.variables.{name[:100]}", code=_CODES[what])


def _described(variable: Variable) -> str:
    kind = f"one of {', '.join(variable.values)}" if variable.type == "enum" else variable.type
    return f"{kind}: {variable.description}" if variable.description else kind


def _kind(value: object) -> str:
    """Values are not shown, since they may be secrets."""
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


_CODES = {
    "unknown": "prompt_variable_unknown",
    "missing": "prompt_variable_missing",
    "invalid": "prompt_variable_invalid",
}
