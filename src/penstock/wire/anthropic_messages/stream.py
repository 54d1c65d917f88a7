"""Anthropic's streams as canonical chunks."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from penstock.core.canonical import CHAT_CHUNK, write_usage
from penstock.core.errors import ProviderError
from penstock.core.events import Batch, Event
from penstock.wire.anthropic_messages.answer import (
    FINISH_REASONS,
    AnswerBody,
    Block,
    ErrorBody,
    UsageBody,
    read_usage,
    signed_thinking,
    stream_error,
)
from penstock.wire.sse import SseDecoder
from penstock.wire.upstream_errors import UNREADABLE, unfinished, unusable

_encode = msgspec.json.Encoder().encode


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _StreamBody(msgspec.Struct):
    type: str
    index: int = 0
    message: AnswerBody | None = None
    content_block: Block | None = None
    delta: _Delta | None = None
    usage: UsageBody | None = None
    error: ErrorBody | None = None


class _Open:
    """The content block that is being streamed."""

    __slots__ = ("block", "call", "pieces", "signature")

    def __init__(self, block: Block, call: int) -> None:
        self.block = block
        self.call = call
        self.pieces: list[str] = []
        self.signature = block.signature


_decode = msgspec.json.Decoder(_StreamBody).decode


class StreamDecoder:
    """Decodes one stream, however its bytes are split.

    Attributes:
        done: ``message_stop`` has been read.
        ended: Nothing more will come of further bytes: it is done, or broken.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_failure",
        "_finished",
        "_head",
        "_lines",
        "_provider",
        "_said",
        "_text",
        "_usage",
        "done",
        "ended",
    )

    def __init__(self, *, created: int, provider: str, max_line_bytes: int) -> None:
        """Start a stream that began at `created` (Unix seconds) from `provider`, a name in the configuration."""
        self.done = False
        self.ended = False
        self._lines = SseDecoder(max_line_bytes=max_line_bytes)
        self._provider = provider
        self._failure: ProviderError | None = None
        self._finished = False
        self._head: dict[str, Any] = {"id": "", "object": CHAT_CHUNK, "created": created, "model": ""}
        self._blocks: dict[int, _Open] = {}
        self._calls = 0
        self._said = False
        self._text = False
        self._usage = UsageBody()

    def feed(self, data: bytes) -> Batch:
        """Return the chunks that `data` completes, possibly none; a fault ends the stream and is kept for `finish`."""
        events: Batch = []
        if self.ended:
            return events
        try:
            for payload in self._lines.feed(data):
                if payload:
                    self._take(_decode(payload), events)
                if self.done:
                    break
        except ProviderError as error:
            self._fail(error)
        except UNREADABLE as error:
            self._fail(unusable(f"an event that cannot be read ({error})", self._provider))
        return events

    def finish(self) -> None:
        """The stream is over.

        Raises:
            ProviderError: What was wrong with it, or ``upstream_incomplete``: it gave no finish reason.
        """
        if self._failure is not None:
            raise copy.copy(self._failure)
        if not self._finished:
            raise unfinished(self._provider)

    def _fail(self, error: ProviderError) -> None:
        self._failure = copy.copy(error)  # without the traceback, which refers to this object
        self.ended = True

    def _take(self, body: _StreamBody, events: Batch) -> None:
        match body.type:
            case "content_block_delta" if body.delta is not None:
                self._continue(body.index, body.delta, events)
            case "content_block_start" if body.content_block is not None:
                self._start(body.index, body.content_block, events)
            case "content_block_stop":
                self._stop(body.index, events)
            case "message_start" if body.message is not None:
                self._head["id"], self._head["model"] = body.message.id, body.message.model
                self._count(body.message.usage)
            case "message_delta":
                self._count(body.usage)
                if body.delta is not None and body.delta.stop_reason is not None:
                    self._finish(body.delta.stop_reason, events)
            case "message_stop":
                self.done = self.ended = True
            case "error":
                raise stream_error(body.error or ErrorBody(), self._provider)

    def _start(self, index: int, block: Block, events: Batch) -> None:
        opened = self._blocks[index] = _Open(block, self._calls)
        match block.type:
            case "tool_use":
                self._calls += 1
                call = {
                    "index": opened.call,
                    "id": block.id,
                    "type": "function",
                    "function": {"name": block.name, "arguments": ""},
                }
                events.append(self._chunk({"tool_calls": [call]}))
            case "text" if block.text:
                self._add_text(block.text, events)
            case "thinking" if block.thinking:
                opened.pieces.append(block.thinking)
                events.append(self._chunk({"reasoning_content": block.thinking}))

    def _continue(self, index: int, delta: _Delta, events: Batch) -> None:
        opened = self._blocks.get(index)
        if opened is None:
            raise unusable("a piece of a content block that was not begun", self._provider)
        match delta.type:
            case "text_delta" if delta.text:
                self._add_text(delta.text, events)
            case "thinking_delta" if delta.thinking:
                opened.pieces.append(delta.thinking)
                events.append(self._chunk({"reasoning_content": delta.thinking}))
            case "signature_delta":
                opened.signature += delta.signature
            case "input_json_delta" if delta.partial_json and opened.block.type == "tool_use":
                opened.pieces.append("")
                events.append(self._arguments(opened, delta.partial_json))

    def _stop(self, index: int, events: Batch) -> None:
        opened = self._blocks.pop(index, None)
        if opened is None:
            return
        if opened.block.type == "tool_use" and not opened.pieces:
            events.append(self._arguments(opened, _encode(opened.block.input or {}).decode()))
        elif "thinking" in opened.block.type:
            signed = signed_thinking(opened.block, "".join(opened.pieces), opened.signature)
            if signed is not None:
                events.append(self._chunk({"thinking_blocks": [signed]}))

    def _finish(self, stop_reason: str, events: Batch) -> None:
        if not self._text and not self._calls:
            # An answer that says nothing is an empty text, as it is when it comes whole.
            events.append(self._chunk({"content": ""}))
        reason = FINISH_REASONS.get(stop_reason, "stop")
        usage = read_usage(self._usage)
        last = {**self._head, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}]}
        counts = {**self._head, "choices": [], "usage": write_usage(usage)}
        events.append(Event(_encode(last), finish_reason=reason))
        events.append(Event(_encode(counts), usage=usage, bare_usage=True))
        self._finished = True

    def _add_text(self, text: str, events: Batch) -> None:
        self._text = True
        events.append(self._chunk({"content": text}))

    def _arguments(self, opened: _Open, text: str) -> Event:
        return self._chunk({"tool_calls": [{"index": opened.call, "function": {"arguments": text}}]})

    def _chunk(self, delta: dict[str, Any]) -> Event:
        if not self._said:
            self._said = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return Event(_encode({**self._head, "choices": [choice]}))

    def _count(self, usage: UsageBody | None) -> None:
        """Counts are cumulative; later events may leave out what did not change."""
        if usage is None:
            return
        for name in UsageBody.__struct_fields__:
            if (value := getattr(usage, name)) is not None:
                setattr(self._usage, name, value)
