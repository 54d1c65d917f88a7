"""Collecting what is wrong with a configuration, so that all of it can be said at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from penstock.config.provenance import MAPPING, Origin, Path, dotted
from penstock.core.errors import ConfigError


class Problems:
    """Everything found wrong so far."""

    def __init__(self, file: str | None = None) -> None:
        """`file` is the configuration's path, named when there is more than one problem."""
        self.file = file
        self._found: list[ConfigError] = []

    def add(self, message: str, origin: Origin, path: Path = (), expected: str | None = None) -> None:
        """Note a problem; one that was noted already is not repeated."""
        if origin.file is None and origin.label != MAPPING.label:
            message = f"{message} (from {origin.label})"
        key = dotted(path) or None
        problem = ConfigError(message, file=origin.file, line=origin.line, key=key, expected=expected)
        if str(problem) not in map(str, self._found):
            self._found.append(problem)

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: Something was; with several problems `problems` has each and the message has a line for each.
        """
        if not self._found:
            return
        found = sorted(self._found, key=lambda problem: (problem.file or "", problem.line or 0))
        if len(found) == 1:
            raise found[0]
        lines = "".join(f"\n  {problem}" for problem in found)
        raise ConfigError(f"{len(found)} problems{lines}", file=self.file, problems=found)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if one is like it."""
    by_folded = {each.casefold(): each for each in known}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown `name`: the nearest known one, or all of them."""
    known = list(known)
    match = closest(name, known)
    if match is not None:
        return f", did you mean {match!r}?"
    return f" (known: {', '.join(known)})" if known else ""
