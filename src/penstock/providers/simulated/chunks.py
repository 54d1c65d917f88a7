"""The simulated model's answers as OpenAI writes them: whole, or as one chunk per token."""

from __future__ import annotations

from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from penstock.core.canonical import CHAT, CHAT_CHUNK, TEXT, write_usage
from penstock.core.events import Batch, Event
from penstock.core.usage import Usage

FINGERPRINT = "penstock-simulated"
"""The `system_fingerprint` of every answer and chunk, so that nobody takes one for a real model's."""

_encode = msgspec.json.Encoder().encode
_OTHER_TOKENS = ("the", "and", "this", "that", "some", "one", "all", "not", "but", "for", "with", "more", "then", "now",
                 "so", "it", "as", "or", "if", "we")  # fmt: skip


class Choice(NamedTuple):
    """One of the answers to a request.

    Attributes:
        pieces: Its tokens: the text's, or the arguments' of the function `call`.
        finish_reason: Why it ends.
        call: Id and name of the function call it is; None for text.
    """

    pieces: list[str]
    finish_reason: str
    call: tuple[str, str] | None = None


class Answer(NamedTuple):
    """What is said, before its delivery.

    Attributes:
        id: Unique id.
        created: Seconds since the epoch.
        model: The model's name.
        choices: All choices, by index.
        usage: Token counts.
        legacy: It answers the legacy completions operation.
        logprobs: How many likeliest tokens to list beside each token's log probability; None for no log probabilities.
    """

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    legacy: bool = False
    logprobs: int | None = None

    @property
    def length(self) -> int:
        """Tokens of the longest choice."""
        return max(len(choice.pieces) for choice in self.choices)

    def body(self) -> bytes:
        """The whole answer as JSON."""
        choices = [self._whole(index, choice) for index, choice in enumerate(self.choices)]
        return _encode({**self._head(CHAT), "choices": choices, "usage": write_usage(self.usage)})

    def opening(self) -> Batch:
        """The chunks before the tokens: per choice its role, or its function's name."""
        if self.legacy:
            return []
        return [self._event(self._opening(index, choice)) for index, choice in enumerate(self.choices)]

    def steps(self) -> list[Batch]:
        """The tokens' chunks; each step holds the next token of every choice that has one."""
        if len(self.choices) == 1:
            return [[event] for event in self._tokens(0, self.choices[0])]
        steps: list[Batch] = [[] for _ in range(self.length)]
        for index, choice in enumerate(self.choices):
            for step, event in zip(steps, self._tokens(index, choice), strict=False):
                step.append(event)
        return steps

    def ending(self) -> Batch:
        """The chunks after the tokens: per choice its finish reason, then the usage."""
        events = [self._event(self._ending(index, choice)) for index, choice in enumerate(self.choices)]
        usage = {**self._head(CHAT_CHUNK), "choices": [], "usage": write_usage(self.usage)}
        events.append(Event(_encode(usage), usage=self.usage, bare_usage=True))
        return events

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": TEXT if self.legacy else kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _whole(self, index: int, choice: Choice) -> dict[str, Any]:
        text = "".join(choice.pieces)
        logprobs = None if self.logprobs is None or choice.call else self._logprobs(choice.pieces, 0, 0)
        if self.legacy:
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish_reason}
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if choice.call:
            message["content"] = None
            message["tool_calls"] = [_call(choice.call, text)]
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason}

    def _opening(self, index: int, choice: Choice) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if choice.call:
            delta["content"] = None
            delta["tool_calls"] = [{"index": 0, **_call(choice.call, "")}]
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _ending(self, index: int, choice: Choice) -> dict[str, Any]:
        said: dict[str, Any] = {"text": ""} if self.legacy else {"delta": {}}
        return {"index": index, **said, "logprobs": None, "finish_reason": choice.finish_reason}

    def _event(self, choice: dict[str, Any]) -> Event:
        chunk = {**self._head(CHAT_CHUNK), "choices": [choice]}
        return Event(_encode(chunk), finish_reason=choice["finish_reason"])

    def _tokens(self, index: int, choice: Choice) -> Batch:
        head, tail = self._frame(index, choice.call is not None)
        if self.logprobs is None or choice.call:
            tail += b',"logprobs":null,"finish_reason":null}]}'
            return [Event(head + _encode(piece) + tail) for piece in choice.pieces]
        events: Batch = []
        offset = 0
        for position, piece in enumerate(choice.pieces):
            logprobs = _encode(self._logprobs([piece], position, offset))
            events.append(
                Event(head + _encode(piece) + tail + b',"logprobs":' + logprobs + b',"finish_reason":null}]}')
            )
            offset += len(piece)
        return events

    def _frame(self, index: int, call: bool) -> tuple[bytes, bytes]:  # noqa: FBT001 - private
        """What stands before and after the token in each chunk of a choice."""
        head = _encode(self._head(CHAT_CHUNK))[:-1] + b',"choices":[{"index":%d,' % index
        if self.legacy:
            return head + b'"text":', b""
        if call:
            return head + b'"delta":{"tool_calls":[{"index":0,"function":{"arguments":', b"}}]}"
        return head + b'"delta":{"content":', b"}"

    def _logprobs(self, pieces: list[str], position: int, offset: int) -> dict[str, Any]:
        likely = [_likely(piece, position + step, self.logprobs or 0) for step, piece in enumerate(pieces)]
        if not self.legacy:
            content = [{**_entry(*first), "top_logprobs": [_entry(*one) for one in top]} for first, top in likely]
            return {"content": content, "refusal": None}
        offsets = []
        for piece in pieces:
            offsets.append(offset)
            offset += len(piece)
        return {
            "tokens": pieces,
            "token_logprobs": [first[1] for first, _ in likely],
            "top_logprobs": [dict(top) for _, top in likely],
            "text_offset": offsets,
        }


def _call(call: tuple[str, str], arguments: str) -> dict[str, Any]:
    return {"id": call[0], "type": "function", "function": {"name": call[1], "arguments": arguments}}


def _likely(token: str, position: int, count: int) -> tuple[tuple[str, float], list[tuple[str, float]]]:
    """The token with its log probability, and the `count` likeliest in its place: itself, then less likely ones."""
    mark = crc32(f"{position} {token}".encode("utf-8", "surrogatepass"))
    first = (token, -(mark % 1000) / 1000)
    others = [other for other in _OTHER_TOKENS if other != token][: max(count - 1, 0)]
    top = [first, *((other, first[1] - 1 - rank) for rank, other in enumerate(others))]
    return first, top[:count]


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}
