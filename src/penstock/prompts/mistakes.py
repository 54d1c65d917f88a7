"""What is wrong with a template."""

from __future__ import annotations


class Mistake(Exception):
    """A template cannot be compiled or rendered.

    Attributes:
        message: What is wrong.
        line: Line of the template, from 1; None if that is not known.
        file: The included file the line is in; None for the template itself.
    """

    def __init__(self, message: str, line: int | None = None, file: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.file = file
