"""From nodes to settings, with the model's complaints put the way a person who wrote the file needs them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.config.fields import section_at
from penstock.config.problems import Problems, closest, suggestion
from penstock.config.provenance import Missing, Node, Path
from penstock.config.settings import Settings

S = TypeVar("S", bound=BaseModel)
_SHOULD = "Input should be "
_LIMITS = (("ge", "at least"), ("le", "at most"), ("gt", "more than"), ("lt", "less than"))
_EXPECTED = MappingProxyType({
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "date_type": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "date_from_datetime_inexact": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "too_short": "at least one entry",
    "string_too_short": "some text",
    "string_pattern_mismatch": "letters, digits, `_`, `.` and `-`, the first a letter or digit",
})  # fmt: skip


def validate(tree: Node, problems: Problems) -> Settings | None:
    """Make settings of `tree`; None when `problems` says why not."""
    return validate_as(Settings, tree, problems)


def validate_as(section: type[S], tree: Node, problems: Problems) -> S | None:
    """Make a section of `tree`; None when `problems` says why not."""
    try:
        return section.model_validate(tree.plain())
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _report(details, section, tree, problems)
        return None


def _report(details: ErrorDetails, root: type[BaseModel], tree: Node, problems: Problems) -> None:
    path: Path = tuple(details["loc"])
    if path and path[-1] == "[key]":
        path = path[:-1]
    node = tree.nearest(path)
    if isinstance(node.value, Missing):
        return
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        section = section_at(path[:-1], root)
        known = list(section.model_fields) if section else []
        problems.add(f"unknown key {path[-1]!r}{suggestion(str(path[-1]), known)}", node.origin, path[:-1])
    elif kind == "missing":
        problems.add(f"{path[-1]} is missing", node.origin, path[:-1])
    elif kind == "literal_error":
        expected = str(details.get("ctx", {}).get("expected", ""))
        known = [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]
        match = closest(node.value, known) if isinstance(node.value, str) else None
        hint = f", did you mean {match!r}?" if match else ""
        problems.add(f"got {node.value!r:.50}{hint}", node.origin, path, ", ".join(known))
    elif kind == "value_error":
        problems.add("not usable", node.origin, path, message.removeprefix("Value error, ").removeprefix("expected "))
    elif kind == "string_type" and isinstance(node.value, (bool, int, float)):
        problems.add("not a string", node.origin, path, "a string; put it in quotes")
    else:
        limits = [f"{word} {details['ctx'][name]}" for name, word in _LIMITS if name in details.get("ctx", {})]
        expected = limits[0] if limits else _EXPECTED.get(kind, message.removeprefix(_SHOULD))
        problems.add(f"got {_kind_of(node.value)}", node.origin, path, expected)


def _kind_of(value: object) -> str:
    """Numbers are shown; strings are not, since they may be secrets."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    return "a mapping" if isinstance(value, dict) else "a list"
