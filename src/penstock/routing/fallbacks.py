"""What a failure calls for, and what to say when nothing helped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.core.canonical import CHAT, TEXT, assemble, write_usage
from penstock.core.errors import BudgetExceeded, DeadlineExceeded, NotCached, PenstockError, ProviderError, Refused
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import TEMPLATE_VARIABLES, Fallbacks, Template
from penstock.core.usage import Usage

Cause = Literal["context_window", "content_policy", "errors", "late"]
"""Why a model did not answer; ``late``: the request's time is over, so no other model can be asked either."""

FILTERED = "content_filter"
FINGERPRINT = "penstock-template"
"""`system_fingerprint` of answers no model gave."""

_POLICY = frozenset({FILTERED, "content_policy_violation"})
_CLIENTS_FAULT = frozenset({400, 404, 413, 422})
_VARIABLE = re.compile(r"\{(" + "|".join(TEMPLATE_VARIABLES) + r")\}")

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Answer).decode


def cause_of(error: PenstockError) -> Cause | None:
    """Say what `error` calls for; None for one that nobody else's answer should hide.

    Those are the client's own faults, other than a prompt that is too long or was refused, what the client itself
    forbade or has no money for, and Penstock's own troubles.
    """
    if isinstance(error, ProviderError):
        if error.code == "context_length_exceeded":
            return "context_window"
        if error.code in _POLICY:
            return "content_policy"
        blamed = error.status_code in _CLIENTS_FAULT and error.code != "upstream_auth"
        return None if blamed else "errors"
    if isinstance(error, DeadlineExceeded):
        return "late"
    own = isinstance(error, (BudgetExceeded, NotCached)) or error.code == "shutting_down"
    return "errors" if isinstance(error, Refused) and not own else None


def filtered(response: Response) -> bool:
    """Whether a whole answer is nothing but the provider's refusal: filtered, and without any content."""
    if not response.whole:
        return False
    reason = response.finish_reason
    if reason is None and response.events is not None:
        reason = next((event.finish_reason for event in response.events if event.finish_reason is not None), None)
    if reason != FILTERED:
        return False
    try:
        answer = _decode(response.body if response.body is not None else assemble(response.events or []))
    except (ValueError, RecursionError):
        return False
    return bool(answer.choices) and all(_empty(choice) for choice in answer.choices)


def models_for(cause: Cause, fallbacks: Fallbacks) -> tuple[str, ...]:
    """Name the models to ask."""
    if cause == "errors":
        return fallbacks.errors
    if cause == "context_window":
        return fallbacks.context_window
    return fallbacks.content_policy if cause == "content_policy" else ()


def choose(templates: Sequence[Template], request: Request) -> Template | None:
    """Return the first template that fits the operation the client named and its tags."""
    if not templates:
        return None
    operation = operation_of(request)
    for template in templates:
        if template.operation is not None and template.operation != operation:
            continue
        if template.tag is not None and template.tag not in request.tags:
            continue
        return template
    return None


def operation_of(request: Request) -> str | None:
    """The operation the client named in `x-penstock-operation`, or as `operation` in one of its metadata."""
    for metadata in (request.metadata, request.payload.get("metadata")):
        named = metadata.get("operation") if isinstance(metadata, dict) else None
        if isinstance(named, str) and named:
            return named
    return None


def fill(template: Template, request: Request, now: float) -> Response:
    """Make a whole answer of `template`, in the shape of the operation; `now` is in seconds since the epoch."""
    values = {
        "question": question_of(request.payload),
        "model": request.model,
        "operation": operation_of(request) or "",
        "request_id": request.call.id,
    }
    # In one pass, so that a client's text is never read as a template.
    text = _VARIABLE.sub(lambda match: values[match[1]], template.answer)
    chat = request.operation == "chat"
    said = {"message": {"role": "assistant", "content": text, "refusal": None}} if chat else {"text": text}
    answer = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{request.call.id}",
        "object": CHAT if chat else TEXT,
        "created": int(now),
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": "stop"}],
        "usage": write_usage(Usage()),
    }
    return Response(body=_encode(answer), usage=Usage(), finish_reason="stop")


def reason_of(cause: Cause) -> str:
    """What `x-penstock-degraded` says of an answer of another model."""
    return "fallback-" + cause.replace("_", "-")


def _empty(choice: _Choice) -> bool:
    message = choice.message
    if choice.finish_reason != FILTERED or choice.text:
        return False
    return message is None or not (message.content or message.tool_calls or message.function_call)


def question_of(payload: Mapping[str, Any]) -> str:
    """Return the text of the last message of a user, or the prompt of a legacy completion."""
    prompt = payload.get("prompt")
    if isinstance(prompt, str):
        return prompt
    for message in reversed(payload.get("messages") or ()):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else ()
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""
