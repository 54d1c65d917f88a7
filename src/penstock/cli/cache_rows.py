"""What `penstock cache` shows of things, row by row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

_SHOWN_TEXT = 70
_SHOWN_FEATURES = ("similarity", "margin", "support", "difference")


def model_row(row: dict[str, Any]) -> dict[str, object]:
    """What is shown of a tenant's use of a model."""
    shown = row["certificate"] or {}
    bound = shown.get("bound")
    return {
        "tenant": row["tenant"],
        "model": row["model"],
        "answers": row["answers"],
        "questions": row["questions"],
        "promised": _percent(shown.get("delta")),
        "shown": "not known" if bound is not None and bound >= 1 else _percent(bound),
        "served": shown.get("served"),
        "labels": shown.get("labels"),
        "serving": shown.get("serving"),
        "why": shown.get("reason"),
    }


def entry_row(entry: dict[str, Any]) -> dict[str, object]:
    """What is shown of an answer."""
    questions = entry["questions"]
    return {
        "key": entry["key"][:12],
        "tenant": entry["tenant"],
        "model": entry["model"],
        "stored": _time(entry["stored_at"]),
        "fresh until": _time(entry["fresh_until"]),
        "tokens": entry["output_tokens"],
        "saves usd": entry["saved_usd"],
        "right": sum(each["right"] for each in questions),
        "wrong": sum(each["wrong"] for each in questions),
        "tags": ", ".join(entry["tags"]) or None,
        "question": _short(questions[0]["text"]) if questions else None,
    }


def neighbour_row(near: dict[str, Any]) -> dict[str, object]:
    """What is shown of a question near another one; ``--json`` has all its features."""
    features = near["features"]
    return {
        "probability": round(near["probability"], 4),
        **{name: round(features[name], 3) for name in _SHOWN_FEATURES if name in features},
        "forbidden by": near["veto"],
        "fresh": near["fresh"],
        "question": _short(near["text"]),
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.3g} %"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_TEXT else f"{line[: _SHOWN_TEXT - 1]}…"
