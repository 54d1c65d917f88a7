"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

from typing import Any

from penstock.config.kinds import KINDS
from penstock.config.settings import Settings

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{|^os\.environ/"}
_COERCED = frozenset({"integer", "number", "boolean"})


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `penstock.yaml`; `${NAME}` is allowed wherever a number or truth value is."""
    schema = Settings.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, field in section.get("properties", {}).items():
            section["properties"][name] = _with_references(field)
    kind = schema["$defs"]["ProviderSettings"]["properties"]["kind"]
    kind["anyOf"] = [{"enum": list(KINDS)}, _REFERENCE]
    del kind["type"]
    return {"$schema": DRAFT, **schema, "title": "Penstock configuration"}


def _with_references(field: dict[str, Any]) -> dict[str, Any]:
    about = {key: value for key, value in field.items() if key in ("title", "description", "default")}
    rest = {key: value for key, value in field.items() if key not in about}
    options: list[dict[str, Any]] = rest.pop("anyOf", None) or [rest]
    if not any(option.get("type") in _COERCED or "enum" in option for option in options):
        return field
    return {**about, "anyOf": [*options, _REFERENCE]}
