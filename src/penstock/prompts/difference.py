"""What two versions of a prompt differ in."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

import msgspec

from penstock.core.prompt import PromptVersion


def difference(before: PromptVersion, after: PromptVersion) -> list[str]:
    """Return a unified diff of all that matters to what is sent; empty when nothing does."""
    return list(
        difflib.unified_diff(
            list(_lines(before)), list(_lines(after)), before.version, after.version, lineterm="", n=3
        )
    )  # fmt: skip


def _lines(version: PromptVersion) -> Iterator[str]:
    if version.model is not None:
        yield f"model: {version.model}"
    for name, value in sorted(version.parameters.items()):
        yield f"parameters.{name}: {json.dumps(value, ensure_ascii=False, sort_keys=True)}"
    for name, variable in sorted(version.variables.items()):
        said = {key: value for key, value in msgspec.to_builtins(variable).items() if key != "description"}
        yield f"variables.{name}: {json.dumps(said, ensure_ascii=False)}"
    for text in version.texts:
        yield f"{text.role or 'text'}:"
        yield from (f"  {line}" for line in text.source.split("\n"))
