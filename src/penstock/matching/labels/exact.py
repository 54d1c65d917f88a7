"""The same words, however they are laid out."""

from __future__ import annotations

import unicodedata

_FENCE = "```"
_MAX_CHARS = 200_000
"""Longer answers are not put in order to be compared: it would hold up the event loop."""
_CLOSING = " \t\r\n.!…。"


def exact(answer: str, fresh: str) -> bool | None:
    """Return True when two answers are the same but for their layout, and None otherwise."""
    if answer == fresh:
        return True
    short = max(len(answer), len(fresh)) <= _MAX_CHARS
    return True if short and normal(answer) == normal(fresh) else None


def normal(text: str) -> str:
    """Return `text` as the same for all layouts of the same words.

    Runs of white space are one space, punctuation at the end and the case of the first letter do not count, nor does a
    fence around the whole. Where white space may carry meaning, in lines that are indented or fenced, only the ends of
    lines and empty lines are dropped.
    """
    text = unicodedata.normalize("NFC", text)
    inside = unfenced(text)
    lines = [line.rstrip() for line in (text if inside is None else inside).splitlines() if line.strip()]
    if len(lines) > 1 and (_FENCE in text or any(line[0].isspace() for line in lines)):
        return "\n".join(lines)
    words = " ".join(" ".join(lines).split()).rstrip(_CLOSING)
    return words[:1].lower() + words[1:]


def unfenced(text: str) -> str | None:
    """Return what is inside the one code fence that `text` consists of; None when it is anything else."""
    head, _, rest = text.strip().partition("\n")
    inside = rest.removesuffix(_FENCE)
    if not head.startswith(_FENCE) or "`" in head[len(_FENCE) :] or inside == rest or _FENCE in inside:
        return None
    return inside
