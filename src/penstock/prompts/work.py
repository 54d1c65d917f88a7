"""What one rendering may do, counted: the same on any machine, however busy."""

from __future__ import annotations

from contextvars import ContextVar

from penstock.prompts.mistakes import Mistake

MOST_STEPS = 100_000
"""Turns of loops, calls and filters in one rendering."""
MOST_CHARS = 1_000_000
"""Characters of a rendered text, and of any text on the way to it."""
MOST_MADE = 10_000_000
"""Characters made in one rendering altogether."""
_PER_STEP = 64
"""Characters that a filter or method looks at for one step; items are a step each."""


class Work:
    """What one rendering has done."""

    __slots__ = ("made", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self.made = 0

    def step(self, count: int = 1) -> None:
        """Count steps.

        Raises:
            Mistake: These are too many.
        """
        self.steps += count
        if self.steps > MOST_STEPS:
            raise Mistake(f"more than {MOST_STEPS} steps: turns of loops, calls and filters")

    def make(self, chars: int) -> None:
        """Count the characters of a text that is about to be made.

        Raises:
            Mistake: These are too many.
        """
        self.made += chars
        if chars > MOST_CHARS or self.made > MOST_MADE:
            raise Mistake(f"a text of more than {MOST_CHARS} characters, or {MOST_MADE} in all")


WORK: ContextVar[Work] = ContextVar("work")
"""That of the rendering that runs."""


def size_of(value: object) -> int:
    """Return the steps it takes to look at all of a value."""
    if isinstance(value, str):
        return len(value) // _PER_STEP
    return len(value) if isinstance(value, (list, tuple, dict, range)) else 0
