"""Ollama's answers, errors and lists of models in canonical form.

What the canonical form has no place for (durations in nanoseconds, the exact time, `context`) is kept under ``ollama``
in the whole answer, and in the chunk with the finish reason.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from penstock.core.canonical import CHAT, TEXT, write_usage
from penstock.core.errors import ProviderError
from penstock.core.usage import Usage
from penstock.wire.upstream_errors import UNREADABLE, error_from_status, unusable

_encode = msgspec.json.Encoder().encode

_SAID_ELSEWHERE = ("model", "message", "response", "thinking", "done", "logprobs", "embeddings")


class CallFunction(msgspec.Struct):
    """A function the model calls."""

    name: str
    arguments: dict[str, Any] | None = None


class Call(msgspec.Struct):
    """A tool call; older versions give no id."""

    function: CallFunction
    id: str | None = None


class MessageBody(msgspec.Struct):
    """What the model says."""

    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None


class AnswerBody(msgspec.Struct):
    """A whole answer of ``/api/chat`` or ``/api/generate``, a line of one, or an error in place of either."""

    model: str = ""
    created_at: str = ""
    message: MessageBody | None = None
    response: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: str | dict[str, Any] | None = None


class _EmbedBody(msgspec.Struct):
    embeddings: list[list[float]]
    model: str = ""
    prompt_eval_count: int | None = None


class _ModelBody(msgspec.Struct):
    name: str
    modified_at: str = ""


class _ModelsBody(msgspec.Struct):
    models: list[_ModelBody] | None


_decode_answer = msgspec.json.Decoder(AnswerBody).decode
_decode_embed = msgspec.json.Decoder(_EmbedBody).decode
_decode_models = msgspec.json.Decoder(_ModelsBody).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def decode_answer(data: bytes, *, id: str, created: int, provider: str) -> tuple[bytes, Usage | None, str]:
    """Translate a whole answer of ``/api/chat`` or ``/api/generate``.

    Args:
        data: The body of a successful reply.
        id: The answer's id; Ollama gives none.
        created: Unix seconds, if the answer does not say when it was made.
        provider: Name of the provider in the configuration, for errors.

    Returns:
        The answer as canonical JSON, its token counts and its finish reason.

    Raises:
        ProviderError: The body is an error, or no answer.
    """
    body = decode_line(data, provider)
    if not body.done or (body.message is None and body.response is None):
        raise unusable("a body that is no finished answer", provider)
    choice: dict[str, Any] = {"index": 0}
    calls: list[dict[str, Any]] = []
    if body.message is None:
        choice["text"] = body.response
    else:
        calls = tool_calls(body.message, id, 0)
        choice["message"] = {"role": "assistant", "content": None, **delta(body.message)}
        if calls:
            choice["message"]["tool_calls"] = calls
        elif choice["message"]["content"] is None:
            choice["message"]["content"] = ""
    choice["logprobs"] = {"content": body.logprobs} if body.logprobs else None
    choice["finish_reason"] = reason = finish_reason(body, called=bool(calls))
    usage = read_usage(body)
    answer: dict[str, Any] = {
        "id": id,
        "object": TEXT if body.message is None else CHAT,
        "created": unix_seconds(body.created_at, created),
        "model": body.model,
        "choices": [choice],
        "ollama": remainder(data),
    }
    if usage is not None:
        answer["usage"] = write_usage(usage)
    return _encode(answer), usage, reason


def decode_line(data: bytes, provider: str) -> AnswerBody:
    """Read a whole answer or a line of a stream.

    Raises:
        ProviderError: It is an error, or cannot be read.
    """
    try:
        body = _decode_answer(data)
    except UNREADABLE as error:
        raise unusable(f"an answer that cannot be read ({error})", provider) from None
    if body.error:
        raise error_from_status(500, {}, message=_message(body.error), provider=provider)
    return body


def delta(message: MessageBody) -> dict[str, Any]:
    """The canonical fields of what is said, tool calls left out; empty when it is nothing."""
    said: dict[str, Any] = {}
    if message.content:
        said["content"] = message.content
    if message.thinking:
        said["reasoning_content"] = message.thinking
    if message.images:
        said["images"] = message.images
    return said


def tool_calls(message: MessageBody, answer_id: str, start: int) -> list[dict[str, Any]]:
    """The canonical tool calls; those without an id get one that is unique to the answer, numbered from `start`."""
    return [
        {
            "id": call.id or f"call_{answer_id[-24:]}{start + number}",
            "type": "function",
            "function": {"name": call.function.name, "arguments": _encode(call.function.arguments or {}).decode()},
        }
        for number, call in enumerate(message.tool_calls or ())
    ]


def finish_reason(body: AnswerBody, *, called: bool) -> str:
    """The canonical finish reason; versions before 0.2 give none with a finished answer."""
    if body.done_reason == "length":
        return "length"
    return "tool_calls" if called else "stop"


def read_usage(body: AnswerBody) -> Usage | None:
    """Token counts; None when there are none, as for loading a model."""
    if body.prompt_eval_count is None and body.eval_count is None:
        return None
    return Usage(input_tokens=body.prompt_eval_count or 0, output_tokens=body.eval_count or 0)


def remainder(data: bytes) -> dict[str, Any]:
    """The fields that have no place in the canonical form."""
    return {name: value for name, value in _decode_object(data).items() if name not in _SAID_ELSEWHERE}


def unix_seconds(text: str, otherwise: int) -> int:
    """Read an RFC 3339 time; `otherwise` when it is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return otherwise


def decode_embeddings(data: bytes, *, base64: bool, provider: str) -> tuple[bytes, Usage]:
    """Translate an answer of ``/api/embed``.

    Args:
        data: The body of a successful reply.
        base64: Write vectors as base64 of little-endian 32-bit floats, as OpenAI's ``encoding_format`` has it.
        provider: Name of the provider in the configuration, for errors.

    Raises:
        ProviderError: The body is no list of embeddings.
    """
    try:
        body = _decode_embed(data)
        vectors = [_pack(vector) if base64 else vector for vector in body.embeddings]
    except (*UNREADABLE, struct.error, OverflowError) as error:
        raise unusable(f"embeddings that cannot be read ({error})", provider) from None
    usage = Usage(input_tokens=body.prompt_eval_count or 0)
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(vectors)],
        "model": body.model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
        "ollama": remainder(data),
    }
    return _encode(answer), usage


def decode_models(data: bytes, provider: str) -> list[tuple[str, int]]:
    """Names and times of change (Unix seconds) of the models ``/api/tags`` lists.

    Raises:
        ProviderError: The body is no list of models.
    """
    try:
        models = _decode_models(data).models or []
    except UNREADABLE as error:
        raise unusable(f"a list of models that cannot be read ({error})", provider) from None
    return [(model.name, unix_seconds(model.modified_at, 0)) for model in models]


def parse_error(
    status: int,
    headers: Mapping[str, str],
    data: bytes,
    provider: str,
    model: str = "",
    *,
    secrets: Iterable[str] = (),
) -> ProviderError:
    """Translate an error reply: ``{"error": "..."}``, or whatever a proxy sent.

    A missing `model` is told with how to get it; `secrets` must not be in the message.
    """
    try:
        reason = _decode_answer(data).error
    except UNREADABLE:
        reason = None
    message = _message(reason) if reason else data[:500].decode("utf-8", "replace")
    code = None
    if status == 404 and reason and model:
        code = "model_not_found"
        message = f"{message} (get it with `ollama pull {model}` on the machine of provider {provider})"
    return error_from_status(status, headers, message=message, code=code, provider=provider, secrets=secrets)


def _message(error: str | dict[str, Any]) -> str:
    if isinstance(error, str):
        return error
    return str(error.get("message") or _encode(error).decode())


def _pack(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
