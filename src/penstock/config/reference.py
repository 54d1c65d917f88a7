"""The reference page of the documentation, written from the settings' models."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock.config.fields import section_in, variables
from penstock.config.kinds import ROWS
from penstock.config.presets import PRESETS, SETTINGS
from penstock.config.settings import Settings

_LIMITS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
_WORDS = {str: "text", int: "whole number", float: "number", Decimal: "number", bool: "true or false",
          SecretStr: "secret text", date: "date", Any: "any"}  # fmt: skip

_HEAD = """# Configuration reference

Every setting of `penstock.yaml`. This page is written by `penstock config schema --markdown`; the
[guide](../guides/configuration.md) says how settings are found and combined. Names ending in `_s` are seconds."""
_LEVELS = """
## Levels

What each `level` sets, unless something else does.
"""
_KINDS = """
## Kinds of providers

What `kind` may be, with the default address, the variable that holds the key, and the names that go to the provider
when no models are configured.
"""
_VARIABLES = """
## Environment variables

Each sets one setting; lists, mappings and sections are given as YAML or JSON.
"""


def reference() -> str:
    """The reference page, in Markdown."""
    lines = [_HEAD]
    lines += _section(Settings, "The whole file")
    for name, section in _sections(Settings, ""):
        lines += _section(section, f"`{name}`")
    lines.append(_LEVELS)
    lines += _table(("level", *(f"`{name}`" for name in SETTINGS)), (
        (f"`{level}`", *(f"{value:g}" for value in values)) for level, values in PRESETS.items()
    ))  # fmt: skip
    lines.append(_KINDS)
    lines += _table(("kind", "dialect", "address", "key", "known for"), (
        (f"`{row.name}`", row.dialect, row.base_url or "", f"`{row.key_env}`" if row.key_env else "",
         " ".join(f"`{pattern}`" for pattern in row.models))
        for row in ROWS
    ))  # fmt: skip
    lines.append(_VARIABLES)
    lines += [f"- `{name}`" for name in variables()]
    return "\n".join(lines) + "\n"


def _sections(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            path = f"{prefix}{name}" + ("[]" if get_origin(field.annotation) is list else "")
            yield path, inner
            yield from _sections(inner, path + ".")


def _section(section: type[BaseModel], title: str) -> list[str]:
    about = (section.__doc__ or "").strip()
    rows = (
        (f"`{name}`", _type(field), _default(field), field.description or "")
        for name, field in section.model_fields.items()
    )
    return [f"\n## {title}\n\n{about}\n", *_table(("key", "type", "default", "meaning"), rows)]


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _type(field: FieldInfo) -> str:
    words = _words(field.annotation)
    limits = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in _LIMITS
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([words, *limits])


def _words(annotation: Any) -> str:  # noqa: ANN401 - a type form
    section = section_in(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " ".join(f"`{each}`" for each in arguments)
    if origin in (list, tuple):
        return "list" if section is None else "list of sections"
    if origin is dict:
        return "mapping"
    if section is not None:
        return "section"
    if origin in (Union, types.UnionType):
        return next(_words(each) for each in arguments if each is not type(None))
    return _WORDS[annotation]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "" or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"
