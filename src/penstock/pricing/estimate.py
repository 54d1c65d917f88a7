"""Token counts for when no provider reports them: counted in characters, right to about ±30 % for prose and code.

Byte-pair vocabularies of today's models average about four ASCII characters a token; other scripts cost about a token
for three bytes of UTF-8, which is one a CJK character and two thirds a Cyrillic one. A tokenizer per model would be
closer, but costs milliseconds and megabytes where this takes a microsecond.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.request import Request

_encode = msgspec.json.Encoder().encode

ASCII_CHARS_PER_TOKEN = 4
OTHER_BYTES_PER_TOKEN = 3
MESSAGE_TOKENS = 4
"""What a chat template adds to each message: role and delimiters."""
REPLY_TOKENS = 3
"""What a chat template adds to open the answer."""
IMAGE_TOKENS, LOW_DETAIL_IMAGE_TOKENS = 765, 85
"""OpenAI's counts for a 1024 × 1024 image and for ``detail: low``; a URL does not tell the size."""
AUDIO_CHARS_PER_TOKEN = 6400
"""Base64 characters of 24 kHz 16-bit mono audio per tenth of a second, which is OpenAI's token."""
FILE_CHARS_PER_TOKEN = 64
"""Base64 characters of a PDF per token of the text inside, a rough mean."""
_STRUCTURES = frozenset({"tools", "functions", "response_format"})
_TEXTS = frozenset({"prompt", "suffix", "input"})
_BESIDE = _STRUCTURES | _TEXTS
"""What counts beside messages."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of `text`: ASCII characters / 4 + bytes of other characters / 3, rounded up."""
    if text.isascii():
        return -(-len(text) // ASCII_CHARS_PER_TOKEN)
    size = len(text.encode("utf-8", "surrogatepass"))
    plain = len(text.encode("ascii", "ignore"))
    scaled = plain * OTHER_BYTES_PER_TOKEN + (size - plain) * ASCII_CHARS_PER_TOKEN
    return -(-scaled // (ASCII_CHARS_PER_TOKEN * OTHER_BYTES_PER_TOKEN))


def estimate_request_tokens(payload: dict[str, Any]) -> int:
    """Estimate the input tokens of a request body in canonical form.

    Counts messages with their parts and tool calls, tool definitions, a response schema, `prompt` and `input`.
    Ill-formed parts count as the JSON they are, so this never raises for a decoded body.
    """
    messages = payload.get("messages")
    total = REPLY_TOKENS + _messages(messages) if isinstance(messages, list) else 0
    if payload.keys().isdisjoint(_BESIDE):
        return total
    for name in _BESIDE:
        value = payload.get(name)
        if value is not None and name in _TEXTS:
            total += _texts_or_tokens(value)
        elif value:
            total += _json(value)
    return total


def request_tokens(request: Request) -> int:
    """Estimate the input tokens of a request, once for all who ask while its body is the same."""
    call, payload = request.call, request.payload
    known = call.estimated
    if known is None or known[0] is not payload:
        known = call.estimated = (payload, estimate_request_tokens(payload))
    return known[1]


def _json(value: object) -> int:
    return estimate_tokens(_encode(value).decode())


def _messages(messages: list[Any]) -> int:
    total = 0
    for message in messages:
        try:
            content = message["content"]
            if len(message) == 2 and "role" in message and content.isascii():  # as nearly all are
                total += MESSAGE_TOKENS - (-len(content) // ASCII_CHARS_PER_TOKEN)
                continue
        except (TypeError, KeyError, AttributeError):
            pass
        total += estimate_message(message)
    return total


def estimate_message(message: object) -> int:
    """Estimate the tokens a message adds to a request; one that is no object counts as the JSON it is."""
    if not isinstance(message, dict):
        return _json(message)
    total = MESSAGE_TOKENS
    for name, value in message.items():
        if name == "role" or value is None:
            continue
        if isinstance(value, str):
            total += estimate_tokens(value)
        elif name == "content" and isinstance(value, list):
            total += sum(_part(part) for part in value)
        else:
            total += _json(value)
    return total


def _part(part: object) -> int:
    if isinstance(part, str):
        return estimate_tokens(part)
    if not isinstance(part, dict):
        return _json(part)
    kind = part.get("type")
    value = part.get(kind) if isinstance(kind, str) else None
    if isinstance(value, str):
        return IMAGE_TOKENS if kind == "image_url" else estimate_tokens(value)
    if isinstance(value, dict):
        if kind == "image_url":
            return LOW_DETAIL_IMAGE_TOKENS if value.get("detail") == "low" else IMAGE_TOKENS
        if kind == "input_audio":
            return _encoded(value.get("data"), AUDIO_CHARS_PER_TOKEN)
        if kind == "file":
            return _encoded(value.get("file_data"), FILE_CHARS_PER_TOKEN)
    return _json(part)


def _encoded(data: object, chars_per_token: int) -> int:
    return -(-len(data) // chars_per_token) if isinstance(data, str) else 0


def _texts_or_tokens(value: object) -> int:
    if isinstance(value, str):
        return estimate_tokens(value)
    if isinstance(value, list):
        return sum(1 if isinstance(item, int) else _texts_or_tokens(item) for item in value)
    return _json(value)
