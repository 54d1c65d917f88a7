"""Ollama's streams as canonical chunks."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from penstock.core.canonical import CHAT_CHUNK, TEXT, write_usage
from penstock.core.errors import ProviderError
from penstock.core.events import Batch, Event
from penstock.wire.ndjson import NdjsonDecoder
from penstock.wire.ollama_chat.answer import (
    AnswerBody,
    MessageBody,
    decode_line,
    delta,
    finish_reason,
    read_usage,
    remainder,
    tool_calls,
    unix_seconds,
)
from penstock.wire.upstream_errors import unfinished, unusable

_encode = msgspec.json.Encoder().encode


class StreamDecoder:
    """Decodes one stream of ``/api/chat`` or ``/api/generate``, however its bytes are split.

    Attributes:
        done: The line that is ``done`` has been read.
        ended: Nothing more will come of further bytes: it is done, or broken.
    """

    __slots__ = (
        "_calls",
        "_failure",
        "_finished",
        "_head",
        "_lines",
        "_provider",
        "_said",
        "_text",
        "done",
        "ended",
    )

    def __init__(self, *, id: str, created: int, provider: str, max_line_bytes: int) -> None:
        """Start a stream; `id` and `created` (Unix seconds) stand in for what Ollama does not tell."""
        self.done = False
        self.ended = False
        self._lines = NdjsonDecoder(max_line_bytes=max_line_bytes)
        self._provider = provider
        self._failure: ProviderError | None = None
        self._finished = False
        self._head: dict[str, Any] = {"id": id, "object": "", "created": created, "model": ""}
        self._calls = 0
        self._said = False
        self._text = False

    def feed(self, data: bytes) -> Batch:
        """Return the chunks that `data` completes, possibly none; a fault ends the stream and is kept for `finish`."""
        events: Batch = []
        if self.ended:
            return events
        try:
            for line in self._lines.feed(data):
                self._take(line, events)
                if self.done:
                    break
        except ProviderError as error:
            self._fail(error)
        except ValueError as error:
            self._fail(unusable(str(error), self._provider))
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

    def _take(self, line: bytes, events: Batch) -> None:
        body = decode_line(line, self._provider)
        if not self._head["object"]:
            self._head["object"] = CHAT_CHUNK if body.response is None else TEXT
            self._head["created"] = unix_seconds(body.created_at, self._head["created"])
            self._head["model"] = body.model
        logprobs = {"content": body.logprobs} if body.logprobs else None
        if body.response is not None:
            if body.response or logprobs:
                events.append(self._chunk({"text": body.response, "logprobs": logprobs}))
        elif body.message is not None:
            self._add_message(body.message, logprobs, events)
        if body.done:
            self._finish(body, line, events)

    def _add_message(self, message: MessageBody, logprobs: dict[str, Any] | None, events: Batch) -> None:
        said = delta(message)
        if "content" in said:
            self._text = True
        calls = tool_calls(message, self._head["id"], self._calls)
        if calls:
            said["tool_calls"] = [{"index": self._calls + number, **call} for number, call in enumerate(calls)]
            self._calls += len(calls)
        if said or logprobs:
            events.append(self._delta(said, logprobs))

    def _finish(self, body: AnswerBody, line: bytes, events: Batch) -> None:
        is_chat = self._head["object"] == CHAT_CHUNK
        if is_chat and not self._text and not self._calls:
            # An answer that says nothing is an empty text, as it is when it comes whole.
            events.append(self._delta({"content": ""}, None))
        reason = finish_reason(body, called=self._calls > 0)
        choice: dict[str, Any] = {"index": 0, "delta": {}} if is_chat else {"index": 0, "text": ""}
        choice.update(logprobs=None, finish_reason=reason)
        last = {**self._head, "choices": [choice], "ollama": remainder(line)}
        events.append(Event(_encode(last), finish_reason=reason))
        usage = read_usage(body)
        if usage is not None:
            counts = {**self._head, "choices": [], "usage": write_usage(usage)}
            events.append(Event(_encode(counts), usage=usage, bare_usage=True))
        self._finished = self.done = self.ended = True

    def _delta(self, said: dict[str, Any], logprobs: dict[str, Any] | None) -> Event:
        if not self._said:
            self._said = True
            said = {"role": "assistant", **said}
        return self._chunk({"delta": said, "logprobs": logprobs})

    def _chunk(self, choice: dict[str, Any]) -> Event:
        chunk = {**self._head, "choices": [{"index": 0, **choice, "finish_reason": None}]}
        return Event(_encode(chunk))
