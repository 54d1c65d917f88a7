"""Server-sent events: an incremental decoder, and framing (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
START, END = b"data: ", b"\n\n"
"""What is around the data of an event of one line, as nearly all are written."""
# Bytes are looked for as integers: `in` with a `bytes` operand costs several times as much.
_LF, _CR = 10, 13


class SseDecoder:
    """Turns the bytes of an event stream, cut anywhere, into the data of its events.

    Event names, ids and retry times are skipped: every dialect spoken here repeats in the data what it needs. An event
    is complete with the blank line that follows it; what the stream ends in the middle of is never returned.
    """

    __slots__ = ("_data", "_first", "_max", "_partial", "_size", "_skip_lf")

    def __init__(self, max_line_bytes: int = 8 * 1024 * 1024, *, first: bool = True) -> None:
        """`max_line_bytes` bounds a line, and the data of one event, which may have several.

        `first` says that the stream begins here, where there may be a byte order mark.
        """
        self._max = max_line_bytes
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._first = first
        self._skip_lf = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes, lines joined with LF; they may be empty.

        Raises:
            ValueError: A line or an event is longer than allowed.
        """
        if self._skip_lf and chunk:
            # The CR that ended the chunk before was a line end already; an LF now is its second half.
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if self._partial:
            if _LF not in chunk and _CR not in chunk:
                self._keep(chunk)
                return []
            chunk = bytes(self._partial) + chunk
            self._partial.clear()
        if not self._data and len(chunk) <= self._max:
            events = _split_plain(chunk)
            if events is not None:
                self._first = False
                return events
        return self._feed_lines(chunk)

    @property
    def between(self) -> bool:
        """Nothing of an event has come since the last one."""
        return not (self._partial or self._data or self._skip_lf)

    def _feed_lines(self, chunk: bytes) -> list[bytes]:
        lines = chunk.splitlines()
        if chunk.endswith(b"\r"):
            self._skip_lf = True
        elif lines and not chunk.endswith(b"\n"):
            self._keep(lines.pop())
        if self._first and lines:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[bytes] = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
        return events

    def _take(self, line: bytes) -> None:
        if len(line) > self._max:
            raise self._too_long()
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b" ", 5) else line[5:]
        elif line == b"data":
            value = b""
        else:
            return
        # Empty lines count too: a list of them takes memory as well.
        self._size += len(value) + 1
        if self._size > self._max:
            raise self._too_long()
        self._data.append(value)

    def _keep(self, piece: bytes) -> None:
        self._partial += piece
        if len(self._partial) > self._max:
            raise self._too_long()

    def _too_long(self) -> ValueError:
        return ValueError(f"a line or an event is longer than {self._max} bytes")


def encode(data: bytes) -> bytes:
    """Frame `data` as one event; line breaks in it are kept as the format can (CR and CRLF arrive as LF)."""
    if _LF in data or _CR in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"data: " + data + b"\n\n"


def _split_plain(text: bytes) -> list[bytes] | None:
    """Split a text of whole ``data: ...`` LF LF events, which most reads are; None when it is anything else."""
    if not text.startswith(START) or not text.endswith(END) or _CR in text:
        return None
    events = text[6:-2].split(END + START)
    for event in events:
        if _LF in event:
            return None
    return events
