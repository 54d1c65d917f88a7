"""Finding one's way in the settings' models: which fields a section has, which variable sets which field."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from penstock.config.provenance import Path
from penstock.config.settings import Settings

PREFIX = "PENSTOCK_"


class Variable(NamedTuple):
    """An environment variable that sets something.

    Attributes:
        path: What it sets.
        structured: Its text is YAML or JSON, because the setting is a list or mapping.
    """

    path: Path
    structured: bool


def section_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type form
    """The section that `annotation` is, or is a list of, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part))), None)


def section_at(path: Path, root: type[BaseModel] = Settings) -> type[BaseModel] | None:
    """The section at `path` from `root`, or None when there is something else."""
    section: type[BaseModel] | None = root
    named = False
    for step in path:
        if section is None or isinstance(step, int):
            continue
        if named:  # the name of one of several sections
            named = False
            continue
        field = section.model_fields.get(step)
        section = section_in(field.annotation) if field else None
        named = field is not None and get_origin(field.annotation) is dict
    return section


@cache
def variables() -> MappingProxyType[str, Variable]:
    """All variables by name: the path in capitals, its parts joined by two underscores."""
    found: dict[str, Variable] = {}
    _collect(Settings, (), found)
    return MappingProxyType(found)


def _collect(section: type[BaseModel], path: Path, found: dict[str, Variable]) -> None:
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        many = get_origin(field.annotation) in (list, dict)
        where = (*path, name)
        found[PREFIX + "__".join(map(str, where)).upper()] = Variable(where, many or inner is not None)
        if inner is not None and not many:
            _collect(inner, where, found)
