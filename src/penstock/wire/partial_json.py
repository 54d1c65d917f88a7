"""JSON that is still being written: what is known of it after every piece.

Reads RFC 8259 piece by piece, each character once. What a prefix shows is true of the whole document: a string is the
beginning of the final one, a number, a literal and a key appear when they have ended, and what is there stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting of arrays and objects."""

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNICODE = 6
"""Characters of an escape by code point."""


class PartialJson:
    """One JSON value that arrives in pieces.

    Attributes:
        done: The value is complete.
    """

    def __init__(self, *, inside_text: bool = False) -> None:
        """Expect one value.

        Args:
            inside_text: It is an object somewhere in a text: what is before its brace and after its end is passed over.
        """
        self.done = False
        self._inside_text = inside_text
        self._read: Callable[[str, int], int] = self._search if inside_text else self._value
        self._seen = 0
        self._root: list[Any] = []
        self._stack: list[list[Any] | dict[str, Any]] = [self._root]
        self._keys: list[str] = [""]
        self._parts: list[str] = []
        self._in_key = False
        self._open_string = False
        self._escape = ""
        self._high = ""

    @property
    def value(self) -> Any:  # noqa: ANN401 - a JSON value of any type
        """What is known so far; None before anything is. It grows as pieces arrive: copy what you keep."""
        if self._open_string and not self._in_key:
            text = "".join(self._parts)
            self._parts = [text]
            self._place(text)
        return self._root[0] if self._root else None

    @property
    def fields(self) -> dict[str, Any]:
        """The members of the object that are complete; empty when the value is no object."""
        value = self.value
        if not isinstance(value, dict):
            return {}
        unfinished = len(self._stack) > 2 or (self._open_string and not self._in_key)
        members = dict(value)
        if unfinished:
            members.pop(self._keys[1], None)
        return members

    def feed(self, text: str) -> None:
        """Read on; takes time in proportion to the length of `text`.

        Raises:
            ValueError: This is not JSON; the message says where.
        """
        position = 0
        while position < len(text):
            try:
                position = self._read(text, position)
            except _Wrong as wrong:
                raise ValueError(f"{wrong} at character {self._seen + wrong.position}") from None
        self._seen += len(text)

    def close(self) -> None:
        """Nothing more comes.

        Raises:
            ValueError: The value is not complete.
        """
        if self._read == self._scalar:
            self.feed(" ")  # only this tells that a number has ended
        if not self.done:
            raise ValueError(f"it ends after {self._seen} characters, before the value is complete")

    def _search(self, text: str, position: int) -> int:
        found = text.find("{", position)
        if found < 0:
            return len(text)
        self._read = self._value
        return found

    def _value(self, text: str, position: int) -> int:
        position = _skip(text, position)
        if position == len(text):
            return position
        sign = text[position]
        if sign == '"':
            self._put("")
            self._begin_string(in_key=False)
        elif sign in "{[":
            self._open(text, position)
        elif sign == "-" or (sign.isascii() and sign.isalnum()):
            self._parts = []
            self._read = self._scalar
            return position
        else:
            raise _Wrong("expected a value", position)
        return position + 1

    def _first(self, text: str, position: int) -> int:
        """After the bracket of an array."""
        position = _skip(text, position)
        if position == len(text):
            return position
        if text[position] == "]":
            self._end_container()
            return position + 1
        self._read = self._value
        return position

    def _key(self, text: str, position: int) -> int:
        position = _skip(text, position)
        if position == len(text):
            return position
        container = self._stack[-1]
        if text[position] == "}" and not container:
            self._end_container()
        elif text[position] == '"':
            self._begin_string(in_key=True)
        else:
            raise _Wrong("expected a key in double quotes", position)
        return position + 1

    def _colon(self, text: str, position: int) -> int:
        position = _skip(text, position)
        if position == len(text):
            return position
        if text[position] != ":":
            raise _Wrong("expected a colon", position)
        self._read = self._value
        return position + 1

    def _next(self, text: str, position: int) -> int:
        """After a value inside an array or an object."""
        position = _skip(text, position)
        if position == len(text):
            return position
        in_object = isinstance(self._stack[-1], dict)
        sign = text[position]
        if sign == ("}" if in_object else "]"):
            self._end_container()
        elif sign == ",":
            self._read = self._member if in_object else self._value
        else:
            raise _Wrong(f"expected a comma or {'}' if in_object else ']'}", position)
        return position + 1

    def _member(self, text: str, position: int) -> int:
        """After a comma in an object, where it may not end."""
        position = _skip(text, position)
        if position == len(text):
            return position
        if text[position] != '"':
            raise _Wrong("expected a key in double quotes", position)
        self._begin_string(in_key=True)
        return position + 1

    def _after(self, text: str, position: int) -> int:
        """After the whole value."""
        if self._inside_text:
            return len(text)
        position = _skip(text, position)
        if position < len(text):
            raise _Wrong("expected nothing after the value", position)
        return position

    def _string(self, text: str, position: int) -> int:
        if self._escape:
            return self._escaped(text, position)
        end = _end(_PLAIN, text, position)
        if end > position:
            self._lone(position)
            self._parts.append(text[position:end])
        if end == len(text):
            return end
        if text[end] == "\\":
            self._escape = "\\"
        elif text[end] == '"':
            self._lone(end)
            self._end_string()
        else:
            raise _Wrong("expected control characters in a string to be escaped", end)
        return end + 1

    def _escaped(self, text: str, position: int) -> int:
        """One more character of an escape."""
        self._escape += text[position]
        escape = self._escape
        if len(escape) == 2 and escape[1] != "u":
            meant = _ESCAPES.get(escape[1])
            if meant is None:
                raise _Wrong(f"unknown escape {escape}", position)
            self._lone(position)
            self._parts.append(meant)
            self._escape = ""
        elif len(escape) == _UNICODE:
            if not _HEX.fullmatch(escape, 2):
                raise _Wrong("expected four hexadecimal digits", position)
            self._code_unit(chr(int(escape[2:], 16)), position)
            self._escape = ""
        return position + 1

    def _code_unit(self, unit: str, position: int) -> None:
        """Pairs of surrogates are one character."""
        if "\ud800" <= unit <= "\udbff":
            self._lone(position)
            self._high = unit
        elif "\udc00" <= unit <= "\udfff":
            if not self._high:
                raise _Wrong("half of a surrogate pair", position)
            self._parts.append((self._high + unit).encode("utf-16", "surrogatepass").decode("utf-16"))
            self._high = ""
        else:
            self._lone(position)
            self._parts.append(unit)

    def _lone(self, position: int) -> None:
        if self._high:
            raise _Wrong("half of a surrogate pair", position)

    def _scalar(self, text: str, position: int) -> int:
        end = _end(_WORD, text, position)
        self._parts.append(text[position:end])
        if end < len(text):
            self._put(_scalar_of("".join(self._parts), end))
            self._ended()
        return end

    def _begin_string(self, *, in_key: bool) -> None:
        self._in_key = in_key
        self._parts = []
        self._open_string = True
        self._read = self._string

    def _end_string(self) -> None:
        text = "".join(self._parts)
        self._open_string = False
        if self._in_key:
            self._keys[-1] = text
            self._read = self._colon
        else:
            self._place(text)
            self._ended()

    def _open(self, text: str, position: int) -> None:
        if len(self._stack) > MAX_DEPTH:
            raise _Wrong(f"nested more than {MAX_DEPTH} levels deep", position)
        container: list[Any] | dict[str, Any] = {} if text[position] == "{" else []
        self._put(container)
        self._stack.append(container)
        self._keys.append("")
        self._read = self._key if text[position] == "{" else self._first

    def _end_container(self) -> None:
        self._stack.pop()
        self._keys.pop()
        self._ended()

    def _ended(self) -> None:
        self.done = len(self._stack) == 1
        self._read = self._after if self.done else self._next

    def _put(self, value: Any) -> None:  # noqa: ANN401 - a JSON value of any type
        """Begin a value in the innermost container."""
        container = self._stack[-1]
        if isinstance(container, dict):
            container[self._keys[-1]] = value
        else:
            container.append(value)

    def _place(self, value: str) -> None:
        """Say how far the innermost container's last value, a string, has come."""
        container = self._stack[-1]
        if isinstance(container, dict):
            container[self._keys[-1]] = value
        else:
            container[-1] = value


class _Wrong(Exception):
    """Something in a piece is not JSON."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return where a pattern that may match nothing ends."""
    found = pattern.match(text, position)
    return position if found is None else found.end()


def _skip(text: str, position: int) -> int:
    return _end(_SPACE, text, position)


def _scalar_of(word: str, position: int) -> Any:  # noqa: ANN401 - a number or a literal
    if word in _LITERALS:
        return _LITERALS[word]
    found = _NUMBER.fullmatch(word)
    if found is None:
        raise _Wrong(f"expected a value, not {word[:20]!r}", position)
    if found[1] is None and found[2] is None:
        try:
            return int(word)
        except ValueError:
            raise _Wrong("a number with too many digits", position) from None
    number = float(word)
    if math.isinf(number):
        raise _Wrong("a number that is too large", position)
    return number
