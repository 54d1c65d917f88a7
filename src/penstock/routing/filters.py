"""Decisions a rule can make about a question, so that no model need be asked."""

from __future__ import annotations

import re
from functools import lru_cache

from penstock.core.cascade import Filter, FilterRule

MAX_CHARS = 50_000
"""No filter applies to longer questions: expressions may take long over them, and what is not read decides nothing."""


def applies(wanted: Filter, question: str) -> bool:
    """Whether the rules of `wanted` fit `question` as it asks for."""
    if len(question) > MAX_CHARS:
        return False
    score = sum(rule.score for rule in wanted.rules if expression(rule).search(question))
    return score < wanted.below if wanted.below is not None else score >= (wanted.at_least or 0.0)


@lru_cache(maxsize=1024)
def expression(rule: FilterRule) -> re.Pattern[str]:
    """Return what finds `rule` in a text.

    Raises:
        re.error: Its pattern is no regular expression.
    """
    if rule.pattern:
        return re.compile(rule.pattern)
    words = "|".join(re.escape(word) for word in rule.words)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
