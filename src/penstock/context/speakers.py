"""Whom a question names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from penstock.context.words import words

ROLES = frozenset({"", "user", "assistant", "system", "developer", "tool", "function"})
"""Not names; a question that has such a word means something else by it."""

WHOLE = 2.0
"""What a whole name is worth beside the share of one: of "Grad A" and "Grad B" only one is meant."""

_NAME = re.compile(r"[^\W\d_]{2,}")
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "sir", "hon", "prof", "right", "the", "of", "and", "for"})


def named(question: str, speakers: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the speakers whom `question` names best, and the stems of their names.

    The whole name is named best; of several of whom only a part is, those with the greatest part of it.
    """
    lower = question.lower()
    said = set(_NAME.findall(lower))
    parts: dict[str, float] = {}
    for speaker in speakers:
        name = speaker.lower()
        if name in ROLES:
            continue
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", lower):
            parts[speaker] = WHOLE
            continue
        whole = set(_NAME.findall(name)) - _TITLES
        if found := len(whole & said):
            parts[speaker] = found / len(whole)
    best = max(parts.values(), default=0.0)
    mentioned = {speaker for speaker, part in parts.items() if part == best}
    return mentioned, {word for speaker in mentioned for word in words(speaker)}
