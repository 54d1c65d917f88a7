"""What OpenAI-compatible providers answer: whole answers and the chunks of a stream.

Only what Penstock needs is decoded; all of it is checked to be JSON, because the bytes go to the client as they are.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec

from penstock.abc import ModelInfo
from penstock.core.canonical import read_usage
from penstock.core.errors import ProviderError
from penstock.core.events import Batch, Event
from penstock.core.request import Operation
from penstock.core.usage import Usage
from penstock.wire.openai_errors import find_error
from penstock.wire.sse import SseDecoder
from penstock.wire.upstream_errors import UNREADABLE, unfinished, unusable

_DONE = b"[DONE]"
_LESSONS = 3
"""How many chunks of a stream are looked at for what the others have in common with them."""
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_LF = 10


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


class _Finish(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Finish] | None = None
    data: list[msgspec.Raw] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_any = msgspec.json.Decoder().decode
_NO_CHOICES: list[_Choice] = []


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
        "_lessons",
        "_provider",
        "_seen",
        "_sse",
        "done",
        "ended",
    )

    def __init__(self, provider: str) -> None:
        """`provider` is the provider's name in the configuration, for errors."""
        self._provider = provider
        self._sse = SseDecoder()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._failure: ProviderError | None = None
        self._lessons = _LESSONS
        self._before = self._after = b""
        self.done = False
        self.ended = False

    def feed(self, data: bytes) -> Batch:
        """Return the events that `data` completes, possibly none; a fault ends the stream and is kept for `finish`."""
        batch: Batch = []
        try:
            for payload in self._sse.feed(data):
                if payload == _DONE:
                    self.done = self.ended = True
                    break
                # An empty event is how some servers keep the connection awake.
                if payload:
                    batch.append(self._event(payload))
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

    def _event(self, data: bytes) -> Event:
        before, after = self._before, self._after
        if before and data.startswith(before) and data.endswith(after) and len(data) >= len(before) + len(after):
            text = _plain(data[len(before) : -len(after)])
            if text is not None:
                # But for this text it is the chunk that was learnt from, so nothing has to be decoded.
                return Event(data, has_output=bool(text), has_text=bool(text.strip()))
        chunk = _read_chunk(data, self._provider)
        if self._lessons:
            self._learn(data, chunk)
        for choice in chunk.choices or _NO_CHOICES:
            (self._finished if choice.finish_reason else self._seen).add(choice.index)
        return _make_event(data, chunk)

    def _learn(self, data: bytes, chunk: _Chunk) -> None:
        """Learn what is around the text of a chunk that says nothing else: most of a stream's differ in no more."""
        choices = chunk.choices
        if not choices or len(choices) > 1 or chunk.usage is not None or _LF in data:
            return
        choice = choices[0]
        delta = choice.delta
        if choice.finish_reason or choice.text is not None or not delta or list(delta) != ["content"]:
            return
        self._lessons -= 1
        text = delta["content"]
        value = text.encode() if isinstance(text, str) else b""
        start = data.rfind(b'"' + value + b'"')
        named = data[:start].rstrip().endswith(b'"content":') and data.count(b'"content"') == 1
        if value and start > 0 and named and _plain(value) == text and _has_text(choices):
            self._before, self._after = data[: start + 1], data[start + 1 + len(value) :]
            self._lessons = 0


def _plain(text: bytes) -> str | None:
    """Return what a JSON string without escapes says (RFC 8259 section 7); None when it has some, or is none."""
    if _PLAIN.fullmatch(text) is None:
        return None
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def parse_chunk(data: bytes, provider: str = "") -> Event:
    """Read one chunk of a stream.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the chunk.
    """
    return _make_event(data, _read_chunk(data, provider))


def parse_answer(body: bytes, provider: str = "", *, operation: Operation = "chat") -> tuple[Usage | None, str | None]:
    """Check a whole answer, and read its token counts and why its first choice ended.

    Args:
        body: The answer.
        provider: Name of the provider in the configuration, for errors.
        operation: What was asked: embeddings come as ``data`` and have no finish reason, the others as ``choices``.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the body.
    """
    try:
        if not body.isascii():
            body.decode()
        answer = _decode_answer(body)
    except UNREADABLE as error:
        raise _invalid("an answer", body, error, provider) from None
    field = "data" if operation == "embeddings" else "choices"
    if answer.error or getattr(answer, field) is None:
        raise find_error(_decode_any(body), provider) or unusable(f"an answer without {field}", provider)
    return _usage(answer.usage, answer.service_tier), answer.choices[0].finish_reason if answer.choices else None


def parse_models(body: bytes, provider: str = "") -> list[ModelInfo]:
    """Read a list of models, which some servers send without the object around it.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the body.
    """
    try:
        document = _decode_any(body)
    except UNREADABLE as error:
        raise _invalid("a list of models", body, error, provider) from None
    rows = document.get("data") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise find_error(document, provider) or unusable("a list of models without data", provider)
    return [_model(row) for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _model(row: dict[str, Any]) -> ModelInfo:
    created, owner = row.get("created"), row.get("owned_by")
    return ModelInfo(
        row["id"],
        int(created) if isinstance(created, int | float) else 0,
        owner if isinstance(owner, str) else "",
    )


def _read_chunk(data: bytes, provider: str) -> _Chunk:
    try:
        # Fields nobody looks at are skipped by the decoder without checking their UTF-8.
        if not data.isascii():
            data.decode()
        chunk = _decode_chunk(data)
    except UNREADABLE as error:
        raise _invalid("a chunk", data, error, provider) from None
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
    usage = None if chunk.usage is None else _usage(chunk.usage, chunk.service_tier)
    choices = chunk.choices
    if not choices:
        has_text = None if chunk.error else False
        return Event(data, None, usage, bare_usage=usage is not None, has_output=False, has_text=has_text)
    reason = None
    output = False
    for choice in choices:
        if reason is None and choice.finish_reason:
            reason = choice.finish_reason
        delta = choice.delta
        # Nearly every delta is text, which is looked for first.
        if choice.text or (delta and (delta.get("content") or _says_something(delta))):
            output = True
    return Event(data, reason, usage, has_output=output, has_text=None if chunk.error else _has_text(choices))


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


def _says_something(delta: dict[str, Any]) -> bool:
    return any(value and name != "role" for name, value in delta.items())


def _usage(raw: object, service_tier: object) -> Usage | None:
    """Counts that cannot be read are as good as none: the answer is still what was asked and paid for."""
    try:
        return read_usage(raw, service_tier) if isinstance(raw, dict) else None
    except (TypeError, ValueError, AttributeError):
        return None


def _invalid(what: str, data: bytes, error: Exception, provider: str) -> ProviderError:
    # An error may stand where the schema expects something else, as in Google's list with one object.
    try:
        document = _decode_any(data)
    except UNREADABLE:
        document = None
    reason = str(error).removeprefix("JSON is malformed: ")
    return find_error(document, provider) or unusable(f"{what} that cannot be read: {reason}", provider)
