"""Newline-delimited JSON, decoded as it arrives."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_SLACK = len(_BOM) + 1
"""Bytes an unfinished line may be too long, as its mark and CR do not count."""


class NdjsonDecoder:
    """Cuts a byte stream into lines, however the stream is split.

    Lines end with LF or CR LF; blank ones and a byte order mark at the start are left out. What the stream ends in the
    middle of is never returned.
    """

    __slots__ = ("_at_start", "_max", "_parts", "_size", "_too_long")

    def __init__(self, *, max_line_bytes: int) -> None:
        """Allow lines of up to `max_line_bytes`, their end not counted."""
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines they complete.

        Raises:
            ValueError: A line is too long. Lines before it in the same bytes are returned first.
        """
        if self._too_long:
            raise self._error()
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = b"".join(self._parts) + complete[0]
            self._parts, self._size = [], 0
        self._parts.append(rest)
        self._size += len(rest)
        lines = self._accept(complete)
        if self._size > self._max + _SLACK:
            self._too_long = True
        if self._too_long and not lines:
            raise self._error()
        return lines

    def _accept(self, raw: list[bytes]) -> list[bytes]:
        lines = []
        for line in raw:
            text = line[:-1] if line.endswith(b"\r") else line
            if self._at_start:
                text = text.removeprefix(_BOM)
                self._at_start = False
            if len(text) > self._max:
                self._too_long = True
                break
            if text.strip():
                lines.append(text)
        return lines

    def _error(self) -> ValueError:
        return ValueError(f"a line is longer than {self._max} bytes")
