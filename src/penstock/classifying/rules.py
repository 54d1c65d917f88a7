"""The stage that asks no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from penstock.classifying.results import Opinion, Verify, accept
from penstock.core.errors import ConfigError

CERTAIN = 100.0
"""The score of what a keyword or a pattern says."""


class Rules:
    """Decides where a rule is enough; what no rule knows is passed on.

    Attributes:
        name: The stage's name.
        verify: What is decided about its opinion.
        labels: The labels it is known to give.
    """

    def __init__(
        self,
        *,
        keywords: Mapping[str, Sequence[str]] | None = None,
        patterns: Mapping[str, Sequence[str]] | None = None,
        decide: Callable[[str], Opinion | str | None] | None = None,
        verify: Verify = accept,
        name: str = "rules",
    ) -> None:
        """Look for keywords first, then for patterns, then ask `decide`.

        Args:
            keywords: Words and phrases by label; whole words, in capitals or not. The first label that fits counts.
            patterns: Regular expressions by label, searched for in capitals or not.
            decide: Returns a label or an opinion, or None when it does not know.
            verify: What is decided about the opinion; by default it is accepted.
            name: The stage's name.

        Raises:
            ConfigError: A pattern is no regular expression, or there is no rule.
        """
        self.name = name
        self.verify = verify
        self._decide = decide
        self._expressions: list[tuple[str, re.Pattern[str]]] = []
        for label, words in (keywords or {}).items():
            found = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)
            self._expressions.append((label, re.compile(rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE)))
        for label, expressions in (patterns or {}).items():
            for number, expression in enumerate(expressions):
                try:
                    self._expressions.append((label, re.compile(expression, re.IGNORECASE)))
                except re.error as error:
                    raise ConfigError(f"no regular expression: {error}", key=f"patterns.{label}[{number}]") from error
        if not self._expressions and decide is None:
            raise ConfigError("expected keywords, patterns or decide", key=f"stages.{name}")
        self.labels = frozenset(label for label, _ in self._expressions)

    def look(self, text: str) -> Opinion | None:
        """Say what is known of `text` without a model; None when nothing is."""
        for label, expression in self._expressions:
            if expression.search(text):
                return Opinion(label, CERTAIN)
        said = self._decide(text) if self._decide is not None else None
        return Opinion(said, CERTAIN) if isinstance(said, str) else said
