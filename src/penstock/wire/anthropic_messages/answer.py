"""Anthropic's answers, errors and lists of models in canonical form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from penstock.core.canonical import CHAT, write_usage
from penstock.core.errors import ProviderError
from penstock.core.usage import Usage, unusual_tier
from penstock.wire.upstream_errors import UNREADABLE, error_from_status, unusable

_encode = msgspec.json.Encoder().encode

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_ERROR_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The statuses Anthropic documents for its error types, needed where an error comes without one: in a stream."""

_TOO_LONG = ("prompt is too long", "input length and `max_tokens` exceed context limit")


class ErrorBody(msgspec.Struct):
    """What went wrong."""

    type: str = ""
    message: str = ""


class OutputDetails(msgspec.Struct):
    """What the output tokens were spent on."""

    thinking_tokens: int | None = None


class CacheCreation(msgspec.Struct):
    """How long what was written to the prompt cache lives."""

    ephemeral_1h_input_tokens: int | None = None


class ServerToolUse(msgspec.Struct):
    """What Anthropic did beside generating."""

    web_search_requests: int | None = None


class UsageBody(msgspec.Struct):
    """Anthropic's token counts: `input_tokens` leaves out what was read from or written to the prompt cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None


class Block(msgspec.Struct):
    """A content block, or the start of one in a stream."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None


class AnswerBody(msgspec.Struct):
    """A whole answer, an error in place of one, or the head of a stream."""

    id: str = ""
    type: str = ""
    model: str = ""
    content: list[Block] = []
    stop_reason: str | None = None
    usage: UsageBody | None = None
    error: ErrorBody | None = None


class _ModelBody(msgspec.Struct):
    id: str
    created_at: datetime | None = None


class _ModelsBody(msgspec.Struct):
    data: list[_ModelBody]
    has_more: bool = False
    last_id: str | None = None


_decode_answer = msgspec.json.Decoder(AnswerBody).decode
_decode_models = msgspec.json.Decoder(_ModelsBody).decode


def decode_answer(data: bytes, *, created: int, provider: str) -> tuple[bytes, Usage | None, str]:
    """Translate a whole answer.

    Args:
        data: The body of a successful reply.
        created: When it came, Unix seconds; Anthropic does not say.
        provider: Name of the provider in the configuration, for errors.

    Returns:
        The answer as canonical JSON, its token counts and its finish reason.

    Raises:
        ProviderError: The body is an error, or no answer.
    """
    try:
        body = _decode_answer(data)
    except UNREADABLE as error:
        raise unusable(f"an answer that cannot be read ({error})", provider) from None
    if body.error is not None:
        raise stream_error(body.error, provider)
    if body.type != "message" or body.stop_reason is None:
        raise unusable("a body that is no message", provider)
    reason = FINISH_REASONS.get(body.stop_reason, "stop")
    usage = None if body.usage is None else read_usage(body.usage)
    answer: dict[str, Any] = {
        "id": body.id,
        "object": CHAT,
        "created": created,
        "model": body.model,
        "choices": [{"index": 0, "message": _message(body.content), "logprobs": None, "finish_reason": reason}],
    }
    if usage is not None:
        answer["usage"] = write_usage(usage)
    return _encode(answer), usage, reason


def read_usage(body: UsageBody) -> Usage:
    """Count what Anthropic counts apart as parts of the input."""
    read, written = body.cache_read_input_tokens or 0, body.cache_creation_input_tokens or 0
    details, creation, tools = body.output_tokens_details, body.cache_creation, body.server_tool_use
    return Usage(
        input_tokens=(body.input_tokens or 0) + read + written,
        output_tokens=body.output_tokens or 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=(details.thinking_tokens or 0) if details else 0,
        cache_write_1h_tokens=(creation.ephemeral_1h_input_tokens or 0) if creation else 0,
        web_searches=(tools.web_search_requests or 0) if tools else 0,
        service_tier=unusual_tier(body.service_tier),
    )


def signed_thinking(block: Block, thinking: str, signature: str) -> dict[str, Any] | None:
    """A thinking block as Anthropic wants it back in the next turn; None when it carries nothing to give back."""
    if block.type == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block.data}
    if not signature:
        return None
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def parse_error(
    status: int, headers: Mapping[str, str], data: bytes, provider: str, *, secrets: Iterable[str] = ()
) -> ProviderError:
    """Translate an error reply: ``{"type": "error", "error": {"type", "message"}}``, or whatever a proxy sent.

    `secrets` must not be in the message.
    """
    try:
        error = _decode_answer(data).error
    except UNREADABLE:
        error = None
    if error is None:
        error = ErrorBody(message=data[:500].decode("utf-8", "replace"))
    return _error(status, headers, error, provider, secrets)


def stream_error(error: ErrorBody, provider: str) -> ProviderError:
    """Translate an error that came inside a successful reply."""
    return _error(_ERROR_STATUS.get(error.type, 500), {}, error, provider)


def _error(
    status: int, headers: Mapping[str, str], body: ErrorBody, provider: str, secrets: Iterable[str] = ()
) -> ProviderError:
    message = body.message or body.type
    error = error_from_status(
        status, headers, message=message, code=body.type or None, provider=provider, secrets=secrets
    )
    if status == 400 and body.message.startswith(_TOO_LONG):
        # Another target may have a larger window.
        error.code = "context_length_exceeded"
        error.elsewhere = True
    return error


def decode_models(data: bytes, provider: str) -> tuple[list[tuple[str, int]], str | None]:
    """Read a page of ``GET /v1/models``.

    Returns:
        Ids with their creation times (Unix seconds), and the id after which the next page begins, if there is one.

    Raises:
        ProviderError: The body is no list of models.
    """
    try:
        body = _decode_models(data)
    except UNREADABLE as error:
        raise unusable(f"a list of models that cannot be read ({error})", provider) from None
    models = [(model.id, int(model.created_at.timestamp()) if model.created_at else 0) for model in body.data]
    return models, body.last_id if body.has_more else None


def _message(blocks: list[Block]) -> dict[str, Any]:
    """One canonical message of all blocks; server-side tool blocks have no counterpart and are left out."""
    text = "".join(block.text for block in blocks if block.type == "text")
    thinking = "".join(block.thinking for block in blocks if block.type == "thinking")
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": _encode(block.input or {}).decode()},
        }
        for block in blocks
        if block.type == "tool_use"
    ]
    signed = [signed_thinking(block, block.thinking, block.signature) for block in blocks if "thinking" in block.type]
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if thinking:
        message["reasoning_content"] = thinking
    if any(signed):
        message["thinking_blocks"] = [block for block in signed if block]
    if calls:
        message["tool_calls"] = calls
    return message
