"""One answer of those of several workers; each is given with the worker's number, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Part = tuple[int, Any]
Query = Mapping[str, str]
Merge = Callable[[Sequence[Part], Query], Any]


def largest(parts: Sequence[Part], query: Query) -> Any:  # noqa: ANN401 JSON
    """Of counts of what all may have a part of: as many as the one counts that has most, and each worker's."""
    del query
    merged = dict(parts[0][1])
    for name in merged:
        values = [part[name] for _, part in parts if isinstance(part[name], int)]
        if values:
            merged[name] = max(values)
    return {**merged, "workers": _each(parts)}


def stats(parts: Sequence[Part], query: Query) -> Any:  # noqa: ANN401 JSON
    """Of the caches: what was done is added up, what there is counted as in `largest`."""
    merged = largest(parts, query)
    merged["memory_bytes"] = sum(part["memory_bytes"] for _, part in parts)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for _, part in parts:
        for row in part["models"]:
            known = rows.setdefault((row["tenant"], row["model"]), row)
            rows[row["tenant"], row["model"]] = {
                **known,
                "answers": max(known["answers"], row["answers"]),
                "questions": max(known["questions"], row["questions"]),
                "certificate": _cautious(known["certificate"], row["certificate"]),
            }
    merged["models"] = [rows[place] for place in sorted(rows)]
    for name, there in (("exact", ("entries",)), ("semantic", ("questions", "partitions"))):
        figures = [part[name] for _, part in parts if part[name] is not None]
        if figures:
            merged[name] = {
                field: max(each[field] for each in figures) if field in there else sum(each[field] for each in figures)
                for field in figures[0]
            }
    return merged


def entries(parts: Sequence[Part], query: Query) -> Any:  # noqa: ANN401 JSON
    """Of lists of answers: each once, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for _, part in parts:
        for entry in part["data"]:
            known = found.get(entry["key"])
            if known is None or (known["bytes"] is None and entry["bytes"] is not None):
                found[entry["key"]] = entry
    newest = sorted(found.values(), key=lambda entry: -float(entry["stored_at"]))
    return {**parts[0][1], "data": newest[: int(query.get("limit", "100"))]}


def concatenated(parts: Sequence[Part], query: Query) -> Any:  # noqa: ANN401 JSON
    """Of lists of what each worker has its own of: all, with the worker's number."""
    del query
    return {**parts[0][1], "data": [{**row, "worker": number} for number, part in parts for row in part["data"]]}


def _each(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [{"worker": number, **{k: v for k, v in part.items() if k != "object"}} for number, part in parts]


def _cautious(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Each worker learns for itself; what can be promised of all is what the least certain one can."""
    if one is None or other is None:
        return one or other
    return max((one, other), key=lambda each: (each["bound"], not each["serving"]))
