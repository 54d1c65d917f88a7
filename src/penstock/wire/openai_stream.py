"""The streams of OpenAI-compatible providers, from bytes to events.

Nearly all chunks of a stream differ in their text alone. What is around it is learnt from one that was decoded. A run
of further ones is taken for its like, as one event and without decoding them, if it has the same bytes before, between
and after the texts, and the texts are what a JSON string may hold (RFC 8259 section 7, valid UTF-8, no half of a
surrogate pair). Anything else is read chunk by chunk.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec

from penstock.core.errors import ProviderError
from penstock.core.events import BETWEEN, Batch, Event
from penstock.wire.openai_answers import read_counts, unreadable
from penstock.wire.openai_errors import find_error
from penstock.wire.sse import END, START, SseDecoder
from penstock.wire.upstream_errors import UNREADABLE, unfinished, unusable

_DONE = b"[DONE]"
_LESSONS = 3
"""From how many chunks of a stream it is learnt what the others have in common with them; the first often has more."""
_MOST_BYTES = 256 * 1024
"""An event that is longer is put together by `SseDecoder`, which does not join it anew with each read."""
_TEXTS = re.compile(
    rb'(?:[^"\\\x00-\x09\x0b-\x1f]+|\\(?:["\\/bfnrt]|u(?:[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}|[dD](?:[0-7][0-9a-fA-F]{2}'
    rb"|[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))))*+"
)
"""What is between the quotes of JSON strings, one a line."""
_PLAIN = bytes(byte for byte in range(32, 256) if byte not in b'"\\')
"""The bytes that may be in them without an escape."""
_KEY = b'"content"'
_BACKSLASH, _LF, _CR = 92, 10, 13
_decode_text = msgspec.json.Decoder(str).decode


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    text: str | None = None
    delta: dict[str, Any] | None = None
    message: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_any = msgspec.json.Decoder().decode


class StreamReader:
    """Turns the bytes of a provider's event stream into events, and knows whether the answer is complete.

    Attributes:
        done: ``[DONE]`` has been read.
        ended: Nothing more will come of further bytes: it is done, or broken.
    """

    __slots__ = (
        "_after",
        "_before",
        "_failure",
        "_finished",
        "_first",
        "_head",
        "_lessons",
        "_lines",
        "_provider",
        "_rest",
        "_seen",
        "_tail",
        "done",
        "ended",
    )

    def __init__(self, provider: str) -> None:
        """`provider` is the provider's name in the configuration, for errors."""
        self._provider = provider
        self._rest = b""
        self._first = True
        self._lines: SseDecoder | None = None
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._failure: ProviderError | None = None
        self._lessons = _LESSONS
        self._before = self._after = self._head = self._tail = b""
        self.done = False
        self.ended = False

    def feed(self, data: bytes) -> Batch:
        """Return the events that `data` completes, possibly none; a fault ends the stream and is kept for `finish`."""
        batch: Batch = []
        try:
            if self._lines is None:
                if self._rest:
                    data = self._rest + data
                elif self._before and (event := self._one_alike(data)) is not None:
                    return [event]
                data = self._read(data, batch)
            if self._lines is not None:
                for payload in self._lines.feed(data):
                    if self._take(payload, batch):
                        break
                if self._lines.between:
                    self._lines = None
        except ProviderError as error:
            self._fail(error)
        except ValueError as error:
            self._fail(unusable(f"a stream that cannot be read: {error}", self._provider))
        return batch

    def finish(self) -> None:
        """The stream is over.

        Raises:
            ProviderError: What was wrong with it, or ``upstream_incomplete``: a choice has no finish reason.
        """
        if self._failure is not None:
            raise copy.copy(self._failure)
        if not self._finished or not self._seen <= self._finished:
            raise unfinished(self._provider)

    def _fail(self, error: ProviderError) -> None:
        self._failure = copy.copy(error)  # without the traceback, which refers to this object
        self.ended = True

    def _read(self, text: bytes, batch: Batch) -> bytes:
        """Read events of one line each; what comes where there is something else is returned, for `_lines`."""
        stop = text.rfind(END)
        plain = text.startswith(START) and _CR not in text and len(text) - stop < _MOST_BYTES
        if stop < 0 or not plain:
            return self._keep(text, plain=plain)
        self._first = False
        payloads, position = text[6:stop].split(BETWEEN), 0
        alike, failed = len(payloads), b""
        while position < len(payloads):
            payload = payloads[position]
            before = self._before
            if before and payload.startswith(before) and payload.endswith(self._after):
                # If others were among them, they are looked at one by one, lest they be looked at again and again.
                chunks = self._take_alike(payloads, position, position + 1 if failed is before else alike, batch)
                position += chunks
                if chunks:
                    continue
                failed = before
            if _LF in payload:
                return self._keep(START + BETWEEN.join(payloads[position:]) + text[stop:], plain=False)
            if self._take(payload, batch):
                return b""
            position += 1
        return self._keep(text[stop + 2 :], plain=True)

    def _keep(self, text: bytes, *, plain: bool) -> bytes:
        self._rest = text if plain else b""
        if not plain:
            self._lines = SseDecoder(first=self._first)
        return text

    def _one_alike(self, data: bytes) -> Event | None:
        """Return the event of a read that is one chunk alike, as most are; None for anything else."""
        head, tail = self._head, self._tail
        if not data.endswith(tail) or not data.startswith(head) or len(data) < len(head) + len(tail):
            return None
        said = data[len(head) : -len(tail)]
        has_text = None if _LF in said else _speak(said, 1)
        return None if has_text is None else Event(data[6:-2], None, None, has_text)

    def _take_alike(self, payloads: list[bytes], start: int, stop: int, batch: Batch) -> int:
        """Take the chunks from `start` on that are alike; return how many, 0 if others are before the last of them."""
        before, after = self._before, self._after
        while not (payloads[stop - 1].startswith(before) and payloads[stop - 1].endswith(after)):
            stop -= 1
        run, text = payloads[start:stop], slice(len(before), -len(after))
        texts = [payload[text] for payload in run]
        chunks = stop - start
        data = BETWEEN.join(run)
        if before + (after + BETWEEN + before).join(texts) + after != data:
            return 0
        has_text = _speak(b"\n".join(texts), chunks)
        if has_text is None:
            return 0
        if chunks == 1:
            batch.append(Event(data, None, None, has_text))
        else:
            shortest = min(map(len, texts)) + len(before) + len(after)
            batch.append(Event(data, None, None, has_text, chunks=chunks, shortest=shortest))
        return chunks

    def _take(self, payload: bytes, batch: Batch) -> bool:
        """Take the data of one event; whether nothing counts after it."""
        if payload == _DONE:
            self.done = self.ended = True
            return True
        # An empty event is how some servers keep the connection awake.
        if payload:
            chunk = _read_chunk(payload, self._provider)
            event = _make_event(payload, chunk)
            batch.append(event)
            for choice in chunk.choices or ():
                (self._finished if choice.finish_reason else self._seen).add(choice.index)
            if event.has_text and self._lessons:
                self._learn(payload, chunk)
        return False

    def _learn(self, data: bytes, chunk: _Chunk) -> None:
        """Learn what is around the text of a chunk that says nothing else: most of a stream's differ in no more."""
        self._lessons -= 1
        parts, choices = data.split(_KEY), chunk.choices
        if not choices or len(parts) != 2 or chunk.usage is not None or _BACKSLASH in data or _LF in data:
            return
        choice = choices[0]
        colon, _, rest = parts[1].partition(b'"')
        if choice.finish_reason is None and choice.text is None and colon.strip() == b":":
            self._before = parts[0] + _KEY + colon + b'"'
            self._after = rest[rest.find(b'"') :]
            self._head, self._tail = START + self._before, self._after + END


def _speak(texts: bytes, count: int) -> bool | None:
    """Whether so many lines, each of which must fit in a JSON string's quotes, say more than white space; else None."""
    escaped = len(texts.translate(None, _PLAIN)) >= count  # more than the ends of the lines
    if escaped and (texts.count(b"\n") >= count or _TEXTS.fullmatch(texts) is None):
        return None
    if texts.isascii() and not escaped:
        return texts != b"" and not texts.isspace()
    try:
        said = texts.decode()
    except UnicodeDecodeError:
        return None
    if escaped:
        said = _decode_text(b'"' + texts.replace(b"\n", b"") + b'"')
    return said != "" and not said.isspace()


def parse_chunk(data: bytes, provider: str = "") -> Event:
    """Read one chunk of a stream.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the chunk.
    """
    return _make_event(data, _read_chunk(data, provider))


def _read_chunk(data: bytes, provider: str) -> _Chunk:
    try:
        # Fields nobody looks at are skipped by the decoder without checking their UTF-8.
        if not data.isascii():
            data.decode()
        chunk = _decode_chunk(data)
    except UNREADABLE as error:
        raise unreadable("a chunk", data, error, provider) from None
    if chunk.error or (chunk.choices is None and data.find(b'"error"') >= 0):
        fault = find_error(_decode_any(data), provider)
        try:
            if fault is not None:
                raise fault
        finally:
            del fault  # its traceback refers to this frame
    return chunk


def _make_event(data: bytes, chunk: _Chunk) -> Event:
    if _LF in data:
        data = msgspec.json.format(data, indent=-1)
    usage = None if chunk.usage is None else read_counts(chunk.usage, chunk.service_tier)
    choices = chunk.choices
    if not choices:
        return Event(data, None, usage, None if chunk.error else False, usage is not None)
    reason = choices[0].finish_reason
    if not reason and len(choices) > 1:
        reason = next((choice.finish_reason for choice in choices if choice.finish_reason), None)
    return Event(data, reason or None, usage, None if chunk.error else _has_text(choices))


def _has_text(choices: list[_Choice]) -> bool | None:
    """As `Event.has_text`."""
    choice = choices[0]
    if choice.index or choice.message is not None or len(choices) > 1:
        return None
    text, delta = choice.text, choice.delta
    content = None
    if delta:
        content = delta.get("content")
        if content is not None and not isinstance(content, str):
            return None
        if (content is None or len(delta) > 1) and _does_more(delta):
            return None
    return bool((content and not content.isspace()) or (text and not text.isspace()))


def _does_more(delta: dict[str, Any]) -> bool:
    """It refuses, or calls tools."""
    return bool(delta.get("refusal") or delta.get("function_call") or delta.get("tool_calls") not in (None, []))
